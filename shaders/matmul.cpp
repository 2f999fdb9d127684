#include "shaders/archetypes.h"
#include "shaders/matmul_tile.h"

#include <algorithm>
#include <set>

namespace surtsey::shaders {

using namespace graph;

namespace {

// C[z, m, n] = sum over k of A[z, m, k] B[z, k, n]; operands are any expressions, their layout is in their strides.
struct Product {
  explicit Product(Writer& writer) : w(writer), loop(loop_index(writer.context, Archetype::matmul, writer.kernel().space, {})) {
    const Node& node = w.graph().node(w.kernel().anchor);
    a = node.inputs[0];
    b = node.inputs[1];
    const Shape& shape = w.kernel().space;
    m = shape[shape.size() - 2];
    n = shape.back();
    k = a.shape().back();
    batch = loop.full_count / (m * n);
    batch_shape = Shape(shape.begin(), shape.end() - 2);
    std::set<uint32_t> sums;
    for (const uint32_t member : w.kernel().members)
      if (const auto side = summed_operand(w.graph(), w.kernel().anchor.node, member)) {
        sides[*side].sums.push_back(member);
        sums.insert(member);
      }
    for (const KernelOperand& output : w.kernel().outputs) {
      const uint32_t base = behind_views(w.graph(), output.value.node);
      if (!sums.count(base)) {
        outputs.push_back(&output);
        continue;
      }
      for (Side& side : sides)
        if (std::find(side.sums.begin(), side.sums.end(), base) != side.sums.end()) side.outputs.push_back(&output);
    }
    plain = outputs.size() == 1 && w.kernel().members.size() == 1 + sums.size();
  }

  Index a_index(const Affine& row, const Affine& inner) { return batched(row, inner); }
  Index b_index(const Affine& inner, const Affine& column) { return batched(inner, column); }

  // Strides of an operand that is read as it is stored; 0 when it is computed on load.
  int64_t stride(const Value& operand, size_t from_back) const {
    for (const auto& input : w.kernel().inputs)
      if (input.value == operand) return input.view.strides[input.view.strides.size() - 1 - from_back];
    return 0;
  }

  // Stores the sums of a side at its row or column, which is defined here.
  void store_sums(size_t side, const std::string& accumulator) {
    for (const uint32_t sum : sides[side].sums) w.bind(sum, accumulator);
    w.store(w.context.add(w.context.scale(loop.first, side == 0 ? m : n), side == 0 ? loop.second : loop.third), sides[side].outputs);
  }

  // Sums over K of the rows of A (0) or the columns of B (1) that are computed along with the product.
  struct Side {
    std::vector<uint32_t> sums;
    std::vector<const KernelOperand*> outputs;
  };

  Writer& w;
  LoopIndex loop;
  Value a, b;
  int64_t m, n, k, batch;
  Shape batch_shape;
  Side sides[2];
  std::vector<const KernelOperand*> outputs;  // those of the product's size
  bool plain = false;                         // the product is stored as it is, and nothing else of its size

private:
  Index batched(const Affine& second_last, const Affine& last) {
    Index index = w.context.delinearize(loop.first, batch_shape);
    index.push_back(second_last);
    index.push_back(last);
    return index;
  }
};

constexpr size_t kMaxLoadedAhead = 2;
// Work (OpDef::work) up to which an epilogue is written for every register of the tile: lavapipe gathers from an array that is read
// at the index of a loop lane by lane, which cost more than a GELU.
constexpr int kUnrolledWork = 48;

class LaneBroadcast {
public:
  explicit LaneBroadcast(Writer& writer) : w_(writer), p_(writer), lanes_(writer.target().subgroup_size) {
    const MatmulTile tile = choose_tile(matmul_shape(w_.kernel(), w_.graph(), w_.target()), w_.target());
    swapped_ = tile.lanes_along_m;
    lane_extent_ = swapped_ ? p_.m : p_.n;
    row_extent_ = swapped_ ? p_.n : p_.m;
    columns_ = tile.columns;
    rows_ = tile.rows;
    depth_ = tile.depth;
    unrolled_ = p_.plain || epilogue_work() <= kUnrolledWork;
    const bool even = p_.n % 2 == 0 && (swapped_ ? rows_ : columns_) % 2 == 0;
    for (const KernelOperand* output : p_.outputs) (unrolled_ && even && w_.pairs(*output) ? paired_ : single_).push_back(output);
  }

  Shader write() {
    const int64_t row_tiles = divide_up(row_extent_, rows_), lane_tiles = divide_up(lane_extent_, columns_ * lanes_);
    w_.line("uint lane = gl_SubgroupInvocationID;");
    const uint32_t groups = open_tiles(w_, p_.batch * row_tiles * lane_tiles);
    w_.line(fmt::format("uint lane_tile = tile % {}u;", lane_tiles));
    w_.line(fmt::format("uint row_tile = tile / {}u % {}u;", lane_tiles, row_tiles));
    w_.define(p_.loop.first, fmt::format("tile / {}u", lane_tiles * row_tiles));
    // Reads past the edge are clamped to it, stores are guarded: the loop over K needs no test.
    const int64_t registers = divide_up(rows_, lanes_);
    std::vector<Affine> row_at, lane_at;
    for (int64_t r = 0; r < registers; ++r) {
      row_at.push_back(w_.context.variable(fmt::format("row_at{}", r), row_extent_));
      w_.define(row_at.back(), fmt::format("min(row_tile * {}u + (lane + {}u) % {}u, {}u)", rows_, r * lanes_, rows_, row_extent_ - 1));
    }
    for (int64_t c = 0; c < columns_; ++c) {
      lane_at.push_back(w_.context.variable(fmt::format("lane_at{}", c), lane_extent_));
      w_.define(lane_at.back(), fmt::format("min({}, {}u)", lane(fmt::format("{}u", c)), lane_extent_ - 1));
    }
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t c = 0; c < columns_; ++c) w_.line(fmt::format("float c{}_{} = 0.0;", i, c));
    if (sums_lanes())
      for (int64_t c = 0; c < columns_; ++c) w_.line(fmt::format("float lane_sum{} = 0.0;", c));
    if (sums_rows())
      for (int64_t r = 0; r < registers; ++r) w_.line(fmt::format("float row_sum{} = 0.0;", r));

    load_ahead(row_extent_, lane_extent_);

    const int64_t whole = p_.k / depth_ * depth_;
    if (whole == depth_) {
      step(row_at, lane_at, Affine(0), depth_);
    } else if (whole > 0) {
      const Affine k = w_.context.variable("k", p_.k);
      w_.open(fmt::format("for (uint k = 0u; k < {}u; k += {}u)", whole, depth_));
      w_.declare(k);
      step(row_at, lane_at, k, depth_);
      w_.close();
    }
    if (whole < p_.k) {
      w_.open("");
      step(row_at, lane_at, Affine(whole), p_.k - whole);
      w_.close();
    }
    epilogue();
    store_lane_sums();
    store_row_sums(registers);
    close_tiles(w_);
    return w_.finish(groups, uint32_t(lanes_), uint32_t(lanes_));
  }

private:
  Expression row_value(const Affine& row, const Affine& k) { return swapped_ ? w_.value(p_.b, p_.b_index(k, row)) : w_.value(p_.a, p_.a_index(row, k)); }
  Expression lane_value(const Affine& lane, const Affine& k) { return swapped_ ? w_.value(p_.a, p_.a_index(lane, k)) : w_.value(p_.b, p_.b_index(k, lane)); }

  void step(const std::vector<Affine>& row_at, const std::vector<Affine>& lane_at, const Affine& k, int64_t count) {
    std::vector<std::vector<std::string>> rows, columns;
    for (int64_t u = 0; u < count; ++u) {
      const Affine at = w_.context.add(k, Affine(u));
      auto& row = rows.emplace_back();
      auto& column = columns.emplace_back();
      for (const Affine& r : row_at) row.push_back(row_value(r, at).text);
      for (const Affine& c : lane_at) column.push_back(lane_value(c, at).text);
      for (size_t r = 0; r < row.size() && sums_rows(); ++r) w_.line(fmt::format("row_sum{0} = row_sum{0} + {1};", r, row[r]));
      for (size_t c = 0; c < column.size() && sums_lanes(); ++c) w_.line(fmt::format("lane_sum{0} = lane_sum{0} + {1};", c, column[c]));
    }
    // Row by row, not step by step: a row's results stay in registers for all steps of the turn, where there are more of them
    // than registers.
    for (int64_t i = 0; i < rows_; ++i)
      for (size_t u = 0; u < size_t(count); ++u) {
        std::string text = fmt::format("{{ float s = subgroupBroadcast({}, {}u);", rows[u][size_t(i / lanes_)], i % lanes_);
        for (int64_t c = 0; c < columns_; ++c) text += fmt::format(" c{0}_{1} = fma(s, {2}, c{0}_{1});", i, c, columns[u][size_t(c)]);
        w_.line(text + " }");
      }
  }

  // The operands of a looped epilogue that have the product's own size are loaded before the loop over K, all at once: one by one
  // between the arithmetic of the epilogue each would wait for memory alone.
  void load_ahead(int64_t row_extent, int64_t lane_extent) {
    if (unrolled_) return;
    for (size_t x = 0; x < w_.kernel().inputs.size(); ++x) {
      const KernelOperand& input = w_.kernel().inputs[x];
      const bool operand = input.value == p_.a || input.value == p_.b;
      const auto& strides = input.view.strides;
      const bool repeated = std::find(strides.begin(), strides.end(), 0) != strides.end();
      if (input.view.dtype != DType::f32 || operand || repeated || element_count(input.view.shape) != p_.loop.full_count || ahead_.size() == kMaxLoadedAhead) continue;
      ahead_.push_back(x);
      for (int64_t i = 0; i < rows_; ++i)
        for (int64_t c = 0; c < columns_; ++c) {
          const std::string name = fmt::format("ahead{}_{}_{}", x, i, c);
          w_.line(fmt::format("float {};", name));
          w_.open("");
          define_place(fmt::format("min({}, {}u)", row(fmt::format("{}u", i)), row_extent - 1),
                       fmt::format("min({}, {}u)", lane(fmt::format("{}u", c)), lane_extent - 1));
          w_.line(name + " = " + w_.value(input.value, w_.context.delinearize(p_.loop.full, input.view.shape)).text + ";");
          w_.close();
        }
    }
  }

  void define_place(const std::string& row, const std::string& lane) {
    const Affine& row_variable = swapped_ ? p_.loop.third : p_.loop.second;
    const Affine& lane_variable = swapped_ ? p_.loop.second : p_.loop.third;
    if (!lane_variable.is_constant()) w_.define(lane_variable, lane);
    if (!row_variable.is_constant()) w_.define(row_variable, row);
  }

  std::string row(const std::string& i) const { return fmt::format("row_tile * {}u + {}", rows_, i); }
  // Where elements are stored in pairs, neighbouring columns are those of one lane.
  std::string lane(const std::string& c) const {
    const bool neighbours = !paired_.empty() && !swapped_;
    return fmt::format("lane_tile * {}u + {} * {}u + lane * {}u", columns_ * lanes_, c, neighbours ? 1 : lanes_, neighbours ? columns_ : 1);
  }

  std::string list(const std::string& prefix) const {
    std::string text;
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t c = 0; c < columns_; ++c) text += fmt::format("{}{}{}_{}", text.empty() ? "" : ", ", prefix, i, c);
    return fmt::format("float[]({})", text);
  }

  void open_element(const std::string& row, const std::string& lane) {
    const Affine& row_variable = swapped_ ? p_.loop.third : p_.loop.second;
    const Affine& lane_variable = swapped_ ? p_.loop.second : p_.loop.third;
    w_.open("");
    if (!lane_variable.is_constant()) w_.define(lane_variable, lane);
    w_.open(lane_extent_ % (columns_ * lanes_) == 0 ? "" : fmt::format("if ({} < {}u)", lane, lane_extent_));
    if (!row_variable.is_constant()) w_.define(row_variable, row);
    w_.open(row_extent_ % rows_ == 0 ? "" : fmt::format("if ({} < {}u)", row, row_extent_));
  }

  void close_element() {
    w_.close();
    w_.close();
    w_.close();
  }

  // What is stored in pairs goes into half{which}_{output}, the rest into memory.
  void element(const std::string& row, const std::string& lane, const std::string& accumulator, int which) {
    open_element(row, lane);
    w_.bind(w_.kernel().anchor.node, accumulator);
    for (const size_t x : ahead_) {
      const KernelOperand& input = w_.kernel().inputs[x];
      const std::string loaded = w_.keep("float", fmt::format("ahead{}[i * {}u + c]", x, columns_));
      w_.remember(input.value.node, w_.context.delinearize(p_.loop.full, input.view.shape), loaded);
    }
    for (size_t o = 0; o < paired_.size(); ++o) w_.line(fmt::format("half{}_{} = {};", which, o, w_.result(p_.loop.full, *paired_[o])));
    w_.store(p_.loop.full, single_);
    close_element();
  }

  // Results that lie side by side in memory: row i and column c of the tile, and the next row or column.
  void pair(int64_t i, int64_t c) {
    w_.open("");
    for (size_t o = 0; o < paired_.size(); ++o) w_.line(fmt::format("float half0_{0}; float half1_{0};", o));
    const auto row_at = [&](int64_t which) { return row(fmt::format("{}u", i + (swapped_ ? which : 0))); };
    const auto lane_at = [&](int64_t which) { return lane(fmt::format("{}u", c + (swapped_ ? 0 : which))); };
    for (const int64_t which : {0, 1})
      element(row_at(which), lane_at(which), fmt::format("c{}_{}", i + (swapped_ ? which : 0), c + (swapped_ ? 0 : which)), int(which));
    open_element(row_at(0), lane_at(0));
    for (size_t o = 0; o < paired_.size(); ++o) w_.store_pair(p_.loop.full, *paired_[o], fmt::format("half0_{}", o), fmt::format("half1_{}", o));
    close_element();
    w_.close();
  }

  int epilogue_work() const {
    int work = 0;
    for (const auto* nodes : {&w_.kernel().members, &w_.kernel().inlined})
      for (const uint32_t n : *nodes) work += n == w_.kernel().anchor.node ? 0 : definition(w_.graph().node(n).op).work;
    return work;
  }

  void epilogue() {
    if (!paired_.empty()) {
      for (int64_t c = 0; c < columns_; c += swapped_ ? 1 : 2)
        for (int64_t i = 0; i < rows_; i += swapped_ ? 2 : 1) pair(i, c);
      return;
    }
    if (unrolled_) {
      for (int64_t c = 0; c < columns_; ++c)
        for (int64_t i = 0; i < rows_; ++i) element(row(fmt::format("{}u", i)), lane(fmt::format("{}u", c)), fmt::format("c{}_{}", i, c), 0);
      return;
    }
    // A longer one is written once and looped over: unrolled, it would take the driver longer to compile than to run.
    w_.line(fmt::format("float results[{}] = {};", rows_ * columns_, list("c")));
    for (const size_t x : ahead_) w_.line(fmt::format("float ahead{}[{}] = {};", x, rows_ * columns_, list(fmt::format("ahead{}_", x))));
    w_.open(fmt::format("[[dont_unroll]] for (uint i = 0u; i < {}u; ++i)", rows_));
    w_.open(fmt::format("[[dont_unroll]] for (uint c = 0u; c < {}u; ++c)", columns_));
    element(row("i"), lane("c"), fmt::format("results[i * {}u + c]", columns_), 0);
    w_.close();
    w_.close();
  }

  // The operands' own sums over K: every tile adds up what it reads, the first along the other side stores it.
  size_t lane_side() const { return swapped_ ? 0 : 1; }
  bool sums_lanes() const { return !p_.sides[lane_side()].sums.empty(); }
  bool sums_rows() const { return !p_.sides[1 - lane_side()].sums.empty(); }

  void store_lane_sums() {
    if (!sums_lanes()) return;
    w_.open("if (row_tile == 0u)", true);
    for (int64_t c = 0; c < columns_; ++c) store_sum(lane_side(), lane(fmt::format("{}u", c)), lane_extent_, "", fmt::format("lane_sum{}", c));
    w_.close();
  }

  void store_row_sums(int64_t registers) {
    if (!sums_rows()) return;
    w_.open("if (lane_tile == 0u)", true);
    for (int64_t r = 0; r < registers; ++r)
      store_sum(1 - lane_side(), row(fmt::format("(lane + {}u)", r * lanes_)), row_extent_, fmt::format("lane + {}u < {}u && ", r * lanes_, rows_),
                fmt::format("row_sum{}", r));
    w_.close();
  }

  void store_sum(size_t side, const std::string& place, int64_t extent, const std::string& own, const std::string& accumulator) {
    w_.open(fmt::format("if ({}{} < {}u)", own, place, extent), true);
    w_.define(side == 0 ? p_.loop.second : p_.loop.third, place);
    p_.store_sums(side, accumulator);
    w_.close();
  }

  Writer& w_;
  Product p_;
  int64_t lanes_;
  bool swapped_ = false;
  bool unrolled_ = false;      // the epilogue is
  int64_t lane_extent_ = 1, row_extent_ = 1, rows_ = 1, columns_ = 1, depth_ = 1;
  std::vector<const KernelOperand*> paired_, single_;  // outputs: how they are stored
  std::vector<size_t> ahead_;  // inputs that are loaded before the loop over K
};

}  // namespace

Shader matmul_lane_broadcast(Writer& writer) { return LaneBroadcast(writer).write(); }

Shader matmul_shared_tile(Writer& w) {
  Product p(w);
  // Shared tiles of rows x depth and depth x columns; each lane owns `own` x `own` results.
  const MatmulTile t = choose_tile(matmul_shape(w.kernel(), w.graph(), w.target()), w.target());
  const int64_t across = t.columns / t.own, lanes = t.rows / t.own * across;
  const int64_t row_tiles = divide_up(p.m, t.rows), column_tiles = divide_up(p.n, t.columns);
  // A row more than the tile: neighbouring rows start in different banks.
  w.global(fmt::format("shared float tile_a[{}];\nshared float tile_b[{}];", t.depth * (t.rows + 1), t.depth * (t.columns + 1)));
  w.line("uint lane = gl_LocalInvocationID.x;");
  w.line(fmt::format("uint row_base = group / {}u % {}u * {}u;", column_tiles, row_tiles, t.rows));
  w.line(fmt::format("uint column_base = group % {}u * {}u;", column_tiles, t.columns));
  w.define(p.loop.first, fmt::format("group / {}u", row_tiles * column_tiles));
  w.line(fmt::format("uint own_row = lane / {}u * {}u;", across, t.own));
  w.line(fmt::format("uint own_column = lane % {}u * {}u;", across, t.own));
  for (int64_t i = 0; i < t.own; ++i)
    for (int64_t j = 0; j < t.own; ++j) w.line(fmt::format("float c{}_{} = 0.0;", i, j));
  for (const size_t side : {0, 1})
    for (int64_t i = 0; i < t.own && !p.sides[side].sums.empty(); ++i) w.line(fmt::format("float sum{}_{} = 0.0;", side, i));

  w.open(fmt::format("for (uint k_base = 0u; k_base < {}u; k_base += {}u)", p.k, t.depth));
  // Neighbouring lanes load along the axis that lies contiguous in memory.
  const auto load = [&](const char* array, int64_t side, int64_t extent, const char* base, bool depth_first, bool is_a) {
    w.open(fmt::format("for (uint e = lane; e < {}u; e += {}u)", side * t.depth, lanes));
    w.line(fmt::format("uint at_side = e {} {}u;", depth_first ? "/" : "%", depth_first ? t.depth : side));
    w.line(fmt::format("uint at_depth = e {} {}u;", depth_first ? "%" : "/", depth_first ? t.depth : side));
    w.line("float loaded = 0.0;");
    w.open(fmt::format("if ({} + at_side < {}u && k_base + at_depth < {}u)", base, extent, p.k), true);
    const Affine place = w.context.variable(fmt::format("{}_side", array), extent), k = w.context.variable(fmt::format("{}_depth", array), p.k);
    w.define(place, fmt::format("{} + at_side", base));
    w.define(k, "k_base + at_depth");
    const Expression value = is_a ? w.value(p.a, p.a_index(place, k)) : w.value(p.b, p.b_index(k, place));
    w.line("loaded = " + value.text + ";");
    w.close();
    w.line(fmt::format("{}[at_depth * {}u + at_side] = loaded;", array, side + 1));
    w.close();
  };
  load("tile_a", t.rows, p.m, "row_base", p.stride(p.a, 0) == 1, true);
  load("tile_b", t.columns, p.n, "column_base", p.stride(p.b, 1) == 1, false);
  w.line("barrier();");
  w.open(fmt::format("for (uint d = 0u; d < {}u; ++d)", t.depth));
  for (int64_t i = 0; i < t.own; ++i) w.line(fmt::format("float a{0} = tile_a[d * {1}u + own_row + {0}u];", i, t.rows + 1));
  for (int64_t j = 0; j < t.own; ++j) w.line(fmt::format("float b{0}_ = tile_b[d * {1}u + own_column + {0}u];", j, t.columns + 1));
  for (int64_t i = 0; i < t.own; ++i)
    for (int64_t j = 0; j < t.own; ++j) w.line(fmt::format("c{0}_{1} = fma(a{0}, b{1}_, c{0}_{1});", i, j));
  for (const size_t side : {0, 1})
    for (int64_t i = 0; i < t.own && !p.sides[side].sums.empty(); ++i)
      w.line(fmt::format("sum{0}_{1} = sum{0}_{1} + {2};", side, i, side == 0 ? fmt::format("a{}", i) : fmt::format("b{}_", i)));
  w.close();
  w.line("barrier();");
  w.close();

  std::string list;
  for (int64_t i = 0; i < t.own; ++i)
    for (int64_t j = 0; j < t.own; ++j) list += fmt::format("{}c{}_{}", list.empty() ? "" : ", ", i, j);
  w.line(fmt::format("float results[{}] = float[]({});", t.own * t.own, list));
  w.open(fmt::format("for (uint e = 0u; e < {}u; ++e)", t.own * t.own));
  w.open(fmt::format("if (row_base + own_row + e / {0}u < {1}u && column_base + own_column + e % {0}u < {2}u)", t.own, p.m, p.n), true);
  w.define(p.loop.second, fmt::format("row_base + own_row + e / {}u", t.own));
  w.define(p.loop.third, fmt::format("column_base + own_column + e % {}u", t.own));
  w.bind(w.kernel().anchor.node, "results[e]");
  w.store(p.loop.full, p.outputs);
  w.close();
  w.close();
  // The operands' own sums over K: every workgroup has them, the first along the other side stores them.
  for (const size_t side : {0, 1}) {
    if (p.sides[side].sums.empty()) continue;
    w.open(side == 0 ? "if (column_base + own_column == 0u)" : "if (row_base + own_row == 0u)", true);
    for (int64_t i = 0; i < t.own; ++i) {
      const std::string place = fmt::format("{} + {}u", side == 0 ? "row_base + own_row" : "column_base + own_column", i);
      w.open(fmt::format("if ({} < {}u)", place, side == 0 ? p.m : p.n), true);
      w.define(side == 0 ? p.loop.second : p.loop.third, place);
      p.store_sums(side, fmt::format("sum{}_{}", side, i));
      w.close();
    }
    w.close();
  }
  return w.finish(uint32_t(p.batch * row_tiles * column_tiles), uint32_t(lanes));
}

}  // namespace surtsey::shaders
