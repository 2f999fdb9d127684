#include "experiments/profile/run.h"

#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/step_program.h"
#include "experiments/join.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include <unistd.h>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

constexpr double kLearningRate = 1e-3;

struct Subject {
  Subject() {
    table.add("data", &data, "text file; not read");
    table.add("members", &members, "models of an ensemble").at_least(1);
    add_training_fields(table, training);
  }
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  ModelConfig model;
  TrainingOptions training;
  std::string data;
  int64_t members = 1;
  ConfigTable table;
};

std::string shape_of(const Model& model, const StepConfig& step) {
  const ModelConfig& c = model.config();
  return fmt::format("training step, {} layers of width {}, {} parameters, {} x {} tokens{}",
                     c.n_layer, c.n_embd, model.parameter_count(), step.batch_size, c.block_size,
                     step.members == 1 ? "" : fmt::format(", {} members", step.members));
}

// The programs of studies lie beside this one's: build/surtsey, build/experiments/NAME.
fs::path studies_folder() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path() / "experiments";
}

std::vector<std::string> study_names() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(studies_folder(), error)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && name.find('.') == std::string::npos && name != "example" &&
        access(entry.path().c_str(), X_OK) == 0)
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The study's own program profiles it: it knows its models, its data and its keys.
[[noreturn]] void run_study_program(const ProfileCommandOptions& options) {
  std::vector<std::string> words = {(studies_folder() / options.subject).string(),
                                    "--profile",
                                    "--profile_steps",
                                    std::to_string(options.steps),
                                    "--out",
                                    options.out};
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) words.insert(words.end(), {option, value});
  };
  add("--compare", options.compare);
  add("--device", options.device);
  if (options.measure_ceilings) words.push_back("--measure-ceilings");
  words.insert(words.end(), options.keys.begin(), options.keys.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::fflush(nullptr);
  execv(arguments[0], arguments.data());
  throw UserError(fmt::format("{} cannot be started: {}", words[0], std::strerror(errno)));
}

// A file by its name, or a study.
bool names_a_study(const std::string& subject) {
  if (subject.empty() || subject.find_first_of("./") != std::string::npos || fs::exists(subject))
    return false;
  const std::vector<std::string> names = study_names();
  if (std::find(names.begin(), names.end(), subject) != names.end()) return true;
  const std::string near = nearest_word(subject, names);
  throw UserError(fmt::format("'{}' is no file and no study{}; studies are {}", subject,
                              near.empty() ? "" : fmt::format("; did you mean '{}'?", near),
                              names.empty() ? "not built" : join(names, ", ")));
}

}  // namespace

void profile(const ProfileCommandOptions& options) {
  const ProfileRequest request{.out = options.out,
                               .compare = options.compare,
                               .steps = options.steps,
                               .measure_ceilings = options.measure_ceilings,
                               .command = options.command};
  check_request(request);
  if (names_a_study(options.subject)) run_study_program(options);
  Subject subject;
  read_keys(subject.model, subject.table, options.subject, options.keys);
  const Model model(subject.model);
  StepConfig step;
  step.batch_size = subject.training.batch_size;
  step.members = subject.members;
  step.optimizer = step_optimizer(subject.training);
  if (subject.training.gradient_accumulation_steps != 1)
    fmt::print(stderr, "gradient_accumulation_steps is taken as 1: a batch and its update\n");

  engine::Device device = engine::Device::open({.select = options.device});
  engine::Session session(device, {.driver_statistics = true});
  session.add_program("train", training_step(model, step));
  session.allocate();
  write_initial_state(session, model, step, kLearningRate, subject.training.seed);
  run_profile(session, "train", shape_of(model, step), to_json(subject.model).dump(), request);
}

}  // namespace surtsey::experiments::commands
