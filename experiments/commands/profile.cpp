#include "experiments/profile/run.h"

#include "experiments/base/computing_device.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/requested_step.h"
#include "experiments/commands/study_program.h"
#include "experiments/train/train_session.h"

namespace surtsey::experiments::commands {
namespace {

std::string shape_of(const Model& model, const TrainConfig& train) {
  const ModelConfig& c = model.config();
  const size_t members = train.members.size();
  return fmt::format(
      "training step, {} layers of width {}, {} parameters, {} x {} tokens{}{}", c.n_layer, c.n_embd,
      model.parameter_count(), train.batch_size, c.block_size, members == 1 ? "" : fmt::format(", {} members", members),
      train.dtype == graph::DType::f32 ? "" : fmt::format(", activations in {}", graph::name(train.dtype)));
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
  const RequestedStep step = requested_step("train", 1, options.subject, options.keys);
  engine::Device device =
      open_computing_device({.select = options.device, .f16 = step.train.dtype == graph::DType::f16});
  engine::Session session(device, {.driver_statistics = true});
  add_train_programs(session, step.model, step.train);
  session.allocate();
  write_uniform_start(session, step.model, step.train);
  run_profile(session, session.program("train"), shape_of(step.model, step.train), json_text(step.model.config()),
              request);
}

}  // namespace surtsey::experiments::commands
