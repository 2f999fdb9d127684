#include "experiments/profile/run.h"

#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/study_program.h"
#include "experiments/train/step_program.h"

namespace surtsey::experiments::commands {
namespace {

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
  return fmt::format("training step, {} layers of width {}, {} parameters, {} x {} tokens{}", c.n_layer, c.n_embd,
                     model.parameter_count(), step.batch_size, c.block_size,
                     step.members == 1 ? "" : fmt::format(", {} members", step.members));
}

[[noreturn]] void profile_study(const ProfileCommandOptions& options) {
  std::vector<std::string> words = {"--profile", "--profile_steps", std::to_string(options.steps), "--out",
                                    options.out};
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) words.insert(words.end(), {option, value});
  };
  add("--compare", options.compare);
  add("--device", options.device);
  if (options.measure_ceilings) words.push_back("--measure-ceilings");
  words.insert(words.end(), options.keys.begin(), options.keys.end());
  run_study_program(options.subject, std::move(words));
}

}  // namespace

void profile(const ProfileCommandOptions& options) {
  const ProfileRequest request{.out = options.out,
                               .compare = options.compare,
                               .steps = options.steps,
                               .measure_ceilings = options.measure_ceilings,
                               .command = options.command};
  check_request(request);
  if (names_a_study(options.subject)) profile_study(options);
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
  run_profile(session, "train", shape_of(model, step), json_text(subject.model), request);
}

}  // namespace surtsey::experiments::commands
