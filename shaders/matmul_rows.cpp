// Products of few rows (graph/few_rows.h): a workgroup has some columns of the result and all of its rows, and its
// lanes lie along K.
//
//   c [rows, columns]               in the registers of each lane: its share of the sums
//   for k in 0 .. K by lanes * run  each lane a run of neighbours, of a word where B is packed
//     a [rows, run], b [columns, run]    loaded once each
//     c += a b^T
//   c over the lanes                by halves, through shared memory
//   every element of c through the epilogue into memory, a lane each
//
// An element is the same sum in the same order however many rows there are.
#include "graph/few_rows.h"
#include "shaders/archetypes.h"
#include "shaders/matmul_product.h"
#include "shaders/matmul_tile.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

namespace {

constexpr int64_t kLanes = 64;
constexpr int64_t kRun = 4;    // f32 in 16 bytes
constexpr int64_t kSums = 16;  // of a lane, which bounds the columns
constexpr int64_t kMostColumns = 4;

class RowProduct {
 public:
  explicit RowProduct(Writer& writer)
      : w_(writer), p_(writer), lanes_(std::min<int64_t>(kLanes, writer.target().max_workgroup_invocations)) {
    const int64_t packed = packed_run(w_.kernel(), w_.graph(), p_.b);
    run_ = packed > 1 ? packed : kRun;
    while (p_.k % run_ != 0) run_ /= 2;
    columns_ = std::clamp<int64_t>(kSums / p_.m, 1, std::min(kMostColumns, p_.n));
  }

  Shader write() {
    w_.global(fmt::format("shared float partial[{}];", lanes_ * sums()));
    w_.line("uint lane = gl_LocalInvocationID.x;");
    w_.line(fmt::format("uint column_base = group % {}u * {}u;", tiles(), columns_));
    w_.define(p_.loop.first, fmt::format("group / {}u", tiles()));
    for (int64_t c = 0; c < columns_; ++c) {
      column_at_.push_back(w_.context.variable(fmt::format("column_at{}", c), p_.n));
      w_.define(column_at_.back(), fmt::format("min(column_base + {}u, {}u)", c, p_.n - 1));
    }
    for (int64_t s = 0; s < sums(); ++s) w_.line(fmt::format("float c{} = 0.0;", s));
    loop_over_k();
    add_up();
    store();
    return w_.finish(uint32_t(p_.batch * tiles()), uint32_t(lanes_));
  }

 private:
  int64_t sums() const { return p_.m * columns_; }
  int64_t tiles() const { return divide_up(p_.n, columns_); }

  void loop_over_k() {
    const int64_t runs = p_.k / run_;
    w_.open(fmt::format("for (uint r = lane; r < {}u; r += {}u)", runs, lanes_));
    const Affine r = w_.context.variable("r", runs);
    w_.declare(r);
    for (int64_t j = 0; j < run_; ++j) {
      const Affine k = w_.context.add(w_.context.scale(r, run_), Affine(j));
      std::vector<std::string> b;
      for (const Affine& column : column_at_) b.push_back(w_.value(p_.b, p_.b_index(k, column)).text);
      for (int64_t row = 0; row < p_.m; ++row) {
        const std::string a = w_.value(p_.a, p_.a_index(Affine(row), k)).text;
        for (int64_t c = 0; c < columns_; ++c)
          w_.line(fmt::format("c{0} = fma({1}, {2}, c{0});", row * columns_ + c, a, b[size_t(c)]));
      }
    }
    w_.close();
  }

  void add_up() {
    const auto place = [&](const std::string& lane, int64_t s) {
      return fmt::format("partial[{}u * {}u + {}]", s, lanes_, lane);
    };
    for (int64_t s = 0; s < sums(); ++s) w_.line(fmt::format("{} = c{};", place("lane", s), s));
    w_.line("barrier();");
    for (int64_t left = lanes_; left > 1;) {
      const int64_t half = divide_up(left, 2);
      w_.open(fmt::format("if (lane < {}u)", left - half), true);
      for (int64_t s = 0; s < sums(); ++s)
        w_.line(fmt::format("{0} = {0} + {1};", place("lane", s), place(fmt::format("lane + {}u", half), s)));
      w_.close();
      w_.line("barrier();");
      left = half;
    }
  }

  void store() {
    w_.open(fmt::format("for (uint s = lane; s < {}u; s += {}u)", sums(), lanes_));
    const std::string column = w_.keep("uint", fmt::format("column_base + s % {}u", columns_));
    w_.open(fmt::format("if ({} < {}u)", column, p_.n), true);
    w_.define(p_.loop.second, fmt::format("s / {}u", columns_));
    w_.define(p_.loop.third, column);
    w_.bind(w_.kernel().anchor.node, fmt::format("partial[s * {}u]", lanes_));
    w_.store(p_.loop.full, p_.outputs);
    w_.close();
    w_.close();
  }

  Writer& w_;
  MatmulProduct p_;
  int64_t lanes_, run_ = 1, columns_ = 1;
  std::vector<Affine> column_at_;
};

}  // namespace

bool is_row_product(const Kernel& kernel, const Graph& graph, const Target& target) {
  const MatmulShape shape = matmul_shape(kernel, graph, target);
  if (shape.variant == MatmulVariant::lane_broadcast || !has_few_rows(shape.m, shape.n, shape.k)) return false;
  const Node& node = graph.node(kernel.anchor);
  if (!shape.b_transposed && packed_run(kernel, graph, node.inputs[1]) == 1) return false;
  return std::none_of(kernel.members.begin(), kernel.members.end(),
                      [&](uint32_t member) { return summed_operand(graph, kernel.anchor.node, member).has_value(); });
}

Shader matmul_rows(Writer& writer) { return RowProduct(writer).write(); }

}  // namespace surtsey::shaders
