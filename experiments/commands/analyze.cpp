#include "experiments/kernels/analysis_run.h"

#include "engine/offline.h"
#include "experiments/base/join.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/requested_step.h"
#include "experiments/commands/study_program.h"

namespace surtsey::experiments::commands {
namespace {

[[noreturn]] void analyze_study(const AnalyzeOptions& options, const std::string& study,
                                const std::vector<std::string>& keys) {
  const AnalysisRequest& request = options.request;
  check(options.program == "train", "a study is analyzed as it trains: --program {} is for models", options.program);
  std::vector<std::string> words = {"--analyze", join(request.targets, ","), "--output", request.format};
  if (!request.isa.empty()) words.insert(words.end(), {"--isa", request.isa});
  if (!request.fail_on.empty()) words.insert(words.end(), {"--fail-on", join(request.fail_on, ",")});
  words.insert(words.end(), keys.begin(), keys.end());
  run_study_program(study, std::move(words));
}

}  // namespace

void analyze(const AnalyzeOptions& options) {
  check(options.program == "train" || options.program == "forward", "--program is train or forward, not '{}'",
        options.program);
  if (options.list) {
    size_t count = 0;
    for (const engine::OfflineVendor& vendor : engine::offline_vendors()) {
      for (const std::string& device : vendor.devices) fmt::print("{}\n", device);
      if (!vendor.why_not.empty()) fmt::print(stderr, "no {}: {}\n", vendor.name, vendor.why_not);
      count += vendor.devices.size();
    }
    check(count > 0, "no driver on this machine compiles for a GPU that is not here");
    return;
  }
  check_request(options.request);
  std::vector<std::string> keys = options.keys;
  std::string subject;
  if (!keys.empty() && !keys[0].starts_with("-")) {
    subject = keys[0];
    keys.erase(keys.begin());
  }
  if (names_a_study(subject)) analyze_study(options, subject, keys);

  const RequestedStep step = requested_step(options.program, 1, subject, keys);
  run_analysis(step.program, step.compile, options.request,
               fmt::format("{}, {} parameters, activations in {}", options.program, step.model.parameter_count(),
                           graph::name(step.train.dtype)));
}

}  // namespace surtsey::experiments::commands
