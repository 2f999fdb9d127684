// The doors of a model: matrices that are frozen, kept in other formats, or changed by a hook; what they cost, and that
// the rest trains as before.
#include "tests/support/device_suite.h"

#include "experiments/models/model.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "graph/interpret.h"
#include "graph/optimizer.h"
#include "graph/rewrite.h"
#include "graph/text.h"
#include "graph/vectorize.h"

#include <catch2/catch_approx.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Approx;

namespace {

constexpr int64_t kFrozenBatch = 3;

ModelConfig frozen_config() {
  ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 16;
  config.block_size = 9;
  config.vocab_size = 7;
  return config;
}

// One training step on tokens and targets that are state.
Program training_step(const Model& model, const OptimizerConfig& optimizer, int64_t batch = kFrozenBatch) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  const Type rows{DType::u32, {batch, model.config().block_size}};
  const Value logits = model.logits(parameters, program.graph->parameter("tokens", rows));
  const Value loss = cross_entropy(logits, program.graph->parameter("targets", rows)).mean;
  optimize(parameters, parameters.flat_gradient(loss), loss, optimizer);
  program.outputs = {{"loss", loss}};
  return program;
}

// Where a run starts: what is frozen from one seed, the rest and the data from another.
State start(const Model& model, const OptimizerConfig& optimizer, uint32_t base, uint32_t seed,
            int64_t batch = kFrozenBatch) {
  State state = initial_optimizer_state(model.store(), optimizer, 0.02 + 0.01 * seed);
  state["learning_rate"].round_to_storage();
  state[kParameters] = model.store().initialise(seed);
  state.merge(model.store().initialise_frozen(base));
  state.merge(model.constants());
  const Type rows{DType::u32, {batch, model.config().block_size}};
  for (const char* name : {"tokens", "targets"}) {
    state[name] = HostTensor::random(rows, 0, double(model.config().vocab_size), seed + uint32_t(name[1]));
  }
  return state;
}

OptimizerConfig frozen_optimizer() {
  OptimizerConfig optimizer;
  optimizer.clip_norm = 0;  // else what else trains would scale the step
  optimizer.metrics_rows = 4;
  return optimizer;
}

auto all_but(const std::string& name) {
  return [name](const ParameterSpec& spec) { return spec.name != name; };
}

// Runs steps on the device and returns the state after them.
State train_on(engine::Device& device, const Program& program, const State& from, uint32_t steps) {
  engine::Session session(device, {.quiet = true});
  const engine::SessionProgram train = session.add_program("train", program);
  session.allocate();
  for (const auto& [name, tensor] : from) {
    if (session.has_state(name)) session.write(name, tensor);
  }
  train.run(steps);
  State state;
  for (const std::string& name : session.state_names()) state[name] = session.read(name);
  return state;
}

struct Cost {
  uint64_t flops = 0;
  int backward_products = 0;
  int mix = 0;  // backward kernels of attention in the first block
  std::map<std::string, Type> state;
};

Cost cost_of(const Model& model, const char* target) {
  const Plan plan = compile(training_step(model, {}, 4), target_preset(target));
  Cost cost;
  cost.flops = plan.flops;
  for (const Buffer& buffer : plan.buffers) {
    if (buffer.kind == BufferKind::state) cost.state[buffer.name] = buffer.type;
  }
  for (const Dispatch& dispatch : plan.dispatches) {
    const Kernel& kernel = plan.kernels[dispatch.kernel];
    if (dispatch.phase != Phase::backward) continue;
    if (kernel.archetype == Archetype::matmul) ++cost.backward_products;
    if (dispatch.scope.starts_with("blocks.0.attention.mix")) ++cost.mix;
  }
  return cost;
}

ModelConfig wide() {
  ModelConfig config;
  config.n_layer = 4;
  config.n_head = 4;
  config.n_embd = 128;
  config.block_size = 64;
  config.vocab_size = 96;
  return config;
}

}  // namespace

TEST_CASE("a step that trains one matrix pays for the way to it and for nothing else", "[frozen]") {
  const Model full(wide());
  for (const char* target : {"lavapipe", "nvidia"}) {
    const Cost whole = cost_of(full, target);
    CHECK(whole.state.at("adam.m").shape == Shape{full.store().flat_size()});
    for (const char* part : {"attention.q", "attention.k", "attention.v", "attention.out", "mlp.up", "mlp.down"}) {
      for (const int block : {3, 0}) {
        const std::string name = fmt::format("blocks.{}.{}.weight", block, part);
        Model model(wide());
        model.store().freeze(all_but(name));
        const Cost cost = cost_of(model, target);
        const double share = double(cost.flops) / double(whole.flops);
        UNSCOPED_INFO(fmt::format("{} {}: {:.3f} of the FLOPs of the full step", target, name, share));
        CHECK(share <= (block == 3 ? 0.45 : 0.7));
        // State of this matrix's size, and of no other's: every other parameter is read only.
        const Shape own = {element_count(model.store().spec(name).shape)};
        int optimizer_tensors = 0;
        for (const auto& [state, type] : cost.state) {
          if (state == kParameters || state.starts_with("adam.") || state == "gradient_accumulator") {
            CHECK((type.shape == own || state == "adam.ones"));
            ++optimizer_tensors;
          }
        }
        CHECK(optimizer_tensors == 4);  // parameters, m, v, ones
        if (std::string(part) == "mlp.down" && block == 3) CHECK(cost.backward_products == 2);  // head, weight
        // The gradient of the keys and the values is nobody's business.
        if (std::string(part) == "attention.q" && block == 0) CHECK((cost.mix > 0 && cost.mix < whole.mix));
        if (std::string(part) == "mlp.up" && block == 0) CHECK(cost.mix == 0);
      }
    }
  }
}

TEST_CASE("frozen tensors are read in their own allocation and their own type", "[frozen]") {
  Model model(wide());
  model.store().freeze([](const ParameterSpec& spec) { return spec.shape.size() == 2; }, whole(DType::f16));
  const Plan plan = compile(training_step(model, {}, 4), target_preset("nvidia"));
  int64_t frozen = 0;
  for (const Buffer& buffer : plan.buffers) {
    if (!buffer.name.starts_with(kFrozen)) continue;
    CHECK(buffer.kind == BufferKind::state);
    CHECK(buffer.type.dtype == DType::f16);
    CHECK(buffer.bytes == uint64_t(2 * element_count(buffer.type.shape)));
    ++frozen;
  }
  CHECK(frozen == 4 * 6 + 3);  // and both embeddings and the head
  // No f32 copy of a matrix is made: products read what is stored.
  for (const Buffer& buffer : plan.buffers) {
    if (buffer.kind == BufferKind::transient) CHECK(buffer.type.shape != Shape{512, 128});
  }
}

TEST_CASE("a hook is asked at every matrix, and one that leaves them all changes nothing", "[frozen]") {
  const auto names_of = [](const ModelConfig& config) {
    Model model(config);
    std::set<std::string> names;
    model.on_projection([&](const Projection& p) {
      names.insert(p.name + "<" + p.weight + (p.bias.empty() ? "" : "+"));
      return Value{};
    });
    const std::string hooked = print(training_step(model, {}));
    CHECK(hooked == print(training_step(Model(config), {})));
    return names;
  };
  ModelConfig config = frozen_config();
  config.n_layer = 1;
  CHECK(names_of(config) == std::set<std::string>{"blocks.0.attention.q<blocks.0.attention.q.weight+",
                                                  "blocks.0.attention.k<blocks.0.attention.k.weight+",
                                                  "blocks.0.attention.v<blocks.0.attention.v.weight+",
                                                  "blocks.0.attention.out<blocks.0.attention.out.weight+",
                                                  "blocks.0.mlp.up<blocks.0.mlp.up.weight+",
                                                  "blocks.0.mlp.down<blocks.0.mlp.down.weight+", "head<head.weight"});
  config.bias = false;
  config.tied = true;
  config.activation = Activation::swiglu;
  const std::set<std::string> gated = names_of(config);
  CHECK(gated.size() == 8);
  CHECK(gated.contains("blocks.0.mlp.gate<blocks.0.mlp.gate.weight"));
  CHECK(gated.contains("head<embed.token"));
}

TEST_CASE("products of q, k and v fall apart where one is frozen, hooked or kept otherwise, to the same values",
          "[frozen]") {
  ModelConfig configs[] = {frozen_config(), frozen_config(), frozen_config()};
  configs[1].position = Position::rotary;
  configs[1].n_kv_head = 1;
  configs[1].activation = Activation::swiglu;
  configs[2].head_dim = 6;  // not C / H
  configs[2].bias = false;
  for (const ModelConfig& config : configs) {
    const Model plain(config);
    State state = start(plain, frozen_optimizer(), 1, 1);
    const HostTensor loss = interpret(training_step(plain, frozen_optimizer()), state).at("loss");
    const auto loss_of = [&](const Model& model) {
      State own = start(model, frozen_optimizer(), 1, 1);
      return interpret(training_step(model, frozen_optimizer()), own).at("loss").values[0];
    };
    for (const char* part : {"q", "k", "v", "up", "gate"}) {
      CAPTURE(to_json(config).dump(), part);
      Model frozen(config);
      frozen.store().freeze(
          [&](const ParameterSpec& spec) { return spec.name.ends_with(fmt::format(".{}.weight", part)); });
      CHECK(loss_of(frozen) == Approx(loss.values[0]).epsilon(1e-9));
      Model hooked(config);
      hooked.on_projection([&](const Projection& p) { return p.name.ends_with(part) ? p.plain() : Value{}; });
      CHECK(loss_of(hooked) == Approx(loss.values[0]).epsilon(1e-9));
      Model biases(config);
      biases.store().freeze(
          [&](const ParameterSpec& spec) { return spec.name.ends_with(fmt::format(".{}.bias", part)); });
      CHECK(loss_of(biases) == Approx(loss.values[0]).epsilon(1e-9));
    }
  }
}

TEST_CASE("an adapter is one function: low rank beside a frozen model", "[frozen]") {
  const ModelConfig config = frozen_config();
  const Model plain(config);
  Model model(config);
  model.store().freeze([](const ParameterSpec&) { return true; });
  for (int64_t i = 0; i < config.n_layer; ++i) {
    const std::string name = fmt::format("blocks.{}.mlp.down", i);
    model.store().add(name + ".low_rank.down", {2, 64}, Initialisation::normal(0.5));
    model.store().add(name + ".low_rank.up", {16, 2}, Initialisation::constant(0));
  }
  model.on_projection([](const Projection& p) -> Value {
    if (!p.parameters.store().contains(p.name + ".low_rank.up")) return {};
    const Value inner = linear(p.x, p.parameters.get(p.name + ".low_rank.down"));
    return p.plain() + linear(inner, p.parameters.get(p.name + ".low_rank.up"));
  });
  // Asked before it, and it sees what the first one makes: here nothing but a factor of 1.
  model.on_projection([](const Projection& p) { return p.name == "head" ? p.plain() * 1.0 : Value{}; });
  CHECK(model.store().flat_size() == 2 * (2 * 64 + 16 * 2));

  const OptimizerConfig optimizer = frozen_optimizer();
  State whole = start(plain, optimizer, 1, 1);
  State adapted = start(model, optimizer, 1, 1);
  const Program step = training_step(model, optimizer);
  const double before = interpret(training_step(plain, optimizer), whole).at("loss").values[0];
  CHECK(interpret(step, adapted).at("loss").values[0] == Approx(before).epsilon(1e-9));
  double loss = before;
  for (int i = 0; i < 20; ++i) loss = interpret(step, adapted).at("loss").values[0];
  CHECK(loss < before - 0.05);
  for (const auto& [name, tensor] : model.store().initialise_frozen(1)) CHECK(adapted.at(name).values == tensor.values);
}

TEST_CASE("a model of frozen parts trains on the device as the interpreter does, and as one with no rate elsewhere",
          "[device][frozen]") {
  SURTSEY_NEED_DEVICE();
  constexpr uint32_t kSteps = 6;
  const OptimizerConfig optimizer = frozen_optimizer();
  for (const std::string name : {"blocks.0.attention.k.weight", "blocks.1.mlp.down.weight", "embed.token"}) {
    CAPTURE(name);
    Model model(frozen_config());
    model.store().freeze(all_but(name));
    const Program step = training_step(model, optimizer);
    const State from = start(model, optimizer, 1, 1);
    State expected = from;
    for (uint32_t i = 0; i < kSteps; ++i) interpret(step, expected);
    const State found = train_on(device, step, from, kSteps);

    Model rates(frozen_config());
    rates.store().for_each([&](ParameterSpec& spec) { spec.learning_rate_multiplier = spec.name == name ? 1 : 0; });
    const State full = train_on(device, training_step(rates, optimizer), start(rates, optimizer, 1, 1), kSteps);
    const ParameterSpec& spec = rates.store().spec(name);
    double moved = 0;
    for (size_t i = 0; i < size_t(element_count(spec.shape)); ++i) {
      const double value = found.at(kParameters).values[i];
      CHECK(value == Approx(expected.at(kParameters).values[i]).epsilon(1e-3).margin(2e-4));
      CHECK(value == Approx(full.at(kParameters).values[size_t(spec.offset) + i]).epsilon(1e-3).margin(2e-4));
      moved = std::max(moved, std::abs(value - from.at(kParameters).values[i]));
    }
    CHECK(moved > 0.05);
    for (const auto& [frozen, tensor] : model.store().initialise_frozen(1)) {
      if (found.contains(frozen)) CHECK(found.at(frozen).values == tensor.values);
    }
  }
}

TEST_CASE("members over one frozen base train to the bits of each alone", "[device][frozen]") {
  SURTSEY_NEED_DEVICE();
  constexpr uint32_t kSteps = 5;
  constexpr size_t kMembers = 3;
  // With 2 heads as many as a subgroup has lanes at most: with fewer, attention on a CPU puts its lanes along the heads
  // or along the rows by how many there are of all members, and adds up in another order.
  constexpr int64_t kSequences = 8;
  const OptimizerConfig optimizer = frozen_optimizer();
  std::vector<DType> dtypes = {DType::f32};
  if (device.target().f16_storage) dtypes.insert(dtypes.end(), {DType::f16, DType::bf16});
  for (const DType dtype : dtypes) {
    CAPTURE(graph::name(dtype));
    Model model(frozen_config());
    model.store().freeze([](const ParameterSpec& spec) { return spec.name.find("mlp.up") == std::string::npos; },
                         whole(dtype));
    const Program step = training_step(model, optimizer, kSequences);
    std::set<std::string> own = per_member_state();
    own.insert({"tokens", "targets"});
    const Program many = vectorize(step, kMembers, own);
    std::vector<State> single;
    for (uint32_t e = 0; e < kMembers; ++e) single.push_back(start(model, optimizer, 9, e, kSequences));
    State all = single[0];
    for (auto& [name, tensor] : all) {
      const bool shared = name == "step" || name.starts_with(kFrozen) || name.starts_with("constants.");
      if (shared) continue;
      tensor.type.shape.insert(tensor.type.shape.begin(), kMembers);
      for (size_t e = 1; e < kMembers; ++e) {
        const std::vector<double>& more = single[e].at(name).values;
        tensor.values.insert(tensor.values.end(), more.begin(), more.end());
      }
    }
    const State together = train_on(device, many, all, kSteps);
    CHECK(together.at("frozen.head.weight").type == Type{dtype, {7, 16}});  // one copy
    const size_t size = size_t(model.store().flat_size());
    for (uint32_t e = 0; e < kMembers; ++e) {
      const State alone = train_on(device, step, single[e], kSteps);
      const auto first = together.at(kParameters).values.begin() + std::ptrdiff_t(e * size);
      CHECK(std::vector<double>(first, first + std::ptrdiff_t(size)) == alone.at(kParameters).values);
      // And what was computed in 16-bit weights is what the interpreter makes of them.
      State expected = single[e];
      for (uint32_t i = 0; i < kSteps; ++i) interpret(step, expected);
      for (size_t i = 0; i < size; ++i) {
        CHECK(alone.at(kParameters).values[i] == Approx(expected.at(kParameters).values[i]).epsilon(1e-3).margin(2e-4));
      }
    }
  }
}
