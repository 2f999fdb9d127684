// What most tasks share: a problem is drawn, written as a prompt, and answered with a fixed number
// of tokens.
//
//   [kind] prompt answer PAD ..       T = positions of the longest arm; the kind is there when arms
//                                     differ by how they are asked ("C": by steps, "D": at once)
//
// A task derived from this writes a problem from a stream of random numbers, in spans of fixed
// lengths or as texts of any length up to the layout's; everything else follows. Texts of different
// lengths end with a symbol of their own. Which split a problem belongs to is a hash of its prompt
// (without the kind): training never sees a prompt that a test asks, however few there are, and
// arms that differ by kind only share their problems. Sample i of a batch is written in arm i
// modulo their number, unless the task says otherwise. Loss: weight 1 on every answer token, 0 elsewhere.
//
// Text: symbols separated by one blank; PAD is '_', the last of the vocabulary.
#pragma once

#include "experiments/tasks/task.h"

#include <mutex>

namespace surtsey::experiments::tasks {

// Random numbers of one problem.
class Draws {
 public:
  // With a quantile of a finite set, whose problems come at even quantiles of what they are a
  // mixture of; a negative one is drawn.
  Draws(uint32_t key, uint32_t attempt, double quantile = -1) : key_(key), attempt_(attempt), quantile_(quantile) {}

  int32_t below(int32_t count);  // uniform in [0, count)
  double uniform();              // in [0, 1)
  // Which part of a mixture this problem belongs to: uniform in [0, 1); 1 or more in a finite set
  // once every part has had its share, where repetitions are replaced.
  double quantile() { return quantile_ >= 0 ? quantile_ : uniform(); }

 private:
  uint32_t key_, attempt_;
  double quantile_;
  uint32_t counter_ = 0;
};

struct Problem {
  std::vector<int32_t> prompt;  // without the kind
  std::vector<int32_t> answer;  // with the end token, where there is one
};

class PromptedTask : public Task {
 public:
  struct Arm {
    std::string name;
    std::string kind;  // prompt symbol; empty in every arm: none is written
    int32_t answer_length = 1;
  };
  struct Layout {
    std::string name;
    std::vector<std::string> symbols;  // without kinds and PAD, which follow
    std::vector<Arm> arms;
    int32_t prompt_length = 0;  // without the kind; of the longest
    double chance = 0;
    double held_out_share = 0.125;  // of all prompts, for the test; half as many for validation
    // Ends answers that may be shorter than their arm says; empty: none is.
    std::string end;
    // Different problems to train on, drawn once and for every seed; 0: new ones at every step.
    int64_t training_problems = 0;
  };

  std::string_view name() const override { return layout_.name; }
  int32_t vocab_size() const override { return static_cast<int32_t>(symbols_.size()); }
  int32_t block_size() const override { return block_size_; }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return layout_.chance; }
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t end_token() const override { return end_token_; }
  int32_t answer_length(int32_t arm) const override;

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;

  // Distinct prompts; fewer than asked for when the task has not so many.
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;

  // UserError: these answers have no step whose change has one right consequence.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

  // The only split that asks this prompt (without its kind).
  Split split_of(std::span<const int32_t> prompt) const;

 protected:
  // Throws UserError for an arm that is there twice or a share out of range.
  explicit PromptedTask(Layout layout);

  // One of the two. Draws a problem, writes its prompt (without the kind) and its answer in this
  // arm, of the layout's lengths;
  virtual void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt, std::span<int32_t> answer) const;
  // or draws one whose lengths are its own, and which may differ in kind between splits.
  virtual Problem draw_problem(Split split, int32_t arm, Draws& draws) const;
  // In which arm a sample is written, by its key and its index in the batch: in turns.
  virtual int32_t sampled_arm(uint32_t key, uint32_t index) const;
  // Whether a split asks this problem in this arm, for arms that are subsets of the problems.
  virtual bool belongs(Split, int32_t, std::span<const int32_t>) const { return true; }
  int32_t token(std::string_view symbol) const;  // InternalError when there is none

 private:
  // Draws until split and arm are right, the quantile at random if it is negative.
  Problem draw(Split split, uint32_t key, int32_t arm, double quantile = -1) const;
  // One of the training set, chosen by `key`; and the draw of a number.
  Problem draw_from_set(uint32_t key, int32_t arm) const;
  Problem draw_number(uint32_t number, int32_t arm) const;
  void make_training_set() const;
  Item make_item(const Problem& problem, int32_t arm) const;

  Layout layout_;
  std::vector<std::string> arms_;
  std::vector<std::string> symbols_;
  std::vector<int32_t> kinds_;  // token of each arm; empty: none is written
  int32_t block_size_ = 0;
  int32_t end_token_ = -1;
  // Made when it is first asked for: the numbers of its draws.
  mutable std::once_flag set_made_;
  mutable std::vector<uint32_t> training_set_;
};

// Arms of a task that can be asked for its steps: "cot" (kind C, so many steps) and "direct" (kind
// D, one token). UserError naming `task` for any other.
std::vector<PromptedTask::Arm> step_arms(const std::string& task, const std::vector<std::string>& names, int32_t steps);

}  // namespace surtsey::experiments::tasks
