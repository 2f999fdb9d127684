// 16-bit storage: what lower_precision picks and saves, how it rounds, loss scaling, training. (The op suite under it:
// test_device_ops.cpp.)
#include "tests/support/device_suite.h"

#include "experiments/tasks/chain.h"
#include "experiments/train/train.h"
#include "graph/compile.h"
#include "graph/text.h"
#include "tests/support/plan_checks.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>

#include <cmath>
#include <limits>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

constexpr DType kNarrow[] = {DType::f16, DType::bf16};

struct Step {
  std::string name;
  int64_t parameters;
  Program program;
};

Step decoder_step(std::string name, const experiments::ModelConfig& config, int64_t batch, size_t members = 1,
                  DType dtype = DType::f32) {
  const experiments::Model model(config);
  experiments::TrainConfig train;
  train.batch_size = int32_t(batch);
  train.members.clear();
  for (uint32_t e = 0; e < members; ++e) train.members.push_back({.seed = e});
  train.optimizer = experiments::recipe_optimizer(600);
  train.dtype = dtype;
  return {std::move(name), model.store().flat_size(), experiments::train_step(model, train)};
}

// The model of study chain_of_thought at width 16.
experiments::ModelConfig e01_model() { return experiments::recipe_config(2, 16, 14, 18); }

experiments::ModelConfig tiny_model() {
  experiments::ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 16;
  config.block_size = 12;
  config.vocab_size = 11;
  return config;
}

// Bytes of transients that are neither flat, like the gradient and the copy of the weights, nor scalars.
uint64_t activation_bytes(const Plan& plan, const Step& step) {
  uint64_t bytes = 0;
  for (const Buffer& buffer : plan.buffers)
    if (buffer.kind == BufferKind::transient && element_count(buffer.type.shape) % step.parameters != 0)
      bytes += buffer.bytes;
  return bytes;
}

}  // namespace

TEST_CASE("16-bit storage halves the bytes of activations", "[plan][precision]") {
  experiments::ModelConfig large = tiny_model();
  large.n_layer = 6;
  large.n_embd = 384;
  large.n_head = 6;
  large.block_size = 256;
  large.vocab_size = 65;
  const Step steps[] = {decoder_step("e01", e01_model(), 192), decoder_step("e01, 3 members", e01_model(), 192, 3),
                        decoder_step("10.8M", large, 8)};
  for (const Step& step : steps) {
    const Target target = target_preset("lavapipe");
    const Plan wide = compile(step.program, target);
    for (const DType dtype : kNarrow) {
      INFO(step.name << " " << name(dtype));
      const Plan narrow = compile(step.program, target, {.storage = dtype});
      CHECK(double(activation_bytes(narrow, step)) <= 0.55 * double(activation_bytes(wide, step)));
      CHECK(narrow.transient_bytes < wide.transient_bytes * 3 / 4);
      CHECK(narrow.bytes < wide.bytes * 3 / 4);
      // One kernel more: the weights' copy. Everything else is as it was.
      CHECK(narrow.dispatches.size() == wide.dispatches.size() + 1);
      CHECK(uncovered_hazards(narrow).empty());
      CHECK_NOTHROW(verify(narrow));
    }
  }
}

TEST_CASE("lower_precision: activations and weights' copies are narrow, the rest stays f32", "[plan][precision]") {
  for (const DType dtype : kNarrow) {
    const Step step = decoder_step("tiny", tiny_model(), 3);
    const Plan plan = compile(step.program, target_preset("lavapipe"), {.storage = dtype});
    const Graph& graph = *plan.program.graph;
    size_t copies = 0, from_copy = 0, masters = 0;
    for (const Kernel& kernel : plan.kernels) {
      for (const KernelOperand& output : kernel.outputs) {
        const Buffer& buffer = plan.buffers[output.view.buffer];
        INFO(kernel.name << " writes " << buffer.name << " " << to_string(buffer.type));
        CHECK(output.view.dtype == buffer.type.dtype);
        if (buffer.kind != BufferKind::transient) CHECK(output.view.dtype == output.value.dtype());
        if (definition(graph.node(output.value).op).family == Family::reduce)
          CHECK(output.view.dtype == output.value.dtype());
        if (output.view.dtype != dtype) continue;
        CHECK(output.value.dtype() == DType::f32);
        copies += graph.node(output.value).op == Op::parameter;
      }
      for (const KernelOperand& input : kernel.inputs) {
        const Buffer& buffer = plan.buffers[input.view.buffer];
        const bool copy = buffer.name == kParameters && buffer.kind == BufferKind::transient;
        from_copy += copy;
        masters += buffer.name == kParameters && !copy;
        if (copy) CHECK(kernel.archetype == Archetype::matmul);
      }
    }
    CHECK(copies == 1);
    CHECK(from_copy >= 2 * 4 * 2 + 1);  // each weight forward and backward
    CHECK(masters > 3);                 // the optimizer, the embedding, the gains, the copy itself
  }
}

TEST_CASE("lower_precision: what an update reads keeps its precision", "[plan][precision]") {
  // The new weights are the epilogue of a matmul that reads the same weights as an operand.
  const Program program = parse(
      "%0 = parameter \"w\" : f32[16,16]\n%1 = parameter \"x\" : f32[16,16]\n"
      "%2 = matmul %0 %1 : f32[16,16]\n%3 = exp %2 : f32[16,16]\n%4 = matmul %0 %3 : f32[16,16]\n"
      "%5 = add %4 %0 : f32[16,16]\nassign %0 %5\noutput \"y\" %3\n");
  const Plan plan = compile(program, target_preset("lavapipe"), {.storage = DType::bf16});
  size_t updates = 0;
  for (const Kernel& kernel : plan.kernels)
    for (const KernelOperand& output : kernel.outputs) {
      if (plan.buffers[output.view.buffer].kind != BufferKind::state) continue;
      ++updates;
      for (const KernelOperand& input : kernel.inputs)
        if (input.value.shape() == Shape{16, 16} && plan.buffers[input.view.buffer].name == "w")
          CHECK(input.view.dtype == DType::f32);
    }
  CHECK(updates == 1);
  CHECK(Memory(plan).run() == "");
}

TEST_CASE("lower_precision: masks that are read keep f32 in f16, masks of the index do not", "[plan][precision]") {
  const auto narrow_scores = [](const char* condition, DType dtype) {
    const Program program =
        parse(fmt::format("%0 = parameter \"x\" : f32[64,64]\n%1 = parameter \"mask\" : bool[64,64]\n%2 = iota axis=0 "
                          ": i32[64,64]\n%3 = iota axis=1 : i32[64,64]\n"
                          "%4 = less %3 %2 : bool[64,64]\n%5 = matmul %0 %0 : f32[64,64]\n%6 = constant -1e+30 : "
                          "f32[64,64]\n%7 = select {} %5 %6 : f32[64,64]\n"
                          "%8 = exp %7 : f32[64,64]\n%9 = reduce_max %7 axes=[1] : f32[64,1]\n%10 = matmul %8 %0 : "
                          "f32[64,64]\noutput \"y\" %10\noutput \"m\" %9\n",
                          condition));
    const Plan plan = compile(program, target_preset("lavapipe"), {.storage = dtype});
    size_t narrow = 0;
    for (const Kernel& kernel : plan.kernels)
      for (const KernelOperand& output : kernel.outputs)
        narrow += output.view.dtype == dtype && plan.program.graph->node(output.value).op == Op::select;
    return narrow;
  };
  CHECK(narrow_scores("%4", DType::f16) == 1);
  CHECK(narrow_scores("%1", DType::f16) == 0);
  CHECK(narrow_scores("%1", DType::bf16) == 1);
}

TEST_CASE("a device without 16-bit storage says so", "[plan][precision]") {
  const Step step = decoder_step("tiny", tiny_model(), 3);
  for (const DType dtype : kNarrow)
    CHECK_THROWS_MATCHES(
        compile(step.program, target_preset("swiftshader"), {.storage = dtype}), UserError,
        MessageMatches(ContainsSubstring("swiftshader has no 16-bit storage") && ContainsSubstring("use dtype f32")));
  CHECK_THROWS_MATCHES(compile(step.program, target_preset("lavapipe"), {.storage = DType::i32}), UserError,
                       MessageMatches(ContainsSubstring("i32 stores no activations")));
}

TEST_CASE("stores round to the nearest, ties to even", "[device][precision]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("the device has no 16-bit storage");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<double> values = {0,       -0.0,      1,         1.0 / 3,  -1.0 / 3, 2049,         2051,      -2049,
                                65504,   65519,     65520,     -70000,   3e38,     1e-5,         6.2e-5,    0x1p-24,
                                0x1p-25, 0x1.8p-25, 0x1p-26,   257,      259,      0x1p-126,     kInfinity, -kInfinity,
                                NAN,     0x1.004p0, 0x1.00cp0, 0x1.01p0, 0x1.03p0, 0x1.010002p0, -1e30};
  while (values.size() % 8 != 0) values.push_back(0.1 * double(values.size()));
  const Type type{DType::f32, {int64_t(values.size()), 1}};
  Program program{std::make_shared<Graph>(), {}};
  const Value x = program.graph->parameter("x", type), one = program.graph->parameter("one", {DType::f32, {1, 1}});
  // Two matmuls read it, so it is stored; the products with 1 are exact.
  const Value stored = -x;
  program.outputs = {{"a", matmul(stored, one)}, {"b", matmul(stored, one * 2)}};
  State state = {{"x", HostTensor(type, values)}, {"one", HostTensor({DType::f32, {1, 1}}, {1})}};
  state["x"].round_to_storage();
  // In every variant: loads and stores are the same code in all of them.
  std::vector<std::pair<Variant, DType>> all;
  for (const Variant& variant : variants(device))
    for (const DType dtype : kNarrow) all.emplace_back(variant, dtype);
  for (const auto& [variant, dtype] : all) {
    INFO(variant.name << " " << name(dtype));
    Target target = variant.target;
    target.fusion = false;
    const auto results = run_compiled(device, target, program, state, {.storage = dtype});
    State scratch = state;
    const auto reference = interpret(as_stored(compile(program, target, {.storage = dtype})), scratch);
    for (size_t i = 0; i < values.size(); ++i) {
      INFO("x = " << state["x"].values[i]);
      const double expected = reference.at("a").values[i], got = results.at("a").values[i];
      if (std::isnan(expected)) {
        CHECK(std::isnan(got));
      } else if (dtype == DType::bf16 || device.target().cpu) {
        CHECK(got == expected);
      } else {
        CHECK((got == expected ||
               std::abs(got - expected) <= std::abs(expected) * 0x1p-10));  // Vulkan lets a driver truncate
      }
    }
  }
}

// ---- loss scaling ----

namespace {

// loss = sum(slope * p): the gradient is the slope times the loss scale.
struct Linear {
  Linear() { store.add("p", {4}, Initialisation::constant(1)); }

  Program program(const OptimizerConfig& config) const {
    Program result{std::make_shared<Graph>(), {}};
    Parameters parameters(*result.graph, store);
    const Value loss = sum(parameters.get("p") * result.graph->parameter("slope", {DType::f32, {4}}), {0}, false);
    optimize(parameters, parameters.flat_gradient(loss, gradient_coefficient(*result.graph, config)), loss, config);
    return result;
  }

  State state(const OptimizerConfig& config) const {
    State result = initial_optimizer_state(store, config, 0.1);
    result[kParameters] = store.initialise(0);
    result["slope"] = HostTensor({DType::f32, {4}}, {1, -2, 3, 0.5});
    return result;
  }

  ParameterStore store;
};

}  // namespace

TEST_CASE("loss scaling: halved where a step is skipped, doubled after enough that are not", "[precision]") {
  const Linear linear;
  OptimizerConfig config;
  config.loss_scaling = {.enabled = true, .initial = 1024, .growth_interval = 3, .largest = 4096};
  const Program program = linear.program(config);
  State state = linear.state(config);
  const auto step = [&](double slope) {
    state["slope"].values[0] = slope;
    interpret(program, state);
    return state["loss_scale"].values[0];
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> expected = {1024, 1024, 2048, 2048, 1024, 1024, 1024,
                                        2048, 2048, 2048, 4096, 4096, 4096, 4096};
  const std::vector<double> slopes = {1, 1, 1, 1, nan, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  for (size_t i = 0; i < slopes.size(); ++i) {
    INFO(i);
    CHECK(step(slopes[i]) == expected[i]);
  }
  CHECK(state["skipped"].values[0] == 1);
  for (int i = 0; i < 20; ++i) step(nan);
  CHECK(state["loss_scale"].values[0] == 1);  // never below
  CHECK(state["skipped"].values[0] == 21);

  for (const double initial : {0.5, 1000.0, 8192.0}) {
    OptimizerConfig wrong = config;
    wrong.loss_scaling.initial = initial;
    CHECK_THROWS_MATCHES(linear.program(wrong), UserError,
                         MessageMatches(ContainsSubstring("power of two from 1 to 4096")));
  }
}

TEST_CASE("loss scaling: the update is the one without", "[precision]") {
  const Linear linear;
  OptimizerConfig plain, scaled;
  scaled.loss_scaling.enabled = true;
  State a = linear.state(plain), b = linear.state(scaled);
  const Program without = linear.program(plain), with = linear.program(scaled);
  for (int i = 0; i < 5; ++i) interpret(without, a), interpret(with, b);
  for (const char* name : {kParameters, "adam.m", "adam.v", "metrics"}) {
    INFO(name);
    CHECK(a[name].values == b[name].values);
  }
}

TEST_CASE("f16 training finds its loss scale, for each member by itself", "[device][precision]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("the device has no 16-bit storage");
  experiments::tasks::ChainOptions options;
  options.modulus = 5;
  options.length = 3;
  options.held_out_share = 0;
  const experiments::tasks::ChainTask task(options);
  const experiments::Model model(experiments::recipe_config(2, 8, task.vocab_size(), task.block_size()));
  experiments::TrainConfig config;
  config.optimizer = experiments::recipe_optimizer(60);
  // Gradients of the head overflow f16 at first; the scale must come down by itself, and may then rise.
  config.optimizer.loss_scaling = {.initial = 0x1p24, .growth_interval = 8};
  config.members = {{1, 0.02}, {2, 0.02}, {3, 0.0}};
  config.batch_size = 24;
  config.steps = 60;
  config.dtype = DType::f16;
  engine::Session session(device, {.quiet = true});
  experiments::Trainer trainer(session, model, config, task);
  session.allocate();
  trainer.initialise();
  trainer.run();
  const auto scales = session.read_floats("loss_scale");
  const auto skipped = session.read_words("skipped");
  REQUIRE(scales.size() == 3);
  for (size_t e = 0; e < 3; ++e) {
    INFO(e);
    CHECK(skipped[e] > 0);
    CHECK(skipped[e] < 30);
    CHECK(scales[e] < 0x1p24f);
    CHECK(std::exp2(std::round(std::log2(scales[e]))) == scales[e]);
    for (const float loss : trainer.losses()[e]) CHECK(std::isfinite(loss));
  }
  CHECK(trainer.losses()[0].back() < 0.8f * trainer.losses()[0].front());
}
