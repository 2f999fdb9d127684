#include "experiments/commands/finetune.h"
#include "experiments/commands/keys.h"

#include <toml++/toml.h>

#include <cmath>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

constexpr double kLargestRate = 1e9;
constexpr int32_t kMostCounted = 1 << 30;
constexpr std::pair<FinetuneObjective, const char*> kObjectives[] = {
    {FinetuneObjective::sft, "sft"}, {FinetuneObjective::dpo, "dpo"}, {FinetuneObjective::reward, "reward"}};

// What others call a key.
struct Alias {
  const char* theirs;
  const char* ours;
};
constexpr Alias kAliases[] = {
    {"iters", "max_steps"},
    {"max_iters", "max_steps"},
    {"epochs", "num_train_epochs"},
    {"num_epochs", "num_train_epochs"},
    {"per_device_train_batch_size", "batch_size"},
    {"micro_batch_size", "batch_size"},
    {"grad_accumulation_steps", "gradient_accumulation_steps"},
    {"grad_clip", "max_grad_norm"},
    {"lr", "learning_rate"},
    {"lr_scheduler", "lr_scheduler_type"},
    {"warmup_iters", "warmup_steps"},
    {"beta1", "adam_beta1"},
    {"beta2", "adam_beta2"},
    {"block_size", "max_length"},
    {"max_seq_length", "max_length"},
    {"sequence_len", "max_length"},
    {"cutoff_len", "max_length"},
    {"sample_packing", "packing"},
    {"eval_interval", "eval_steps"},
    {"steps_per_eval", "eval_steps"},
    {"save_every", "save_steps"},
    {"log_interval", "logging_steps"},
    {"steps_per_report", "logging_steps"},
    {"fine_tune_type", "method"},
    {"finetuning_type", "method"},
    {"lora_r", "r"},
    {"lora_rank", "r"},
    {"lora_target", "target_modules"},
    {"lora_target_modules", "target_modules"},
    {"mask_prompt", "completion_only_loss"},
};

// Rates that work for a method where nobody says one: those of TRL and PEFT's comparison (shared/adaptation.md, A).
double usual_rate(const AdaptConfig& config, FinetuneObjective objective) {
  // A policy is to stay near its reference: TRL's 1e-6 of all weights, and ten times that for an adapter.
  if (objective == FinetuneObjective::dpo) {
    if (config.method == AdaptMethod::full || config.method == AdaptMethod::partial) return 1e-6;
    return config.method == AdaptMethod::lora ? 1e-5 : 1e-4;
  }
  switch (config.method) {
    case AdaptMethod::full:
    case AdaptMethod::partial:
      return 2e-5;
    case AdaptMethod::lora:
      return 1e-4;
    case AdaptMethod::prefix:
    case AdaptMethod::prompt:
      return 1e-2;
    default:
      return 1e-3;
  }
}

// What a file of keys is of; nothing where it does not say, or cannot be read, which others tell.
std::optional<std::string> objective_of(const std::string& file) {
  try {
    return toml::parse_file(file)["objective"].value<std::string>();
  } catch (const toml::parse_error&) {
    return {};
  }
}

}  // namespace

std::string objective_name(FinetuneObjective objective) {
  for (const auto& [one, name] : kObjectives)
    if (one == objective) return name;
  return "";
}

FinetuneKeys::FinetuneKeys(FinetuneObjective what) : objective(what), objective_name_(objective_name(what)) {
  training = {};
  training.batch_size = 4;
  training.learning_rate = 0;
  training.weight_decay = 0;
  training.beta2 = 0.999;
  training.seed = 42;
  table_.add("model", &model, "folder, GGUF file or run of ours to begin with");
  table_.add("data", &data, "rows to learn, one JSON a line: a file, or a folder with train.jsonl (valid.jsonl)");
  table_.add("objective", &objective_name_, "what is learned, as the command says it").one_of({objective_name_});
  add_adapt_fields(table_, adapt);
  if (objective == FinetuneObjective::dpo) {
    table_.add("beta", &beta, "how near to the reference: less of it goes farther").at_least(1e-6).at_most(1e6);
    table_.add("loss_type", &loss_type, "sigmoid (DPO), or ipo").one_of({"sigmoid", "ipo"});
    table_.add("label_smoothing", &label_smoothing, "share of pairs that are taken to be the wrong way round")
        .at_least(0)
        .at_most(0.499999);
  }
  if (objective == FinetuneObjective::reward)
    table_.add("center_rewards_coefficient", &center_rewards_coefficient, "how strongly rewards are kept around 0")
        .at_least(0)
        .at_most(1e6);
  table_.add("num_train_epochs", &num_train_epochs, "times that all rows are passed").at_least(0.001).at_most(1e6);
  table_.add("max_steps", &max_steps, "optimizer steps, instead of epochs; 0: by num_train_epochs")
      .at_least(0)
      .at_most(kMostCounted);
  table_.add("batch_size", &training.batch_size, "rows per micro-batch").at_least(1).at_most(1 << 16);
  table_
      .add("gradient_accumulation_steps", &training.gradient_accumulation_steps,
           "micro-batches per optimizer step; every learned token of a step counts alike")
      .at_least(1)
      .at_most(1 << 16);
  table_.add("learning_rate", &training.learning_rate, "largest learning rate; 0: what is usual for the method")
      .at_least(0)
      .at_most(kLargestRate);
  table_.add("learning_rates", &learning_rates, "several: a model of each, trained together")
      .at_least(1e-12)
      .at_most(kLargestRate);
  table_.add("seed", &training.seed, "seed of the adapter, the order of rows and dropout");
  table_.add("seeds", &seeds, "several: a model of each, trained together").at_least(0);
  table_.add("lr_scheduler_type", &lr_scheduler_type, "how the rate falls after the warm-up")
      .one_of({"linear", "cosine", "constant"});
  table_.add("warmup_steps", &warmup_steps, "steps of linear warm-up").at_least(0).at_most(kMostCounted);
  table_.add("warmup_ratio", &warmup_ratio, "the same as a share of the steps").at_least(0).at_most(1);
  table_.add("weight_decay", &training.weight_decay, "decoupled weight decay").at_least(0).at_most(kLargestRate);
  table_.add("adam_beta1", &training.beta1, "decay of the first moment").at_least(0).at_most(0.999999);
  table_.add("adam_beta2", &training.beta2, "decay of the second moment").at_least(0).at_most(0.999999);
  table_.add("adam_epsilon", &adam_epsilon, "what is added to the root of the second moment")
      .at_least(1e-30)
      .at_most(1);
  table_.add("max_grad_norm", &training.grad_clip, "largest gradient norm, 0 for none")
      .at_least(0)
      .at_most(kLargestRate);
  table_.add("max_length", &max_length, "tokens of a row; 0: of the longest text, at most 1024")
      .at_least(0)
      .at_most(1 << 20);
  table_.add("truncation", &truncation, "what becomes of longer texts").one_of({"keep_start", "drop", "refuse"});
  table_.add("packing", &packing, "several texts a row, by best fit, each seeing itself alone");
  table_.add("completion_only_loss", &completion_only_loss, "of prompt and completion only the latter is learned");
  table_.add("assistant_only_loss", &assistant_only_loss, "of conversations only the assistant's turns are learned");
  table_.add("eos_token", &eos_token, "the token that ends an answer, instead of the model's");
  table_.add("chat_template", &chat_template, "file of a chat template, instead of the model's");
  table_.add("val_set_size", &val_set_size, "share of the rows that is held out, where there is no valid.jsonl")
      .at_least(0)
      .at_most(0.9);
  table_.add("max_eval_samples", &max_eval_samples, "most rows of an evaluation").at_least(1).at_most(1 << 20);
  table_.add("eval_steps", &eval_steps, "steps between evaluations").at_least(1).at_most(kMostCounted);
  table_.add("save_steps", &save_steps, "steps between saves").at_least(1).at_most(kMostCounted);
  table_.add("logging_steps", &training.log_interval, "steps between log lines").at_least(1).at_most(kMostCounted);
  table_.add("samples", &samples, "questions that are answered at each evaluation").at_least(0).at_most(64);
  table_.add("sample_tokens", &sample_tokens, "most tokens of such an answer").at_least(1).at_most(4096);
  table_
      .add("divergence_patience", &training.divergence_patience,
           "steps in a row without a finite gradient that end a run; 0: none do")
      .at_least(0)
      .at_most(kMostCounted);
  add_dtype_field(table_, training.dtype);
  table_.add("memory_budget", &training.memory_budget,
             "most memory of the training step (512MiB, 2.5GiB, 0.5x of its need): computes again what does not fit");
}

void FinetuneKeys::read(const std::string& file, const std::vector<std::string>& arguments) {
  // A table with others' names beside ours, over the same variables.
  ConfigTable all;
  const auto add = [&](const std::string& name, const ConfigField& field) {
    ConfigField& made = all.add(name, field.target, field.help);
    made.minimum = field.minimum;
    made.maximum = field.maximum;
    made.choices = field.choices;
  };
  for (const ConfigField& field : table_.fields()) add(field.name, field);
  for (const Alias& alias : kAliases) {
    for (const ConfigField& field : table_.fields())
      if (field.name == alias.ours) add(alias.theirs, field);
  }
  if (!file.empty()) {
    const std::string of = objective_of(file).value_or(objective_name_);
    check(of == objective_name_, "{}: is of 'surtsey {}', not of '{}'", file, of, objective_name_);
    all.load_file(file);
  }
  all.override_all(normalise_keys(arguments));
  training.dtype = graph::name(parse_dtype(training.dtype));
  if (objective == FinetuneObjective::reward) {
    check(adapt.config.num_labels <= 1, "num_labels is {}: a model of rewards has one score", adapt.config.num_labels);
    check(adapt.config.problem_type.empty() || adapt.config.problem_type == name(tasks::ProblemType::regression),
          "problem_type is {}: a reward is a {}", adapt.config.problem_type, name(tasks::ProblemType::regression));
    adapt.config.num_labels = 1;
    adapt.config.problem_type = name(tasks::ProblemType::regression);
  }
  adaptation = adapt_config(adapt);
  if (pairs()) check_pairs();
  if (training.learning_rate == 0) training.learning_rate = usual_rate(adaptation, objective);
  check(warmup_steps == 0 || warmup_ratio == 0, "warmup_steps and warmup_ratio are given: one of them says it");
  for (std::string* path : {&model, &data, &chat_template}) {
    if (!path->empty()) *path = fs::absolute(*path).lexically_normal().string();
  }
}

// What preferences leave no choice of.
void FinetuneKeys::check_pairs() const {
  check(!packing, "packing: of preferences a row has one answer");
  check(completion_only_loss && assistant_only_loss,
        "completion_only_loss, assistant_only_loss: of preferences the answers are learned, not what was asked");
  if (objective != FinetuneObjective::dpo) return;
  check(adaptation.num_labels == 0, "num_labels: dpo teaches a language model; a head of scores is learned by reward");
  check(label_smoothing == 0 || loss_type == "sigmoid", "label_smoothing goes with loss_type sigmoid, not {}",
        loss_type);
  const AdaptMethod method = adaptation.method;
  check(method != AdaptMethod::prefix && method != AdaptMethod::prompt,
        "method {}: virtual tokens change a model before they have learned anything, and a policy begins as its "
        "reference; full, partial, lora, adapters, bitfit and ia3 do",
        name(method));
}

align::PreferenceObjective FinetuneKeys::preference() const {
  ensure(pairs(), "[finetune] an objective of pairs, of rows that are none");
  if (objective == FinetuneObjective::reward) return align::reward_objective({center_rewards_coefficient});
  const auto loss = loss_type == "ipo" ? align::DpoLoss::ipo : align::DpoLoss::sigmoid;
  return align::dpo_objective({loss, beta, label_smoothing});
}

std::string FinetuneKeys::to_toml() const { return table_.to_toml(); }
std::string FinetuneKeys::help() const { return table_.help(); }

std::vector<Member> FinetuneKeys::members() const {
  std::vector<Member> members;
  const std::vector<double> rates = learning_rates.empty() ? std::vector{training.learning_rate} : learning_rates;
  std::vector<uint32_t> all(seeds.begin(), seeds.end());
  if (all.empty()) all = {training.seed};
  for (const double rate : rates) {
    for (const uint32_t seed : all) {
      const Member member{seed, rate};
      check(std::find(members.begin(), members.end(), member) == members.end(),
            "seeds or learning_rates has {} with {:g} twice", seed, rate);
      members.push_back(member);
    }
  }
  return members;
}

int64_t FinetuneKeys::steps(int64_t rows) const {
  if (max_steps > 0) return max_steps;
  const double a_step = double(training.batch_size) * training.gradient_accumulation_steps;
  return std::max<int64_t>(1, int64_t(std::ceil(num_train_epochs * double(rows) / a_step)));
}

TrainConfig FinetuneKeys::train_config(int64_t rows) const {
  TrainingKeys keys = training;
  const int64_t wanted = steps(rows);
  check(wanted <= kMostCounted, "{} steps are more than are counted; give max_steps", wanted);
  keys.max_iters = int32_t(wanted);
  keys.decay_lr = false;
  TrainConfig config = experiments::train_config(keys);
  config.members = members();
  graph::OptimizerConfig& optimizer = config.optimizer;
  optimizer.epsilon = adam_epsilon;
  const auto warmup = warmup_ratio > 0 ? int64_t(std::ceil(warmup_ratio * double(wanted))) : warmup_steps;
  check(warmup <= wanted, "warmup_steps {} is more than the {} steps of the run", warmup, wanted);
  const graph::Decay decay = lr_scheduler_type == "linear"   ? graph::Decay::linear
                             : lr_scheduler_type == "cosine" ? graph::Decay::cosine
                                                             : graph::Decay::none;
  optimizer.schedule = {decay, warmup, wanted, 0};
  config.packed = packing;
  config.summed_loss = !pairs();
  config.token_accuracy = !pairs();
  config.base_elsewhere = true;
  if (!pairs()) return config;
  config.batch_size *= 2;
  const align::PreferenceObjective door = preference();
  config.objective = door.function;
  config.measures = door.measures;
  config.numbers = objective == FinetuneObjective::dpo ? 1 : 0;
  return config;
}

}  // namespace surtsey::experiments::commands
