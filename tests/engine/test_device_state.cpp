// Where values live, on the device: state that is overwritten in place or by a copy, parts of concats, outputs that are
// views. Each case runs three steps against the interpreter, in every variant and with as few bindings as Vulkan
// promises.
#include "tests/support/device_suite.h"
#include "tests/support/tensors.h"

#include "graph/compile.h"
#include "graph/functions.h"

#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <functional>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;

namespace {

constexpr uint32_t kStateSteps = 3;

struct StateBuilder {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;

  Value state(const char* name, Shape shape, DType dtype = DType::f32) {
    return graph.parameter(name, {dtype, std::move(shape)});
  }
  void output(std::string name, Value value) { program.outputs.emplace_back(std::move(name), value); }
};

using BuildState = std::function<void(StateBuilder&)>;

struct StateCase {
  const char* name;
  BuildState build;
};

// ---- state ----

const StateCase kStateCases[] = {
    {"each element from its own",
     [](StateBuilder& b) {
       const Value p = b.state("p", {5, 7});
       b.graph.assign(p, p * 0.5 + 1.0);
     }},
    {"read by other kernels before it is overwritten",
     [](StateBuilder& b) {
       const Value p = b.state("p", {6, 6}), w = b.state("w", {6, 9});
       b.graph.assign(p, p * 0.5 + sum(matmul(p, w), {1}));
       b.output("old", matmul(w, matmul(transpose(w), p)));
       b.output("sum", sum(p, {0, 1}, false));
     }},
    {"old value needed after the new one",
     [](StateBuilder& b) {
       const Value p = b.state("p", {6, 6});
       const Value next = tanh(p + sum(p, {0}));
       b.graph.assign(p, next);
       b.output("both", matmul(next, p));
     }},
    {"each element from others: transposed",
     [](StateBuilder& b) {
       const Value p = b.state("p", {7, 7});
       b.graph.assign(p, transpose(p) * 0.9);
     }},
    {"each element from others: rotated",
     [](StateBuilder& b) {
       const Value p = b.state("p", {9, 3});
       b.graph.assign(p, concat({slice(p, 0, 2, 9), slice(p, 0, 0, 2) * 0.5}, 0));
     }},
    {"each element from others: gathered",
     [](StateBuilder& b) {
       const Value p = b.state("p", {9, 3}), rows = b.state("rows", {9}, DType::u32);
       b.graph.assign(p, gather(p, rows) + 0.25);
     }},
    {"each element from others: a matmul with itself",
     [](StateBuilder& b) {
       const Value p = b.state("p", {11, 11});
       b.graph.assign(p, matmul(p, p) * 0.1);
     }},
    {"a matmul's epilogue in place",
     [](StateBuilder& b) {
       const Value p = b.state("p", {17, 13}), x = b.state("x", {17, 5}), g = b.state("g", {5, 13});
       b.graph.assign(p, p - matmul(x, g) * 0.1);
     }},
    {"rows of a reduction",
     [](StateBuilder& b) {
       const Value p = b.state("p", {9, 1}), x = b.state("x", {9, 33});
       b.graph.assign(p, p * 0.5 + sum(x * p, {1}));
     }},
    {"two that read each other",
     [](StateBuilder& b) {
       const Value p = b.state("p", {40}), q = b.state("q", {40});
       b.graph.assign(p, q * 1.5);
       b.graph.assign(q, p * 0.5 + 1.0);
     }},
    {"three in a circle, elsewhere",
     [](StateBuilder& b) {
       const Value p = b.state("p", {6, 6}), q = b.state("q", {6, 6}), r = b.state("r", {6, 6});
       b.graph.assign(p, matmul(q, r) * 0.2);
       b.graph.assign(q, transpose(r) + 0.5);
       b.graph.assign(r, transpose(p) * 0.5);
     }},
    {"copies of state in a row",
     [](StateBuilder& b) {
       const Value p = b.state("p", {33}), q = b.state("q", {33}), r = b.state("r", {33}), s = b.state("s", {33});
       b.graph.assign(p, q);
       b.graph.assign(s, r);
       b.graph.assign(r, p);
       b.graph.assign(q, q * 0.5 + r);
     }},
    {"a part, a constant, an index, a broadcast",
     [](StateBuilder& b) {
       const Value p = b.state("p", {4, 3}), q = b.state("q", {2, 3}), r = b.state("r", {5}), s = b.state("s", {3, 4}),
                   t = b.state("t", {3, 1});
       b.graph.assign(q, slice(p, 0, 1, 3));
       b.graph.assign(p, constant(b.graph, 2.5, f32({4, 3})));
       b.graph.assign(r, iota(b.graph, f32({5}), 0));
       b.graph.assign(s, broadcast(t, {3, 4}));
     }},
    {"one value for two states and two outputs",
     [](StateBuilder& b) {
       const Value p = b.state("p", {12}), q = b.state("q", {12});
       const Value next = p + q * 0.5;
       b.graph.assign(p, next);
       b.graph.assign(q, next);
       b.output("a", next);
       b.output("b", next);
       b.output("c", sum(next * next, {0}, false));
     }},
    {"counters and scalars",
     [](StateBuilder& b) {
       const Value step = b.state("step", {}, DType::u32), rate = b.state("rate", {}), p = b.state("p", {50});
       const Value next = step + constant(b.graph, 1, {DType::u32, {}});
       const Value factor = rate * sqrt(cast(next, DType::f32));
       b.graph.assign(step, next);
       b.graph.assign(rate, rate * 0.5);
       b.graph.assign(p, p - factor);
       b.output("factor", factor);
       b.output("step before", step);
       b.output("step after", next);
     }},
    {"a cache written at a position and read whole",
     [](StateBuilder& b) {
       const Value cache = b.state("cache", {4, 9, 3}), at = b.state("at", {}, DType::u32), x = b.state("x", {4, 1, 3});
       const Value next = slice_update(cache, x * 2.0, at, 1);
       b.graph.assign(cache, next);
       b.graph.assign(at, at + constant(b.graph, 3, {DType::u32, {}}));
       b.output("scores", sum(next * x, {2}, false));
       b.output("old", sum(cache, {1}, false));
     }},
    {"keys and values written at a position, and nothing else of them",
     [](StateBuilder& b) {
       const Value keys = b.state("keys", {2, 3, 9, 4}), values = b.state("values", {2, 3, 9, 4}),
                   at = b.state("at", {}, DType::u32);
       const Value x = b.state("x", {2, 5, 4}), w = b.state("w", {4, 36});
       const Value heads = reshape(matmul(x, w), {2, 5, 9, 4});
       const auto part = [&](int64_t first) { return permute(slice(heads, 2, first, first + 3), {0, 2, 1, 3}); };
       const Value one = constant(b.graph, 1, {DType::u32, {}});
       const Value k = slice_update(keys, part(3) * 2.0 - 1.0, at + one, 2),
                   v = slice_update(values, part(6), at + one, 2);
       b.graph.assign(keys, k);
       b.graph.assign(values, v);
       b.graph.assign(at, at + one);  // the last steps are clamped
       const Value scores = matmul(part(0), transpose(k));
       b.output("mixed", matmul(scores, v));
       b.output("sum", sum(v, {3}, false));
     }},
    {"a ring, a whole window, a window that is an output too",
     [](StateBuilder& b) {
       const Value ring = b.state("ring", {5, 3}), whole = b.state("whole", {4, 3}), shown = b.state("shown", {6}),
                   step = b.state("step", {}, DType::u32);
       const Value x = b.state("x", {4, 3});
       const Value slot = mod(step, constant(b.graph, 5, {DType::u32, {}}));
       b.graph.assign(ring, slice_update(ring, reshape(sum(x * x, {0}), {1, 3}), slot, 0));
       const Value all = slice_update(whole, exp(x), step, 0);
       b.graph.assign(whole, all);
       b.output("all", all + 1.0);
       const Value next = slice_update(shown, slice(reshape(x, {12}), 0, 0, 2), step, 0);
       b.graph.assign(shown, next);
       b.output("next", next);
       b.graph.assign(step, step + constant(b.graph, 1, {DType::u32, {}}));
     }},
    {"an optimizer over parts of one flat tensor",
     [](StateBuilder& b) {
       const Value flat = b.state("flat", {6 * 5 + 5}), m = b.state("m", {35}), x = b.state("x", {8, 5});
       const Value w = reshape(slice(flat, 0, 0, 30), {6, 5}), bias = slice(flat, 0, 30, 35);
       const Value y = matmul(x, transpose(w));
       const Value gw = matmul(transpose(y), x), gb = sum(x, {0}, false) + bias;
       const Value g = concat({reshape(gw, {30}), gb}, 0);
       const Value moment = m * 0.9 + g * 0.1;
       const Value norm = sqrt(sum(g * g, {0}, false));
       b.graph.assign(m, moment);
       b.graph.assign(flat, flat - moment / (norm + 1.0) * 0.1);
       b.output("norm", norm);
     }},
};

// ---- outputs and concats ----

const StateCase kOutputCases[] = {
    {"outputs that are parameters, before and after",
     [](StateBuilder& b) {
       const Value p = b.state("p", {3, 5});
       b.graph.assign(p, p + 1.0);
       b.output("p", p);
       b.output("transposed", transpose(p));
       b.output("again", p);
       b.output("next", p + 1.0);
     }},
    {"outputs that are constants and indices",
     [](StateBuilder& b) {
       b.state("unused", {2});
       b.output("zero", constant(b.graph, 0, f32({3, 3})));
       b.output("scalar", scalar(b.graph, -1.5));
       b.output("no", constant(b.graph, 0, {DType::boolean, {4}}));
       b.output("index", iota(b.graph, {DType::i32, {4, 5}}, 1));
       b.output("least", constant(b.graph, -2147483648.0, {DType::i32, {2}}));
       b.output("infinity", constant(b.graph, -INFINITY, f32({2})));
     }},
    {"views of a value",
     [](StateBuilder& b) {
       const Value x = b.state("x", {4, 5, 6});
       const Value y = exp(x);
       b.output("y", y);
       b.output("permuted", permute(y, {2, 0, 1}));
       b.output("slice", slice(y, 1, 1, 4));
       b.output("flat", reshape(y, {120}));
       b.output("wide", broadcast(sum(y, {2}), {4, 5, 3}));
       b.output("padded", pad(y, {0, 1, 0}, {1, 0, 2}, 3));
       b.output("of x", permute(slice(x, 0, 1, 3), {1, 0, 2}));
     }},
    {"a value read only through a permute",
     [](StateBuilder& b) {
       const Value x = b.state("x", {2, 7, 6}), w = b.state("w", {6, 8});
       const Value heads = permute(reshape(matmul(x, w), {2, 7, 2, 4}), {0, 2, 1, 3});
       b.output("scores", matmul(heads, transpose(heads)));
     }},
    {"concats of everything",
     [](StateBuilder& b) {
       const Value x = b.state("x", {3, 4}), w = b.state("w", {4, 4});
       const Value product = matmul(x, w), row = sum(x, {1});
       const Value joined = concat({x, product, exp(x), broadcast(row, {3, 4}), constant(b.graph, 7, f32({3, 2})),
                                    transpose(tanh(transpose(x))), product},
                                   1);
       b.output("joined", joined);
       b.output("product", product);
       b.output("sum", sum(joined, {1}, false));
     }},
    {"a concat of concats and of its own part",
     [](StateBuilder& b) {
       const Value x = b.state("x", {5, 3});
       const Value inner = concat({tanh(x), x * 2.0}, 1);
       const Value outer = concat({inner, sin(x), reshape(inner, {5, 6})}, 1);
       b.output("outer", outer * 2.0);
       b.output("inner", transpose(inner));
     }},
    {"parts that are merged heads",
     [](StateBuilder& b) {
       const Value x = b.state("x", {2, 2, 5, 4}), y = b.state("y", {2, 5, 3});
       const Value merged = reshape(permute(exp(x), {0, 2, 1, 3}), {2, 5, 8});
       const Value joined = concat({y * 1.5, merged, merged * 2.0}, 2);
       b.output("joined", reduce_max(joined, {1}, false));
       b.output("flat", reshape(joined, {10, 19}));
     }},
    {"a part that is state, and one that becomes state",
     [](StateBuilder& b) {
       const Value p = b.state("p", {4, 3}), x = b.state("x", {4, 3});
       const Value next = p * 0.5 + x;
       b.graph.assign(p, next);
       b.output("joined", concat({p, next, x}, 0) + 1.0);
     }},
    {"halves rotated, as in rotary positions",
     [](StateBuilder& b) {
       const Value x = b.state("x", {2, 3, 5, 8}), c = b.state("c", {5, 4}), s = b.state("s", {5, 4});
       b.output("y", matmul(rotary(x, c, s), transpose(x)));
     }},
    {"pads behind reshapes",
     [](StateBuilder& b) {
       const Value x = b.state("x", {2, 4}), row = b.state("row", {2, 1});
       const Value shifted = reshape(pad(reshape(exp(x) * row, {8}), {2}, {2}), {3, 4});
       b.output("sum", sum(shifted, {1}, false));
       b.output("max", reduce_max(shifted, {0}, false));
       b.output("product", matmul(shifted, transpose(shifted)));
     }},
    {"more operands than a kernel may touch",
     [](StateBuilder& b) {
       Value left, right, product;
       for (int i = 0; i < 15; ++i) {
         const Value x = b.state(fmt::format("x{}", i).c_str(), {5, 5}),
                     y = b.state(fmt::format("y{}", i).c_str(), {5, 5});
         left = i == 0 ? x : left + x * y;
         right = i == 0 ? y : right - y;
         product = i == 0 ? x : matmul(product, x + y) * 0.2;
       }
       b.output("sum", left * right);
       b.output("product", product + left);
     }},
    {"one value in many places",
     [](StateBuilder& b) {
       const Value x = b.state("x", {3, 4}), y = tanh(x);
       for (int i = 0; i < 20; ++i) b.output(fmt::format("copy{}", i), y);
       b.output("joined", concat({y, y, y, exp(y)}, 0));
     }},
    {"an output that others have inlined",
     [](StateBuilder& b) {
       const Value x = b.state("x", {6, 7}), y = b.state("y", {6, 7});
       const Value n = x + y;
       b.output("a", sum(n, {0}, false));
       b.output("b", sum(transpose(n) * 2.0, {0}, false));
       b.output("c", matmul(n, transpose(y)));
       b.output("n", n);
     }},
    {"a mask that is inlined here and stored there",
     [](StateBuilder& b) {
       const Value x = b.state("x", {6, 6});
       const Value rows = iota(b.graph, {DType::u32, {6, 6}}, 0), columns = iota(b.graph, {DType::u32, {6, 6}}, 1);
       const Value mask = select(less(columns, rows), constant_like(x, 1), constant_like(x, 0));
       b.output("masked", sum(x * mask, {1}, false));
       b.output("product", matmul(mask, x));
       b.output("mask", mask);
     }},
};

HostTensor draw(const Type& type, uint32_t seed) {
  HostTensor tensor =
      type.dtype == DType::f32 ? HostTensor::random(type, -1, 1, seed) : HostTensor::random(type, 0, 5, seed);
  tensor.round_to_storage();
  return tensor;
}

void check_case(engine::Device& device, const Variant& variant, const StateCase& c) {
  INFO(variant.name << ": " << c.name);
  StateBuilder builder;
  c.build(builder);
  State state;
  uint32_t seed = 11;
  for (const auto& [name, value] : builder.graph.parameters()) state[name] = draw(value.type(), seed++);
  std::map<std::string, HostTensor> results;
  REQUIRE_NOTHROW(results = run_on_device(device, variant.target, builder.program, state, kStateSteps));
  std::map<std::string, HostTensor> reference;
  for (uint32_t step = 0; step < kStateSteps; ++step) reference = interpret(builder.program, state);
  for (const auto& [name, tensor] : state) {
    const auto found = results.find("state " + name);
    if (found != results.end()) reference[found->first] = tensor;
  }
  for (const auto& [name, tensor] : reference) {
    INFO(name);
    // Wide enough for SwiftShader's sine; an element from the wrong place is off by far more.
    CHECK(compare(results.at(name), tensor, {1e-4, 1e-4}) == "");
  }
}

void check_all(engine::Device& device, const Variant& variant) {
  for (const StateCase& c : kStateCases) check_case(device, variant, c);
  for (const StateCase& c : kOutputCases) check_case(device, variant, c);
}

}  // namespace

TEST_CASE("state, outputs and concats on the device", "[device][lane][plan]") {
  SURTSEY_NEED_DEVICE();
  check_all(device, variants(device).front());
}

TEST_CASE("state, outputs and concats in every other variant", "[device][plan]") {
  SURTSEY_NEED_DEVICE();
  auto list = variants(device);
  Target few = device.target();
  few.addressing = Addressing::descriptor;
  few.max_storage_buffers = 4;
  list.push_back({"four bindings", few});
  for (size_t i = 1; i < list.size(); ++i) DYNAMIC_SECTION(list[i].name) {
      check_all(device, list[i]);
    }
}

TEST_CASE("state that swaps places is refused, not corrupted", "[plan]") {
  using Catch::Matchers::ContainsSubstring;
  using Catch::Matchers::MessageMatches;
  const auto compile_case = [](const BuildState& build) {
    StateBuilder builder;
    build(builder);
    return compile(builder.program, target_preset("lavapipe"));
  };
  CHECK_THROWS_MATCHES(compile_case([](StateBuilder& b) {
                         const Value p = b.state("p", {3}), q = b.state("q", {3});
                         b.graph.assign(p, q);
                         b.graph.assign(q, p);
                       }),
                       UserError, MessageMatches(ContainsSubstring("[assign]") && ContainsSubstring("view of state")));
  CHECK_THROWS_MATCHES(compile_case([](StateBuilder& b) {
                         const Value p = b.state("p", {3, 3});
                         b.graph.assign(p, transpose(p));
                       }),
                       UserError, MessageMatches(ContainsSubstring("[assign] the value of p")));
}
