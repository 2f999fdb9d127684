// Ten optimizer steps held against PyTorch's (tests/golden/adapt.py, classify.py): by the interpreter, or on a device.
#pragma once

#include "engine/session.h"
#include "experiments/adapt/peft.h"
#include "experiments/base/file.h"
#include "experiments/formats/safetensors.h"
#include "graph/interpret.h"
#include "graph/optimizer.h"
#include "graph/parameters.h"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <string>

namespace surtsey::tests {

inline constexpr int64_t kGoldenSteps = 10;

inline graph::OptimizerConfig golden_steps_optimizer() {
  graph::OptimizerConfig optimizer;
  optimizer.beta1 = 0.9;
  optimizer.beta2 = 0.999;
  optimizer.epsilon = 1e-6;
  optimizer.weight_decay = 0;
  optimizer.clip_norm = 0;
  optimizer.metrics_rows = 16;
  return optimizer;
}

// Runs a step so many times and returns the state after.
using GoldenSteps = std::function<graph::State(const graph::Program& program, const graph::State& from)>;

inline graph::State interpreted_steps(const graph::Program& program, const graph::State& from) {
  graph::State state = from;
  for (int64_t i = 0; i < kGoldenSteps; ++i) graph::interpret(program, state);
  return state;
}

inline GoldenSteps device_steps(engine::Device& device) {
  return [&device](const graph::Program& program, const graph::State& from) {
    engine::Session session(device, {.quiet = true});
    const engine::SessionProgram train = session.add_program("train", program);
    session.allocate();
    for (const auto& [name, tensor] : from)
      if (session.has_state(name)) session.write(name, tensor);
    train.run(uint32_t(kGoldenSteps));
    return graph::State{{graph::kParameters, session.read(graph::kParameters)}, {"metrics", session.read("metrics")}};
  };
}

// The adapter of a golden before its steps ("i.") or after them ("a."), as PEFT's two files.
inline void write_golden_adapter(const experiments::Safetensors& golden, const std::string& which,
                                 const std::filesystem::path& folder) {
  experiments::Safetensors file;
  for (const auto& [name, tensor] : golden.tensors)
    if (name.starts_with(which)) file.tensors.emplace(name.substr(which.size()), tensor);
  const std::vector<std::byte> bytes = experiments::format_safetensors(file);
  std::filesystem::create_directories(folder);
  experiments::write_file_atomic(folder / experiments::kAdapterTensors,
                                 {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  experiments::write_file_atomic(folder / experiments::kAdapterConfig, golden.metadata.at("adapter_config"));
}

// The losses of every step, within 1e-5 of PyTorch's.
inline void check_golden_losses(const experiments::Safetensors& golden, const graph::State& after) {
  for (int64_t i = 0; i < kGoldenSteps; ++i) {
    const double expected = golden.tensors.at("losses").values[size_t(i)];
    CAPTURE(i);
    CHECK(std::abs(after.at("metrics").values[size_t(3 * i)] - expected) <= 1e-5 * expected);
  }
}

inline double largest(const graph::HostTensor& tensor) {
  double most = 0;
  for (const double value : tensor.values) most = std::max(most, std::abs(value));
  return most;
}

inline double furthest(const graph::HostTensor& a, const graph::HostTensor& b) {
  REQUIRE(a.type.shape == b.type.shape);
  double most = 0;
  for (size_t i = 0; i < a.values.size(); ++i) most = std::max(most, std::abs(a.values[i] - b.values[i]));
  return most;
}

}  // namespace surtsey::tests
