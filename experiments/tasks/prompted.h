// What most tasks share: a problem is drawn, written as a prompt, and answered with a fixed number
// of tokens.
//
//   [kind] prompt answer PAD ..       T = positions of the longest arm; the kind is there when arms
//                                     differ by how they are asked ("C": by steps, "D": at once)
//
// A task derived from this writes a problem from a stream of random numbers; everything else
// follows. Which split a problem belongs to is a hash of its prompt (without the kind): training
// never sees a prompt that a test asks, however few there are, and arms that differ by kind only
// share their problems. Sample i of a batch is written in arm i modulo their number. Loss: weight 1
// on every answer token, 0 elsewhere.
//
// Text: symbols separated by one blank; PAD is '_', the last of the vocabulary.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

// Random numbers of one problem.
class Draws {
 public:
  Draws(uint32_t key, uint32_t attempt) : key_(key), attempt_(attempt) {}

  int32_t below(int32_t count);  // uniform in [0, count)

 private:
  uint32_t key_, attempt_;
  uint32_t counter_ = 0;
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
    int32_t prompt_length = 0;  // without the kind
    double chance = 0;
    double held_out_share = 0.125;  // of all prompts, for the test; half as many for validation
  };

  std::string_view name() const override { return layout_.name; }
  int32_t vocab_size() const override { return static_cast<int32_t>(symbols_.size()); }
  int32_t block_size() const override { return block_size_; }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return layout_.chance; }
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t answer_length(int32_t arm) const override;

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index,
                    std::span<int32_t> tokens, std::span<int32_t> targets,
                    std::span<float> weights) const override;
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

  // Draws a problem, writes its prompt (without the kind) and its answer in this arm.
  virtual void write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt,
                             std::span<int32_t> answer) const = 0;
  // Whether a split asks this problem in this arm, for arms that are subsets of the problems.
  virtual bool belongs(Split, int32_t, std::span<const int32_t>) const { return true; }
  int32_t token(std::string_view symbol) const;  // InternalError when there is none

 private:
  // Draws until split and arm are right.
  void draw(Split split, uint32_t key, int32_t arm, std::span<int32_t> prompt,
            std::span<int32_t> answer) const;
  Item make_item(Split split, uint32_t key, int32_t arm) const;

  Layout layout_;
  std::vector<std::string> arms_;
  std::vector<std::string> symbols_;
  std::vector<int32_t> kinds_;  // token of each arm; empty: none is written
  int32_t block_size_ = 0;
};

// Arms of a task that can be asked for its steps: "cot" (kind C, so many steps) and "direct" (kind
// D, one token). UserError naming `task` for any other.
std::vector<PromptedTask::Arm> step_arms(const std::string& task,
                                         const std::vector<std::string>& names, int32_t steps);

}  // namespace surtsey::experiments::tasks
