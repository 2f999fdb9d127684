#include "tests/support/golden.h"

#include "experiments/formats/safetensors.h"
#include "experiments/models/model.h"
#include "graph/functions.h"
#include "graph/optimizer.h"

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

namespace surtsey::tests {
namespace {

using namespace surtsey::graph;
using namespace surtsey::experiments;

constexpr int kGoldenSteps = 10;
constexpr double kVanishing = 1e-7;

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}

double distance(const HostTensor& a, const HostTensor& b) {
  REQUIRE(a.type.shape == b.type.shape);
  std::vector<double> difference(a.values.size());
  for (size_t i = 0; i < difference.size(); ++i) difference[i] = a.values[i] - b.values[i];
  return norm(difference);
}

struct GoldenModel {
  Model model;
  State tensors;  // of the file

  explicit GoldenModel(const Safetensors& file)
      : model(model_config_from_json(nlohmann::json::parse(file.metadata.at("config")))), tensors(file.tensors) {}

  State group(const std::string& prefix) const {
    State result;
    for (const auto& [name, tensor] : tensors) {
      if (name.starts_with(prefix)) result[name.substr(prefix.size())] = tensor;
    }
    return result;
  }

  // The batch's tensors by name; the file's are the programs' parameters.
  Value batch(Graph& graph, const char* name) const {
    const auto found = tensors.find(name);
    return found == tensors.end() ? Value{} : graph.parameter(name, found->second.type);
  }
};

OptimizerConfig optimizer() {
  OptimizerConfig config;
  config.beta1 = 0.9;
  config.beta2 = 0.95;
  config.epsilon = 1e-8;
  config.weight_decay = 0.1;
  config.clip_norm = 1;
  config.metrics_rows = 16;
  return config;
}

Program build_golden(const GoldenModel& golden, bool train) {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  Parameters parameters(graph, golden.model.store());
  ForwardOptions options;
  options.source = golden.batch(graph, "source");
  options.source_mask = golden.batch(graph, "source_mask");
  options.token_mask = golden.batch(graph, "token_mask");
  const Value logits = golden.model.logits(parameters, golden.batch(graph, "tokens"), options);
  const CrossEntropy loss = cross_entropy(logits, golden.batch(graph, "targets"), golden.batch(graph, "weights"));
  const Value gradient = parameters.flat_gradient(loss.mean);
  program.outputs = {{"loss", loss.mean}};
  if (train) {
    optimize(parameters, gradient, loss.mean, optimizer());
  } else {
    program.outputs.emplace_back("logits", logits);
    program.outputs.emplace_back("gradient", gradient);
  }
  return program;
}

void check_loss(double actual, double expected, double tolerance) {
  INFO("loss " << actual << ", reference " << expected);
  REQUIRE(std::abs(actual - expected) <= tolerance * std::abs(expected));
}

}  // namespace

std::span<const char* const> golden_names() {
  static constexpr const char* names[] = {"decoder_learned", "decoder_rotary", "encoder", "encoder_decoder"};
  return names;
}

void check_golden(const std::string& name, const Runner& run, const GoldenTolerance& tolerance) {
  INFO("golden " << name);
  const GoldenModel golden(
      read_safetensors(std::string(SURTSEY_SOURCE_ROOT) + "/tests/golden/" + name + ".safetensors"));
  const ParameterStore& store = golden.model.store();
  State state = initial_optimizer_state(store, optimizer(), 1e-3);
  state[kParameters] = store.pack(golden.group("w."));
  for (const auto& [key, tensor] : golden.model.constants()) state[key] = tensor;
  for (const auto& [key, tensor] : golden.tensors) {
    if (key.find('.') == std::string::npos) state[key] = tensor;
  }

  const auto outputs = run(build_golden(golden, false), state);
  const HostTensor& logits = golden.tensors.at("logits");
  REQUIRE(distance(outputs.at("logits"), logits) <= tolerance.tensor * norm(logits.values));
  check_loss(outputs.at("loss").values[0], golden.tensors.at("loss").values[0], tolerance.loss);

  const State reference = golden.group("g.");
  const State gradients = store.unpack(outputs.at("gradient"));
  double global = 0;
  for (const auto& [key, tensor] : reference) global = std::hypot(global, norm(tensor.values));
  std::set<std::string> vanishing;
  for (const auto& [key, tensor] : reference) {
    const double size = norm(tensor.values);
    const double error = distance(gradients.at(key), tensor);
    INFO("gradient of " << key << ": norm " << size << ", error " << error);
    if (size < kVanishing * global) {
      vanishing.insert(key);
      for (size_t i = 0; i < tensor.values.size(); ++i) {
        REQUIRE(std::abs(gradients.at(key).values[i] - tensor.values[i]) <= tolerance.absolute);
      }
    } else {
      REQUIRE(error <= tolerance.tensor * size);
    }
  }
  // Nothing but key biases has a vanishing gradient: else this would test little.
  for (const std::string& key : vanishing) REQUIRE(key.ends_with(".k.bias"));

  const Program train = build_golden(golden, true);
  for (int step = 0; step < kGoldenSteps; ++step) {
    INFO("step " << step);
    const auto result = run(train, state);
    check_loss(result.at("loss").values[0], golden.tensors.at("losses").values[size_t(step)], tolerance.loss);
  }
  const State after = store.unpack(state.at(kParameters));
  for (const auto& [key, tensor] : golden.group("a.")) {
    if (vanishing.contains(key)) continue;
    const double error = distance(after.at(key), tensor);
    INFO(key << " after " << kGoldenSteps << " steps: error " << error);
    REQUIRE(error <= tolerance.tensor * norm(tensor.values));
  }
  REQUIRE(state.at("skipped").values[0] == 0);
  REQUIRE(state.at("step").values[0] == kGoldenSteps);
}

}  // namespace surtsey::tests
