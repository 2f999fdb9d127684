// The graph passes as text in, text out; and that none of them changes what a program means.
#include "graph/autodiff.h"
#include "graph/compile.h"
#include "graph/interpret.h"
#include "graph/passes/passes.h"
#include "graph/text.h"
#include "graph/verify.h"
#include "tests/support/tensors.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <set>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using tests::f32;

namespace {

// The text after simplify, in short: `x` stands for the parameter line.
std::string simplified(const std::string& text) {
  const Program result = simplify(parse(text));
  verify(*result.graph);
  return print(result);
}

const std::string kX = "%0 = parameter \"x\" : f32[4,6]\n";

State draw_state(const Program& program, uint32_t seed = 3) {
  State state;
  for (const auto& [name, value] : program.graph->parameters()) {
    state[name] = value.dtype() == DType::u32 ? HostTensor::random(value.type(), 0, 9, seed++)
                                              : HostTensor::random(value.type(), -1, 1, seed++);
  }
  return state;
}

double largest_difference(const Program& a, const Program& b) {
  State state = draw_state(a);
  State copy = state;
  const auto left = interpret(a, state);
  const auto right = interpret(b, copy);
  double result = 0;
  for (const auto& [name, tensor] : left) {
    REQUIRE(right.at(name).type == tensor.type);
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      result = std::max(result, std::fabs(tensor.values[i] - right.at(name).values[i]));
    }
  }
  for (const auto& [name, tensor] : state) {
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      result = std::max(result, std::fabs(tensor.values[i] - copy.at(name).values[i]));
    }
  }
  return result;
}

bool has_op(const Program& program, Op op) {
  for (uint32_t i = 0; i < program.graph->size(); ++i) {
    if (program.graph->node(i).op == op) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("simplify: identities of arithmetic", "[passes]") {
  const std::string unchanged = kX + "output \"y\" %0\n";
  for (const char* body : {
           "%1 = constant 1 : f32[4,6]\n%2 = mul %0 %1 : f32[4,6]\noutput \"y\" %2\n",
           "%1 = constant 1 : f32[4,6]\n%2 = mul %1 %0 : f32[4,6]\noutput \"y\" %2\n",
           "%1 = constant 1 : f32[4,6]\n%2 = div %0 %1 : f32[4,6]\noutput \"y\" %2\n",
           "%1 = constant 0 : f32[4,6]\n%2 = add %0 %1 : f32[4,6]\noutput \"y\" %2\n",
           "%1 = constant 0 : f32[4,6]\n%2 = sub %0 %1 : f32[4,6]\noutput \"y\" %2\n",
           "%1 = neg %0 : f32[4,6]\n%2 = neg %1 : f32[4,6]\noutput \"y\" %2\n",
           "%1 = max %0 %0 : f32[4,6]\noutput \"y\" %1\n",
           "%1 = constant 1 : bool[4,6]\n%2 = neg %0 : f32[4,6]\n"
           "%3 = select %1 %0 %2 : f32[4,6]\noutput \"y\" %3\n",
           // one through another: a constant that is found to be 1 on the way
           "%1 = constant 0.5 : f32[1,1]\n%2 = broadcast %1 : f32[4,6]\n"
           "%3 = add %2 %2 : f32[4,6]\n%4 = mul %0 %3 : f32[4,6]\noutput \"y\" %4\n",
       }) {
    INFO(body);
    CHECK(simplified(kX + body) == unchanged);
  }
  // 0 * x is not 0 when x is infinite, and a constant that overflows stays visible.
  const std::string zero = kX + "%1 = constant 0 : f32[4,6]\n%2 = mul %0 %1 : f32[4,6]\noutput \"y\" %2\n";
  CHECK(simplified(zero) == zero);
  const std::string overflow = "%0 = constant 100 : f32[2]\n%1 = exp %0 : f32[2]\noutput \"y\" %1\n";
  CHECK(simplified(overflow) == overflow);
}

TEST_CASE("simplify: movements", "[passes]") {
  const std::string unchanged = kX + "output \"y\" %0\n";
  const std::pair<const char*, const char*> cases[] = {
      {"%1 = reshape %0 : f32[24]\n%2 = reshape %1 : f32[4,6]\noutput \"y\" %2\n", ""},
      {"%1 = permute %0 axes=[1,0] : f32[6,4]\n%2 = permute %1 axes=[1,0] : f32[4,6]\n"
       "output \"y\" %2\n",
       ""},
      {"%1 = pad %0 low=[1,0] high=[0,2] value=0 : f32[5,8]\n"
       "%2 = slice %1 start=[1,0] stop=[5,6] : f32[4,6]\noutput \"y\" %2\n",
       ""},
      {"%1 = neg %0 : f32[4,6]\n%2 = concat %1 %0 axis=0 : f32[8,6]\n"
       "%3 = slice %2 start=[4,0] stop=[8,6] : f32[4,6]\noutput \"y\" %3\n",
       ""},
      {"%1 = sum %0 axes=[0] : f32[1,6]\n%2 = sum %1 axes=[0] : f32[1,6]\noutput \"y\" %2\n",
       "%1 = sum %0 axes=[0] : f32[1,6]\noutput \"y\" %1\n"},
      {"%1 = reshape %0 : f32[24]\n%2 = reshape %1 : f32[3,8]\noutput \"y\" %2\n",
       "%1 = reshape %0 : f32[3,8]\noutput \"y\" %1\n"},
      {"%1 = slice %0 start=[1,1] stop=[4,6] : f32[3,5]\n"
       "%2 = slice %1 start=[1,0] stop=[2,3] : f32[1,3]\noutput \"y\" %2\n",
       "%1 = slice %0 start=[2,1] stop=[3,4] : f32[1,3]\noutput \"y\" %1\n"},
      {"%1 = pad %0 low=[0,2] high=[0,0] value=7 : f32[4,8]\n"
       "%2 = slice %1 start=[0,0] stop=[4,2] : f32[4,2]\noutput \"y\" %2\n",
       "CONSTANT"},
      {"%1 = reshape %0 : f32[4,1,6]\n%2 = permute %1 axes=[1,0,2] : f32[1,4,6]\n"
       "output \"y\" %2\n",
       "%1 = reshape %0 : f32[1,4,6]\noutput \"y\" %1\n"},
      {"%1 = reshape %0 : f32[1,4,6]\n%2 = broadcast %1 : f32[2,4,6]\n"
       "%3 = broadcast %2 : f32[2,4,6]\noutput \"y\" %3\n",
       "%1 = reshape %0 : f32[1,4,6]\n%2 = broadcast %1 : f32[2,4,6]\noutput \"y\" %2\n"},
      // inside no part: stays
      {"%1 = concat %0 %0 axis=0 : f32[8,6]\n%2 = slice %1 start=[3,0] stop=[5,6] : f32[2,6]\n"
       "output \"y\" %2\n",
       "SAME"},
  };
  for (const auto& [body, expected] : cases) {
    INFO(body);
    const std::string result = simplified(kX + body);
    if (expected == std::string("CONSTANT")) {
      CHECK(result == "%0 = constant 7 : f32[4,2]\noutput \"y\" %0\n");
    } else if (expected == std::string("SAME")) {
      CHECK(result == kX + body);
    } else {
      CHECK(result == (*expected ? kX + expected : unchanged));
    }
  }
}

TEST_CASE("passes keep the meaning of a training step", "[passes]") {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const Value token = graph.parameter("token", {DType::u32, {3, 5}});
  const Value table = graph.parameter("table", f32({7, 6}));
  const Value weight = graph.parameter("weight", f32({6, 6}));
  const Value x = gather(table, token);
  const Value h = tanh(matmul(x * 1.0, weight) + 0.0);
  const Value scores = matmul(h, transpose(h)) * 0.4;
  const Value e = exp(scores - reduce_max(scores, {-1}));
  const Value p = e / sum(e, {-1});
  const Value out = pad(slice(matmul(p, h), 2, 1, 5), {0, 0, 1}, {0, 0, 1});
  const Value loss = mean(out * out, {0, 1, 2}, false);
  const std::vector<Value> weights = {table, weight};
  const auto gradients = differentiate(loss, weights);
  graph.assign(table, table - gradients[0] * 0.1);
  graph.assign(weight, weight - gradients[1] * 0.1);
  program.outputs = {{"loss", loss}};
  for (const char* name : {"lavapipe", "nvidia"}) {
    const Target target = target_preset(name);
    const Program simple = simplify(program);
    verify(*simple.graph);
    CHECK(largest_difference(program, simple) == 0);
    CHECK(simple.graph->size() < program.graph->size());
    const Program plain = decompose(simple, target);
    verify(*plain.graph);
    CHECK_FALSE(has_op(plain, Op::scatter_add));
    CHECK(largest_difference(program, plain) < 1e-12);
    CHECK(largest_difference(program, simplify(plain)) < 1e-12);
  }
}

TEST_CASE("decompose: scatter_add becomes a one-hot matmul", "[passes]") {
  Target target = target_preset("lavapipe");
  target.scatter = ScatterVariant::one_hot;
  const Program small = parse(
      "%0 = parameter \"index\" : u32[5]\n%1 = parameter \"x\" : f32[5,3]\n"
      "%2 = scatter_add %0 %1 rows=4 batch=0 : f32[4,3]\noutput \"y\" %2\n");
  CHECK(print(simplify(decompose(small, target))) ==
        "%0 = parameter \"index\" : u32[5]\n"
        "%1 = parameter \"x\" : f32[5,3]\n"
        "%2 = iota axis=0 : u32[4,5]\n"
        "%3 = constant 3 : u32[5]\n"
        "%4 = min %0 %3 : u32[5]\n"
        "%5 = reshape %4 : u32[1,5]\n"
        "%6 = broadcast %5 : u32[4,5]\n"
        "%7 = equal %2 %6 : bool[4,5]\n"
        "%8 = constant 1 : f32[4,5]\n"
        "%9 = constant 0 : f32[4,5]\n"
        "%10 = select %7 %8 %9 : f32[4,5]\n"
        "%11 = matmul %10 %1 : f32[4,3]\n"
        "output \"y\" %11\n");
  for (const Sample& sample : definition(Op::scatter_add).samples) {
    Program program{std::make_shared<Graph>(), {}};
    const Value index = program.graph->parameter("index", sample.inputs[0]);
    const Value updates = program.graph->parameter("updates", sample.inputs[1]);
    program.outputs = {{"y", program.graph->add(Op::scatter_add, {index, updates}, sample.attr)}};
    const Program result = decompose(program, target);
    verify(*result.graph);
    CHECK(largest_difference(program, result) < 1e-12);
  }
}

TEST_CASE("decompose: long reductions go in two stages whatever is kept", "[passes]") {
  const auto reductions = [](const Program& program) {
    std::vector<Shape> shapes;
    for (uint32_t i = 0; i < program.graph->size(); ++i) {
      const Node& node = program.graph->node(i);
      if (node.op == Op::sum || node.op == Op::reduce_max) {
        shapes.push_back(node.inputs[0].shape());
      }
    }
    return shapes;
  };
  struct Case {
    Op op;
    Type type;
    std::vector<int64_t> axes;
    size_t stages;
  };
  const Case cases[] = {
      {Op::sum, f32({8191}), {0}, 1},
      {Op::sum, f32({8192}), {0}, 2},
      {Op::sum, f32({3, 10007}), {1}, 2},  // a prime: padded
      {Op::reduce_max, f32({3, 10007}), {1}, 2},
      {Op::sum, f32({10007, 3}), {0}, 2},
      {Op::sum, f32({100, 100, 3}), {0, 1}, 2},
      {Op::sum, f32({100, 2, 90}), {0, 2}, 2},
      {Op::sum, f32({2, 3, 8192}), {0, 2}, 3},
      {Op::reduce_max, {DType::i32, {9001}}, {0}, 2},
      {Op::sum, {DType::u32, {9001}}, {0}, 2},
  };
  for (const char* name : {"lavapipe", "amd"}) {
    for (const Case& c : cases) {
      INFO(name << " " << definition(c.op).name << " " << to_string(c.type));
      Program program{std::make_shared<Graph>(), {}};
      const Value x = program.graph->parameter("x", c.type);
      program.outputs = {{"y", program.graph->add(c.op, {x}, AxesAttr{c.axes})}};
      const Program result = decompose(program, target_preset(name));
      verify(*result.graph);
      CHECK(reductions(result).size() == c.stages);
      CHECK(largest_difference(program, result) < 1e-10);
    }
  }
  // The tree depends on the reduced extent alone, so a member's bits do not depend on how many
  // there are.
  const auto stages = [&](int64_t members) {
    Program program{std::make_shared<Graph>(), {}};
    program.outputs = {{"y", sum(program.graph->parameter("x", f32({members, 27500})), {1})}};
    auto shapes = reductions(decompose(program, target_preset("lavapipe")));
    for (Shape& shape : shapes) shape.erase(shape.begin());
    return shapes;
  };
  CHECK(stages(1) == stages(8));
  CHECK(stages(1) == stages(1000));
}

TEST_CASE("decompose: a product of few tiles and a long inner axis is cut", "[passes]") {
  struct Case {
    Shape a, b;
    int64_t parts;
  };
  const Case cases[] = {
      {{32, 2048}, {2048, 128}, 8},   // parts of 256
      {{768, 4096}, {4096, 768}, 1},  // 144 tiles
      {{256, 4096}, {4096, 256}, 8},  // 16 tiles, 128 workgroups
      {{32, 500}, {500, 32}, 1},      // too short
      {{5, 1536}, {1536, 7}, 4},      // parts of 384: half would be too short
      {{3, 33, 3 * 512}, {3, 3 * 512, 9}, 4},
      {{2, 3, 32, 2048}, {2, 3, 2048, 32}, 1},  // as attention
  };
  const auto inner = [](const Program& program) {
    int64_t found = 0;
    for (uint32_t i = 0; i < program.graph->size(); ++i) {
      const Node& node = program.graph->node(i);
      if (node.op == Op::matmul) found = node.inputs[0].shape().back();
    }
    return found;
  };
  for (const Case& c : cases) {
    INFO(to_string(f32(c.a)) << " @ " << to_string(f32(c.b)));
    Program program{std::make_shared<Graph>(), {}};
    const Value a = program.graph->parameter("a", f32(c.a)), b = program.graph->parameter("b", f32(c.b));
    program.outputs = {{"y", matmul(a, b)}};
    const Program result = decompose(program, target_preset("nvidia"));
    verify(*result.graph);
    CHECK(inner(result) * c.parts == c.a.back());
    CHECK(largest_difference(program, result) < 1e-9);
    // Broadcast from lanes, as on CPUs, a tile needs no more of them.
    CHECK(inner(decompose(program, target_preset("lavapipe"))) == c.a.back());
  }
}

TEST_CASE("decompose: regions give way to their bodies, nested ones too", "[passes]") {
  auto inner = std::make_shared<Region>();
  inner->name = "inner";
  inner->body = std::make_shared<Graph>();
  const Value a = inner->body->parameter("a", f32({3}));
  inner->parameters = {a};
  inner->results = {exp(a), a};
  auto outer = std::make_shared<Region>();
  outer->name = "outer";
  outer->body = std::make_shared<Graph>();
  const Value b = outer->body->parameter("b", f32({3}));
  outer->parameters = {b};
  const auto parts = region(inner, {b * 2.0});
  outer->results = {parts[0] + parts[1]};
  Program program{std::make_shared<Graph>(), {}};
  program.outputs = {{"y", region(outer, {program.graph->parameter("x", f32({3}))})[0]}};
  const Program result = decompose(program, target_preset("lavapipe"));
  CHECK(print(result) ==
        "%0 = parameter \"x\" : f32[3]\n%1 = constant 2 : f32[3]\n%2 = mul %0 %1 : f32[3]\n"
        "%3 = exp %2 : f32[3]\n%4 = add %3 %2 : f32[3]\noutput \"y\" %4\n");
  CHECK(largest_difference(program, result) == 0);
}

TEST_CASE("the gradient of a long table is scattered, that of a short one a product", "[passes]") {
  for (const int64_t rows : {127, 128}) {
    const auto graph = std::make_shared<Graph>();
    const Value table = graph->parameter("table", {DType::f32, {rows, 3}});
    const Value row = gather(table, graph->parameter("index", {DType::u32, {5}}));
    Program program{graph, {}};
    program.outputs = {{"dtable", differentiate(sum(row * row, {0, 1}, false), {{table}})[0]}};
    const Plan plan = compile(program, target_preset("lavapipe"));
    std::set<Archetype> found;
    for (const Kernel& kernel : plan.kernels) found.insert(kernel.archetype);
    CAPTURE(rows);
    CHECK(found.contains(Archetype::scatter) == (rows >= 128));
    CHECK(found.contains(Archetype::matmul) == (rows < 128));
  }
}

TEST_CASE("targets resolve their variants and refuse what cannot run", "[target]") {
  CHECK(target_preset("lavapipe").matmul_variant() == MatmulVariant::lane_broadcast);
  CHECK(target_preset("lavapipe").reduce_variant() == ReduceVariant::lane_per_row);
  CHECK(target_preset("swiftshader").matmul_variant() == MatmulVariant::lane_broadcast);
  CHECK(target_preset("nvidia").matmul_variant() == MatmulVariant::cooperative);
  CHECK(target_preset("mobile").matmul_variant() == MatmulVariant::shared_tile);
  CHECK(target_preset("nvidia").reduce_variant() == ReduceVariant::workgroup_per_row);
  CHECK(target_preset("minimal").max_bindings() == 4);
  CHECK(target_preset("lavapipe").max_bindings() == 14);
  Target target = target_preset("lavapipe");
  target.addressing = Addressing::descriptor;
  target.max_storage_buffers = 8;
  CHECK(target.max_bindings() == 8);
  target = target_preset("intel");
  target.matmul = MatmulVariant::lane_broadcast;
  CHECK_THROWS_MATCHES(target.matmul_variant(), UserError, MessageMatches(ContainsSubstring("intel has size 0")));
  CHECK_THROWS_MATCHES(target_preset("voodoo"), UserError,
                       MessageMatches(ContainsSubstring("minimal, lavapipe, swiftshader, intel")));
  for (const char* name : target_preset_names()) CHECK(target_preset(name).name == name);
}

TEST_CASE("in descriptor mode a kernel that reaches too far is refused with what it needs", "[passes]") {
  Program program{std::make_shared<Graph>(), {}};
  const Value x = program.graph->parameter("x", {DType::f32, {3000}});
  program.outputs = {{"y", x + 1.0}};
  Target target = target_preset("lavapipe");
  target.max_storage_range = 12000;
  for (const Addressing addressing : {Addressing::address, Addressing::descriptor}) {
    target.addressing = addressing;
    target.max_storage_range = 12000;
    CHECK_NOTHROW(compile(program, target));
    target.max_storage_range = 11999;
    if (addressing == Addressing::address) {
      CHECK_NOTHROW(compile(program, target));
    } else {
      CHECK_THROWS_MATCHES(
          compile(program, target), UserError,
          MessageMatches(ContainsSubstring("of 'x' f32[3000] at once") && ContainsSubstring("Address mode")));
    }
  }
}
