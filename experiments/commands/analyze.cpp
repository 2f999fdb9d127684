#include "experiments/kernels/analysis_run.h"

#include "engine/offline.h"
#include "experiments/base/join.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/study_program.h"
#include "experiments/train/step_program.h"
#include "experiments/train/train_program.h"

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

  TrainingOptions training;
  ConfigTable table;
  std::string data;
  StepConfig step;
  table.add("data", &data, "text file; not read");
  table.add("members", &step.members, "models of an ensemble").at_least(1);
  add_training_fields(table, training);
  ModelConfig config;
  read_keys(config, table, subject, keys);
  const Model model(config);
  const graph::DType dtype = parse_dtype(training.dtype);
  step.batch_size = training.batch_size;
  step.optimizer = optimizer_for(step_optimizer(training), dtype);
  const graph::Program program = options.program == "train" ? training_step(model, step) : forward_pass(model, step);
  run_analysis(program,
               {.name = options.program, .storage = dtype, .memory = parse_memory_budget(training.memory_budget)},
               options.request,
               fmt::format("{}, {} parameters, activations in {}", options.program, model.parameter_count(),
                           graph::name(dtype)));
}

}  // namespace surtsey::experiments::commands
