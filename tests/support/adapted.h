// Small models of tests/golden/adapt with adapters over them, on the host.
#pragma once

#include "experiments/adapt/adaptation.h"
#include "experiments/models/hub/import.h"
#include "graph/interpret.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>

namespace surtsey::tests {

inline std::filesystem::path golden_folder(const std::string& family) {
  return std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests/golden/adapt" / family;
}

// A model over a golden's base with room for its text behind virtual tokens.
inline experiments::Model model_for(const experiments::hub::Source& source, const std::filesystem::path& adapter,
                                    int64_t length) {
  return experiments::Model(
      experiments::hub::model_config(source, {length + experiments::adapter_virtual_tokens(adapter), 0}));
}

// What is frozen of a model, as tensors; of `adaptation`, or read from the source alone.
inline graph::State frozen_state(const experiments::Model& model, const experiments::hub::Source& source,
                                 const experiments::Adaptation* adaptation = nullptr) {
  std::map<std::string, graph::Type> types;
  for (const auto& [name, type] : model.store().frozen_state()) types.emplace(name, type);
  graph::State state;
  const auto write = [&](const std::string& name, std::span<const std::byte> bytes) {
    state[name] = graph::HostTensor::from_bytes(types.at(name), {bytes.begin(), bytes.end()});
  };
  if (adaptation != nullptr) {
    adaptation->write_base(model, write);
  } else {
    experiments::hub::read_frozen(source, model, write);
  }
  return state;
}

// A model's logits with an adapter from files, by the interpreter.
inline graph::HostTensor logits_with(const experiments::hub::Source& source, const std::filesystem::path& folder,
                                     const graph::HostTensor& tokens) {
  experiments::Model model = model_for(source, folder, tokens.type.shape[1]);
  model.store().freeze([](const graph::ParameterSpec&) { return true; });
  const experiments::Adaptation adaptation(folder, source, model);
  adaptation.install_frozen(model);
  graph::State state = frozen_state(model, source);
  adaptation.write(model, [&](const std::string& name, const graph::HostTensor& tensor) { state[name] = tensor; });
  state.merge(model.constants());
  state["tokens"] = tokens;
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Parameters parameters(*program.graph, model.store());
  program.outputs = {{"logits", model.logits(parameters, program.graph->parameter("tokens", tokens.type))}};
  return graph::interpret(program, state).at("logits");
}

// Bit for bit, names and types included.
inline bool same(const graph::State& a, const graph::State& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& one, const auto& other) {
    return one.first == other.first && one.second.type == other.second.type && one.second.values == other.second.values;
  });
}

}  // namespace surtsey::tests
