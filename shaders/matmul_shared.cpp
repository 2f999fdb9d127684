// Products whose operands pass through shared memory. A workgroup computes a tile of the product,
//
//   c [rows, columns]    in the registers of its lanes
//   for k in 0 .. K by depth
//     tile_a [rows, depth], tile_b [columns, depth]    parts of the operands (see OperandTile), loaded while the
//                                                      ones before are multiplied
//     c += tile_a tile_b^T
//   every element of c through the epilogue into memory
//
//   OwnedTile        a lane has own x own elements of c
//   CooperativeTile  a subgroup has own x own matrices of [C.m, C.n] and multiplies with the device's matrix units
#include "shaders/archetypes.h"
#include "shaders/matmul_product.h"
#include "shaders/matmul_tile.h"
#include "shaders/operand_tile.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

namespace {

// What the two variants share: where the tile lies, and the loop over K.
class SharedTile {
 public:
  SharedTile(Writer& writer, int64_t lanes, OperandTile::Keep keep)
      : w_(writer),
        p_(writer),
        t_(choose_tile(matmul_shape(writer.kernel(), writer.graph(), writer.target()), writer.target())),
        lanes_(lanes),
        a_(p_, true, t_.rows, t_.depth, lanes, keep),
        b_(p_, false, t_.columns, t_.depth, lanes, keep) {}

 protected:
  void begin() {
    w_.line("uint lane = gl_LocalInvocationID.x;");
    w_.line(fmt::format("uint row_base = group / {}u % {}u * {}u;", column_tiles(), row_tiles(), t_.rows));
    w_.line(fmt::format("uint column_base = group % {}u * {}u;", column_tiles(), t_.columns));
    w_.define(p_.loop.first, fmt::format("group / {}u", row_tiles() * column_tiles()));
  }

  template <typename F>
  void loop_over_k(F&& multiply) {
    a_.declare();
    b_.declare();
    // A turn loads a tile and multiplies the one before: the first multiplies nothing, the last
    // loads nothing.
    w_.open(fmt::format("for (uint k_base = 0u; k_base < {}u; k_base += {}u)",
                        divide_up(p_.k, t_.depth) * t_.depth + t_.depth, t_.depth));
    w_.open(fmt::format("if (k_base < {}u)", p_.k), true);
    a_.fetch();
    b_.fetch();
    w_.close();
    w_.open("if (k_base != 0u)", true);
    multiply();
    w_.close();
    w_.line("barrier();");
    w_.open(fmt::format("if (k_base < {}u)", p_.k), true);
    a_.store();
    b_.store();
    w_.close();
    w_.line("barrier();");
    w_.close();
  }

  void store_element(const std::string& row, const std::string& column, const std::string& value) {
    w_.open(fmt::format("if ({} < {}u && {} < {}u)", row, p_.m, column, p_.n), true);
    w_.define(p_.loop.second, row);
    w_.define(p_.loop.third, column);
    w_.bind(w_.kernel().anchor.node, value);
    w_.store(p_.loop.full, p_.outputs);
    w_.close();
  }

  // The operands' own sums over K: every workgroup has them, the first along the other side stores
  // them.
  bool sums(size_t side) const { return !p_.sides[side].sums.empty(); }
  void store_sum(size_t side, const std::string& place, const std::string& sum) {
    w_.open(fmt::format("if ({}_base == 0u && {} < {}u)", side == 0 ? "column" : "row", place, side == 0 ? p_.m : p_.n),
            true);
    w_.define(side == 0 ? p_.loop.second : p_.loop.third, place);
    p_.store_sums(side, sum);
    w_.close();
  }

  int64_t row_tiles() const { return divide_up(p_.m, t_.rows); }
  int64_t column_tiles() const { return divide_up(p_.n, t_.columns); }
  uint32_t groups() const { return uint32_t(p_.batch * row_tiles() * column_tiles()); }

  Writer& w_;
  MatmulProduct p_;
  MatmulTile t_;
  int64_t lanes_;
  OperandTile a_, b_;
};

int64_t lanes_of(Writer& w) {
  const MatmulShape shape = matmul_shape(w.kernel(), w.graph(), w.target());
  return tile_lanes(choose_tile(shape, w.target()), shape.variant, w.target());
}

// Each lane owns `own` x `own` results.
class OwnedTile : SharedTile {
 public:
  explicit OwnedTile(Writer& writer) : SharedTile(writer, lanes_of(writer), OperandTile::Keep::f32) {}

  Shader write() {
    begin();
    const int64_t own = t_.own, across = t_.columns / own;
    w_.line(fmt::format("uint own_row = lane / {}u * {}u;", across, own));
    w_.line(fmt::format("uint own_column = lane % {}u * {}u;", across, own));
    for (int64_t i = 0; i < own; ++i)
      for (int64_t j = 0; j < own; ++j) w_.line(fmt::format("float c{}_{} = 0.0;", i, j));
    for (const size_t side : {0, 1})
      for (int64_t i = 0; i < own && sums(side); ++i) w_.line(fmt::format("float sum{}_{} = 0.0;", side, i));
    loop_over_k([&] { multiply(); });

    std::string list;
    for (int64_t i = 0; i < own; ++i)
      for (int64_t j = 0; j < own; ++j) list += fmt::format("{}c{}_{}", list.empty() ? "" : ", ", i, j);
    w_.line(fmt::format("float results[{}] = float[]({});", own * own, list));
    w_.open(fmt::format("for (uint e = 0u; e < {}u; ++e)", own * own));
    store_element(fmt::format("row_base + own_row + e / {}u", own),
                  fmt::format("column_base + own_column + e % {}u", own), "results[e]");
    w_.close();
    for (const size_t side : {0, 1}) {
      if (!sums(side)) continue;
      w_.open(side == 0 ? "if (own_column == 0u)" : "if (own_row == 0u)", true);
      for (int64_t i = 0; i < own; ++i)
        store_sum(side, fmt::format("{} + {}u", side == 0 ? "row_base + own_row" : "column_base + own_column", i),
                  fmt::format("sum{}_{}", side, i));
      w_.close();
    }
    return w_.finish(groups(), uint32_t(lanes_));
  }

 private:
  void multiply() {
    const int64_t own = t_.own;
    w_.open(fmt::format("for (uint d = 0u; d < {}u; ++d)", t_.depth));
    for (int64_t i = 0; i < own; ++i)
      w_.line(fmt::format("float a{} = {};", i, a_.element(fmt::format("own_row + {}u", i), "d")));
    for (int64_t j = 0; j < own; ++j)
      w_.line(fmt::format("float b{}_ = {};", j, b_.element(fmt::format("own_column + {}u", j), "d")));
    for (int64_t i = 0; i < own; ++i)
      for (int64_t j = 0; j < own; ++j) w_.line(fmt::format("c{0}_{1} = fma(a{0}, b{1}_, c{0}_{1});", i, j));
    for (const size_t side : {0, 1})
      for (int64_t i = 0; i < own && sums(side); ++i)
        w_.line(fmt::format("sum{0}_{1} = sum{0}_{1} + {2};", side, i,
                            side == 0 ? fmt::format("a{}", i) : fmt::format("b{}_", i)));
    w_.close();
  }
};

// A subgroup owns `own` x `own` matrices of the product. Their elements lie with the lanes as the
// device likes; they pass through shared memory on their way to the epilogue. Emulated, lanes
// compute the elements with their own arithmetic, and everything else is the same.
class CooperativeTile : SharedTile {
 public:
  explicit CooperativeTile(Writer& writer)
      : SharedTile(writer, lanes_of(writer),
                   writer.target().cooperative.emulated ? OperandTile::Keep::f16_as_f32 : OperandTile::Keep::f16),
        c_(writer.target().cooperative),
        size_(writer.target().subgroup_size) {}

  Shader write() {
    const int64_t own = t_.own, elements = int64_t(c_.m) * c_.n, across = t_.columns / (own * c_.n);
    begin();
    // One row of a subgroup's matrices at a time is staged; emulated, all of them live there.
    const int64_t held = own * (c_.emulated ? own : 1) * elements;
    w_.global(fmt::format("shared float staged[{}];", lanes_ / size_ * held));
    w_.line(fmt::format("uint own_row = gl_SubgroupID / {}u * {}u;", across, own * c_.m));
    w_.line(fmt::format("uint own_column = gl_SubgroupID % {}u * {}u;", across, own * c_.n));
    w_.line(fmt::format("uint own_staged = gl_SubgroupID * {}u;", held));
    if (c_.emulated) {
      w_.open(fmt::format("for (uint e = gl_SubgroupInvocationID; e < {}u; e += {}u)", held, size_));
      w_.line("staged[own_staged + e] = 0.0;");
      w_.close();
    } else {
      declare_types();
      for (int64_t i = 0; i < own; ++i)
        for (int64_t j = 0; j < own; ++j) w_.line(fmt::format("MatrixC c{}_{} = MatrixC(0.0);", i, j));
    }
    for (const size_t side : {0, 1})
      for (int64_t q = 0; q < sums_of_lane(side); ++q) w_.line(fmt::format("float sum{}_{} = 0.0;", side, q));
    loop_over_k([&] { multiply(); });
    for (int64_t i = 0; i < own; ++i) store_row(i);
    for (const size_t side : {0, 1})
      for (int64_t q = 0; q < sums_of_lane(side); ++q) {
        w_.open(fmt::format("if (lane + {}u < {}u)", q * lanes_, side_of(side)), true);
        store_sum(side, fmt::format("{}_base + lane + {}u", side == 0 ? "row" : "column", q * lanes_),
                  fmt::format("sum{}_{}", side, q));
        w_.close();
      }
    return w_.finish(groups(), uint32_t(lanes_), uint32_t(size_));
  }

 private:
  // The constants that stand for the rows tell a matrix's use: cooperative_spirv.h.
  void declare_types() {
    w_.use_cooperative_matrices();
    w_.global(
        fmt::format("layout(constant_id = 0) const uint kRowsOfA = {}u;\n"
                    "layout(constant_id = 1) const uint kRowsOfB = {}u;\n"
                    "layout(constant_id = 2) const uint kRowsOfC = {}u;\n"
                    "#define MatrixA fcoopmatNV<16, gl_ScopeSubgroup, kRowsOfA, {}u>\n"
                    "#define MatrixB fcoopmatNV<16, gl_ScopeSubgroup, kRowsOfB, {}u>\n"
                    "#define MatrixC fcoopmatNV<32, gl_ScopeSubgroup, kRowsOfC, {}u>",
                    c_.m, c_.k, c_.m, c_.k, c_.n, c_.n));
  }

  int64_t side_of(size_t side) const { return side == 0 ? t_.rows : t_.columns; }
  int64_t sums_of_lane(size_t side) const { return sums(side) ? divide_up(side_of(side), lanes_) : 0; }

  void multiply() {
    w_.open(fmt::format("for (uint d = 0u; d < {}u; d += {}u)", t_.depth, c_.k));
    if (c_.emulated)
      emulate();
    else
      cooperate();
    w_.close();
    for (const size_t side : {0, 1})
      for (int64_t q = 0; q < sums_of_lane(side); ++q) {
        const std::string place = fmt::format("lane + {}u", q * lanes_);
        w_.open(fmt::format("if ({} < {}u)", place, side_of(side)), true);
        w_.open(fmt::format("for (uint d = 0u; d < {}u; ++d)", t_.depth));
        const OperandTile& tile = side == 0 ? a_ : b_;
        w_.line(fmt::format("sum{0}_{1} = sum{0}_{1} + {2};", side, q, tile.element(place, "d")));
        w_.close();
        w_.close();
      }
  }

  void cooperate() {
    const int64_t own = t_.own;
    const auto load = [&](const char* type, const std::string& name, const OperandTile& tile, const std::string& side,
                          bool columns_side_by_side) {
      w_.line(fmt::format("{0} {1}; coopMatLoadNV({1}, {2}, {3}, {4}u, {5});", type, name, tile.name(),
                          tile.place(side, "d"), tile.row(), columns_side_by_side));
    };
    // Rows of A lie along its depth, rows of B along its side.
    for (int64_t i = 0; i < own; ++i)
      load("MatrixA", fmt::format("a{}", i), a_, fmt::format("own_row + {}u", i * c_.m), !a_.depth_first());
    for (int64_t j = 0; j < own; ++j) {
      load("MatrixB", fmt::format("b{}_", j), b_, fmt::format("own_column + {}u", j * c_.n), b_.depth_first());
      for (int64_t i = 0; i < own; ++i)
        w_.line(fmt::format("c{0}_{1} = coopMatMulAddNV(a{0}, b{1}_, c{0}_{1});", i, j));
    }
  }

  void emulate() {
    const int64_t own = t_.own, elements = int64_t(c_.m) * c_.n;
    w_.open(fmt::format("for (uint e = gl_SubgroupInvocationID; e < {}u; e += {}u)", own * own * elements, size_));
    w_.line(fmt::format("uint row = own_row + e / {}u * {}u + e % {}u / {}u;", own * elements, c_.m, elements, c_.n));
    w_.line(fmt::format("uint column = own_column + e / {}u % {}u * {}u + e % {}u;", elements, own, c_.n, c_.n));
    w_.line("float total = staged[own_staged + e];");
    w_.open(fmt::format("for (uint k = d; k < d + {}u; ++k)", c_.k));
    w_.line(fmt::format("total = fma({}, {}, total);", a_.element("row", "k"), b_.element("column", "k")));
    w_.close();
    w_.line("staged[own_staged + e] = total;");
    w_.close();
  }

  // The epilogue of a row of the subgroup's matrices.
  void store_row(int64_t i) {
    const int64_t own = t_.own, elements = int64_t(c_.m) * c_.n;
    const int64_t first = c_.emulated ? i * own * elements : 0;
    for (int64_t j = 0; j < own && !c_.emulated; ++j)
      w_.line(fmt::format("coopMatStoreNV(c{}_{}, staged, own_staged + {}u, {}u, false);", i, j, j * elements, c_.n));
    // The subgroup's lanes read what others of them wrote.
    w_.line("subgroupMemoryBarrierShared();");
    w_.line("subgroupBarrier();");
    w_.open(fmt::format("for (uint e = gl_SubgroupInvocationID; e < {}u; e += {}u)", own * elements, size_));
    store_element(fmt::format("row_base + own_row + {}u + e % {}u / {}u", i * c_.m, elements, c_.n),
                  fmt::format("column_base + own_column + e / {}u * {}u + e % {}u", elements, c_.n, c_.n),
                  fmt::format("staged[own_staged + {}u + e]", first));
    w_.close();
    w_.line("subgroupBarrier();");
  }

  CooperativeMatrix c_;
  int64_t size_;  // of a subgroup
};

}  // namespace

Shader matmul_shared_tile(Writer& writer) { return OwnedTile(writer).write(); }

Shader matmul_cooperative(Writer& writer) { return CooperativeTile(writer).write(); }

}  // namespace surtsey::shaders
