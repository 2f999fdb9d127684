// What every study binary shares: the command line, the run directory, resume, the report.
//
//   int main(int argc, char** argv) {
//     ChainOfThought study;
//     return run_study(argc, argv, study);
//   }
//
// Flags: --scale --config --device --seeds --out --resume --replace, and --key=value for every key
// of the study. The order is scale, file, overrides. A finished run holds result.json; while it
// runs, cells.json holds the cells that are done, which is what --resume starts from.
//
// The word `plan` tells what the study would train and what that costs, and trains nothing
// (study_plan.h); `try` trains three steps of each model with one sequence a step (study_try.h).
// --profile looks at the training step of the largest cell instead (profile/),
// --analyze at its kernels on GPUs that are not here (analysis_run.h).
//
// Exit status: 0; 1 after an error, with one message on stderr; 2 for a wrong command line or a
// scale that the study does not define; 130 after an interrupt.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/device.h"
#include "experiments/base/config.h"
#include "experiments/results/claims.h"
#include "experiments/results/record.h"
#include "experiments/results/result.h"
#include "experiments/sweeps/study_run.h"

namespace surtsey::experiments {

class Study {
 public:
  virtual ~Study() = default;

  virtual std::string_view name() const = 0;
  virtual std::string_view title() const = 0;
  virtual std::string_view question() const = 0;
  // The scales that are defined, out of quick, full and paper.
  virtual std::vector<std::string> scales() const = 0;
  // Sets every option to its value at this scale.
  virtual void set_scale(std::string_view scale) = 0;
  // Adds the options to the table; "seeds" must be among them.
  virtual void add_fields(ConfigTable& table) = 0;
  // UserError for options that do not go together. Before anything is trained.
  virtual void check_options() const = 0;
  // UserError for files that the study reads and that are not there. Before a run, not before a
  // plan, which may come before what they are made by.
  virtual void check_inputs() const {}
  // Whether verdicts at this scale demonstrate rather than establish.
  virtual bool demonstration(std::string_view scale) const { return scale == "quick"; }

  // Trains and evaluates every cell; may be interrupted and called again.
  virtual void run(StudyRun& run) = 0;
  // Every claim that this study can judge, with its bounds from the options. The key `claims` of
  // the configuration chooses among them; all by default.
  virtual std::vector<DeclaredClaim> claims() const = 0;
  // Caveats and settings.
  virtual void describe(StudyResult& result) const = 0;
};

int run_study(int argc, char** argv, Study& study);

}  // namespace surtsey::experiments
