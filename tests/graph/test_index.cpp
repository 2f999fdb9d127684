// The index algebra against brute force: every rewritten index is evaluated for every value of its variables, in 32-bit
// unsigned arithmetic as the emitted GLSL does it.
#include "graph/index.h"
#include "graph/interpret.h"
#include "graph/kernel.h"
#include "tests/support/draw.h"
#include "tests/support/random_program.h"

#include <catch2/catch_test_macros.hpp>

#include <set>

using namespace surtsey;
using namespace surtsey::graph;
using tests::Draw;

namespace {

// The values of the free variables of a context, and what expressions over them come to.
class Evaluation {
 public:
  explicit Evaluation(const IndexContext& context) : context_(context) {}

  std::map<uint32_t, uint32_t> free;

  uint32_t operator()(const Affine& a) const {
    auto sum = uint32_t(a.constant);
    for (const auto& term : a.terms) sum += uint32_t(term.factor) * variable(term.variable);
    return sum;
  }

  uint32_t variable(uint32_t v) const {
    const auto& x = context_[v];
    switch (x.kind) {
      case IndexContext::Kind::quotient:
        return (*this)(x.of) / uint32_t(x.divisor);
      case IndexContext::Kind::remainder:
        return (*this)(x.of) % uint32_t(x.divisor);
      default:
        return free.at(v);
    }
  }

  // Calls visit for every value of these variables.
  template <typename Visit>
  void all(const std::vector<Affine>& variables, const Visit& visit, size_t first = 0) {
    if (first == variables.size()) return visit();
    if (variables[first].is_constant()) return all(variables, visit, first + 1);
    const uint32_t v = variables[first].terms[0].variable;
    for (uint32_t x = 0; x < uint32_t(context_[v].extent); ++x) {
      free[v] = x;
      all(variables, visit, first + 1);
    }
  }

 private:
  const IndexContext& context_;
};

int64_t flat(const Shape& shape, const std::vector<int64_t>& at) {
  int64_t position = 0;
  for (size_t d = 0; d < shape.size(); ++d) position = position * shape[d] + at[d];
  return position;
}

std::vector<int64_t> unflat(const Shape& shape, int64_t position) {
  std::vector<int64_t> at(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    at[d] = position % shape[d];
    position /= shape[d];
  }
  return at;
}

bool within_extents(const IndexContext& context, const Evaluation& evaluate) {
  for (uint32_t v = 0; v < context.size(); ++v)
    if (evaluate.variable(v) >= uint64_t(context[v].extent)) return false;
  return true;
}

}  // namespace

TEST_CASE("index algebra: quotients and remainders of any sum", "[index]") {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    INFO("seed " << seed);
    Draw draw(seed);
    IndexContext context;
    std::vector<Affine> variables;
    for (uint32_t i = draw.below(3) + 1; i > 0; --i)
      variables.push_back(context.variable(fmt::format("x{}", i), draw.between(1, 7)));
    Affine a(draw.below(9));
    for (const Affine& x : variables)
      a = context.add(a, context.scale(x, draw.of(std::vector<int64_t>{1, 2, 3, 4, 6, 7, 12, 21})));
    // a, what it comes to, and what divisions make of it, once more on the results.
    std::vector<Affine> results;
    std::vector<std::function<uint32_t(uint32_t)>> expected;
    const int64_t first = draw.between(1, 13), second = draw.between(1, 5);
    const Affine quotient = context.divide(a, first), remainder = context.modulo(a, first);
    results = {quotient,
               remainder,
               context.divide(quotient, second),
               context.modulo(quotient, second),
               context.divide(remainder, second),
               context.modulo(remainder, second),
               context.add(context.scale(quotient, 3 * first), context.scale(remainder, 3))};
    const auto f = uint32_t(first), s = uint32_t(second);
    expected = {[=](uint32_t x) { return x / f; },     [=](uint32_t x) { return x % f; },
                [=](uint32_t x) { return x / f / s; }, [=](uint32_t x) { return x / f % s; },
                [=](uint32_t x) { return x % f / s; }, [=](uint32_t x) { return x % f % s; },
                [=](uint32_t x) { return 3 * x; }};
    // A split that a merge undoes leaves no trace.
    CHECK(context.add(context.scale(quotient, first), remainder) == a);
    Evaluation evaluate(context);
    bool good = true;
    evaluate.all(variables, [&] {
      const uint32_t value = evaluate(a);
      good = good && value <= uint64_t(context.maximum(a)) && within_extents(context, evaluate);
      for (size_t i = 0; i < results.size(); ++i) {
        good = good && evaluate(results[i]) == expected[i](value) &&
               evaluate(results[i]) <= uint64_t(context.maximum(results[i]));
      }
    });
    CHECK(good);
  }
}

TEST_CASE("index algebra: a variable of extent 1 is no variable", "[index]") {
  IndexContext context;
  CHECK(context.variable("one", 1) == Affine(0));
  CHECK(context.size() == 0);
  const Affine x = context.variable("x", 6);
  CHECK(context.divide(x, 6) == Affine(0));
  CHECK(context.modulo(x, 6) == x);
  CHECK(context.modulo(context.scale(x, 12), 4) == Affine(0));
  CHECK(context.divide(context.scale(x, 12), 4) == context.scale(x, 3));
  CHECK(context.size() == 1);
  // The same quotient is the same variable.
  CHECK(context.divide(x, 4) == context.divide(x, 4));
  CHECK(context.size() == 2);
}

TEST_CASE("index algebra: delinearize and linearize are inverse", "[index]") {
  std::vector<Shape> shapes = {{},           {1},       {7},       {1, 1}, {3, 1, 5},
                               {1, 4, 1, 3}, {2, 3, 4}, {5, 7, 3}, {6, 1}, {2, 2, 2, 3}};
  for (uint32_t seed = 0; seed < 40; ++seed) {
    Draw draw(seed);
    shapes.push_back(draw.shape(draw.between(1, 4), 6));
  }
  for (const Shape& shape : shapes) {
    INFO(to_string(shape));
    IndexContext context;
    const Affine i = context.variable("i", element_count(shape));
    const Index index = context.delinearize(i, shape);
    CHECK(context.linearize_contiguous(index, shape) == i);
    Evaluation evaluate(context);
    bool good = true;
    evaluate.all({i}, [&] {
      const auto at = unflat(shape, evaluate(i));
      for (size_t d = 0; d < shape.size(); ++d) good = good && evaluate(index[d]) == uint64_t(at[d]);
    });
    CHECK(good);
  }
}

TEST_CASE("index algebra: a reshape between shapes with a common split costs no more than the split", "[index]") {
  // [B, T, H, D] -> [B, H, T, D] -> back: what a kernel over attention heads does.
  IndexContext context;
  const Affine i = context.variable("i", 2 * 5 * 3 * 4);
  const Index merged = context.delinearize(i, {2, 5, 12});
  const Index split = context.delinearize(context.linearize_contiguous(merged, {2, 5, 12}), {2, 5, 3, 4});
  const uint32_t before = context.size();
  const Affine back = context.linearize_contiguous(split, {2, 5, 3, 4});
  CHECK(back == i);
  CHECK(context.size() == before);
}

TEST_CASE("index algebra: loops visit every element once", "[index]") {
  for (uint32_t seed = 0; seed < 120; ++seed) {
    Draw draw(seed);
    const Shape space = draw.shape(draw.between(2, 4), 5);
    const auto kind = Archetype(draw.below(3));
    std::vector<int64_t> reduced;
    if (kind == Archetype::reduce)
      for (int64_t d = 0; d < int64_t(space.size()); ++d)
        if (draw.chance(2)) reduced.push_back(d);
    INFO("seed " << seed << " " << name(kind) << " over " << to_string(space));
    IndexContext context;
    const LoopIndex loop = loop_index(context, kind, space, reduced);
    CHECK(loop.full_count == element_count(space));
    Evaluation evaluate(context);
    std::multiset<uint32_t> seen;
    bool rows_agree = true;
    evaluate.all({loop.first, loop.second, loop.third}, [&] {
      const uint32_t full = evaluate(loop.full);
      seen.insert(full);
      if (kind != Archetype::reduce) return;
      auto at = unflat(space, full);
      Shape kept = space;
      for (const int64_t axis : reduced) at[size_t(axis)] = 0, kept[size_t(axis)] = 1;
      rows_agree = rows_agree && evaluate(loop.row) == uint64_t(flat(kept, at));
    });
    CHECK(rows_agree);
    CHECK(seen.size() == size_t(element_count(space)));
    CHECK((seen.empty() || *seen.rbegin() + 1 == seen.size()));
    CHECK(std::set<uint32_t>(seen.begin(), seen.end()).size() == seen.size());
  }
}

TEST_CASE("index algebra: chains of views read what the interpreter reads", "[index]") {
  for (uint32_t seed = 0; seed < 5000; ++seed) {
    Draw draw(seed);
    auto graph = std::make_shared<Graph>();
    const Value x = graph->parameter("x", {DType::f32, draw.shape(draw.between(1, 4), 5)});
    Value y = x;
    std::string text = to_string(x.type());
    for (uint32_t step = draw.below(6) + 1; step > 0; --step) {
      const Value next = tests::random_view(draw, y, -1);
      if (element_count(next.shape()) > 1500) break;
      y = next;
      text += fmt::format(" {} {}", definition(graph->node(y).op).name, to_string(y.shape()));
    }
    INFO("seed " << seed << ": " << text);
    State state;
    state["x"] = HostTensor::zeros(x.type());
    for (size_t i = 0; i < state["x"].values.size(); ++i) state["x"].values[i] = double(i);
    const std::vector<double> reference = interpret(Program{graph, {{"y", y}}}, state).at("y").values;

    // As the loops of each archetype index it.
    const Shape space = y.shape();
    std::vector<int64_t> reduced;
    for (int64_t d = 0; d < int64_t(space.size()); ++d)
      if (draw.chance(2)) reduced.push_back(d);
    for (const Archetype kind : {Archetype::pointwise, Archetype::reduce, Archetype::matmul}) {
      if (kind == Archetype::matmul && space.size() < 2) continue;
      IndexContext context;
      const LoopIndex loop = loop_index(context, kind, space, reduced);
      struct Step {
        const Node* pad;
        Index at;  // of the pad's result
      };
      std::vector<Step> pads;
      Index index = context.delinearize(loop.full, space);
      for (uint32_t n = y.node; n != x.node; n = graph->node(n).inputs[0].node) {
        const Node& node = graph->node(n);
        if (node.op == Op::pad) pads.push_back({&node, index});
        index = context.operand_index(node, node.inputs[0].shape(), index);
      }
      const Affine address = context.linearize_contiguous(index, x.shape());
      Evaluation evaluate(context);
      std::string wrong;
      evaluate.all({loop.first, loop.second, loop.third}, [&] {
        bool inside = true;  // once outside, nothing behind is read
        for (const Step& step : pads) {
          const auto& attr = std::get<PadAttr>(step.pad->attr);
          const Shape& operand = step.pad->inputs[0].shape();
          for (size_t d = 0; d < operand.size() && inside; ++d) {
            const uint32_t at = evaluate(step.at[d]);
            inside = at >= uint64_t(attr.low[d]) && at < uint64_t(attr.low[d] + operand[d]);
          }
        }
        const double value = inside ? double(evaluate(address)) : -1;
        const uint32_t full = evaluate(loop.full);
        if (value != reference[full]) wrong = fmt::format("element {}: {} instead of {}", full, value, reference[full]);
      });
      INFO(name(kind));
      CHECK(wrong == "");
    }
  }
}

TEST_CASE("strides: a reshape of strided data addresses the same elements", "[index]") {
  int possible = 0;
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    Draw draw(seed);
    // A permuted, sliced and broadcast region of a contiguous tensor.
    const Shape whole = draw.shape(draw.between(1, 4), 5);
    const auto axes = draw.permutation(int64_t(whole.size()));
    const Strides contiguous = contiguous_strides(whole);
    Shape from;
    Strides strides;
    for (const int64_t axis : axes) {
      from.push_back(draw.between(1, whole[size_t(axis)]));
      strides.push_back(contiguous[size_t(axis)]);
    }
    if (draw.chance(3)) from.push_back(draw.between(1, 3)), strides.push_back(0);
    const Shape to = draw.reshaped(element_count(from));
    INFO("seed " << seed << " " << to_string(from) << " strides " << to_string(strides) << " to " << to_string(to));
    Strides result(to.size());
    if (!reshape_strides(from, strides, to, result)) continue;
    ++possible;
    bool good = true;
    for (int64_t i = 0; i < element_count(from); ++i) {
      const auto source = unflat(from, i), target = unflat(to, i);
      int64_t expected = 0, actual = 0;
      for (size_t d = 0; d < from.size(); ++d) expected += source[d] * strides[d];
      for (size_t d = 0; d < to.size(); ++d) actual += target[d] * result[d];
      good = good && expected == actual;
    }
    CHECK(good);
  }
  CHECK(possible > 400);
  // What must be possible: contiguous data has every shape, and so has data with unit axes put in.
  Strides result(3);
  CHECK(reshape_strides({4, 6}, {6, 1}, {2, 4, 3}, result));
  CHECK(reshape_strides({4, 1, 6}, {6, 99, 1}, {8, 1, 3}, result));
  CHECK(reshape_strides({4, 6}, {1, 4}, {4, 2, 3}, result));
  result.resize(1);
  CHECK_FALSE(reshape_strides({4, 6}, {1, 4}, {24}, result));
}
