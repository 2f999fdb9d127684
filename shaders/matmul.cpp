#include "shaders/archetypes.h"
#include "shaders/matmul_product.h"
#include "shaders/matmul_tile.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

namespace {

constexpr size_t kMaxLoadedAhead = 2;
// Work (OpDef::work) up to which an epilogue is written for every register of the tile: lavapipe gathers from an array
// that is read at the index of a loop lane by lane, which cost more than a GELU.
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
    for (const KernelOperand* output : p_.outputs)
      (unrolled_ && even && w_.pairs(*output) ? paired_ : single_).push_back(output);
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
      w_.define(row_at.back(), fmt::format("min(row_tile * {}u + (lane + {}u) % {}u, {}u)", rows_, r * lanes_, rows_,
                                           row_extent_ - 1));
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
  Expression row_value(const Affine& row, const Affine& k) {
    return swapped_ ? w_.value(p_.b, p_.b_index(k, row)) : w_.value(p_.a, p_.a_index(row, k));
  }
  Expression lane_value(const Affine& lane, const Affine& k) {
    return swapped_ ? w_.value(p_.a, p_.a_index(lane, k)) : w_.value(p_.b, p_.b_index(k, lane));
  }

  void step(const std::vector<Affine>& row_at, const std::vector<Affine>& lane_at, const Affine& k, int64_t count) {
    std::vector<std::vector<std::string>> rows, columns;
    for (int64_t u = 0; u < count; ++u) {
      const Affine at = w_.context.add(k, Affine(u));
      auto& row = rows.emplace_back();
      auto& column = columns.emplace_back();
      for (const Affine& r : row_at) row.push_back(row_value(r, at).text);
      for (const Affine& c : lane_at) column.push_back(lane_value(c, at).text);
      for (size_t r = 0; r < row.size() && sums_rows(); ++r)
        w_.line(fmt::format("row_sum{0} = row_sum{0} + {1};", r, row[r]));
      for (size_t c = 0; c < column.size() && sums_lanes(); ++c)
        w_.line(fmt::format("lane_sum{0} = lane_sum{0} + {1};", c, column[c]));
    }
    // Row by row, not step by step: a row's results stay in registers for all steps of the turn, where there are more
    // of them than registers.
    for (int64_t i = 0; i < rows_; ++i)
      for (size_t u = 0; u < size_t(count); ++u) {
        std::string text =
            fmt::format("{{ float s = subgroupBroadcast({}, {}u);", rows[u][size_t(i / lanes_)], i % lanes_);
        for (int64_t c = 0; c < columns_; ++c)
          text += fmt::format(" c{0}_{1} = fma(s, {2}, c{0}_{1});", i, c, columns[u][size_t(c)]);
        w_.line(text + " }");
      }
  }

  // The operands of a looped epilogue that have the product's own size are loaded before the loop over K, all at once:
  // one by one between the arithmetic of the epilogue each would wait for memory alone.
  void load_ahead(int64_t row_extent, int64_t lane_extent) {
    if (unrolled_) return;
    for (size_t x = 0; x < w_.kernel().inputs.size(); ++x) {
      const KernelOperand& input = w_.kernel().inputs[x];
      const bool operand = input.value == p_.a || input.value == p_.b;
      const auto& strides = input.view.strides;
      const bool repeated = std::find(strides.begin(), strides.end(), 0) != strides.end();
      if (input.view.dtype != DType::f32 || operand || repeated ||
          element_count(input.view.shape) != p_.loop.full_count || ahead_.size() == kMaxLoadedAhead)
        continue;
      ahead_.push_back(x);
      for (int64_t i = 0; i < rows_; ++i)
        for (int64_t c = 0; c < columns_; ++c) {
          const std::string name = fmt::format("ahead{}_{}_{}", x, i, c);
          w_.line(fmt::format("float {};", name));
          w_.open("");
          define_place(fmt::format("min({}, {}u)", row(fmt::format("{}u", i)), row_extent - 1),
                       fmt::format("min({}, {}u)", lane(fmt::format("{}u", c)), lane_extent - 1));
          w_.line(name + " = " + w_.value(input.value, w_.context.delinearize(p_.loop.full, input.view.shape)).text +
                  ";");
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
    return fmt::format("lane_tile * {}u + {} * {}u + lane * {}u", columns_ * lanes_, c, neighbours ? 1 : lanes_,
                       neighbours ? columns_ : 1);
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
    for (size_t o = 0; o < paired_.size(); ++o)
      w_.line(fmt::format("half{}_{} = {};", which, o, w_.result(p_.loop.full, *paired_[o])));
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
      element(row_at(which), lane_at(which),
              fmt::format("c{}_{}", i + (swapped_ ? which : 0), c + (swapped_ ? 0 : which)), int(which));
    open_element(row_at(0), lane_at(0));
    for (size_t o = 0; o < paired_.size(); ++o)
      w_.store_pair(p_.loop.full, *paired_[o], fmt::format("half0_{}", o), fmt::format("half1_{}", o));
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
        for (int64_t i = 0; i < rows_; ++i)
          element(row(fmt::format("{}u", i)), lane(fmt::format("{}u", c)), fmt::format("c{}_{}", i, c), 0);
      return;
    }
    // A longer one is written once and looped over: unrolled, it would take the driver longer to compile than to run.
    w_.line(fmt::format("float results[{}] = {};", rows_ * columns_, list("c")));
    for (const size_t x : ahead_)
      w_.line(fmt::format("float ahead{}[{}] = {};", x, rows_ * columns_, list(fmt::format("ahead{}_", x))));
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
    for (int64_t c = 0; c < columns_; ++c)
      store_sum(lane_side(), lane(fmt::format("{}u", c)), lane_extent_, "", fmt::format("lane_sum{}", c));
    w_.close();
  }

  void store_row_sums(int64_t registers) {
    if (!sums_rows()) return;
    w_.open("if (lane_tile == 0u)", true);
    for (int64_t r = 0; r < registers; ++r)
      store_sum(1 - lane_side(), row(fmt::format("(lane + {}u)", r * lanes_)), row_extent_,
                fmt::format("lane + {}u < {}u && ", r * lanes_, rows_), fmt::format("row_sum{}", r));
    w_.close();
  }

  void store_sum(size_t side, const std::string& place, int64_t extent, const std::string& own,
                 const std::string& accumulator) {
    w_.open(fmt::format("if ({}{} < {}u)", own, place, extent), true);
    w_.define(side == 0 ? p_.loop.second : p_.loop.third, place);
    p_.store_sums(side, accumulator);
    w_.close();
  }

  Writer& w_;
  MatmulProduct p_;
  int64_t lanes_;
  bool swapped_ = false;
  bool unrolled_ = false;  // the epilogue is
  int64_t lane_extent_ = 1, row_extent_ = 1, rows_ = 1, columns_ = 1, depth_ = 1;
  std::vector<const KernelOperand*> paired_, single_;  // outputs: how they are stored
  std::vector<size_t> ahead_;                          // inputs that are loaded before the loop over K
};

}  // namespace

Shader matmul_lane_broadcast(Writer& writer) { return LaneBroadcast(writer).write(); }

}  // namespace surtsey::shaders
