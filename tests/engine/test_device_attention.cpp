// Attention claimed whole by a kernel: every form, in both variants, forward and gradients, against
// the double interpreter.
#include "tests/support/device_suite.h"

#include "graph/attention.h"
#include "graph/autodiff.h"
#include "graph/compile.h"
#include "graph/vectorize.h"
#include "shaders/emit.h"
#include "shaders/reflect.h"
#include "shaders/spirv.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;

namespace {

struct DeviceCase {
  const char* name;
  int64_t heads = 1, key_heads = 1, queries = 5, keys = 5, width = 3, value_width = 3;
  bool causal = false;
  int64_t window = 0;
  bool key_mask = false;
  int64_t texts = 0;      // > 0: so many keys each stand behind each other and do not see one another
  int64_t position = -1;  // -1: none is given
  double dropout = 0;
  int64_t members = 1;
  bool packed = false;         // q, k and v are heads inside one [B, T, 3C] tensor
  bool lse_gradient = true;    // the loss reads lse too
  bool head_per_lane = false;  // with lavapipe's 8 lanes or 16
  bool lane = false;           // runs on every lane of the tests
};

const DeviceCase kDeviceCases[] = {
    {.name = "odd", .heads = 3, .key_heads = 3, .queries = 7, .keys = 7, .width = 3, .value_width = 3, .lane = true},
    {.name = "causal",
     .heads = 2,
     .key_heads = 2,
     .queries = 19,
     .keys = 19,
     .width = 8,
     .value_width = 8,
     .causal = true,
     .packed = true,
     .lane = true},
    {.name = "whole tiles",
     .heads = 2,
     .key_heads = 2,
     .queries = 32,
     .keys = 32,
     .width = 16,
     .value_width = 16,
     .causal = true,
     .packed = true},
    {.name = "two rows a lane", .queries = 70, .keys = 70, .width = 8, .value_width = 8, .causal = true},
    {.name = "one query", .queries = 1, .keys = 9, .width = 4, .value_width = 4},
    {.name = "one key", .queries = 9, .keys = 1, .width = 4, .value_width = 4},
    {.name = "width 2, no lse",
     .queries = 11,
     .keys = 11,
     .width = 2,
     .value_width = 2,
     .causal = true,
     .lse_gradient = false},
    {.name = "width 64", .queries = 9, .keys = 9, .width = 64, .value_width = 64, .causal = true},
    {.name = "width 80", .queries = 9, .keys = 6, .width = 80, .value_width = 80},
    {.name = "width 256", .queries = 5, .keys = 5, .width = 256, .value_width = 256, .causal = true},
    {.name = "other width of values", .queries = 9, .keys = 10, .width = 5, .value_width = 70},
    {.name = "a head for each lane",
     .heads = 9,
     .key_heads = 9,
     .queries = 18,
     .keys = 18,
     .width = 8,
     .value_width = 8,
     .causal = true,
     .members = 2,
     .head_per_lane = true,
     .lane = true},
    {.name = "a head for each lane, masked keys",
     .heads = 9,
     .key_heads = 9,
     .queries = 5,
     .keys = 6,
     .width = 3,
     .value_width = 5,
     .key_mask = true,
     .dropout = 0.3,
     .head_per_lane = true},
    {.name = "a head for each lane, one query",
     .heads = 8,
     .key_heads = 8,
     .queries = 1,
     .keys = 9,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .position = 6,
     .head_per_lane = true},
    {.name = "a head for each lane, a window",
     .heads = 8,
     .key_heads = 8,
     .queries = 11,
     .keys = 11,
     .width = 2,
     .value_width = 2,
     .window = 3,
     .head_per_lane = true},
    {.name = "cross", .heads = 2, .key_heads = 2, .queries = 9, .keys = 23, .width = 4, .value_width = 4, .lane = true},
    {.name = "causal window", .queries = 40, .keys = 40, .width = 4, .value_width = 4, .causal = true, .window = 5},
    {.name = "bidirectional window", .queries = 41, .keys = 41, .width = 4, .value_width = 4, .window = 6},
    {.name = "window past the keys",
     .queries = 21,
     .keys = 6,
     .width = 4,
     .value_width = 4,
     .window = 3,
     .lse_gradient = false},
    {.name = "grouped",
     .heads = 6,
     .key_heads = 2,
     .queries = 9,
     .keys = 9,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .lane = true},
    {.name = "one key/value head", .heads = 3, .key_heads = 1, .queries = 6, .keys = 8, .width = 4, .value_width = 4},
    {.name = "padding",
     .heads = 2,
     .key_heads = 2,
     .queries = 6,
     .keys = 20,
     .width = 4,
     .value_width = 4,
     .key_mask = true,
     .lse_gradient = false,
     .lane = true},
    {.name = "causal padding",
     .queries = 20,
     .keys = 20,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .key_mask = true,
     .lse_gradient = false},
    {.name = "texts behind each other",
     .heads = 4,
     .key_heads = 2,
     .queries = 19,
     .keys = 19,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .texts = 6,
     .lane = true},
    {.name = "texts behind each other, a window, masked keys",
     .queries = 70,
     .keys = 70,
     .width = 8,
     .value_width = 8,
     .causal = true,
     .window = 9,
     .key_mask = true,
     .texts = 17,
     .lse_gradient = false},
    {.name = "texts behind each other, a head for each lane",
     .heads = 9,
     .key_heads = 9,
     .queries = 18,
     .keys = 18,
     .width = 8,
     .value_width = 8,
     .causal = true,
     .texts = 4,
     .dropout = 0.3,
     .members = 2,
     .head_per_lane = true},
    {.name = "cached",
     .heads = 2,
     .key_heads = 1,
     .queries = 3,
     .keys = 40,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .position = 17,
     .lane = true},
    {.name = "cached window",
     .queries = 9,
     .keys = 50,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .window = 7,
     .position = 30},
    {.name = "cached past the keys",
     .queries = 9,
     .keys = 12,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .window = 4,
     .position = 9,
     .lse_gradient = false},
    {.name = "dropout",
     .heads = 2,
     .key_heads = 2,
     .queries = 9,
     .keys = 9,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .dropout = 0.3,
     .lane = true},
    {.name = "grouped dropout",
     .heads = 4,
     .key_heads = 2,
     .queries = 7,
     .keys = 18,
     .width = 8,
     .value_width = 8,
     .dropout = 0.4},
    {.name = "ensemble",
     .heads = 2,
     .key_heads = 2,
     .queries = 9,
     .keys = 9,
     .width = 4,
     .value_width = 4,
     .causal = true,
     .dropout = 0.3,
     .members = 3,
     .packed = true,
     .lane = true},
    {.name = "ensemble of groups and padding",
     .heads = 4,
     .key_heads = 2,
     .queries = 9,
     .keys = 9,
     .width = 4,
     .value_width = 4,
     .key_mask = true,
     .position = 2,
     .members = 2,
     .lse_gradient = false},
};

constexpr int64_t kDecoderBatch = 2;
// CPU drivers run barriers as coroutines and take minutes to compile wide heads with them.
constexpr int64_t kWidestOnCpu = 4;

struct BuiltDecoder {
  Program program;
  State state;
};

BuiltDecoder build_case(const DeviceCase& c) {
  BuiltDecoder built{{std::make_shared<Graph>(), {}}, {}};
  Graph& graph = *built.program.graph;
  uint32_t seed = 1;
  const auto own = [&](const char* name) { return c.members > 1 && std::string(name) != "mask"; };
  const auto input = [&](const char* name, Type type, double low, double high) {
    Type stored = type;
    if (own(name)) stored.shape.insert(stored.shape.begin(), c.members);
    built.state[name] = HostTensor::random(stored, low, high, seed++);
    built.state[name].round_to_storage();
    return graph.parameter(name, type);
  };
  const auto floats = [&](const char* name, Shape shape) { return input(name, {DType::f32, std::move(shape)}, -2, 2); };
  Value q, k, v;
  std::vector<Value> wrt;
  if (c.packed) {
    const int64_t width = c.heads * c.width;
    const Value all = floats("qkv", {kDecoderBatch, c.queries, 3 * width});
    // The result of a matmul, as in a model: its kernel stores the heads.
    const Value mixed =
        matmul(reshape(all, {kDecoderBatch * c.queries, 3 * width}), floats("mix", {3 * width, 3 * width})) * 0.2;
    const Value heads = reshape(mixed, {kDecoderBatch, c.queries, 3 * c.heads, c.width});
    const auto part = [&](int64_t i) { return permute(slice(heads, 2, i * c.heads, (i + 1) * c.heads), {0, 2, 1, 3}); };
    q = part(0), k = part(1), v = part(2);
    wrt = {all};
  } else {
    q = floats("q", {kDecoderBatch, c.heads, c.queries, c.width});
    k = floats("k", {kDecoderBatch, c.key_heads, c.keys, c.width});
    v = floats("v", {kDecoderBatch, c.key_heads, c.keys, c.value_width});
    wrt = {q, k, v};
  }
  AttentionOptions options;
  options.causal = c.causal;
  options.window = c.window;
  if (c.position >= 0) {
    options.position = graph.parameter("position", {DType::u32, {}});
    built.state["position"] = HostTensor::scalar(DType::u32, double(c.position));
  }
  if (c.key_mask) {
    options.key_mask = graph.parameter("mask", {DType::boolean, {kDecoderBatch, c.keys}});
    HostTensor mask = HostTensor::zeros(options.key_mask.type());
    // The second row sees no key at all.
    for (int64_t j = 0; j < c.keys; ++j) mask.values[size_t(j)] = j % 3 != 1 && j < c.keys - 2;
    built.state["mask"] = mask;
  }
  if (c.texts > 0) {
    options.first_key = graph.parameter("first_key", {DType::u32, {kDecoderBatch, c.queries}});
    Shape shape = {kDecoderBatch, c.queries};
    if (c.members > 1) shape.insert(shape.begin(), c.members);
    HostTensor first = HostTensor::zeros({DType::u32, shape});
    // Each row, and each member's, has texts of another length.
    for (size_t at = 0; at < first.values.size(); ++at) {
      const int64_t row = int64_t(at) / c.queries, query = int64_t(at) % c.queries, length = c.texts + row;
      first.values[at] = double(query / length * length);
    }
    built.state["first_key"] = first;
  }
  if (c.dropout > 0) {
    options.dropout = c.dropout;
    options.seed = input("seed", {DType::u32, {}}, 0, 1000);
    options.step = graph.parameter("step", {DType::u32, {}});
    built.state["step"] = HostTensor::scalar(DType::u32, 7);
    options.stream = "probabilities";
  }
  const Attention attention = scaled_dot_product_attention(q, k, v, options);
  Value loss = sum(attention.out * floats("weights", attention.out.shape()), {0, 1, 2, 3}, false);
  if (c.lse_gradient) {
    loss = loss + sum(attention.lse * floats("lse_weights", attention.lse.shape()), {0, 1, 2, 3}, false);
    built.program.outputs.emplace_back("lse", attention.lse);
  }
  built.program.outputs.emplace_back("out", attention.out);
  const std::vector<Value> gradients = differentiate(loss, wrt);
  for (size_t i = 0; i < gradients.size(); ++i)
    built.program.outputs.emplace_back(fmt::format("gradient{}", i), gradients[i]);
  if (c.members > 1) {
    std::set<std::string> names;
    for (const auto& [name, value] : built.program.graph->parameters())
      if (own(name.c_str()) && name != "position" && name != "step") names.insert(name);
    built.program = vectorize(built.program, c.members, names);
  }
  return built;
}

void check_forms(engine::Device& device, AttentionVariant variant, bool lane) {
  Target target = device.target();
  target.attention = variant;
  for (const DeviceCase& c : kDeviceCases) {
    if (lane && !c.lane) continue;
    if (variant == AttentionVariant::shared_tile && target.cpu && std::max(c.width, c.value_width) > kWidestOnCpu)
      continue;
    INFO(c.name);
    const BuiltDecoder built = build_case(c);
    const Plan plan = compile(built.program, target);
    size_t claimed = 0;
    for (const Kernel& kernel : plan.kernels) claimed += kernel.archetype == Archetype::attention;
    // Operands, results and log-sum-exp are more than the least that a device may bind.
    CHECK(claimed == (target.max_bindings() >= 8 ? 3 : 0));
    State scratch = built.state;
    const auto reference = interpret(built.program, scratch);
    std::map<std::string, HostTensor> results;
    REQUIRE_NOTHROW(results = run_on_device(device, target, built.program, built.state));
    for (const auto& [name, expected] : reference) {
      INFO(name);
      CHECK(compare(results.at(name), expected, {2e-5, 1e-4}) == "");
    }
  }
}

}  // namespace

TEST_CASE("attention as kernels in the variant that suits the device", "[device][lane][attention]") {
  SURTSEY_NEED_DEVICE();
  check_forms(device,
              device.target().can_broadcast() ? AttentionVariant::lane_broadcast : AttentionVariant::shared_tile, true);
}

namespace {

// One query, as decoding has it: no gradient, and keys and values as they are kept.
struct OneQueryCase {
  const char* name;
  int64_t heads = 6, key_heads = 2, keys = 40, width = 8, value_width = 8;
  int64_t position = -1;
  int64_t window = 0;
  bool causal = true, key_mask = false, lse = false, f16 = false;
  int64_t members = 1;
};

const OneQueryCase kOneQueryCases[] = {
    {.name = "at the last key", .position = 39},
    {.name = "at the first key, with lse", .position = 0, .lse = true},
    {.name = "in the middle, in f16", .keys = 77, .position = 43, .f16 = true},
    {.name = "past the keys", .keys = 33, .position = 60},
    {.name = "a head of keys each, an odd width",
     .heads = 3,
     .key_heads = 3,
     .width = 5,
     .value_width = 7,
     .position = 9},
    {.name = "wide heads, in two passes", .heads = 8, .key_heads = 1, .width = 96, .value_width = 130, .position = 20},
    {.name = "a window", .position = 25, .window = 7},
    {.name = "cross, padded", .keys = 19, .causal = false, .key_mask = true, .lse = true},
    {.name = "cross, a window on both sides", .position = 12, .window = 5, .causal = false},
    {.name = "texts with positions of their own", .position = 11, .members = 3},
};

BuiltDecoder build_one_query(const OneQueryCase& c) {
  BuiltDecoder built{{std::make_shared<Graph>(), {}}, {}};
  Graph& graph = *built.program.graph;
  uint32_t seed = 1;
  const auto state = [&](const char* name, Type type) {
    Type stored = type;
    if (c.members > 1) stored.shape.insert(stored.shape.begin(), c.members);
    built.state[name] = HostTensor::random(stored, -2, 2, seed++);
    built.state[name].round_to_storage();
    return graph.parameter(name, type);
  };
  const auto kept = [&](const char* name, int64_t width) {
    const Value x = state(name, {c.f16 ? DType::f16 : DType::f32, {kDecoderBatch, c.key_heads, c.keys, width}});
    return c.f16 ? cast(x, DType::f32) : x;
  };
  const Value q = state("q", {DType::f32, {kDecoderBatch, 1, c.heads, c.width}});
  AttentionOptions options;
  options.causal = c.causal;
  options.window = c.window;
  if (c.position >= 0) {
    options.position = state("position", {DType::u32, {}});
    for (size_t i = 0; i < built.state["position"].values.size(); ++i)
      built.state["position"].values[i] = double(c.position + 7 * int64_t(i));
  }
  if (c.key_mask) {
    options.key_mask = state("mask", {DType::boolean, {kDecoderBatch, c.keys}});
    for (int64_t j = 0; j < kDecoderBatch * c.keys; ++j)
      built.state["mask"].values[size_t(j)] = j < c.keys && j % 3 != 1;  // the second row sees no key at all
  }
  const Attention attention =
      scaled_dot_product_attention(permute(q, {0, 2, 1, 3}), kept("k", c.width), kept("v", c.value_width), options);
  built.program.outputs.emplace_back("out", permute(attention.out, {0, 2, 1, 3}));
  if (c.lse) built.program.outputs.emplace_back("lse", attention.lse);
  if (c.members > 1) {
    std::set<std::string> names;
    for (const auto& [name, value] : built.program.graph->parameters()) names.insert(name);
    built.program = vectorize(built.program, c.members, names);
  }
  return built;
}

size_t attention_kernels(const Plan& plan) {
  return size_t(std::count_if(plan.kernels.begin(), plan.kernels.end(),
                              [](const Kernel& kernel) { return kernel.archetype == Archetype::attention; }));
}

}  // namespace

TEST_CASE("attention of one query is one kernel with the bits of its primitives", "[device][lane][attention]") {
  SURTSEY_NEED_DEVICE();
  Target target = device.target();
  Target expanded = target;
  expanded.attention = AttentionVariant::expanded;
  const bool claims = target.cpu && target.can_broadcast() && target.max_bindings() >= 14;
  for (const AttentionVariant variant : {AttentionVariant::one_query, AttentionVariant::automatic})
    for (const OneQueryCase& c : kOneQueryCases) {
      INFO(c.name);
      // Through descriptors a driver compiles each access for long.
      if (target.addressing == Addressing::descriptor &&
          (&c != kOneQueryCases || variant != AttentionVariant::one_query))
        break;
      if (c.f16 && !target.f16_storage) continue;
      target.attention = variant;
      const BuiltDecoder built = build_one_query(c);
      const Plan plan = compile(built.program, target);
      const bool fits = claims && c.heads / c.key_heads <= target.subgroup_size;
      if (fits) CHECK(plan.dispatches.size() == 1);
      if (claims) CHECK(attention_kernels(plan) == (fits ? 1 : 0));
      State scratch = built.state;
      const auto reference = interpret(built.program, scratch);
      const auto primitives = run_on_device(device, expanded, built.program, built.state);
      const auto results = run_on_device(device, target, built.program, built.state);
      for (const auto& [name, expected] : reference) {
        INFO(name);
        CHECK(compare(results.at(name), expected, {2e-5, 1e-4}) == "");
        if (claims) CHECK(results.at(name).values == primitives.at(name).values);
      }
    }
}

TEST_CASE("attention of one query takes what fits shared memory, and no training step", "[attention]") {
  Target target = target_preset("lavapipe");
  CHECK(attention_kernels(compile(build_one_query({.name = "short"}).program, target)) == 1);
  // Three heads' scores of 4 bytes.
  const int64_t most = target.shared_memory_bytes / 12;
  CHECK(attention_kernels(compile(build_one_query({.name = "fits", .keys = most - 64}).program, target)) == 1);
  CHECK(attention_kernels(compile(build_one_query({.name = "too long", .keys = most + 1}).program, target)) == 0);
  CHECK(attention_kernels(compile(build_one_query({.name = "one head", .heads = 1, .key_heads = 1}).program, target)) ==
        0);
  const DeviceCase trained = {.name = "trained", .heads = 2, .key_heads = 2, .queries = 1, .causal = true};
  CHECK(attention_kernels(compile(build_case(trained).program, target)) == 0);
}

TEST_CASE("every form of attention compiles for devices that are not here", "[attention]") {
  std::vector<shaders::Shader> shaders;
  for (const char* preset : {"lavapipe", "swiftshader", "intel", "nvidia", "amd", "mobile"}) {
    Target target = target_preset(preset);
    target.attention = target.cpu ? AttentionVariant::lane_broadcast : AttentionVariant::shared_tile;
    for (const DeviceCase& c : kDeviceCases) {
      const Plan plan = compile(build_case(c).program, target);
      for (const Kernel& kernel : plan.kernels) {
        if (kernel.archetype != Archetype::attention) continue;
        shaders.push_back(shaders::emit(kernel, *plan.program.graph, target));
        if (std::string(preset) == "lavapipe" && c.head_per_lane)
          CHECK(shaders.back().variant == std::string("head_per_lane"));
        CHECK(shaders.back().local_size <= target.max_workgroup_invocations);
      }
    }
  }
  REQUIRE(shaders.size() == 3 * 6 * std::size(kDeviceCases));
  const std::vector<shaders::Spirv> modules = shaders::compile_spirv(shaders, "");
  for (size_t i = 0; i < modules.size(); ++i) {
    INFO(shaders[i].name);
    REQUIRE_NOTHROW(shaders::check_reflection(shaders[i], shaders::reflect(modules[i]), true));
  }
}

TEST_CASE("attention as kernels in every form and variant", "[device][attention]") {
  SURTSEY_NEED_DEVICE();
  SECTION("shared tile") { check_forms(device, AttentionVariant::shared_tile, false); }
  SECTION("lane broadcast") {
    if (!device.target().can_broadcast()) SKIP("no subgroup broadcast");
    check_forms(device, AttentionVariant::lane_broadcast, false);
  }
}
