// What the parts of `surtsey finetune` share: its keys, its data, its page.
#pragma once

#include "experiments/adapt/adaptation.h"
#include "experiments/align/preference_training.h"
#include "experiments/base/config.h"
#include "experiments/commands/commands.h"
#include "experiments/tasks/tuning/tuning_source.h"
#include "experiments/train/options.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::commands {

std::string objective_name(FinetuneObjective objective);

// The keys of a run, by TRL's and PEFT's names; those of mlx-lm, axolotl, LlamaFactory and nanoGPT are read too.
struct FinetuneKeys {
  explicit FinetuneKeys(FinetuneObjective objective);
  FinetuneKeys(const FinetuneKeys&) = delete;
  FinetuneKeys& operator=(const FinetuneKeys&) = delete;

  // A TOML file (may be empty), then --key=value. UserError as ConfigTable's; keys that cannot be together.
  void read(const std::string& file, const std::vector<std::string>& arguments);
  std::string to_toml() const;  // what read() takes, under the first names alone
  std::string help() const;

  // One model of each learning rate and seed.
  std::vector<Member> members() const;
  // `rows` of the training set, or its pairs.
  TrainConfig train_config(int64_t rows) const;
  int64_t steps(int64_t rows) const;
  // Rows are pairs of answers; what is learned of them.
  bool pairs() const { return objective != FinetuneObjective::sft; }
  align::PreferenceObjective preference() const;

  const FinetuneObjective objective;

  std::string model, data;
  AdaptKeys adapt;
  AdaptConfig adaptation;  // of `adapt`, checked
  TrainingKeys training;   // batch_size, the optimizer's, seed, dtype, memory_budget, the intervals of logs
  std::vector<int32_t> seeds;
  std::vector<double> learning_rates;
  double num_train_epochs = 3;
  int32_t max_steps = 0;  // 0: what the epochs come to
  std::string lr_scheduler_type = "linear";
  int32_t warmup_steps = 0;
  double warmup_ratio = 0;
  double adam_epsilon = 1e-8;
  int32_t max_length = 0;  // 0: as long as the longest text, at most kUsualLength
  std::string truncation = "keep_start";
  bool packing = false;
  bool completion_only_loss = true;
  bool assistant_only_loss = true;
  std::string eos_token, chat_template;
  double val_set_size = 0.05;
  int32_t eval_steps = 100, save_steps = 100;
  int32_t max_eval_samples = 256;  // rows
  int32_t samples = 3, sample_tokens = 32;
  // Of pairs alone.
  double beta = 0.1;
  std::string loss_type = "sigmoid";
  double label_smoothing = 0;
  double center_rewards_coefficient = 0;

  static constexpr int64_t kUsualLength = 1024;

 private:
  void check_pairs() const;

  std::string objective_name_;
  ConfigTable table_;
};

// What a run learns: opened, tokenised into OUT/data, split.
struct FinetuneData {
  FinetuneData(const FinetuneKeys& keys, const hub::Source& source, const std::filesystem::path& out,
               int64_t most_positions);

  text::Tokenizer tokenizer;
  std::vector<int32_t> end_tokens;
  std::unique_ptr<tasks::TuningSource> source;
  int64_t documents = 0, tokens = 0, learned = 0;  // of what is trained on
  int64_t held_out = 0;                            // documents
  uint64_t memory = 0;                             // bytes
  std::optional<tasks::LabelSet> labels;           // of a head
  std::string hash;                                // of the rows and of how they are read
  std::vector<std::string> notes;                  // lines for whoever starts the run
};

// How a member of a run did.
struct FinetuneMember {
  Member member;
  std::string name;       // "seed 1, learning rate 0.0001"
  std::string folder;     // of its adapter, in the run's
  double held_out = 0;    // loss; NaN: nothing is held out
  double accuracy = 0;    // of its tokens; with a head of labels the first of its measures; of pairs
  double train_loss = 0;  // the last that was logged
};
// The least held-out loss, or where nothing is held out the least training loss.
size_t best_of(const std::vector<FinetuneMember>& members);
// A row a learning rate: mean held-out loss over its seeds with its t interval.
std::string finetune_table(const std::vector<FinetuneMember>& members);

// What a sample question is answered with.
struct FinetuneAnswer {
  int64_t step = 0;
  std::string question, wanted, answer;
};

// What a page calls the loss, what FinetuneMember::accuracy is, and which metrics it draws beside the loss, in training
// and ("eval_..") on held-out rows.
struct FinetunePageWords {
  struct Curve {
    std::string metric;
    const char* title;
    bool share = false;  // from 0 to 1
  };
  const char* loss = "nats a token";
  const char* measure = "right tokens";
  bool share = true;  // shown in percent
  std::vector<Curve> curves = {};
};

// OUT/report.html: losses by step, members, answers, what trains.
void write_finetune_page(const std::filesystem::path& out, const std::string& title, const std::string& trained,
                         const std::vector<FinetuneMember>& members, const std::vector<FinetuneAnswer>& answers,
                         const std::string& config, const FinetunePageWords& words = {});

}  // namespace surtsey::experiments::commands
