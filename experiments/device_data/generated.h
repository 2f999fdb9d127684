// Data that a device makes for itself, as part of the graph of a step: every batch is a function of
// (seed, step) through the counter-based generator, so there is no ring, and the interpreter draws
// the same numbers.
#pragma once

#include "experiments/models/probe.h"

#include <string>

namespace surtsey::experiments {

// The u32 [] parameters of programs that measure: which stream, and which batch of it.
inline constexpr const char* kMeasureSeed = "measure.seed";
inline constexpr const char* kMeasureStep = "measure.step";

class GeneratedData : public Probe {
 public:
  // The mean loss, f32 [], of `rows` sequences of the training stream; seed and step are u32 [].
  virtual graph::Value training_loss(const Model& model, graph::Parameters& parameters, graph::Value seed,
                                     graph::Value step, int64_t rows) const = 0;

  // Of each member, over the validation stream of this seed, with the programs of add_programs().
  virtual std::vector<double> validation_loss(engine::Session& session, size_t members, uint32_t seed) const = 0;
};

// Standard normal numbers by Box and Muller (1958), two draws each: of these indices (u32), of the
// indices 0, 1, .. of a shape, and one of them on the host, up to the rounding of f32. Seed and
// step are u32 [].
graph::Value standard_normal(graph::Value index, graph::Value seed, graph::Value step, const std::string& stream);
graph::Value standard_normal(graph::Graph& graph, const graph::Shape& shape, graph::Value seed, graph::Value step,
                             const std::string& stream);
double standard_normal(uint32_t index, uint32_t seed, uint32_t step, const std::string& stream);

}  // namespace surtsey::experiments
