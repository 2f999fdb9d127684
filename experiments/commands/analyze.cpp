#include <algorithm>

#include "engine/offline.h"
#include "experiments/analysis.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/step_program.h"
#include "experiments/join.h"
#include "shaders/spirv.h"

namespace surtsey::experiments::commands {

void analyze(const AnalyzeOptions& options) {
  using Format = std::string (*)(const std::vector<DeviceAnalysis>&);
  const std::map<std::string, Format> formats = {{"text", analysis_table},
                                                 {"md", analysis_markdown},
                                                 {"csv", analysis_csv},
                                                 {"json", analysis_json},
                                                 {"html", nullptr}};
  std::vector<std::string> names;
  for (const auto& [name, format] : formats) names.push_back(name);
  const auto format = formats.find(options.format);
  check(format != formats.end(), "--output is one of {}, not '{}'", join(names, ", "),
        options.format);
  check(options.program == "train" || options.program == "forward",
        "--program is train or forward, not '{}'", options.program);
  for (const std::string& statistic : options.fail_on) kernels_with({}, statistic);
  if (options.list) {
    for (const std::string& device : engine::offline_devices("amd")) fmt::print("{}\n", device);
    return;
  }
  check(!options.targets.empty(),
        "--target names no device; it takes a list such as amd:vega10,amd:navi21 (--list shows "
        "what this machine's driver knows)");

  TrainingOptions training;
  ConfigTable table;
  std::string data;
  StepConfig step;
  table.add("data", &data, "text file; not read");
  table.add("members", &step.members, "models of an ensemble").at_least(1);
  add_training_fields(table, training);
  ModelConfig config;
  std::vector<std::string> keys = options.keys;
  std::string file;
  if (!keys.empty() && !keys[0].starts_with("-")) {
    file = keys[0];
    keys.erase(keys.begin());
  }
  read_keys(config, table, file, keys);
  const Model model(config);
  step.batch_size = training.batch_size;
  step.optimizer = step_optimizer(training);
  const graph::Program program =
      options.program == "train" ? training_step(model, step) : forward_pass(model, step);

  const std::vector<DeviceAnalysis> analyses =
      experiments::analyze(program, options.targets, shaders::default_cache_directory());
  if (format->second)
    fmt::print("{}\n", format->second(analyses));
  else
    fmt::print("{}", analysis_page(analyses, fmt::format("{}, {} parameters", options.program,
                                                         model.parameter_count())));
  if (!options.isa.empty())
    fmt::print(stderr, "{} files in {}\n", write_isa(analyses, options.isa), options.isa);
  std::vector<std::string> failures;
  for (const std::string& statistic : options.fail_on)
    for (const std::string& kernel : kernels_with(analyses, statistic)) failures.push_back(kernel);
  check(failures.empty(), "--fail-on: {} kernels\n  {}", failures.size(), join(failures, "\n  "));
}

}  // namespace surtsey::experiments::commands
