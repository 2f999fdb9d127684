// Products by lane broadcast. A subgroup computes a tile of the product,
//
//   c [rows, columns, lanes]    results in registers: `rows` along one axis, `columns` registers of all lanes along
//                               the other; lanes lie along N, or (MatmulTile::lanes_along_m) along M. Products side by
//                               side have as many columns each, one product's behind the other's
//
//   for k in 0 .. K by depth
//     own    [depth, registers]  the rows' operand, rows side by side over the lanes, registers = ceil(rows / lanes)
//     mine   [depth, columns]    the columns' operand: each lane loads that of its own results
//     for i in rows, u in depth, j in columns
//       c[i][j] += broadcast(own[u], i) mine[u][j]
//   every element of c through the epilogue into memory, in pairs where two lie side by side in one word
//
// No barrier, no shared memory. A workgroup takes several tiles, one after the other (open_tiles).
#include "graph/few_rows.h"
#include "shaders/archetypes.h"
#include "shaders/matmul_product.h"
#include "shaders/matmul_tile.h"
#include "shaders/packed_turn.h"
#include "shaders/row_operand.h"

#include <algorithm>
#include <optional>
#include <set>

namespace surtsey::shaders {

using namespace graph;

namespace {

constexpr size_t kMaxLoadedAhead = 2;
// Work (OpDef::work) up to which an epilogue is written for every register of the tile: lavapipe gathers from an array
// that is read at the index of a loop lane by lane, which cost more than a GELU.
constexpr int kUnrolledWork = 48;

// Steps of a turn where words are unpacked on load: whole words, and the more of them share a scale the fewer rows
// there are to be multiplied. Through descriptors a word at a time: each access costs the driver's compiler.
constexpr int64_t kPackedDepth = 32;
constexpr int64_t kWidestWord = 16;
constexpr int64_t kPackedResults = 512;  // multiply-adds of a lane in a turn, from where on turns get shorter

constexpr int64_t kUsualColumns = 2;  // of few rows
// Columns of a row in a turn of what adds them up before the product.
constexpr int64_t kStatisticsDepth = 32;

// Steps of a turn of few rows: a load of theirs brings as many, and pairs of them, as there are lanes.
constexpr int64_t kFewRowsDepth = 16;

// An axis of the product: M with the rows of A, or N with the columns of B.
struct Axis {
  enum Name : size_t { m = 0, n = 1 };  // as MatmulProduct::sides has them

  Name name = m;
  int64_t extent = 1;
  int64_t tile = 1;  // elements of a tile
  Affine variable;   // of the kernel's loops

  int64_t tiles() const { return divide_up(extent, tile); }
  bool whole_tiles() const { return extent % tile == 0; }
  // GLSL: whether this place lies on the axis, empty where every one does; and the nearest place that does.
  std::string contains(const std::string& place) const {
    return whole_tiles() ? "" : fmt::format("if ({} < {}u)", place, extent);
  }
  std::string clamped(const std::string& place) const { return fmt::format("min({}, {}u)", place, extent - 1); }
};

// Where an element of the tile lies in the product: GLSL.
struct Place {
  std::string row, lane;  // along the axis of the rows, and that of the lanes
};

class LaneBroadcast {
 public:
  explicit LaneBroadcast(Writer& writer) : w_(writer), p_(writer), lanes_(writer.target().subgroup_size) {
    MatmulTile tile = choose_tile(matmul_shape(w_.kernel(), w_.graph(), w_.target()), w_.target());
    const int64_t run = packed_run(w_.kernel(), w_.graph(), p_.b);
    packed_ = run > 1;
    groups_of_numbers_ = packed_ && has_packed_numbers(w_, p_);
    const bool all_rows = p_.products.size() > 1 || !p_.statistics.empty();
    if (all_rows && (tile.lanes_along_m || tile.rows < p_.m))
      tile = {.rows = p_.m, .columns = kUsualColumns, .depth = tile.depth};
    if (groups_of_numbers_) {
      // One order of K for any number of rows; sums of groups stand beside the results, so tiles are low.
      tile = {.rows = divide_up(p_.m, divide_up(p_.m, kFewRows)),
              .columns = std::min<int64_t>(packed_columns(p_.m), divide_up(p_.n, lanes_))};
    }
    rows_ = tile.rows;
    columns_ = tile.columns;
    all_columns_ = columns_ * int64_t(p_.products.size());
    depth_ = packed_ ? packed_depth(run) : tile.depth;
    if (!packed_ && p_.m <= kFewRows && w_.target().addressing == Addressing::address)
      depth_ = std::max(depth_, kFewRowsDepth);
    by_turns_ = packed_;
    registers_ = divide_up(rows_, lanes_);
    const auto axis = [&](Axis::Name name, int64_t elements) {
      return name == Axis::m ? Axis{name, p_.m, elements, p_.loop.second} : Axis{name, p_.n, elements, p_.loop.third};
    };
    if (p_.m <= kFewRows || groups_of_numbers_) {
      for (size_t p = 0; p < p_.products.size(); ++p)
        for (const size_t input : inputs_of(p_.right(p))) by_turns_ |= w_.load_in_pairs(input);
      for (const size_t input : inputs_of(p_.a)) by_turns_ |= rows_in_pairs_ |= w_.load_in_pairs(input);
    }
    row_axis_ = axis(tile.lanes_along_m ? Axis::n : Axis::m, rows_);
    lane_axis_ = axis(tile.lanes_along_m ? Axis::m : Axis::n, columns_ * lanes_);

    unrolled_ = p_.plain || epilogue_work() <= kUnrolledWork;
    const int64_t along_n = lane_axis_.name == Axis::n ? columns_ : rows_;
    const bool even = p_.n % 2 == 0 && along_n % 2 == 0;
    for (const size_t output : p_.outputs)
      (unrolled_ && even && w_.pairs(output) ? paired_ : single_).push_back(output);
  }

  Shader write() {
    w_.line("uint lane = gl_SubgroupInvocationID;");
    for (const uint32_t n : p_.statistics) add_up_rows(n);
    const uint32_t groups = open_tiles(w_, p_.batch * row_axis_.tiles() * lane_axis_.tiles());
    w_.line(fmt::format("uint lane_tile = tile % {}u;", lane_axis_.tiles()));
    w_.line(fmt::format("uint row_tile = tile / {}u % {}u;", lane_axis_.tiles(), row_axis_.tiles()));
    w_.define(p_.loop.first, fmt::format("tile / {}u", lane_axis_.tiles() * row_axis_.tiles()));
    define_operand_places();
    const bool few = p_.m <= kFewRows && row_axis_.name == Axis::m && !has_sums(row_axis_);
    own_.emplace(
        w_, [this](const Affine& at, const Affine& k) { return operand(row_axis_, 0, at, k); }, rows_, row_axis_.extent,
        row_at_, few, rows_in_pairs_);
    if (groups_of_numbers_) {
      std::vector<PackedColumn> columns;
      for (size_t p = 0; p < p_.products.size(); ++p)
        for (const Affine& c : lane_at_) columns.push_back({p_.right(p), c});
      packed_turn_.emplace(w_, p_, rows_, std::move(columns));
    }
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t c = 0; c < all_columns_; ++c) w_.line(fmt::format("float c{}_{} = 0.0;", i, c));
    if (has_sums(lane_axis_))
      for (int64_t c = 0; c < columns_; ++c) w_.line(fmt::format("float lane_sum{} = 0.0;", c));
    if (has_sums(row_axis_))
      for (int64_t r = 0; r < registers_; ++r) w_.line(fmt::format("float row_sum{} = 0.0;", r));
    if (!unrolled_) load_ahead();
    loop_over_k();
    epilogue();
    store_lane_sums();
    store_row_sums();
    close_tiles(w_);
    return w_.finish(groups, uint32_t(lanes_), uint32_t(lanes_));
  }

 private:
  // ---- where things lie ----

  std::string row(const std::string& i) const { return fmt::format("row_tile * {}u + {}", rows_, i); }
  // Column c of this lane. In general a column of all lanes lies side by side, so that lanes read and write neighbours.
  // Where a lane stores pairs along N, it is its own columns that lie side by side.
  std::string column(const std::string& c) const {
    const bool own_side_by_side = !paired_.empty() && lane_axis_.name == Axis::n;
    return fmt::format("lane_tile * {}u + {} * {}u + lane * {}u", columns_ * lanes_, c, own_side_by_side ? 1 : lanes_,
                       own_side_by_side ? columns_ : 1);
  }
  Place place(int64_t i, int64_t c) const { return {row(fmt::format("{}u", i)), column(fmt::format("{}u", c))}; }

  // The rows and columns whose operands a lane loads. Past the edge they are the last: what is computed there is not
  // stored, and the loop over K needs no test.
  void define_operand_places() {
    for (int64_t r = 0; r < registers_; ++r) {
      row_at_.push_back(w_.context.variable(fmt::format("row_at{}", r), row_axis_.extent));
      w_.define(row_at_.back(),
                row_axis_.clamped(fmt::format("row_tile * {}u + (lane + {}u) % {}u", rows_, r * lanes_, rows_)));
    }
    for (int64_t c = 0; c < columns_; ++c) {
      lane_at_.push_back(w_.context.variable(fmt::format("lane_at{}", c), lane_axis_.extent));
      w_.define(lane_at_.back(), lane_axis_.clamped(column(fmt::format("{}u", c))));
    }
  }

  // ---- what the rows are normalised by ----

  // A reduction of the product's rows, each in the order of its columns: what a row kernel with a lane for each makes
  // of them (reduce.cpp), to the same bits. All lanes add up all rows; each goes on with that of the row it will load.
  void add_up_rows(uint32_t n) {
    const Node& node = w_.graph().node(n);
    const Value& operand = node.inputs[0];
    const OpDef& op = definition(node.op);
    const auto& axes = std::get<AxesAttr>(node.attr).axes;
    const Affine own_row = w_.context.variable(fmt::format("row_of{}", n), p_.m);
    w_.define(own_row, fmt::format("lane % {}u", p_.m));
    RowOperand elements(
        w_,
        [&](const Affine& row, const Affine& column) {
          const Affine at = reduced_element(w_.context, operand.shape(), axes, row, column);
          return w_.value(operand, w_.context.delinearize(at, operand.shape())).text;
        },
        p_.m, p_.m, {own_row}, true, rows_in_pairs_);
    const auto sum = [n](int64_t row) { return fmt::format("of_row{}_{}", n, row); };
    for (int64_t i = 0; i < p_.m; ++i)
      w_.line(fmt::format("float {} = {};", sum(i), glsl_constant(DType::f32, op.identity(DType::f32))));
    const auto add = [&](const Affine& first, int64_t count) {
      elements.begin(first, count);
      for (int64_t u = 0; u < count; ++u)
        for (int64_t i = 0; i < p_.m; ++i)
          w_.line(fill_in(op.glsl, {sum(i), elements.at(i, u), "", w_.index(w_.context.add(first, Affine(u)))}));
    };
    const int64_t whole = p_.k / kStatisticsDepth;
    if (whole > 0) {
      const Affine turns = w_.context.variable(fmt::format("turn_of{}", n), whole);
      w_.open(fmt::format("for (uint turn_of{0} = 0u; turn_of{0} < {1}u; ++turn_of{0})", n, whole));
      w_.declare(turns);
      add(w_.context.scale(turns, kStatisticsDepth), kStatisticsDepth);
      w_.close();
    }
    if (const int64_t rest = p_.k % kStatisticsDepth; rest > 0) {
      w_.open("");
      add(Affine(whole * kStatisticsDepth), rest);
      w_.close();
    }
    std::string own = sum(0);
    for (int64_t i = 1; i < p_.m; ++i) own = fmt::format("(lane % {}u == {}u ? {} : {})", p_.m, i, sum(i), own);
    w_.bind(n, w_.keep("float", own));
  }

  // ---- the product ----

  // Inputs that an operand is computed from.
  std::vector<size_t> inputs_of(const Value& operand) const {
    std::vector<size_t> inputs;
    for (size_t i = 0; i < w_.kernel().inputs.size(); ++i)
      if (reaches(operand.node, w_.kernel().inputs[i].value.node)) inputs.push_back(i);
    return inputs;
  }

  bool reaches(uint32_t n, uint32_t wanted) const {
    if (n == wanted) return true;
    const auto& inlined = w_.kernel().inlined;
    if (std::find(inlined.begin(), inlined.end(), n) == inlined.end()) return false;
    const auto& operands = w_.graph().node(n).inputs;
    return std::any_of(operands.begin(), operands.end(), [&](const Value& of) { return reaches(of.node, wanted); });
  }

  // A row or two leave the loads and broadcasts of theirs to be shared by more columns, where there are tiles enough.
  int64_t packed_columns(int64_t rows) const {
    constexpr int64_t kWide = 4, kWideResults = 16, kTilesPerThread = 8;
    const bool enough = p_.n >= kWide * lanes_ * kTilesPerThread * int64_t(w_.target().threads);
    return enough && p_.products.size() == 1 && rows * kWide <= kWideResults ? kWide : kUsualColumns;
  }

  int64_t packed_depth(int64_t run) const {
    const bool addressed = w_.target().addressing == Addressing::address;
    // A turn holds whole words of every kind: the widest have 16 fields, of 2 bits.
    if (groups_of_numbers_) return std::max(addressed ? kPackedDepth : kWidestWord, run);
    if (!addressed) return run;
    int64_t depth = kPackedDepth;
    while (depth > run && depth * rows_ * columns_ > kPackedResults) depth /= 2;
    return std::max(depth, run);
  }

  // A product's operand of this axis at a place along it.
  std::string operand(const Axis& axis, size_t product, const Affine& at, const Affine& k) {
    return axis.name == Axis::m ? w_.value(p_.a, p_.a_index(at, k)).text
                                : w_.value(p_.right(product), p_.b_index(k, at)).text;
  }

  void loop_over_k() {
    const int64_t whole = p_.k / depth_ * depth_;
    if (whole == depth_) {
      turn(Affine(0), depth_);
    } else if (whole > 0 && by_turns_) {
      // So that the words of a turn are at places that need no division.
      const Affine turns = w_.context.variable("t", whole / depth_);
      w_.open(fmt::format("for (uint t = 0u; t < {}u; ++t)", whole / depth_));
      w_.declare(turns);
      turn(w_.context.scale(turns, depth_), depth_);
      w_.close();
    } else if (whole > 0) {
      const Affine k = w_.context.variable("k", p_.k);
      w_.open(fmt::format("for (uint k = 0u; k < {}u; k += {}u)", whole, depth_));
      w_.declare(k);
      turn(k, depth_);
      w_.close();
    }
    if (whole < p_.k) {
      w_.open("");
      turn(Affine(whole), p_.k - whole);
      w_.close();
    }
  }

  // Steps k .. k + count - 1.
  void turn(const Affine& k, int64_t count) {
    if (packed_turn_) return packed_turn_->write(k, count, *own_);
    own_->begin(k, count);
    std::vector<std::vector<std::string>> mine;
    for (int64_t u = 0; u < count; ++u) {
      const Affine at = w_.context.add(k, Affine(u));
      auto& of_columns = mine.emplace_back();
      for (size_t r = 0; r < row_at_.size() && !own_->is_spread(); ++r) own_->registers(u, r);  // loaded before these
      for (size_t p = 0; p < p_.products.size(); ++p)
        for (const Affine& c : lane_at_) of_columns.push_back(operand(lane_axis_, p, c, at));
      for (size_t r = 0; r < row_at_.size() && has_sums(row_axis_); ++r)
        w_.line(fmt::format("row_sum{0} = row_sum{0} + {1};", r, own_->registers(u, r)));
      for (size_t c = 0; c < lane_at_.size() && has_sums(lane_axis_); ++c)
        w_.line(fmt::format("lane_sum{0} = lane_sum{0} + {1};", c, of_columns[c]));
    }
    // Row by row, not step by step: a row's results stay in registers for all steps of the turn, where there are more
    // of them than registers.
    for (int64_t i = 0; i < rows_; ++i)
      for (size_t u = 0; u < size_t(count); ++u) {
        std::string text = fmt::format("{{ float s = {};", own_->at(i, int64_t(u)));
        for (int64_t c = 0; c < all_columns_; ++c)
          text += fmt::format(" c{0}_{1} = fma(s, {2}, c{0}_{1});", i, c, mine[u][size_t(c)]);
        w_.line(text + " }");
      }
  }

  // ---- the epilogue ----

  int epilogue_work() const {
    int work = 0;
    for (const auto* nodes : {&w_.kernel().members, &w_.kernel().inlined})
      for (const uint32_t n : *nodes)
        work += w_.graph().node(n).op == Op::matmul ? 0 : definition(w_.graph().node(n).op).work;
    return work - operand_work();
  }

  // Of what is computed before the product; what that is where nothing is packed or normalised is little.
  int operand_work() const {
    std::vector<uint32_t> inlined = w_.kernel().inlined;
    std::set<uint32_t> seen;
    std::vector<uint32_t> left;
    for (size_t p = 0; p < p_.products.size() && packed_; ++p) left.push_back(p_.right(p).node);
    if (!p_.statistics.empty()) {
      left.push_back(p_.a.node);
      inlined.insert(inlined.end(), w_.kernel().members.begin(), w_.kernel().members.end());
    }
    int work = 0;
    while (!left.empty()) {
      const uint32_t n = left.back();
      left.pop_back();
      if (std::find(inlined.begin(), inlined.end(), n) == inlined.end() || !seen.insert(n).second) continue;
      work += definition(w_.graph().node(n).op).work;
      for (const Value& of : w_.graph().node(n).inputs) left.push_back(of.node);
    }
    return work;
  }

  // The operands of a looped epilogue that have the product's own size are loaded before the loop over K, all at once:
  // one by one between the arithmetic of the epilogue each would wait for memory alone.
  void load_ahead() {
    for (size_t x = 0; x < w_.kernel().inputs.size(); ++x) {
      const KernelOperand& input = w_.kernel().inputs[x];
      bool factor = input.value == p_.a;
      for (size_t p = 0; p < p_.products.size(); ++p) factor |= input.value == p_.right(p);
      const auto& strides = input.view.strides;
      const bool repeated = std::find(strides.begin(), strides.end(), 0) != strides.end();
      if (input.view.dtype != DType::f32 || factor || repeated ||
          element_count(input.view.shape) != p_.loop.full_count || ahead_.size() == kMaxLoadedAhead)
        continue;
      ahead_.push_back(x);
      for (int64_t i = 0; i < rows_; ++i)
        for (int64_t c = 0; c < columns_; ++c) {
          const std::string name = fmt::format("ahead{}_{}_{}", x, i, c);
          const Place at = place(i, c);
          w_.line(fmt::format("float {};", name));
          w_.open("");
          w_.define(lane_axis_.variable, lane_axis_.clamped(at.lane));
          w_.define(row_axis_.variable, row_axis_.clamped(at.row));
          w_.line(name + " = " + w_.value(input.value, w_.context.delinearize(p_.loop.full, input.view.shape)).text +
                  ";");
          w_.close();
        }
    }
  }

  // Places are defined where they lie on their axes: what is loaded at them must not be loaded outside of that.
  void open_element(const Place& at) {
    w_.open(lane_axis_.contains(at.lane));
    w_.define(lane_axis_.variable, at.lane);
    w_.open(row_axis_.contains(at.row));
    w_.define(row_axis_.variable, at.row);
    w_.open("");
  }

  void close_element() {
    w_.close();
    w_.close();
    w_.close();
  }

  // Row i and column c of each product's registers.
  std::vector<std::string> accumulators(int64_t i, int64_t c) const {
    std::vector<std::string> names;
    for (size_t p = 0; p < p_.products.size(); ++p)
      names.push_back(fmt::format("c{}_{}", i, c + int64_t(p) * columns_));
    return names;
  }

  // The results `of` the products into memory; what is stored in pairs into half{half}_{output}.
  void element(const Place& at, const std::vector<std::string>& of, int half = 0) {
    open_element(at);
    p_.bind(of);
    for (const size_t x : ahead_) {
      const KernelOperand& input = w_.kernel().inputs[x];
      const std::string loaded = w_.keep("float", fmt::format("ahead{}[i * {}u + c]", x, columns_));
      w_.remember(input.value.node, w_.context.delinearize(p_.loop.full, input.view.shape), loaded);
    }
    for (size_t o = 0; o < paired_.size(); ++o)
      w_.line(fmt::format("half{}_{} = {};", half, o, w_.result(p_.loop.full, paired_[o])));
    w_.store(p_.loop.full, single_);
    close_element();
  }

  // c[i][c] and its neighbour along N, side by side in memory.
  void pair(int64_t i, int64_t c) {
    w_.open("");
    for (size_t o = 0; o < paired_.size(); ++o) w_.line(fmt::format("float half0_{0}; float half1_{0};", o));
    for (const int half : {0, 1}) {
      const int64_t of_row = i + (row_axis_.name == Axis::n ? half : 0);
      const int64_t of_column = c + (lane_axis_.name == Axis::n ? half : 0);
      element(place(of_row, of_column), accumulators(of_row, of_column), half);
    }
    open_element(place(i, c));
    for (size_t o = 0; o < paired_.size(); ++o)
      w_.store_pair(p_.loop.full, paired_[o], fmt::format("half0_{}", o), fmt::format("half1_{}", o));
    close_element();
    w_.close();
  }

  // All of {prefix}{i}_{c} as an array.
  std::string array(const std::string& prefix, int64_t columns) const {
    std::string text;
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t c = 0; c < columns; ++c) text += fmt::format("{}{}{}_{}", text.empty() ? "" : ", ", prefix, i, c);
    return fmt::format("float[]({})", text);
  }

  void epilogue() {
    if (!paired_.empty()) {
      for (int64_t c = 0; c < columns_; c += lane_axis_.name == Axis::n ? 2 : 1)
        for (int64_t i = 0; i < rows_; i += row_axis_.name == Axis::n ? 2 : 1) pair(i, c);
      return;
    }
    if (unrolled_) {
      for (int64_t c = 0; c < columns_; ++c)
        for (int64_t i = 0; i < rows_; ++i) element(place(i, c), accumulators(i, c));
      return;
    }
    // A longer one is written once and looped over: unrolled, it would take the driver longer to compile than to run.
    w_.line(fmt::format("float results[{}] = {};", rows_ * all_columns_, array("c", all_columns_)));
    for (const size_t x : ahead_)
      w_.line(fmt::format("float ahead{}[{}] = {};", x, rows_ * columns_, array(fmt::format("ahead{}_", x), columns_)));
    w_.open_loop(fmt::format("for (uint i = 0u; i < {}u; ++i)", rows_), Writer::Unroll::never);
    w_.open_loop(fmt::format("for (uint c = 0u; c < {}u; ++c)", columns_), Writer::Unroll::never);
    std::vector<std::string> of;
    for (size_t p = 0; p < p_.products.size(); ++p)
      of.push_back(fmt::format("results[i * {}u + c + {}u]", all_columns_, int64_t(p) * columns_));
    element({row("i"), column("c")}, of);
    w_.close();
    w_.close();
  }

  // ---- the operands' own sums over K: every tile adds up what it reads, the first along the other axis stores it ----

  bool has_sums(const Axis& axis) const { return !p_.sides[axis.name].sums.empty(); }

  void store_lane_sums() {
    if (!has_sums(lane_axis_)) return;
    w_.open("if (row_tile == 0u)", true);
    for (int64_t c = 0; c < columns_; ++c) {
      const std::string at = column(fmt::format("{}u", c));
      store_sum(lane_axis_, at, fmt::format("if ({} < {}u)", at, lane_axis_.extent), fmt::format("lane_sum{}", c));
    }
    w_.close();
  }

  void store_row_sums() {
    if (!has_sums(row_axis_)) return;
    w_.open("if (lane_tile == 0u)", true);
    for (int64_t r = 0; r < registers_; ++r) {
      const std::string at = row(fmt::format("(lane + {}u)", r * lanes_));
      store_sum(row_axis_, at,
                fmt::format("if (lane + {}u < {}u && {} < {}u)", r * lanes_, rows_, at, row_axis_.extent),
                fmt::format("row_sum{}", r));
    }
    w_.close();
  }

  void store_sum(const Axis& axis, const std::string& at, const std::string& guard, const std::string& accumulator) {
    w_.open(guard, true);
    w_.define(axis.variable, at);
    p_.store_sums(axis.name, accumulator);
    w_.close();
  }

  Writer& w_;
  MatmulProduct p_;
  int64_t lanes_;
  int64_t rows_ = 1, columns_ = 1, depth_ = 1, registers_ = 1;
  int64_t all_columns_ = 1;  // of all products
  Axis row_axis_, lane_axis_;
  bool unrolled_ = false;                 // the epilogue is
  bool packed_ = false;                   // B is unpacked on load
  bool groups_of_numbers_ = false;        // ... and multiplied by a PackedTurn
  bool rows_in_pairs_ = false;            // A is loaded so
  bool by_turns_ = false;                 // the loop over K counts its turns, not steps
  std::vector<Affine> row_at_, lane_at_;  // whose operands this lane loads: [registers], [columns]
  std::vector<size_t> paired_, single_;   // outputs: how they are stored
  std::vector<size_t> ahead_;             // inputs that are loaded before the loop over K
  std::optional<RowOperand> own_;
  std::optional<PackedTurn> packed_turn_;
};

}  // namespace

Shader matmul_lane_broadcast(Writer& writer) { return LaneBroadcast(writer).write(); }

}  // namespace surtsey::shaders
