// The IR: hash-consing, errors that blame the caller, the verifier, the text form.
#include "graph/autodiff.h"
#include "graph/graph.h"
#include "graph/interpret.h"
#include "graph/random.h"
#include "graph/rewrite.h"
#include "graph/text.h"
#include "graph/verify.h"
#include "tests/support/tensors.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using tests::f32;
using tests::u32;

TEST_CASE("building the same node twice gives the same node", "[graph]") {
  Graph graph;
  const Value x = graph.parameter("x", f32({3, 5}));
  const Value y = graph.parameter("y", f32({3, 5}));
  CHECK(x + y == x + y);
  CHECK_FALSE(x + y == y + x);
  CHECK(sum(x, {0}) == sum(x, {-2}));
  CHECK_FALSE(sum(x, {0}) == sum(x, {1}));
  CHECK(graph.parameter("x", f32({3, 5})) == x);
  CHECK(scalar(graph, 0.5) == scalar(graph, 0.5));
  CHECK_FALSE(scalar(graph, 0.0) == scalar(graph, -0.0));
  CHECK_FALSE(scalar(graph, 1) == scalar(graph, 1, DType::i32));
  const uint32_t size = graph.size();
  exp(x + y);
  CHECK(graph.size() == size + 1);
}

TEST_CASE("builders broadcast, count axes from the back and drop no-ops", "[graph]") {
  Graph graph;
  const Value x = graph.parameter("x", f32({2, 3, 5}));
  const Value bias = graph.parameter("bias", f32({5}));
  CHECK((x + bias).shape() == Shape{2, 3, 5});
  CHECK((x * 2.0).shape() == Shape{2, 3, 5});
  CHECK(sum(x, {-1}).shape() == Shape{2, 3, 1});
  CHECK(sum(x, {0, 2}, false).shape() == Shape{3});
  CHECK(mean(x, {}) == x * 1.0);
  CHECK(reshape(x, {-1, 5}).shape() == Shape{6, 5});
  CHECK(reshape(x, {2, 3, 5}) == x);
  CHECK(permute(x, {0, 1, 2}) == x);
  CHECK(transpose(x).shape() == Shape{2, 5, 3});
  CHECK(cast(x, DType::f32) == x);
  CHECK(concat({x}, 0) == x);
  CHECK(argmax(x, -1, false).type() == u32({2, 3}));
  const Value weight = graph.parameter("weight", f32({5, 7}));
  const Value product = matmul(x, weight);
  CHECK(product.shape() == Shape{2, 3, 7});
  CHECK(graph.node(graph.node(product).inputs[0]).types[0] == f32({6, 7}));  // one tall product
  const Value batched = graph.parameter("batched", f32({4, 1, 5, 7}));
  CHECK(matmul(x, batched).shape() == Shape{4, 2, 3, 7});
}

TEST_CASE("wrong use is a UserError that says what and where", "[graph]") {
  Graph graph;
  const Value a = graph.parameter("a", f32({8, 64}));
  const Value b = graph.parameter("b", f32({32, 8}));
  const Value n = graph.parameter("n", u32({3}));
  const auto rejects = [](auto function, const char* text) {
    CHECK_THROWS_MATCHES(function(), UserError, MessageMatches(ContainsSubstring(text)));
  };
  rejects([&] { matmul(a, b); }, "[matmul] inner dimensions differ: f32[8,64] @ f32[32,8]");
  rejects([&] { add(a, b); }, "[add] shapes [8,64] and [32,8] do not broadcast");
  rejects([&] { add(a, scalar(graph, 1, DType::i32)); }, "[add] operands differ");
  rejects([&] { exp(n); }, "[exp] takes no u32[3]");
  rejects([&] { mod(a, a); }, "[mod] takes no f32[8,64]");
  rejects([&] { sum(a, {2}); }, "[sum] axis 2 of f32[8,64]");
  rejects([&] { sum(a, {0, 0}); }, "[sum] an axis is given twice");
  rejects([&] { reshape(a, {7, -1}); }, "[reshape] f32[8,64] does not fit [7,-1]");
  rejects([&] { slice(a, 0, 3, 9); }, "[slice]");
  rejects([&] { slice(a, 0, 3, 3); }, "[slice]");
  rejects([&] { permute(a, {0, 0}); }, "[permute] [0,0] is no order of the axes");
  rejects([&] { broadcast(a, {8, 65}); }, "[broadcast]");
  rejects([&] { concat({a, b}, 0); }, "[concat]");
  rejects([&] { gather(a, a); }, "[gather] the index must be u32");
  rejects([&] { slice_update(a, a, n, 0); }, "[slice_update] the start must be u32[]");
  rejects([&] { graph.parameter("a", f32({8})); }, "'a' is f32[8,64] already, not f32[8]");
  rejects([&] { graph.assign(a, b); }, "[assign] 'a' is f32[8,64], the value f32[32,8]");
  rejects([&] { graph.assign(a + a, a); }, "[assign] the target is a add, not a parameter");
  rejects([&] { exp(Value{}); }, "[exp] an operand is an empty value");
  rejects([&] { constant(graph, 1, f32({0})); }, "extents must be at least 1");
  rejects([&] { exp(cast(a, DType::f16)); }, "f16 is a storage type");
  graph.assign(a, a * 2.0);
  rejects([&] { graph.assign(a, a * 3.0); }, "[assign] 'a' is assigned twice");
  {
    const ScopeGuard outer(graph, "blocks.0");
    const ScopeGuard inner(graph, "mlp");
    rejects([&] { matmul(a, b); }, "[matmul] inner");
    rejects([&] { exp(n); }, "(in blocks.0.mlp, test_graph.cpp:");
  }
  Graph other;
  const Value foreign = other.parameter("a", f32({8, 64}));
  rejects([&] { graph.add(Op::add, {a, foreign}); }, "[add] an operand belongs to another graph");
}

TEST_CASE("scopes give nodes their path and line", "[graph]") {
  Graph graph;
  const Value x = graph.parameter("x", f32({3}));
  Value inside;
  {
    const ScopeGuard block(graph, "block");
    inside = exp(x);
    const ScopeGuard norm(graph, "norm");
    CHECK(graph.scope(log(x).node).path == "block.norm");
  }
  CHECK(graph.scope(inside.node).path == "block");
  CHECK(graph.scope(inside.node).file == "test_graph.cpp");
  CHECK(graph.scope(x.node).path.empty());
  CHECK(graph.scope(sin(x).node).path.empty());
}

TEST_CASE("backward nodes have the place of what they differentiate, and their phase", "[graph]") {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const Value x = graph.parameter("x", f32({3}));
  Value loss, updated;
  {
    const ScopeGuard block(graph, "block");
    loss = sum(exp(x), {0}, false);
  }
  const Value gradient = differentiate(loss, std::vector{x})[0];
  {
    const ScopeGuard optimizer(graph, "optimizer", Phase::optimizer);
    const ScopeGuard inner(graph, "clip");
    updated = x - 0.5 * gradient;
  }
  const auto check_scope = [](const Graph& g, Value value, const char* path, Phase phase) {
    CHECK(g.scope(value.node).path == path);
    CHECK(g.scope(value.node).phase == phase);
    CHECK(g.scope(value.node).line > 0);
  };
  check_scope(graph, loss, "block", Phase::forward);
  check_scope(graph, gradient, "block", Phase::backward);
  check_scope(graph, updated, "optimizer.clip", Phase::optimizer);
  CHECK(graph.scope(x.node).phase == Phase::forward);
  program.outputs = {{"loss", loss}, {"gradient", gradient}, {"updated", updated}};
  const Program copy = parse(print(program));
  check_scope(*copy.graph, copy.outputs[1].second, "block", Phase::backward);
  check_scope(*copy.graph, copy.outputs[2].second, "optimizer.clip", Phase::optimizer);
}

TEST_CASE("an assignment is seen by the next run only", "[graph]") {
  Program program{std::make_shared<Graph>(), {}};
  const Value counter = program.graph->parameter("counter", u32({}));
  program.graph->assign(counter, counter + 1.0);
  program.outputs = {{"read", counter}, {"later", counter + 0.0}};
  State state = {{"counter", HostTensor::scalar(DType::u32, 4294967295.0)}};
  CHECK(interpret(program, state).at("read").values[0] == 4294967295.0);
  CHECK(state["counter"].values[0] == 0);  // wraps
  CHECK(interpret(program, state).at("later").values[0] == 0);
  CHECK(state["counter"].values[0] == 1);
  state.clear();
  CHECK_THROWS_MATCHES(interpret(program, state), UserError, MessageMatches(ContainsSubstring("no tensor 'counter'")));
  state["counter"] = HostTensor::scalar(DType::f32, 1);
  CHECK_THROWS_MATCHES(interpret(program, state), UserError,
                       MessageMatches(ContainsSubstring("f32[] in the state, u32[]")));
}

TEST_CASE("the text form of every op prints, parses and prints again", "[text]") {
  for (const OpDef& row : op_table()) {
    for (const Sample& sample : row.samples) {
      Program program{std::make_shared<Graph>(), {}};
      std::vector<Value> operands;
      for (size_t i = 0; i < sample.inputs.size(); ++i) {
        operands.push_back(program.graph->parameter("x " + std::to_string(i) + " \"\\", sample.inputs[i]));
      }
      const ScopeGuard scope(*program.graph, "block.0");
      program.outputs = {{"result", program.graph->add(row.op, operands, sample.attr)}};
      const std::string text = print(program);
      INFO(text);
      const Program copy = parse(text);
      CHECK(print(copy) == text);
      CHECK(copy.graph->node(copy.outputs[0].second).attr == program.graph->node(program.outputs[0].second).attr);
    }
  }
}

TEST_CASE("the text form looks as documented", "[text]") {
  const std::string text =
      "%0 = parameter \"weight\" : f32[8,64]\n"
      "%1 = constant 0.1 : f32[8,64]\n"
      "%2 = mul %0 %1 : f32[8,64]                                @blocks.0.mlp model.cpp:41\n"
      "%3 = sum %2 axes=[0] : f32[1,64]                          @blocks.0.mlp model.cpp:41\n"
      "assign %0 %2\n"
      "output \"y\" %3\n";
  const Program program = parse(text);
  verify(*program.graph);
  CHECK(print(program) == text);
  CHECK(print_node(*program.graph, 3).starts_with("%3 = sum %2 axes=[0] : f32[1,64]"));
  CHECK(program.graph->assignments().size() == 1);

  // Only what outputs and assignments reach is printed, unless everything is asked for.
  Program more = parse(text);
  exp(more.outputs[0].second);
  CHECK(print(more) == text);
  CHECK(print(more, true).find("exp") != std::string::npos);
}

TEST_CASE("the parser says where it stumbled", "[text]") {
  const auto rejects = [](const char* text, const char* message) {
    CHECK_THROWS_MATCHES(parse(text), UserError, MessageMatches(ContainsSubstring(message)));
  };
  const std::string x = "%0 = parameter \"x\" : f32[3]\n";
  rejects("%0 = parameter \"x\" : f33[3]", "line 1, column 25: 'f33' is no element type");
  rejects((x + "%1 = expo %0 : f32[3]").c_str(), "line 2, column 10: there is no op 'expo'");
  rejects((x + "%1 = exp %1 : f32[3]").c_str(), "line 2, column 12: %1 is not defined yet");
  rejects((x + "%1 = exp %0 : f32[4]").c_str(), "'exp' gives f32[3], not f32[4]");
  rejects((x + "%1 = sum %0 axis=[0] : f32[1]").c_str(), "expected 'axes'");
  rejects((x + "%2 = exp %0 : f32[3]").c_str(), "expected %1");
  rejects((x + "%1 = add %0 : f32[3]").c_str(), "[add] takes 2 operands, not 1");
  rejects("hello", "expected a node, 'assign' or 'output', not 'hello'");
  rejects("output \"y", "the string does not end");
}

TEST_CASE("the verifier rejects what later stages cannot rely on", "[verify]") {
  Graph graph;
  const Value x = graph.parameter("x", f32({3}));
  const Value y = exp(x);
  const Value z = sum(y, {0});
  verify(graph);
  const auto rejects = [&](const char* text) {
    CHECK_THROWS_MATCHES(verify(graph), InternalError, MessageMatches(ContainsSubstring(text)));
  };
  // The graph hands out const nodes only; a broken pass is played by casting that away.
  auto& broken = const_cast<Node&>(graph.node(y));
  const Node good = broken;
  broken.types = {f32({4})};
  rejects("the types differ from what [exp] infers");
  broken = good;
  broken.inputs = {z};
  rejects("an operand comes later than its user");
  broken = good;
  broken.inputs = {x, x};
  rejects("wrong number of operands");
  broken = good;
  broken.inputs = {Value{&graph, x.node, 1}};
  rejects("an operand does not exist");
  broken = good;
  auto& reduction = const_cast<Node&>(graph.node(z));
  const Node good_reduction = reduction;
  reduction.attr = AxisAttr{0};
  rejects("the attribute is of the wrong kind");
  reduction = good_reduction;
  Graph other;
  broken.inputs = {other.parameter("x", f32({3}))};
  rejects("an operand belongs to another graph");
  broken = good;
  graph.assign(x, y);
  verify(graph);
  const_cast<Assignment&>(graph.assignments()[0]).value = z;
  rejects("an assignment of f32[1]");
}

TEST_CASE("rewrite copies what is reached and replaces what the rule says", "[rewrite]") {
  const Program program = parse(
      "%0 = parameter \"x\" : f32[3]\n%1 = exp %0 : f32[3]\n%2 = log %1 : f32[3]\n"
      "%3 = neg %0 : f32[3]\noutput \"y\" %2\n");
  const Program copy =
      rewrite(program, [](Graph&, const Node&, std::span<const Value>) -> std::vector<Value> { return {}; });
  CHECK(print(copy) == print(program));
  CHECK(copy.graph->size() == 3);
  const Program changed =
      rewrite(program, [](Graph&, const Node& node, std::span<const Value> inputs) -> std::vector<Value> {
        if (node.op == Op::exp) return {inputs[0] * 2.0};
        return {};
      });
  CHECK(print(changed) ==
        "%0 = parameter \"x\" : f32[3]\n%1 = constant 2 : f32[3]\n%2 = mul %0 %1 : f32[3]\n"
        "%3 = log %2 : f32[3]\noutput \"y\" %3\n");
}

TEST_CASE("strides of a reshape", "[types]") {
  Strides strides;
  CHECK(reshape_strides({4, 6}, {6, 1}, {2, 2, 3, 2}, strides));
  CHECK(strides == Strides{12, 6, 2, 1});
  CHECK(reshape_strides({4, 6}, {6, 1}, {24}, strides));
  CHECK(strides == Strides{1});
  CHECK_FALSE(reshape_strides({4, 6}, {1, 4}, {24}, strides));
  CHECK(reshape_strides({4, 6}, {1, 4}, {2, 2, 1, 6}, strides));
  CHECK(strides[0] == 2);
  CHECK(strides[1] == 1);
  CHECK(strides[3] == 4);
  CHECK(reshape_strides({4, 6}, {0, 0}, {24}, strides));  // broadcast everywhere
  CHECK(strides == Strides{0});
  CHECK_FALSE(reshape_strides({4, 6}, {0, 1}, {24}, strides));
  CHECK(reshape_strides({}, {}, {1, 1}, strides));
  CHECK(reshape_strides({1, 1}, {7, 7}, {}, strides));
  CHECK_FALSE(reshape_strides({4}, {1}, {5}, strides));
}

TEST_CASE("host tensors round to their storage type and back", "[types]") {
  const auto rounded = [](DType dtype, double value) { return HostTensor::scalar(dtype, value).values[0]; };
  CHECK(rounded(DType::f16, 1.0 / 3) == 0.333251953125);
  CHECK(rounded(DType::f16, 65519) == 65504);
  CHECK(std::isinf(rounded(DType::f16, 65520)));
  CHECK(rounded(DType::f16, 0x1p-24) == 0x1p-24);
  CHECK(rounded(DType::f16, 0x1p-26) == 0);
  CHECK(rounded(DType::f16, 2049) == 2048);  // to even
  CHECK(rounded(DType::bf16, 1.0 / 3) == 0.333984375);
  CHECK(rounded(DType::bf16, 257) == 256);
  CHECK(rounded(DType::f32, 0.1) == static_cast<double>(0.1f));
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
    HostTensor tensor = HostTensor::random({dtype, {300}}, -1e-4, 100, 5);
    tensor.values[0] = 0x1.8p-23;
    tensor.values[1] = -INFINITY;
    tensor.values[2] = -0.0;
    tensor.round_to_storage();
    CHECK(HostTensor::from_bytes(tensor.type, tensor.to_bytes()).values == tensor.values);
  }
  CHECK_THROWS_AS(HostTensor({DType::f32, {3}}, {1, 2}), UserError);
}
