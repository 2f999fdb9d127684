#include "shaders/attention_tile.h"

#include "shaders/archetypes.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

namespace {

// Measured on lavapipe (shaders/README.md).
constexpr int64_t kTileRows = 8;
// Heads up to this width are kept in registers, the lane's rows and the tile, and a lane has two rows: that halves what
// is loaded and broadcast.
constexpr int64_t kKeptWidth = 32;
constexpr int64_t kWidestChunk = 64;
// The sums of keys and values side by side are more than a GPU's lane has registers for.
constexpr int64_t kWidestSharedChunk = 32;
// Sums that a lane works on at a time, in registers; the others wait in memory.
constexpr int64_t kDotBlock = 8;
constexpr int64_t kSumBlock = 16;
constexpr int64_t kUnroll = 4;
constexpr int64_t kSharedLanes = 64;
constexpr int64_t kVector = 4;  // floats of a shared vector
// A head per lane: values of the other side that a lane keeps. LLVM spills them to the stack, where they are operands
// of multiply-adds as long as they stay in the first cache (64 bytes each with 16 lanes).
constexpr int64_t kMostHeld = 640;
// With few lanes few are idle, and SwiftShader, which has 4, takes 24 GB to compile what LLVM spills.
constexpr int64_t kFewestLanes = 8;

int64_t round_up(int64_t n, int64_t to) { return divide_up(n, to) * to; }

}  // namespace

AttentionTile::AttentionTile(Writer& writer, bool broadcasts)
    : w(writer),
      node(writer.graph().node(writer.kernel().anchor)),
      form(*std::get<RegionAttr>(node.attr).region->attention),
      in(attention_operands(form, node.inputs)),
      broadcast(broadcasts),
      by_key(form.part == AttentionPart::key_gradient),
      batch(in.q.dim(-4)),
      heads(in.q.dim(-3)),
      key_heads(in.k.dim(-3)),
      queries(in.q.dim(-2)),
      keys(in.k.dim(-2)),
      width(in.q.dim(-1)),
      value_width(in.v.dim(-1)),
      own_extent(by_key ? keys : queries),
      tile_extent(by_key ? queries : keys) {
  const Shape& result = node.types[0].shape;
  leading = Shape(result.begin(), result.end() - 4);
  const Target& target = w.target();
  lanes = broadcast ? target.subgroup_size
                    : std::min<int64_t>({kSharedLanes, target.max_workgroup_invocations, round_up(own_extent, 16)});
  const int64_t widest = std::max(width, value_width);
  head_per_lane = choose_head_per_lane();
  if (head_per_lane) {
    chunk = width;
    value_chunk = value_width;
    tile_rows = tile_extent;
    return;
  }
  held_ = broadcast && widest <= kKeptWidth;
  own_rows = own_extent > lanes && widest <= kKeptWidth ? 2 : 1;
  chunks = divide_up(widest, by_key && !broadcast ? kWidestSharedChunk : kWidestChunk);
  chunk = chunks == 1 ? width : round_up(divide_up(width, chunks), kVector);
  value_chunk = chunks == 1 ? value_width : round_up(divide_up(value_width, chunks), kVector);
  tile_rows = choose_tile_rows();
}

// Where a fifth of the lanes or more would have no row: of 18 rows and 16 lanes, two rows a lane, 14 of 32 places are
// empty.
bool AttentionTile::choose_head_per_lane() const {
  if (!broadcast || lanes < kFewestLanes || heads != key_heads || tile_extent * (width + value_width) > kMostHeld)
    return false;
  const int64_t places = round_up(own_extent, own_extent > lanes ? 2 * lanes : lanes);
  return 5 * own_extent < 4 * places && batch * heads * element_count(leading) >= lanes;
}

int64_t AttentionTile::choose_tile_rows() const {
  // 18 rows are three tiles of 6, not two of 8 and one of 2.
  if (broadcast) return divide_up(tile_extent, divide_up(tile_extent, kTileRows));
  int64_t rows = kTileRows;
  while (rows > 1 && rows / 2 >= tile_extent) rows /= 2;
  // Both operands, up to three values a row, and the weights of a row's lanes.
  const int64_t row_bytes = 4 * (shared_stride(true) + shared_stride(false) + 3 + lanes * own_rows);
  while (rows > 1 && rows * row_bytes > int64_t(w.target().shared_memory_bytes)) rows /= 2;
  return rows;
}

// ---- operands ----

// The leading axes and the batch of an operand; one that the members share has only the batch.
Index AttentionTile::batch_index(const Value& operand, size_t rank) {
  if (operand.rank() == int64_t(rank)) return {w.context.modulo(z, batch)};
  Shape shape = leading;
  shape.push_back(batch);
  return w.context.delinearize(z, shape);
}

std::string AttentionTile::element(const Value& operand, const Affine& at_head, const Affine& row,
                                   const Affine& column) {
  Index at = batch_index(operand, 4);
  at.insert(at.end(), {at_head, row, column});
  return w.value(operand, at).text;
}

std::string AttentionTile::scalar(const Value& operand) {
  Index at;
  if (operand.rank() > 0) at = w.context.delinearize(w.context.divide(z, batch), leading);
  return w.value(operand, at).text;
}

std::string AttentionTile::key_exists(const Affine& key) {
  Index at = batch_index(in.key_mask, 2);
  at.push_back(key);
  return w.value(in.key_mask, at).text;
}

// A fresh index variable that is this text here.
Affine AttentionTile::variable(const char* name, int64_t extent, const std::string& text) {
  const Affine made = w.context.variable(fmt::format("{}{}", name, names_++), extent);
  w.define(made, text);
  return made;
}

// ---- the loops ----

uint32_t AttentionTile::open_heads() {
  const int64_t all_batches = batch * element_count(leading), all = all_batches * heads;
  w.line("uint lane = gl_SubgroupInvocationID;");
  const uint32_t groups = open_tiles(w, divide_up(all, lanes));
  const Affine place = variable("place", all, fmt::format("min(tile * {}u + lane, {}u)", lanes, all - 1));
  head = query_head = key_head = w.context.modulo(place, heads);
  z = w.context.divide(place, heads);
  w.open(fmt::format("for (uint own_base = 0u; own_base < {}u; ++own_base)", own_extent));
  own.push_back(variable("own", own_extent, "own_base"));
  return groups;
}

std::string AttentionTile::stores(int64_t r) const {
  if (!head_per_lane)
    return own_extent % (lanes * own_rows) == 0 ? ""
                                                : fmt::format("own_base + {}u + lane < {}u", r * lanes, own_extent);
  const int64_t all = batch * heads * element_count(leading);
  return all % lanes == 0 ? "" : fmt::format("tile * {}u + lane < {}u", lanes, all);
}

uint32_t AttentionTile::open() {
  if (head_per_lane) return open_heads();
  const int64_t own_tiles = divide_up(own_extent, lanes * own_rows), result_heads = by_key ? key_heads : heads;
  const int64_t all_batches = batch * element_count(leading);
  w.line(broadcast ? "uint lane = gl_SubgroupInvocationID;" : "uint lane = gl_LocalInvocationID.x;");
  const uint32_t groups = open_tiles(w, own_tiles * chunks * result_heads * all_batches);
  w.line(fmt::format("uint own_base = tile % {}u * {}u;", own_tiles, lanes * own_rows));
  w.line(fmt::format("uint chunk = tile / {}u % {}u;", own_tiles, chunks));
  head = variable("head", result_heads, fmt::format("tile / {}u % {}u", own_tiles * chunks, result_heads));
  z = variable("z", all_batches, fmt::format("tile / {}u", own_tiles * chunks * result_heads));
  for (int64_t r = 0; r < own_rows; ++r)
    own.push_back(
        variable("own", own_extent, fmt::format("min(own_base + {}u + lane, {}u)", r * lanes, own_extent - 1)));
  if (by_key) {
    key_head = head;
  } else {
    query_head = head;
    key_head = w.context.divide(head, heads / key_heads);
  }
  if (!broadcast) w.global(fmt::format("shared float weight[{}];", tile_rows * own_rows * lanes));
  for (const bool a : {true, false})
    if (!broadcast)
      w.global(fmt::format("shared vec4 tile_{}[{}];", a ? "a" : "b", tile_rows * shared_stride(a) / kVector));
  return groups;
}

void AttentionTile::close() {
  if (head_per_lane) w.close();
  close_tiles(w);
}

void AttentionTile::open_tile() {
  if (head_per_lane) return w.open("");
  w.open(fmt::format("for (uint base = low; base < high; base += {}u)", tile_rows));
  tile_at_.clear();
  if (broadcast) {
    for (int64_t i = 0; i < divide_up(tile_rows, lanes); ++i)
      tile_at_.push_back(tile_row(fmt::format("(lane + {}u) % {}u", i * lanes, tile_rows)));
  }
  if (held_) {
    held_a_ = hold(tile_operand(true));
    held_b_ = hold(tile_operand(false));
  }
  if (!broadcast) {
    load_shared(true);
    load_shared(false);
  }
}

void AttentionTile::tile_is_complete() {
  if (!broadcast) w.line("barrier();");
}

void AttentionTile::close_tile() {
  if (!broadcast) w.line("barrier();");
  w.close();
}

// Row `offset` of the tile; past the end the last one, which is never counted.
Affine AttentionTile::tile_row(const std::string& offset) {
  return variable("tile_row", tile_extent, fmt::format("min(base + {}, {}u)", offset, tile_extent - 1));
}

void AttentionTile::load_tile_values(const std::string& name,
                                     const std::function<std::string(const Affine& row)>& value) {
  if (head_per_lane) {
    for (int64_t j = 0; j < tile_rows; ++j) w.line(fmt::format("float tile_{}{} = {};", name, j, value(Affine(j))));
    return;
  }
  if (broadcast) {
    for (size_t i = 0; i < tile_at_.size(); ++i)
      w.line(fmt::format("float {}_in{} = {};", name, i, value(tile_at_[i])));
    for (int64_t j = 0; j < tile_rows; ++j)
      w.line(fmt::format("float tile_{0}{1} = subgroupBroadcast({0}_in{2}, {3}u);", name, j, j / lanes, j % lanes));
    return;
  }
  w.global(fmt::format("shared float tile_{}[{}];", name, tile_rows));
  w.open(fmt::format("for (uint e = lane; e < {}u; e += {}u)", tile_rows, lanes));
  const std::string loaded = value(tile_row("e"));
  w.line(fmt::format("tile_{}[e] = {};", name, loaded));
  w.close();
}

std::string AttentionTile::tile_value(const std::string& name, int64_t j) const {
  return broadcast ? fmt::format("tile_{}{}", name, j) : fmt::format("tile_{}[{}]", name, j);
}

// ---- the tile in registers ----

// Lanes lie along the columns of a row, or of as many rows as they hold.
std::vector<std::string> AttentionTile::hold(const Value& tile) {
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

std::string AttentionTile::held_element(bool operand_a, int64_t j, int64_t d) const {
  const std::vector<std::string>& held = operand_a ? held_a_ : held_b_;
  const int64_t columns = tile_operand(operand_a).dim(-1), registers = divide_up(columns, lanes),
                rows = std::max<int64_t>(1, lanes / columns);
  const int64_t at = columns >= lanes ? j * registers + d / lanes : j / rows;
  return fmt::format("subgroupBroadcast({}, {}u)", held[size_t(at)],
                     columns >= lanes ? d % lanes : j % rows * columns + d);
}

// ---- the tile in shared memory ----

int64_t AttentionTile::shared_stride(bool operand_a) const {
  return round_up(chunks * (operand_a ? chunk : value_chunk), kVector);
}

void AttentionTile::load_shared(bool operand_a) {
  const Value tile = tile_operand(operand_a);
  const int64_t columns = tile.dim(-1), stride = shared_stride(operand_a);
  w.open(fmt::format("for (uint e = lane; e < {}u; e += {}u)", tile_rows * stride, lanes));
  const Affine row = tile_row(fmt::format("e / {}u", stride));
  const Affine column = variable("column", columns, fmt::format("min(e % {}u, {}u)", stride, columns - 1));
  const std::string loaded = element(tile, tile_head(), row, column);
  w.line(fmt::format("tile_{}[e / {}u][e % {}u] = {};", operand_a ? "a" : "b", kVector, kVector, loaded));
  w.close();
}

// ---- products ----

// sums{r}_{at} += factors[r] * value
void AttentionTile::multiply_add(const std::string& sums, int64_t at, const std::vector<std::string>& factors,
                                 const std::string& value) {
  std::string text = fmt::format("{{ float s = {};", value);
  for (int64_t r = 0; r < own_rows; ++r)
    text += fmt::format(" {0}{1}_{2} = fma({3}, s, {0}{1}_{2});", sums, r, at, factors[size_t(r)]);
  w.line(text + " }");
}

void AttentionTile::dot(const std::string& sums, bool operand_a) {
  const Value mine = own_operand(operand_a), tile = tile_operand(operand_a);
  const int64_t columns = mine.dim(-1);
  declare_sums(sums, tile_rows);
  const auto own_elements = [&](const Affine& d) {
    std::vector<std::string> elements;
    for (const Affine& row : own) elements.push_back(element(mine, own_head(), row, d));
    return elements;
  };
  if (head_per_lane) {
    for (int64_t d = 0; d < columns; ++d)
      for (int64_t j = 0; j < tile_rows; ++j)
        multiply_add(sums, j, own_elements(Affine(d)), element(tile, tile_head(), Affine(j), Affine(d)));
    return;
  }
  if (held_) {
    const int64_t block = kDotBlock / own_rows;
    for (int64_t first = 0; first < tile_rows; first += block)
      for (int64_t d = 0; d < columns; ++d)
        for (int64_t j = first; j < std::min(tile_rows, first + block); ++j)
          multiply_add(sums, j, own_elements(Affine(d)), held_element(operand_a, j, d));
    return;
  }
  // `count` columns from d on, kUnroll at most.
  const auto step = [&](const Affine& d, int64_t count) {
    std::vector<std::vector<std::string>> elements, loaded(static_cast<size_t>(count));
    for (int64_t u = 0; u < count; ++u) {
      const Affine at = w.context.add(d, Affine(u));
      elements.push_back(own_elements(at));
      for (const Affine& row : tile_at_) loaded[size_t(u)].push_back(element(tile, tile_head(), row, at));
    }
    const std::string place = w.index(d);
    for (int64_t j = 0; j < tile_rows; ++j) {
      if (!broadcast) {
        w.open("");
        w.line(fmt::format("vec4 t = tile_{}[{}u + ({}) / {}u];", operand_a ? "a" : "b",
                           j * shared_stride(operand_a) / kVector, place, kVector));
      }
      for (int64_t u = 0; u < count; ++u)
        multiply_add(sums, j, elements[size_t(u)],
                     broadcast
                         ? fmt::format("subgroupBroadcast({}, {}u)", loaded[size_t(u)][size_t(j / lanes)], j % lanes)
                         : fmt::format("t[{}]", u));
      if (!broadcast) w.close();
    }
  };
  const int64_t whole = columns / kUnroll * kUnroll;
  if (columns <= (w.target().cpu && !broadcast ? kVector : kKeptWidth)) {
    for (int64_t d = 0; d < whole; d += kUnroll) step(Affine(d), kUnroll);
  } else {
    const std::string name = fmt::format("d{}", names_++);
    const Affine d = w.context.variable(name, columns);
    w.open(fmt::format("for (uint {0} = 0u; {0} < {1}u; {0} += {2}u)", name, whole, kUnroll));
    w.declare(d);
    step(d, kUnroll);
    w.close();
  }
  if (whole < columns) step(Affine(whole), columns - whole);
}

void AttentionTile::declare_sums(const std::string& sums, int64_t count) {
  for (int64_t r = 0; r < own_rows; ++r)
    for (int64_t i = 0; i < count; ++i) w.line(fmt::format("float {}{}_{} = 0.0;", sums, r, i));
}

std::vector<std::string> AttentionTile::weight_names(const std::string& weights, int64_t j) const {
  std::vector<std::string> names;
  for (int64_t r = 0; r < own_rows; ++r) names.push_back(fmt::format("{}{}_{}", weights, r, j));
  return names;
}

void AttentionTile::accumulate(const std::string& sums, const std::string& weights, bool operand_a) {
  const Value tile = tile_operand(operand_a);
  const int64_t part = operand_a ? chunk : value_chunk, columns = tile.dim(-1);
  if (head_per_lane) {
    for (int64_t j = 0; j < tile_rows; ++j)
      for (int64_t d = 0; d < part; ++d)
        multiply_add(sums, d, weight_names(weights, j), element(tile, tile_head(), Affine(j), Affine(d)));
    return;
  }
  if (held_) {
    const int64_t block = kSumBlock / own_rows;
    for (int64_t first = 0; first < part; first += block)
      for (int64_t j = 0; j < tile_rows; ++j)
        for (int64_t d = first; d < std::min(part, first + block); ++d)
          multiply_add(sums, d, weight_names(weights, j), held_element(operand_a, j, d));
    return;
  }
  if (!broadcast) {
    // The loop over j stays one: unrolled, drivers that run barriers as coroutines take minutes to compile a wide head.
    // What a loop's index selects must not be registers, so the lane's weights pass through a place of its own in
    // shared memory.
    for (int64_t r = 0; r < own_rows; ++r)
      for (int64_t j = 0; j < tile_rows; ++j)
        w.line(fmt::format("weight[{}u + lane] = {}{}_{};", (j * own_rows + r) * lanes, weights, r, j));
    w.open(fmt::format("[[dont_unroll]] for (uint j = 0u; j < {}u; ++j)", tile_rows));
    std::vector<std::string> mine;
    for (int64_t r = 0; r < own_rows; ++r)
      mine.push_back(w.keep("float", fmt::format("weight[(j * {}u + {}u) * {}u + lane]", own_rows, r, lanes)));
    for (int64_t d = 0; d < part; d += kVector) {
      w.open("");
      w.line(fmt::format("vec4 t = tile_{}[j * {}u + {}u + chunk * {}u];", operand_a ? "a" : "b",
                         shared_stride(operand_a) / kVector, d / kVector, round_up(part, kVector) / kVector));
      for (int64_t u = 0; u < std::min(kVector, part - d); ++u)
        multiply_add(sums, d + u, mine, fmt::format("t[{}]", u));
      w.close();
    }
    w.close();
    return;
  }
  // Lanes lie along the columns of one row, a few registers of them at a time.
  const int64_t block = std::max(kSumBlock, lanes);
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
        multiply_add(
            sums, d, weight_names(weights, j),
            fmt::format("subgroupBroadcast({}, {}u)", loaded[size_t((d - first) / lanes)], (d - first) % lanes));
    }
  }
}

}  // namespace surtsey::shaders
