// Data that a device makes for itself, as part of the graph of a step: every batch is a function of
// (seed, step) through the counter-based generator, so there is no ring, and the interpreter draws
// the same numbers.
#pragma once

#include "experiments/probe.h"

namespace surtsey::experiments {

class GeneratedData : public Probe {
 public:
  // The mean loss, f32 [], of `rows` sequences of the training stream; seed and step are u32 [].
  virtual graph::Value training_loss(const Model& model, graph::Parameters& parameters,
                                     graph::Value seed, graph::Value step, int64_t rows) const = 0;

  // Of each member, over the validation stream of this seed, with the programs of add_programs().
  virtual std::vector<double> validation_loss(engine::Session& session, size_t members,
                                              uint32_t seed) const = 0;
};

}  // namespace surtsey::experiments
