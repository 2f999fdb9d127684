#include "shaders/matmul_tile.h"

#include "graph/error.h"
#include "shaders/archetypes.h"

#include <algorithm>
#include <set>

namespace surtsey::shaders {

using namespace graph;

namespace {

// Measured on lavapipe (shaders/README.md). Taller tiles read less, shorter ones are more for the threads to share.
constexpr int64_t kTallRows = 32;
constexpr int64_t kRows = 16;
constexpr int64_t kColumns = 2;
constexpr int64_t kDepth = 4;
// A product is long, as weight gradients are, from this many times its sides.
constexpr int64_t kLongProduct = 4;
// Results in the registers (and on the stack) of a lane: more take the driver long to compile.
constexpr int64_t kMaxResults = 128;

constexpr MatmulTile kSharedTiles[] = {
    {.rows = 64, .columns = 64, .depth = 16, .own = 4},  {.rows = 32, .columns = 32, .depth = 16, .own = 4},
    {.rows = 16, .columns = 16, .depth = 16, .own = 2},  {.rows = 128, .columns = 128, .depth = 16, .own = 8},
    {.rows = 64, .columns = 64, .depth = 32, .own = 4},  {.rows = 128, .columns = 64, .depth = 16, .own = 8},
    {.rows = 64, .columns = 128, .depth = 16, .own = 8}, {.rows = 64, .columns = 32, .depth = 16, .own = 4},
    {.rows = 32, .columns = 64, .depth = 16, .own = 4}};

// By results, largest first. Depths leave every lane whole runs of 16 bytes to load, of subgroups of 64 too. Not
// measured on a GPU.
constexpr MatmulTile kCooperativeTiles[] = {
    {.rows = 128, .columns = 128, .depth = 32, .own = 4}, {.rows = 64, .columns = 64, .depth = 32, .own = 2},
    {.rows = 32, .columns = 32, .depth = 64, .own = 1},   {.rows = 128, .columns = 64, .depth = 32, .own = 4},
    {.rows = 64, .columns = 128, .depth = 32, .own = 4},  {.rows = 64, .columns = 64, .depth = 64, .own = 2},
    {.rows = 128, .columns = 128, .depth = 64, .own = 4}, {.rows = 32, .columns = 64, .depth = 32, .own = 2}};
constexpr size_t kCooperativeDefaults = 3;
// The default, and the only tile, where a lane holds fewer sums than the list's last default has (Intel): what it loads
// ahead counts there too, and twice the depth spills.
constexpr MatmulTile kFrugalTile = {.rows = 32, .columns = 32, .depth = 32, .own = 1};

// 18 rows are two tiles of 9, not one of 16 and one of 2.
int64_t even_rows(int64_t extent, int64_t most) { return divide_up(extent, divide_up(extent, most)); }

struct Sides {
  int64_t lanes, rows;
};
Sides sides(const MatmulShape& s, bool lanes_along_m) { return lanes_along_m ? Sides{s.m, s.n} : Sides{s.n, s.m}; }

int64_t columns_of(int64_t extent, int64_t most, int64_t lanes) { return std::min(most, divide_up(extent, lanes)); }

// Elements that tiles cover, those past the edges with them.
int64_t covered(const Sides& side, int64_t lanes) {
  const int64_t wide = columns_of(side.lanes, kColumns, lanes) * lanes, high = even_rows(side.rows, kRows);
  return divide_up(side.lanes, wide) * wide * divide_up(side.rows, high) * high;
}

// The most rows of results that a thread computes, all tiles being shared out.
int64_t longest_share(const MatmulShape& s, const Sides& side, int64_t rows, const Target& target) {
  const int64_t lanes = target.subgroup_size, wide = columns_of(side.lanes, kColumns, lanes) * lanes;
  const int64_t tiles = s.batch * divide_up(side.lanes, wide) * divide_up(side.rows, rows);
  return divide_up(tiles, target.threads) * rows;
}

// Two workgroups for each processor hide each other's waits.
constexpr int64_t kGroupsPerProcessor = 2;

bool cooperative_fits(const MatmulTile& tile, const Target& target) {
  const CooperativeMatrix& c = target.cooperative;
  const bool listed =
      std::find(std::begin(kCooperativeTiles), std::end(kCooperativeTiles), tile) != std::end(kCooperativeTiles);
  if (target.cooperative_floats != 0 ? !(tile == kFrugalTile) : !listed) return false;
  if (tile.rows % (tile.own * c.m) != 0 || tile.columns % (tile.own * c.n) != 0 || tile.depth % c.k != 0) return false;
  const int64_t sums = tile.own * tile.own * c.m * c.n;
  if (target.cooperative_floats != 0 && sums > int64_t(target.cooperative_floats) * target.subgroup_size) return false;
  const int64_t lanes = tile_lanes(tile, MatmulVariant::cooperative, target), bytes = c.emulated ? 4 : 2;
  if (tile.rows * tile.depth % lanes != 0 || tile.columns * tile.depth % lanes != 0) return false;
  // Both tiles with their skew, and a row of each subgroup's matrices (all of them, emulated) on the way to the
  // epilogue.
  const int64_t tiles =
      bytes * (tile.rows + tile.columns) * tile.depth + 16 * (2 * tile.depth + tile.rows + tile.columns);
  const int64_t staged = 4 * tile.rows * tile.columns / (c.emulated ? 1 : tile.own);
  return lanes <= target.max_workgroup_invocations && tiles + staged <= target.shared_memory_bytes;
}

bool fits(const MatmulTile& tile, const MatmulShape& shape, const Target& target) {
  if (tile.rows < 1 || tile.columns < 1 || tile.depth < 1 || tile.own < 1) return false;
  if (shape.variant == MatmulVariant::cooperative) return cooperative_fits(tile, target);
  if (shape.variant == MatmulVariant::shared_tile) {
    const bool known = std::find(std::begin(kSharedTiles), std::end(kSharedTiles), tile) != std::end(kSharedTiles);
    const int64_t bytes = 4 * tile.depth * (tile.rows + tile.columns + 8);
    return known && tile_lanes(tile, shape.variant, target) <= target.max_workgroup_invocations &&
           bytes <= target.shared_memory_bytes;
  }
  // Every access through a descriptor is checked against its range: long turns would take the driver minutes to
  // compile.
  const int64_t deepest = target.addressing == Addressing::address ? kDepth + 1 : kDepth;
  const Sides side = sides(shape, tile.lanes_along_m);
  return tile.own == 1 && tile.rows <= side.rows && tile.rows * tile.columns <= kMaxResults && tile.depth <= deepest &&
         tile.columns <= divide_up(side.lanes, target.subgroup_size);
}

MatmulTile default_lane_broadcast(const MatmulShape& shape, const Target& target) {
  const int64_t lanes = target.subgroup_size;
  MatmulTile tile{.depth = kDepth};
  // Lanes lie along the side that wastes fewer of them, else along the longer one: a tile then reads longer runs of
  // memory, which was 4 times as fast at (M, N, K) = (128, 32, 3456), where each tile waited for one cache line a row.
  const int64_t along_m = covered(sides(shape, true), lanes), along_n = covered(sides(shape, false), lanes);
  tile.lanes_along_m = along_m != along_n ? along_m < along_n : shape.m > shape.n && shape.k >= kLongProduct * shape.m;
  const Sides side = sides(shape, tile.lanes_along_m);
  tile.columns = columns_of(side.lanes, kColumns, lanes);
  const int64_t tall = even_rows(side.rows, kTallRows), low = even_rows(side.rows, kRows);
  tile.rows = longest_share(shape, side, tall, target) <= longest_share(shape, side, low, target) ? tall : low;
  return tile;
}

MatmulTile default_shared_tile(const MatmulShape& shape, const Target& target) {
  constexpr size_t kDefaults = 3;  // the first of the list, largest first
  for (size_t i = 0; i < kDefaults; ++i) {
    const MatmulTile& tile = kSharedTiles[i];
    if (fits(tile, shape, target) && shape.m > tile.rows / 2 && shape.n > tile.columns / 2) return tile;
  }
  return kSharedTiles[kDefaults - 1];
}

// The largest tile that leaves every processor work, else the smallest; none where none fits.
const MatmulTile* default_cooperative(const MatmulShape& shape, const Target& target) {
  if (target.cooperative_floats != 0) return cooperative_fits(kFrugalTile, target) ? &kFrugalTile : nullptr;
  const MatmulTile* best = nullptr;
  for (size_t i = 0; i < kCooperativeDefaults; ++i) {
    const MatmulTile& tile = kCooperativeTiles[i];
    if (!cooperative_fits(tile, target)) continue;
    best = &tile;
    const int64_t groups = shape.batch * divide_up(shape.m, tile.rows) * divide_up(shape.n, tile.columns);
    if (shape.m > tile.rows / 2 && shape.n > tile.columns / 2 &&
        groups >= kGroupsPerProcessor * int64_t(target.threads))
      break;
  }
  return best;
}

// A product with less than one matrix along a side would multiply mostly zeros.
bool fills_matrices(const MatmulShape& shape, const CooperativeMatrix& c) {
  return shape.m >= int64_t(c.m) && shape.n >= int64_t(c.n) && shape.k >= int64_t(c.k) && c.m != 0;
}

// Where a lane has few registers, those that a K of no whole runs needs to load elements one by one are not there: DG2
// spills 3 to 9 of them, which is little time, but so is what such a product (a vocabulary of 65) takes.
bool loads_within_registers(const MatmulShape& shape, const Target& target) {
  constexpr int64_t kRun = 8;  // elements of f16 in 16 bytes
  return target.cooperative_floats == 0 || shape.k % kRun == 0;
}

}  // namespace

std::optional<size_t> stored_operand(const Kernel& kernel, const Graph& graph, const Value& operand) {
  for (Value value = operand;;) {
    for (size_t i = 0; i < kernel.inputs.size(); ++i)
      if (kernel.inputs[i].value == value) return i;
    if (graph.node(value).op != Op::cast) return std::nullopt;
    value = graph.node(value).inputs[0];
  }
}

int64_t stored_stride(const Kernel& kernel, std::optional<size_t> stored, size_t from_back) {
  if (!stored) return 0;
  const Strides& strides = kernel.inputs[*stored].view.strides;
  return strides[strides.size() - 1 - from_back];
}

int64_t packed_run(const Kernel& kernel, const Graph& graph, const Value& operand) {
  if (stored_operand(kernel, graph, operand)) return 1;
  const int64_t elements = element_count(operand.shape());
  int64_t run = 1;
  std::set<uint32_t> seen;
  std::vector<uint32_t> left = {operand.node};
  while (!left.empty()) {
    const uint32_t n = left.back();
    left.pop_back();
    if (!seen.insert(n).second) continue;
    const auto input = std::find_if(kernel.inputs.begin(), kernel.inputs.end(),
                                    [n](const KernelOperand& one) { return one.value.node == n; });
    if (input == kernel.inputs.end()) {
      for (const Value& of : graph.node(n).inputs) left.push_back(of.node);
      continue;
    }
    const Node& stored = graph.node(behind_views(graph, n));
    const int64_t words = std::min(element_count(stored.types[0].shape), element_count(graph.node(n).types[0].shape));
    const bool state = stored.op == Op::parameter || stored.op == Op::slice_update;
    if (!state || stored.types[0].dtype != DType::u32 || words >= elements) continue;
    run = run == 1 ? elements / words : std::min(run, elements / words);
  }
  return run;
}

int64_t tile_lanes(const MatmulTile& tile, MatmulVariant variant, const Target& target) {
  if (variant == MatmulVariant::lane_broadcast) return target.subgroup_size;
  if (variant == MatmulVariant::shared_tile) return tile.rows * tile.columns / (tile.own * tile.own);
  const CooperativeMatrix& c = target.cooperative;
  return tile.rows / (tile.own * c.m) * (tile.columns / (tile.own * c.n)) * target.subgroup_size;
}

MatmulShape matmul_shape(const Kernel& kernel, const Graph& graph, const Target& target) {
  const Node& node = graph.node(kernel.anchor);
  MatmulShape shape{.variant = target.matmul_variant()};
  shape.m = kernel.space[kernel.space.size() - 2];
  shape.n = kernel.space.back();
  shape.k = node.inputs[0].shape().back();
  shape.batch = element_count(kernel.space) / std::max<int64_t>(1, shape.m * shape.n);
  bool narrow = true;
  const auto transposed = [&](const Value& operand) {
    const std::optional<size_t> stored = stored_operand(kernel, graph, operand);
    narrow &= stored && kernel.inputs[*stored].view.dtype == DType::f16;
    return stored_stride(kernel, stored, 0) != 1 && stored_stride(kernel, stored, 1) == 1;
  };
  shape.a_transposed = transposed(node.inputs[0]);
  shape.b_transposed = transposed(node.inputs[1]);
  if (shape.variant == MatmulVariant::cooperative &&
      !(narrow && fills_matrices(shape, target.cooperative) && loads_within_registers(shape, target) &&
        default_cooperative(shape, target) != nullptr))
    shape.variant = MatmulVariant::shared_tile;
  return shape;
}

MatmulTile default_tile(const MatmulShape& shape, const Target& target) {
  if (shape.variant == MatmulVariant::shared_tile) return default_shared_tile(shape, target);
  if (shape.variant == MatmulVariant::lane_broadcast) return default_lane_broadcast(shape, target);
  const MatmulTile* tile = default_cooperative(shape, target);
  ensure(tile != nullptr, "no cooperative tile fits {}", target.name);
  return *tile;
}

MatmulTile choose_tile(const MatmulShape& shape, const Target& target) {
  if (target.tiles)
    if (const auto found = target.tiles->find(shape);
        found != target.tiles->end() && fits(found->second, shape, target))
      return found->second;
  return default_tile(shape, target);
}

std::vector<MatmulTile> tile_candidates(const MatmulShape& shape, const Target& target) {
  std::vector<MatmulTile> list = {default_tile(shape, target)};
  const auto add = [&](const MatmulTile& tile) {
    if (fits(tile, shape, target) && std::find(list.begin(), list.end(), tile) == list.end()) list.push_back(tile);
  };
  if (shape.variant == MatmulVariant::shared_tile) {
    for (const MatmulTile& tile : kSharedTiles) add(tile);
    return list;
  }
  if (shape.variant == MatmulVariant::cooperative) {
    for (const MatmulTile& tile : kCooperativeTiles) add(tile);
    return list;
  }
  for (const bool lanes_along_m : {false, true})
    for (const int64_t rows : {kRows, kTallRows})
      for (const int64_t columns : {2, 3, 4})
        for (const int64_t depth : {kDepth, kDepth + 1}) {
          const Sides side = sides(shape, lanes_along_m);
          add({.rows = even_rows(side.rows, rows),
               .columns = columns_of(side.lanes, columns, target.subgroup_size),
               .depth = depth,
               .lanes_along_m = lanes_along_m});
        }
  return list;
}

}  // namespace surtsey::shaders
