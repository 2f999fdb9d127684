#include "shaders/attention_tile.h"

#include "shaders/archetypes.h"
#include "shaders/attention_limits.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

AttentionSides::AttentionSides(Writer& writer)
    : w(writer),
      node(writer.graph().node(writer.kernel().anchor)),
      form(*std::get<RegionAttr>(node.attr).region->attention),
      in(attention_operands(form, node.inputs)),
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
}

Value AttentionSides::own_operand(Operand o) const {
  if (by_key) return o == Operand::a ? in.k : in.v;
  return o == Operand::a ? in.q : in.dout;
}

Value AttentionSides::tile_operand(Operand o) const {
  if (by_key) return o == Operand::a ? in.q : in.dout;
  return o == Operand::a ? in.k : in.v;
}

// ---- operands ----

// The leading axes and the batch of an operand; one that the members share has only the batch.
Index AttentionSides::batch_index(const Value& operand, size_t rank) {
  if (operand.rank() == int64_t(rank)) return {w.context.modulo(z, batch)};
  Shape shape = leading;
  shape.push_back(batch);
  return w.context.delinearize(z, shape);
}

std::string AttentionSides::element(const Value& operand, const Affine& head, const Affine& row, const Affine& column) {
  Index at = batch_index(operand, 4);
  at.insert(at.end(), {head, row, column});
  return w.value(operand, at).text;
}

std::string AttentionSides::scalar(const Value& operand) {
  Index at;
  if (operand.rank() > 0) at = w.context.delinearize(w.context.divide(z, batch), leading);
  return w.value(operand, at).text;
}

std::string AttentionSides::key_exists(const Affine& key) {
  Index at = batch_index(in.key_mask, 2);
  at.push_back(key);
  return w.value(in.key_mask, at).text;
}

std::string AttentionSides::first_key(const Affine& query) {
  Index at = batch_index(in.first_key, 2);
  at.push_back(query);
  return w.value(in.first_key, at).text;
}

// ---- results ----

std::vector<size_t> AttentionSides::outputs(int result, uint32_t& member) const {
  std::vector<size_t> found;
  for (const size_t output : w.all_outputs()) {
    uint32_t n = w.kernel().outputs[output].value.node;
    while (w.graph().node(n).op != Op::region) n = w.graph().node(n).inputs[0].node;
    if (std::get<RegionAttr>(w.graph().node(n).attr).region->attention->result != result) continue;
    member = n;
    found.push_back(output);
  }
  return found;
}

// ---- tiles ----

AttentionTile::AttentionTile(const AttentionSides& sides, int64_t lane_count, const char* lane)
    : AttentionSides(sides), lanes(lane_count), lane_(lane) {}

void AttentionTile::cut(int64_t widest_chunk) {
  own_rows = own_extent > lanes && widest() <= kKeptWidth ? 2 : 1;
  chunks = divide_up(widest(), widest_chunk);
  chunk = chunks == 1 ? width : round_up(divide_up(width, chunks), kVector);
  value_chunk = chunks == 1 ? value_width : round_up(divide_up(value_width, chunks), kVector);
}

std::string AttentionTile::first_key_of_all() { return first_key(variable("own", own_extent, "own_base")); }

// A fresh index variable that is this text here.
Affine AttentionTile::variable(const char* name, int64_t extent, const std::string& text) {
  const Affine made = w.context.variable(fmt::format("{}{}", name, names_++), extent);
  w.define(made, text);
  return made;
}

// ---- the loops ----

uint32_t AttentionTile::open() {
  const int64_t own_tiles = divide_up(own_extent, lanes * own_rows), result_heads = by_key ? key_heads : heads;
  w.line(fmt::format("uint lane = {};", lane_));
  const uint32_t groups = open_tiles(w, own_tiles * chunks * result_heads * batches());
  w.line(fmt::format("uint own_base = tile % {}u * {}u;", own_tiles, lanes * own_rows));
  w.line(fmt::format("uint chunk = tile / {}u % {}u;", own_tiles, chunks));
  head = variable("head", result_heads, fmt::format("tile / {}u % {}u", own_tiles * chunks, result_heads));
  z = variable("z", batches(), fmt::format("tile / {}u", own_tiles * chunks * result_heads));
  for (int64_t r = 0; r < own_rows; ++r)
    own.push_back(
        variable("own", own_extent, fmt::format("min(own_base + {}u + lane, {}u)", r * lanes, own_extent - 1)));
  if (by_key) {
    key_head = head;
  } else {
    query_head = head;
    key_head = w.context.divide(head, heads / key_heads);
  }
  return groups;
}

void AttentionTile::close() { close_tiles(w); }

void AttentionTile::open_tile_loop() {
  w.open(fmt::format("for (uint base = low; base < high; base += {}u)", tile_rows));
}

void AttentionTile::close_tile() { w.close(); }

std::string AttentionTile::tile_index(int64_t j) const { return fmt::format("base + {}u", j); }

std::string AttentionTile::stores(int64_t r) const {
  if (own_extent % (lanes * own_rows) == 0) return "";
  return fmt::format("own_base + {}u + lane < {}u", r * lanes, own_extent);
}

// Row `offset` of the tile; past the end the last one, which is never counted.
Affine AttentionTile::tile_row(const std::string& offset) {
  return variable("tile_row", tile_extent, fmt::format("min(base + {}, {}u)", offset, tile_extent - 1));
}

// ---- products ----

void AttentionTile::dot(const std::string& sums, Operand o) {
  declare_sums(sums, tile_rows);
  multiply(sums, o);
}

void AttentionTile::declare_sums(const std::string& sums, int64_t count) {
  for (int64_t r = 0; r < own_rows; ++r)
    for (int64_t i = 0; i < count; ++i) w.line(fmt::format("float {}{}_{} = 0.0;", sums, r, i));
}

void AttentionTile::multiply_add(const std::string& sums, int64_t at, const std::vector<std::string>& factors,
                                 const std::string& value) {
  std::string text = fmt::format("{{ float s = {};", value);
  for (int64_t r = 0; r < own_rows; ++r)
    text += fmt::format(" {0}{1}_{2} = fma({3}, s, {0}{1}_{2});", sums, r, at, factors[size_t(r)]);
  w.line(text + " }");
}

std::vector<std::string> AttentionTile::own_elements(Operand o, const Affine& d) {
  std::vector<std::string> elements;
  for (const Affine& row : own) elements.push_back(element(own_operand(o), own_head(), row, d));
  return elements;
}

std::vector<std::string> AttentionTile::weight_names(const std::string& weights, int64_t j) const {
  std::vector<std::string> names;
  for (int64_t r = 0; r < own_rows; ++r) names.push_back(fmt::format("{}{}_{}", weights, r, j));
  return names;
}

void AttentionTile::for_columns(int64_t columns, int64_t written_out,
                                const std::function<void(const Affine& d, int64_t count)>& turn) {
  const int64_t whole = columns / kUnroll * kUnroll;
  if (columns <= written_out) {
    for (int64_t d = 0; d < whole; d += kUnroll) turn(Affine(d), kUnroll);
  } else {
    const std::string name = fmt::format("d{}", names_++);
    const Affine d = w.context.variable(name, columns);
    w.open(fmt::format("for (uint {0} = 0u; {0} < {1}u; {0} += {2}u)", name, whole, kUnroll));
    w.declare(d);
    turn(d, kUnroll);
    w.close();
  }
  if (whole < columns) turn(Affine(whole), columns - whole);
}

}  // namespace surtsey::shaders
