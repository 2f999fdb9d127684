// What is measured of trained models with programs of its own, beside answers to questions.
#pragma once

#include <vector>

#include "engine/session.h"
#include "experiments/models/model.h"
#include "experiments/results/result.h"

namespace surtsey::experiments {

class Probe {
 public:
  virtual ~Probe() = default;

  // Adds what measure() runs to a session that is not yet allocated; it reads "parameters".
  virtual void add_programs(engine::Session& session, const Model& model, size_t members) const = 0;
  // Of each member, on the test stream of this seed.
  virtual std::vector<std::vector<Measure>> measure(engine::Session& session, size_t members, uint32_t seed) const = 0;
};

}  // namespace surtsey::experiments
