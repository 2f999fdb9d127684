// What somebody with a new GPU runs first: every op of the op table on every sample, as it stands,
// fused and differentiated, and a short training run, in every variant that the device can run and
// both addressing modes, against the double interpreter. What comes of it is a report to attach to
// a bug.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/kernels/device_check.h"

namespace surtsey::experiments {

// One row of the op table in one variant.
struct OpResult {
  std::string op;
  size_t outputs = 0;   // that were compared
  double share = 0;     // of the worst error in what is allowed
  double absolute = 0;  // the largest difference
  std::string worst;    // the case with the worst share: "exp f32[3,5], gradient0"
};

struct VariantResult {
  std::string name;
  graph::Target target;
  std::vector<OpResult> ops;
  std::vector<double> losses;         // of the training run on the device, one a step
  double parameter_error = 0;         // ||device - interpreter|| / ||interpreter|| after the last step
  std::vector<std::string> failures;  // reproducible: variant, case, element, values
  double seconds = 0;
};

struct SelftestReport {
  engine::DeviceInfo device;
  bool validation = false;
  std::vector<VariantResult> variants;
  std::vector<double> reference_losses;  // the interpreter's
  std::string under_way;                 // what runs now; empty at the end
  std::string stopped;                   // why not all was run: the device was lost

  size_t failures() const;
  bool passed() const { return failures() == 0 && stopped.empty() && under_way.empty(); }
};

struct SelftestOptions {
  bool quick = false;  // the device's own variant only
  bool training = true;
  std::vector<std::string> ops;  // only these rows; empty: all
  // Called before each piece of work, so that a report exists should the driver end the process.
  std::function<void(const SelftestReport&)> progress = {};
  AlterShaders alter = {};  // changes the shaders before they are compiled (tests)
};

// What goes wrong is in the report; throws only what opening the device throws.
SelftestReport run_selftest(engine::Device& device, const SelftestOptions& options);

std::string selftest_summary(const SelftestReport& report);  // for the terminal
std::string selftest_page(const SelftestReport& report);     // Markdown, everything

}  // namespace surtsey::experiments
