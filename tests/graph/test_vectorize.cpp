// The ensemble axis: one vectorized run equals the runs of its members, exactly.
#include "graph/autodiff.h"
#include "graph/interpret.h"
#include "graph/rewrite.h"
#include "graph/vectorize.h"
#include "graph/verify.h"
#include "tests/support/tensors.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using tests::f32;

namespace {

constexpr int64_t kMembers = 3;

HostTensor stack(const std::vector<HostTensor>& parts) {
  Type type = parts[0].type;
  type.shape.insert(type.shape.begin(), static_cast<int64_t>(parts.size()));
  std::vector<double> values;
  for (const HostTensor& part : parts) {
    values.insert(values.end(), part.values.begin(), part.values.end());
  }
  return HostTensor(type, values);
}

HostTensor member_of(const HostTensor& stacked, int64_t member) {
  Type type = stacked.type;
  type.shape.erase(type.shape.begin());
  const int64_t count = element_count(type.shape);
  const auto first = stacked.values.begin() + member * count;
  return HostTensor(type, std::vector<double>(first, first + count));
}

// Runs `steps` steps of every member alone and of all at once, from the same state, and compares
// outputs and state for equality. `draw(name, member)` gives the initial tensors; the member is 0
// for shared ones.
template <typename Draw>
void check_members(const Program& program, const std::set<std::string>& own, const Draw& draw, int steps = 1) {
  const Program many = vectorize(program, kMembers, own);
  verify(*many.graph);
  State all;
  std::vector<State> single(kMembers);
  for (const auto& [name, value] : program.graph->parameters()) {
    std::vector<HostTensor> parts;
    for (int64_t member = 0; member < kMembers; ++member) {
      parts.push_back(draw(name, value.type(), own.contains(name) ? member : 0));
      single[static_cast<size_t>(member)][name] = parts.back();
    }
    all[name] = own.contains(name) ? stack(parts) : parts[0];
  }
  for (int step = 0; step < steps; ++step) {
    const auto results = interpret(many, all);
    for (int64_t member = 0; member < kMembers; ++member) {
      State& state = single[static_cast<size_t>(member)];
      for (const auto& [name, expected] : interpret(program, state)) {
        const HostTensor& found = results.at(name);
        const bool differs = found.type != expected.type;
        CHECK((differs ? member_of(found, member) : found).values == expected.values);
      }
      for (const auto& [name, expected] : state) {
        if (own.contains(name)) CHECK(member_of(all[name], member).values == expected.values);
      }
    }
  }
}

}  // namespace

TEST_CASE("every op, with every choice of per-member operands, equals its single runs", "[vectorize]") {
  int cases = 0;
  for (const OpDef& row : op_table()) {
    for (const Sample& sample : row.samples) {
      const auto count = static_cast<unsigned>(sample.inputs.size());
      for (unsigned mask = 1; mask < (1u << count); ++mask) {
        Program program{std::make_shared<Graph>(), {}};
        std::vector<Value> operands;
        std::set<std::string> own;
        for (unsigned i = 0; i < count; ++i) {
          const std::string name = "x" + std::to_string(i);
          operands.push_back(program.graph->parameter(name, sample.inputs[i]));
          if (mask & (1u << i)) own.insert(name);
        }
        program.outputs = {{"y", program.graph->add(row.op, operands, sample.attr)}};
        INFO(row.name << " " << to_string(sample.inputs[0]) << " own operands " << mask);
        check_members(program, own, [&](const std::string& name, const Type& type, int64_t member) {
          const auto operand = static_cast<size_t>(name[1] - '0');
          const auto [low, high] = sample.ranges.empty() ? std::pair(sample.low, sample.high) : sample.ranges[operand];
          return HostTensor::random(type, low, high, static_cast<uint32_t>(10 * operand + member));
        });
        ++cases;
      }
    }
  }
  CHECK(cases > 400);
}

TEST_CASE("members with their own seed and learning rate train as single runs do", "[vectorize]") {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const Value seed = graph.parameter("seed", {DType::u32, {}});
  const Value step = graph.parameter("step", {DType::u32, {}});
  const Value rate = graph.parameter("rate", f32({}));
  const Value table = graph.parameter("weights.table", f32({7, 6}));
  const Value hidden = graph.parameter("weights.hidden", f32({6, 6}));
  const Value bits = random_bits(seed, step, iota(graph, {DType::u32, {5, 4}}, 1));
  const Value token = mod(bits, constant_like(bits, 7));
  const Value x = tanh(matmul(gather(table, token), hidden));
  const Value keep = less(cast(bits, DType::f32), constant(graph, 3e9, f32({5, 4})));
  const Value kept = select(broadcast(reshape(keep, {5, 4, 1}), x.shape()), x, x * 0.0);
  const Value loss = mean(kept * kept + slice(concat({kept, x}, 1), 1, 2, 6), {0, 1, 2}, false);
  const std::vector<Value> weights = {table, hidden};
  const std::vector<Value> gradients = differentiate(loss, weights);
  for (size_t i = 0; i < weights.size(); ++i) {
    graph.assign(weights[i], weights[i] - gradients[i] * rate);
  }
  graph.assign(step, step + 1.0);
  program.outputs = {{"loss", loss}, {"step", step}};
  const std::set<std::string> own = {"seed", "rate", "weights.table", "weights.hidden"};
  const auto draw = [](const std::string& name, const Type& type, int64_t member) {
    return HostTensor::random(type, 0.1, name == "seed" ? 1e6 : 1.0,
                              static_cast<uint32_t>(name.size() * 7 + static_cast<size_t>(member)));
  };
  check_members(program, own, draw, 4);

  // A name that ends in a star stands for all that start so.
  const Program starred = vectorize(program, kMembers, {"seed", "rate", "weights.*"});
  CHECK(starred.graph->parameters().at("weights.hidden").shape() == Shape{3, 6, 6});
  CHECK(starred.graph->parameters().at("step").shape().empty());
}

TEST_CASE("members' rows meet a matrix that they share in one product, which is never copied", "[vectorize]") {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const Value x = graph.parameter("x", f32({5, 4}));
  const Value base = graph.parameter("base", {DType::f16, {6, 4}});
  const Value table = graph.parameter("table", {DType::f16, {9, 4}});
  const Value own = graph.parameter("own", f32({8, 4}));
  const Value token = graph.parameter("token", {DType::u32, {5}});
  const Value h = x + cast(gather(table, token), DType::f32);
  const Value y = matmul(h, transpose(cast(base, DType::f32)));
  const Value z = matmul(h, transpose(own));
  const Value loss = sum(y * y, {0, 1}, false) + sum(z * z, {0, 1}, false);
  graph.assign(own, own - 0.1 * differentiate(loss, std::vector{own})[0]);
  const Value input_gradient = differentiate(loss, std::vector{x})[0];
  program.outputs = {{"loss", loss}, {"x", input_gradient}};
  const std::set<std::string> names = {"x", "own", "token"};
  check_members(
      program, names,
      [](const std::string& name, const Type& type, int64_t member) {
        return HostTensor::random(type, type.dtype == DType::u32 ? 0 : -1, type.dtype == DType::u32 ? 9 : 1,
                                  static_cast<uint32_t>(name.size() * 7 + static_cast<size_t>(member)));
      },
      3);

  const Program many = vectorize(program, kMembers, names);
  int shared = 0;
  for (const uint32_t index : reachable(*many.graph, roots(many))) {
    const Node& node = many.graph->node(index);
    if (node.op == Op::matmul && node.inputs[1].rank() == 2) {
      ++shared;
      CHECK(node.inputs[0].dim(0) == kMembers * 5);
    }
    // Neither the base nor the table exists once a member.
    if (node.types[0].shape.size() == 3 && node.types[0].shape[0] == kMembers && node.op == Op::broadcast) {
      const Shape& from = node.inputs[0].shape();
      CHECK_FALSE((from == Shape{1, 6, 4} || from == Shape{1, 4, 6} || from == Shape{1, 9, 4}));
    }
  }
  CHECK(shared == 2);  // forward, and the gradient of x
}

TEST_CASE("assignments: shared values widen, per-member values do not fit shared tensors", "[vectorize]") {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const Value own = graph.parameter("own", f32({2}));
  const Value shared = graph.parameter("shared", f32({2}));
  graph.assign(own, shared * 2.0);
  const Program many = vectorize(program, 3, {"own"});
  State state = {{"own", HostTensor::zeros(f32({3, 2}))}, {"shared", HostTensor(f32({2}), {1, 2})}};
  interpret(many, state);
  CHECK(state["own"].values == std::vector<double>{2, 4, 2, 4, 2, 4});

  graph.assign(shared, own + shared);
  CHECK_THROWS_MATCHES(vectorize(program, 3, {"own"}), UserError,
                       MessageMatches(ContainsSubstring("'shared' is shared, but the value assigned to it differs")));
  CHECK_THROWS_AS(vectorize(program, 0, {"own", "shared"}), UserError);
}

TEST_CASE("a region of many members is still a region", "[vectorize]") {
  auto pair = std::make_shared<Region>();
  pair->name = "pair";
  pair->body = std::make_shared<Graph>();
  const Value a = pair->body->parameter("a", f32({4, 3}));
  const Value b = pair->body->parameter("b", f32({3, 5}));
  const Value unused = pair->body->parameter("unused", f32({2}));
  pair->parameters = {a, b, unused};
  pair->results = {matmul(a, b), exp(b), constant_like(a, 2)};
  for (const std::set<std::string>& own : {std::set<std::string>{"x"}, {"y"}, {"x", "y"}, {"z"}, {"x", "y", "z"}}) {
    Program program{std::make_shared<Graph>(), {}};
    Graph& graph = *program.graph;
    const Value x = graph.parameter("x", f32({4, 3}));
    const Value y = graph.parameter("y", f32({3, 5}));
    const Value z = graph.parameter("z", f32({2}));
    const auto results = region(pair, {x, y, z});
    program.outputs = {{"0", results[0] * 2.0}, {"1", results[1]}, {"2", results[2]}};
    check_members(program, own, [](const std::string& name, const Type& type, int64_t member) {
      return HostTensor::random(type, -1, 1, static_cast<uint32_t>(name[0] * 5 + member));
    });
    const Program many = vectorize(program, 2, own);
    CHECK(many.graph->node(many.outputs[1].second).op == Op::region);
  }
}
