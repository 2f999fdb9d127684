// What decoding's kernels take along: sums that a few rows are normalised by, positions of queries and keys; each with
// the bits that it has in a kernel of its own.
#include "tests/support/device_suite.h"

#include "experiments/models/hub/stored_weights.h"
#include "graph/attention.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "graph/parameters.h"
#include "tests/support/tensors.h"

#include <algorithm>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using tests::f32;

namespace {

enum class NormKind { rms, layer };

struct NormedCase {
  const char* name;
  NormKind norm = NormKind::rms;
  StoredType type = StoredType::f32;
  int64_t width = 96;  // of a row: three turns of the sum; 70 leave some over, and 33 are loaded one by one
  bool gated = false;
};

const NormedCase kNormedCases[] = {
    {.name = "rms"},
    {.name = "rms, q8_0, a gated pair", .type = StoredType::q8_0, .gated = true},
    {.name = "rms, q4_0", .type = StoredType::q4_0, .width = 64},
    {.name = "layer norm", .norm = NormKind::layer, .width = 70},
    {.name = "layer norm of an odd width, a gated pair", .norm = NormKind::layer, .width = 33, .gated = true},
};

// Rows of the product of normalised x and 40 rows of weights.
Program normed_product(const NormedCase& c, const ParameterStore& store, int64_t rows) {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  Parameters parameters(graph, store);
  const Value x = graph.parameter("x", f32({1, rows, c.width})), scale = graph.parameter("scale", f32({c.width}));
  const Value normed =
      c.norm == NormKind::rms ? rms_norm(x, scale) : layer_norm(x, scale, graph.parameter("shift", f32({c.width})));
  const Value y = linear(normed, parameters.get("w"));
  program.outputs = {{"y", c.gated ? swiglu(linear(normed, parameters.get("gate")), y) : y}};
  return program;
}

HostTensor first_rows(const HostTensor& tensor, int64_t count) {
  Shape shape = tensor.type.shape;
  const int64_t each = element_count(shape) / shape[1];
  shape[1] = count;
  return HostTensor({tensor.type.dtype, shape}, {tensor.values.begin(), tensor.values.begin() + count * each});
}

// CPU drivers compile accesses through descriptors, and barriers, for many seconds a kernel.
bool compiles_fast(const Target& target) {
  return target.addressing == Addressing::address && target.matmul_variant() == MatmulVariant::lane_broadcast;
}

size_t reductions(const Plan& plan) {
  return size_t(std::count_if(plan.kernels.begin(), plan.kernels.end(),
                              [](const Kernel& kernel) { return kernel.archetype == Archetype::reduce; }));
}

}  // namespace

TEST_CASE("a few rows are normalised in the product's kernel, to the bits of a kernel of their own", "[device][lane]") {
  SURTSEY_NEED_DEVICE();
  const Target& target = device.target();
  const bool joins = target.matmul_variant() == MatmulVariant::lane_broadcast &&
                     target.reduce_variant() == ReduceVariant::lane_per_row && target.max_bindings() >= 14;
  const bool every = compiles_fast(target);  // else one case, of one row
  for (const NormedCase& c : kNormedCases) {
    INFO(c.name);
    if (!every && &c != kNormedCases) break;
    if (c.type != StoredType::f32 && !target.f16_storage) continue;
    ParameterStore store;
    for (const char* name : {"w", "gate"}) store.add(name, {40, c.width}, Initialisation::normal(1));
    store.freeze([](const ParameterSpec&) { return true; }, hub::storage_of(c.type));
    State state = store.initialise_frozen(1);
    state["scale"] = HostTensor::random(f32({c.width}), .5, 1.5, 2);
    state["shift"] = HostTensor::random(f32({c.width}), -1, 1, 3);
    const HostTensor x = HostTensor::random(f32({1, 9, c.width}), -1, 1, 4);
    state["x"] = x;
    const Program whole = normed_product(c, store, 9);
    CHECK(reductions(compile(whole, target)) == 1);
    const HostTensor all = tests::run_compiled(device, target, whole, state, {}).at("y");
    State scratch = state;
    CHECK(tests::compare(all, interpret(whole, scratch).at("y"), {1e-4, 1e-4}) == "");
    for (const int64_t rows : {1, 3, 8}) {
      INFO(rows << " rows");
      if (!every && rows > 1) break;
      const Program program = normed_product(c, store, rows);
      // A pair of products of more rows is two kernels, and both read what the first would add up.
      if (joins && rows <= target.subgroup_size && (!c.gated || rows <= 4))
        CHECK(reductions(compile(program, target)) == 0);
      state["x"] = first_rows(x, rows);
      const HostTensor found = tests::run_compiled(device, target, program, state, {}).at("y");
      // Where products of more rows have tiles of shared memory these are summed in another order.
      if (target.reduce_variant() == ReduceVariant::lane_per_row &&
          target.matmul_variant() == MatmulVariant::lane_broadcast) {
        CHECK(found.values == first_rows(all, rows).values);
      } else {
        CHECK(tests::compare(found, first_rows(all, rows), {1e-4, 1e-4}) == "");
      }
    }
  }
}

namespace {

// A token's queries and keys turned by its position, its key and value into the caches, and its attention.
struct TurnedCase {
  const char* name;
  int64_t heads = 6, key_heads = 2, width = 8, position = 5;
  DType cache = DType::f32;
  bool read_elsewhere = false;
  size_t dispatches = 2;  // where a kernel may touch so many tensors
};

const TurnedCase kTurnedCases[] = {
    {.name = "as they are"},
    {.name = "in f16", .width = 12, .position = 0, .cache = DType::f16},
    {.name = "a head of keys each", .heads = 3, .key_heads = 3, .width = 10},
    {.name = "read elsewhere too: a kernel stores them", .read_elsewhere = true, .dispatches = 4},
};

Program turned(const TurnedCase& c, State& state) {
  constexpr int64_t kLength = 20;
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  uint32_t seed = 1;
  const auto tensor = [&](const char* name, Type type) {
    state[name] = HostTensor::random(type, -1, 1, seed++);
    state[name].round_to_storage();
    return graph.parameter(name, type);
  };
  const int64_t all = c.heads + c.key_heads, half = c.width / 2;
  const Value position = tensor("position", {DType::u32, {}});
  state["position"].values[0] = double(c.position);
  const auto row = [&](const char* name) {
    return reshape(gather(tensor(name, f32({kLength, half})), reshape(position, {1})), {1, 1, half});
  };
  const Value qkv = tensor("qkv", f32({1, 1, all + c.key_heads, c.width}));
  const Value cos = row("cos"), sin = row("sin");
  const Value qk = rotary(slice(qkv, 2, 0, all), cos, sin);
  const auto by_head = [](Value x) { return permute(x, {0, 2, 1, 3}); };
  const auto kept = [&](const char* name, Value x) {
    const Value cache = tensor(name, {c.cache, {1, c.key_heads, kLength, c.width}});
    const Value whole = slice_update(cache, c.cache == DType::f32 ? x : cast(x, c.cache), position, 2);
    graph.assign(cache, whole);
    return c.cache == DType::f32 ? whole : cast(whole, DType::f32);
  };
  const Value k = kept("key", by_head(slice(qk, 2, c.heads, all))),
              v = kept("value", by_head(slice(qkv, 2, all, all + c.key_heads)));
  AttentionOptions options;
  options.causal = true;
  options.position = position;
  const Value q = by_head(slice(qk, 2, 0, c.heads));
  program.outputs = {{"out", scaled_dot_product_attention(q, k, v, options).out}};
  if (c.read_elsewhere) program.outputs.emplace_back("qk", qk * 2.0);
  return program;
}

}  // namespace

TEST_CASE("a token's rotary queries and keys are computed where they are read", "[device][lane][attention]") {
  SURTSEY_NEED_DEVICE();
  const Target& target = device.target();
  const bool claims = target.cpu && target.can_broadcast() && target.max_bindings() >= 14;
  Target apart = target;
  apart.attention = AttentionVariant::expanded;
  for (const TurnedCase& c : kTurnedCases) {
    INFO(c.name);
    if (!compiles_fast(target) && &c != kTurnedCases) break;
    if (c.cache != DType::f32 && !target.f16_storage) continue;
    State state;
    const Program program = turned(c, state);
    if (claims) CHECK(compile(program, target).dispatches.size() == c.dispatches);
    State expected = state;
    const auto reference = interpret(program, expected);
    const auto found = tests::run_on_device(device, target, program, state);
    const auto stored = tests::run_on_device(device, apart, program, state);
    for (const auto& [name, value] : reference) {
      INFO(name);
      CHECK(tests::compare(found.at(name), value, {2e-5, 1e-5}) == "");
      if (target.matmul_variant() == MatmulVariant::lane_broadcast)
        CHECK(found.at(name).values == stored.at(name).values);
    }
    for (const char* name : {"key", "value"}) {
      INFO(name);
      const double rounding = c.cache == DType::f16 ? 1e-3 : 1e-6;
      CHECK(tests::compare(found.at(fmt::format("state {}", name)), expected.at(name), {rounding, rounding}) == "");
    }
  }
}
