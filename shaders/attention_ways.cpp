// The four ways in which elements of the tile reach the lanes, and which of them a kernel takes.
#include "shaders/archetypes.h"
#include "shaders/attention_limits.h"
#include "shaders/attention_tile.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

namespace {

constexpr const char* kSubgroupLane = "gl_SubgroupInvocationID";

// A lane has a head to itself:
//   for own_base in 0 .. own_extent
//     s [1, tile_extent] from registers; nothing is broadcast, no lane waits
class OwnTile : public AttentionTile {
 public:
  explicit OwnTile(const AttentionSides& sides) : AttentionTile(sides, sides.w.target().subgroup_size, kSubgroupLane) {
    chunk = width;
    value_chunk = value_width;
    tile_rows = tile_extent;
  }

  // Where a fifth of the lanes or more would have no row: of 18 rows and 16 lanes, two rows a lane, 14 of 32 places are
  // empty.
  static bool pays(const AttentionSides& s) {
    const int64_t lanes = s.w.target().subgroup_size;
    if (lanes < kFewestLanes || s.heads != s.key_heads || s.tile_extent * (s.width + s.value_width) > kMostHeld)
      return false;
    const int64_t places = round_up(s.own_extent, s.own_extent > lanes ? 2 * lanes : lanes);
    return 5 * s.own_extent < 4 * places && s.batch * s.heads * element_count(s.leading) >= lanes;
  }

  const char* variant() const override { return "head_per_lane"; }
  uint32_t subgroup_size() const override { return uint32_t(lanes); }
  bool is_whole() const override { return true; }
  std::string tile_index(int64_t j) const override { return fmt::format("{}u", j); }
  std::string stores(int64_t) const override {
    return all() % lanes == 0 ? "" : fmt::format("tile * {}u + lane < {}u", lanes, all());
  }

  uint32_t open() override {
    w.line(fmt::format("uint lane = {};", kSubgroupLane));
    const uint32_t groups = open_tiles(w, divide_up(all(), lanes));
    const Affine place = variable("place", all(), fmt::format("min(tile * {}u + lane, {}u)", lanes, all() - 1));
    head = query_head = key_head = w.context.modulo(place, heads);
    z = w.context.divide(place, heads);
    w.open(fmt::format("for (uint own_base = 0u; own_base < {}u; ++own_base)", own_extent));
    own.push_back(variable("own", own_extent, "own_base"));
    return groups;
  }
  void close() override {
    w.close();
    close_tiles(w);
  }
  void open_tile() override { w.open(""); }

  void load_tile_values(const std::string& name, const std::function<std::string(const Affine& row)>& value) override {
    for (int64_t j = 0; j < tile_rows; ++j) w.line(fmt::format("float tile_{}{} = {};", name, j, value(Affine(j))));
  }

  void multiply(const std::string& sums, Operand o) override {
    for (int64_t d = 0; d < own_operand(o).dim(-1); ++d)
      for (int64_t j = 0; j < tile_rows; ++j) multiply_add(sums, j, own_elements(o, Affine(d)), tile_element(o, j, d));
  }

  void accumulate(const std::string& sums, const std::string& weights, Operand o) override {
    for (int64_t j = 0; j < tile_rows; ++j)
      for (int64_t d = 0; d < columns_of(o); ++d)
        multiply_add(sums, d, weight_names(weights, j), tile_element(o, j, d));
  }

 private:
  int64_t all() const { return batch * heads * element_count(leading); }  // heads
  std::string tile_element(Operand o, int64_t j, int64_t d) {
    return element(tile_operand(o), tile_head(), Affine(j), Affine(d));
  }
};

// What held and broadcast tiles share: a register of a subgroup's lanes is a row of values side by side.
class SubgroupTile : public AttentionTile {
 public:
  explicit SubgroupTile(const AttentionSides& sides)
      : AttentionTile(sides, sides.w.target().subgroup_size, kSubgroupLane) {
    cut(kWidestChunk);
    // 18 rows are three tiles of 6, not two of 8 and one of 2.
    tile_rows = divide_up(tile_extent, divide_up(tile_extent, kTileRows));
  }

  uint32_t subgroup_size() const override { return uint32_t(lanes); }

  void open_tile() override {
    open_tile_loop();
    tile_at_.clear();
    for (int64_t i = 0; i < divide_up(tile_rows, lanes); ++i)
      tile_at_.push_back(tile_row(fmt::format("(lane + {}u) % {}u", i * lanes, tile_rows)));
  }

  void load_tile_values(const std::string& name, const std::function<std::string(const Affine& row)>& value) override {
    for (size_t i = 0; i < tile_at_.size(); ++i)
      w.line(fmt::format("float {}_in{} = {};", name, i, value(tile_at_[i])));
    for (int64_t j = 0; j < tile_rows; ++j)
      w.line(fmt::format("float tile_{0}{1} = subgroupBroadcast({0}_in{2}, {3}u);", name, j, j / lanes, j % lanes));
  }

 protected:
  // Element i of values that lie over the lanes of these registers.
  std::string broadcast_of(const std::vector<std::string>& registers, int64_t i) const {
    return fmt::format("subgroupBroadcast({}, {}u)", registers[size_t(i / lanes)], i % lanes);
  }

  std::vector<Affine> tile_at_;  // a row of the tile for each lane and register
};

// The tile in registers:
//   tile.a [tile_rows, width] over [registers, lanes], a row beginning at a register of its own, or where a register
//   has room for several rows, at the next columns of it
class HeldTile : public SubgroupTile {
 public:
  using SubgroupTile::SubgroupTile;

  void open_tile() override {
    SubgroupTile::open_tile();
    held_[0] = hold(tile_operand(Operand::a));
    held_[1] = hold(tile_operand(Operand::b));
  }

  void multiply(const std::string& sums, Operand o) override {
    const int64_t block = kDotBlock / own_rows;
    for (int64_t first = 0; first < tile_rows; first += block)
      for (int64_t d = 0; d < own_operand(o).dim(-1); ++d)
        for (int64_t j = first; j < std::min(tile_rows, first + block); ++j)
          multiply_add(sums, j, own_elements(o, Affine(d)), held_element(o, j, d));
  }

  void accumulate(const std::string& sums, const std::string& weights, Operand o) override {
    const int64_t block = kSumBlock / own_rows;
    for (int64_t first = 0; first < columns_of(o); first += block)
      for (int64_t j = 0; j < tile_rows; ++j)
        for (int64_t d = first; d < std::min(columns_of(o), first + block); ++d)
          multiply_add(sums, d, weight_names(weights, j), held_element(o, j, d));
  }

 private:
  // Lanes lie along the columns of a row, or of as many rows as they hold.
  std::vector<std::string> hold(const Value& tile) {
    const int64_t columns = tile.dim(-1);
    std::vector<std::string> held;
    if (columns >= lanes) {
      for (int64_t j = 0; j < tile_rows; ++j) {
        const Affine row = tile_row(fmt::format("{}u", j));
        for (int64_t d = 0; d < columns; d += lanes)
          held.push_back(element(tile, tile_head(), row,
                                 variable("column", columns, fmt::format("min({}u + lane, {}u)", d, columns - 1))));
      }
      return held;
    }
    for (int64_t j = 0; j < tile_rows; j += lanes / columns) {
      const Affine row = tile_row(fmt::format("{}u + lane / {}u", j, columns));
      held.push_back(element(tile, tile_head(), row, variable("column", columns, fmt::format("lane % {}u", columns))));
    }
    return held;
  }

  std::string held_element(Operand o, int64_t j, int64_t d) const {
    const int64_t columns = tile_operand(o).dim(-1);
    const int64_t row = columns >= lanes ? j * divide_up(columns, lanes) * lanes
                                         : j / (lanes / columns) * lanes + j % (lanes / columns) * columns;
    return broadcast_of(held_[size_t(o)], row + d);
  }

  std::vector<std::string> held_[2];  // of a and b
};

// For heads too wide to hold: a few columns of every row of the tile are loaded when their turn comes.
class BroadcastTile : public SubgroupTile {
 public:
  using SubgroupTile::SubgroupTile;

  void multiply(const std::string& sums, Operand o) override {
    const Value tile = tile_operand(o);
    for_columns(own_operand(o).dim(-1), kKeptWidth, [&](const Affine& d, int64_t count) {
      std::vector<std::vector<std::string>> own_at, tile_at;  // [count][own_rows], [count][registers]
      for (int64_t u = 0; u < count; ++u) {
        const Affine at = w.context.add(d, Affine(u));
        own_at.push_back(own_elements(o, at));
        auto& loaded = tile_at.emplace_back();
        for (const Affine& row : tile_at_) loaded.push_back(element(tile, tile_head(), row, at));
      }
      for (int64_t j = 0; j < tile_rows; ++j)
        for (size_t u = 0; u < size_t(count); ++u) multiply_add(sums, j, own_at[u], broadcast_of(tile_at[u], j));
    });
  }

  // Lanes lie along the columns of one row, a few registers of them at a time.
  void accumulate(const std::string& sums, const std::string& weights, Operand o) override {
    const Value tile = tile_operand(o);
    const int64_t part = columns_of(o), columns = tile.dim(-1), block = std::max(kSumBlock, lanes);
    for (int64_t first = 0; first < part; first += block) {
      std::vector<Affine> at;
      for (int64_t d = first; d < std::min(part, first + block); d += lanes)
        at.push_back(
            variable("column", columns, fmt::format("min(chunk * {}u + {}u + lane, {}u)", part, d, columns - 1)));
      for (int64_t j = 0; j < tile_rows; ++j) {
        const Affine row = tile_row(fmt::format("{}u", j));
        std::vector<std::string> loaded;
        for (const Affine& column : at) loaded.push_back(element(tile, tile_head(), row, column));
        for (int64_t d = first; d < std::min(part, first + block); ++d)
          multiply_add(sums, d, weight_names(weights, j), broadcast_of(loaded, d - first));
      }
    }
  }
};

// The tile in shared memory:
//   tile_a, tile_b  vec4 [tile_rows, chunks * chunk / 4]
//   weight          float [tile_rows, own_rows, lanes]
class SharedAttention : public AttentionTile {
 public:
  explicit SharedAttention(const AttentionSides& sides)
      : AttentionTile(sides,
                      std::min<int64_t>(
                          {kSharedLanes, sides.w.target().max_workgroup_invocations, round_up(sides.own_extent, 16)}),
                      "gl_LocalInvocationID.x") {
    cut(by_key ? kWidestSharedChunk : kWidestChunk);
    tile_rows = kTileRows;
    while (tile_rows > 1 && tile_rows / 2 >= tile_extent) tile_rows /= 2;
    // Both operands, up to three values a row, and the weights of a row's lanes.
    const int64_t row_bytes = 4 * (stride(Operand::a) + stride(Operand::b) + 3 + lanes * own_rows);
    while (tile_rows > 1 && tile_rows * row_bytes > int64_t(w.target().shared_memory_bytes)) tile_rows /= 2;
  }

  uint32_t open() override {
    const uint32_t groups = AttentionTile::open();
    w.global(fmt::format("shared float weight[{}];", tile_rows * own_rows * lanes));
    for (const Operand o : {Operand::a, Operand::b})
      w.global(fmt::format("shared vec4 {}[{}];", array(o), tile_rows * stride(o) / kVector));
    return groups;
  }

  void open_tile() override {
    open_tile_loop();
    load(Operand::a);
    load(Operand::b);
  }
  void tile_is_complete() override { w.line("barrier();"); }
  void close_tile() override {
    w.line("barrier();");
    AttentionTile::close_tile();
  }

  void load_tile_values(const std::string& name, const std::function<std::string(const Affine& row)>& value) override {
    w.global(fmt::format("shared float tile_{}[{}];", name, tile_rows));
    w.open(fmt::format("for (uint e = lane; e < {}u; e += {}u)", tile_rows, lanes));
    const std::string loaded = value(tile_row("e"));
    w.line(fmt::format("tile_{}[e] = {};", name, loaded));
    w.close();
  }
  std::string tile_value(const std::string& name, int64_t j) const override {
    return fmt::format("tile_{}[{}]", name, j);
  }

  void multiply(const std::string& sums, Operand o) override {
    for_columns(own_operand(o).dim(-1), w.target().cpu ? kVector : kKeptWidth, [&](const Affine& d, int64_t count) {
      std::vector<std::vector<std::string>> own_at;  // [count][own_rows]
      for (int64_t u = 0; u < count; ++u) own_at.push_back(own_elements(o, w.context.add(d, Affine(u))));
      const std::string place = w.index(d);
      for (int64_t j = 0; j < tile_rows; ++j) {
        w.open("");
        w.line(fmt::format("vec4 t = {}[{}u + ({}) / {}u];", array(o), j * stride(o) / kVector, place, kVector));
        for (size_t u = 0; u < size_t(count); ++u) multiply_add(sums, j, own_at[u], fmt::format("t[{}]", u));
        w.close();
      }
    });
  }

  // The loop over j stays one: unrolled, drivers that run barriers as coroutines take minutes to compile a wide head.
  // What a loop's index selects must not be registers, so the lane's weights pass through a place of its own in shared
  // memory.
  void accumulate(const std::string& sums, const std::string& weights, Operand o) override {
    const int64_t part = columns_of(o);
    for (int64_t r = 0; r < own_rows; ++r)
      for (int64_t j = 0; j < tile_rows; ++j)
        w.line(fmt::format("weight[{}u + lane] = {}{}_{};", (j * own_rows + r) * lanes, weights, r, j));
    w.open_loop(fmt::format("for (uint j = 0u; j < {}u; ++j)", tile_rows), Writer::Unroll::never);
    std::vector<std::string> mine;
    for (int64_t r = 0; r < own_rows; ++r)
      mine.push_back(w.keep("float", fmt::format("weight[(j * {}u + {}u) * {}u + lane]", own_rows, r, lanes)));
    for (int64_t d = 0; d < part; d += kVector) {
      w.open("");
      w.line(fmt::format("vec4 t = {}[j * {}u + {}u + chunk * {}u];", array(o), stride(o) / kVector, d / kVector,
                         round_up(part, kVector) / kVector));
      for (int64_t u = 0; u < std::min(kVector, part - d); ++u)
        multiply_add(sums, d + u, mine, fmt::format("t[{}]", u));
      w.close();
    }
    w.close();
  }

 private:
  static const char* array(Operand o) { return o == Operand::a ? "tile_a" : "tile_b"; }
  int64_t stride(Operand o) const { return round_up(chunks * columns_of(o), kVector); }  // floats of a row

  void load(Operand o) {
    const Value tile = tile_operand(o);
    const int64_t columns = tile.dim(-1);
    w.open(fmt::format("for (uint e = lane; e < {}u; e += {}u)", tile_rows * stride(o), lanes));
    const Affine row = tile_row(fmt::format("e / {}u", stride(o)));
    const Affine column = variable("column", columns, fmt::format("min(e % {}u, {}u)", stride(o), columns - 1));
    const std::string loaded = element(tile, tile_head(), row, column);
    w.line(fmt::format("{}[e / {}u][e % {}u] = {};", array(o), kVector, kVector, loaded));
    w.close();
  }
};

}  // namespace

std::unique_ptr<AttentionTile> AttentionTile::in_shared_memory(Writer& writer) {
  return std::make_unique<SharedAttention>(AttentionSides(writer));
}

std::unique_ptr<AttentionTile> AttentionTile::by_subgroups(Writer& writer) {
  const AttentionSides sides(writer);
  if (OwnTile::pays(sides)) return std::make_unique<OwnTile>(sides);
  if (sides.widest() <= kKeptWidth) return std::make_unique<HeldTile>(sides);
  return std::make_unique<BroadcastTile>(sides);
}

}  // namespace surtsey::shaders
