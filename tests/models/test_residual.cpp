// Residual streams and patches against PyTorch (golden/residual.safetensors), in the interpreter
// and on the device.
#include "tests/support/device_suite.h"

#include <nlohmann/json.hpp>
#include "experiments/formats/safetensors.h"
#include "experiments/models/residual.h"
#include "experiments/train/train_program.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using namespace surtsey::tests;

namespace {

constexpr int64_t kPatchDepth = 1, kPatchPosition = 3;  // of the file

struct Reference {
  Reference() {
    const std::string folder = SURTSEY_SOURCE_ROOT "/tests/golden/";
    const Safetensors file = read_safetensors(folder + "decoder_learned.safetensors");
    config = model_config_from_json(nlohmann::json::parse(file.metadata.at("config")));
    for (const auto& [name, tensor] : file.tensors) {
      if (name.starts_with("w.")) weights[name.substr(2)] = tensor;
    }
    tokens = file.tensors.at("tokens");
    expected = read_safetensors(folder + "residual.safetensors").tensors;
  }
  ModelConfig config;
  State weights;
  HostTensor tokens;
  State expected;  // r.* without a patch, p.* with it
};

// Outputs residual.0 .. residual.L and logits, with a patch.
Program patched_program(const Model& model, const Type& tokens) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  Residuals residuals(model);
  for (int64_t depth = 0; depth <= model.config().n_layer; ++depth) residuals.read(depth);
  residuals.patch();
  ForwardOptions options;
  options.residual = residuals.hook();
  const Value logits = model.logits(parameters, program.graph->parameter("tokens", tokens), options);
  program.outputs = residuals.outputs();
  program.outputs.emplace_back("logits", logits);
  return program;
}

void check_close(const HostTensor& actual, const HostTensor& expected) {
  REQUIRE(actual.type.shape == expected.type.shape);
  double most = 0;
  for (size_t i = 0; i < actual.values.size(); ++i) {
    most = std::max(most, std::abs(actual.values[i] - expected.values[i]));
  }
  CHECK(most < 2e-5);
}

void check_outputs(const std::map<std::string, HostTensor>& outputs, const Reference& reference,
                   const std::string& prefix) {
  for (const auto& [name, actual] : outputs) {
    CAPTURE(prefix, name);
    const std::string key = name.starts_with("residual.") ? name.substr(9) : name;
    check_close(actual, reference.expected.at(prefix + key));
  }
}

State start(const Reference& reference, const Model& model) {
  State state;
  state[kParameters] = model.store().pack(reference.weights);
  state["tokens"] = reference.tokens;
  state["patch.value"] = reference.expected.at("patch.value");
  state["patch.position"] = HostTensor::scalar(DType::u32, double(kPatchPosition));
  state["patch.depth"] = HostTensor::scalar(DType::u32, double(kNoPatch));
  return state;
}

}  // namespace

TEST_CASE("residual streams and their patches are PyTorch's") {
  const Reference reference;
  const Model model(reference.config);
  const Program program = patched_program(model, reference.tokens.type);
  State state = start(reference, model);
  auto outputs = interpret(program, state);
  REQUIRE(outputs.size() == 4);
  check_outputs(outputs, reference, "r.");
  state["patch.depth"].values[0] = double(kPatchDepth);
  outputs = interpret(program, state);
  // PyTorch's file holds a depth as it was patched.
  check_outputs(outputs, reference, "p.");
  // Elsewhere it is another model's answer.
  state["patch.depth"].values[0] = 2;
  const HostTensor other = interpret(program, state).at("logits");
  CHECK(relative_error(other, reference.expected.at("p.logits")) > 1e-2);
}

TEST_CASE("one recording patches every depth and position, of every member", "[device]") {
  SURTSEY_NEED_DEVICE();
  const Reference reference;
  const Model model(reference.config);
  const Program single = patched_program(model, reference.tokens.type);
  engine::Session session(device, {.quiet = true});
  const engine::SessionProgram one = session.add_program("one", single);
  session.allocate();
  for (const auto& [name, value] : start(reference, model)) session.write(name, value);
  const auto all = [&] {
    one.run();
    std::map<std::string, HostTensor> outputs;
    for (const auto& [name, value] : single.outputs) {
      outputs[name] = one.read(name);
    }
    return outputs;
  };
  check_outputs(all(), reference, "r.");
  session.write("patch.depth", std::vector<uint32_t>{uint32_t(kPatchDepth)});
  check_outputs(all(), reference, "p.");

  // Two members with values of their own, read at the patched position.
  engine::Session pair(device, {.quiet = true});
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  Residuals residuals(model);
  residuals.read(kPatchDepth, program.graph->parameter("patch.position", {DType::u32, {}}));
  residuals.patch();
  ForwardOptions options;
  options.residual = residuals.hook();
  const Value logits = model.logits(parameters, program.graph->parameter("tokens", reference.tokens.type), options);
  program.outputs = residuals.outputs();
  program.outputs.emplace_back("logits", logits);
  const engine::SessionProgram two = pair.add_program("two", for_members(program, 2, residual_member_state()));
  pair.allocate();
  State state = start(reference, model);
  for (const char* name : {kParameters, "patch.value"}) {
    HostTensor& tensor = state[name];
    tensor.type.shape.insert(tensor.type.shape.begin(), 2);
    const std::vector<double> once = tensor.values;
    for (const double value : once) tensor.values.push_back(name == kParameters ? value : -value);
  }
  state["patch.depth"].values[0] = double(kPatchDepth);
  for (const auto& [name, value] : state) pair.write(name, value);
  two.run();
  const std::vector<float> read = two.read_floats("residual.1");
  const std::vector<double>& values = state.at("patch.value").values;
  REQUIRE(read.size() == values.size());
  for (size_t i = 0; i < read.size(); ++i) CHECK(double(read[i]) == values[i]);
  const HostTensor both = two.read("logits");
  const HostTensor& expected = reference.expected.at("p.logits");
  const auto half = both.values.begin() + std::ptrdiff_t(expected.values.size());
  check_close(HostTensor(expected.type, {both.values.begin(), half}), expected);
  CHECK(relative_error(HostTensor(expected.type, {half, both.values.end()}), expected) > 1e-2);
}

TEST_CASE("residuals of an encoder_decoder are the decoder's, and bad depths are refused") {
  ModelConfig config;
  config.architecture = Architecture::encoder_decoder;
  config.n_layer = 2;
  config.n_embd = 8;
  config.n_head = 2;
  config.block_size = 5;
  config.source_size = 7;
  config.vocab_size = 11;
  const Model model(config);
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  Residuals residuals(model);
  residuals.read(2);
  CHECK_THROWS_AS(residuals.read(3), UserError);
  CHECK_THROWS_AS(residuals.read(-1), UserError);
  CHECK_THROWS_AS(residuals.read(2), UserError);
  ForwardOptions options;
  options.source = program.graph->parameter("source", {DType::u32, {3, 7}});
  options.residual = residuals.hook();
  model.logits(parameters, program.graph->parameter("tokens", {DType::u32, {3, 5}}), options);
  REQUIRE(residuals.outputs().size() == 1);
  CHECK(residuals.outputs()[0].first == "residual.2");
  CHECK(residuals.outputs()[0].second.shape() == Shape{3, 5, 8});
}
