// Which of K memorised tasks is this? Zero, one and few shots with a known optimum (E13).
//
//   e > b j > a c > h ..      `shots` + 1 examples of one of K permutations of the symbols
//
// The K permutations are drawn once, from `task_seed`; a sequence picks one and distinct inputs,
// all uniformly. Whoever knows the permutations predicts best by Bayes' rule: the posterior is
// uniform over the permutations that agree with all examples so far, and the answer's probability
// is the share of those that give it. measures() compare a model's answer with that.
//
// Layout: T = 3 (shots + 1). Loss: weight 1 on every output. Vocabulary: symbols, '>', PAD.
// Arms "0_shot" .. "{shots}_shot": so many whole examples, then an input and '>'. Item i is one
// sequence, cut after so many examples.
//
// Text: symbols are letters (a .. z, then s26 ..), PAD is '_'.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct PermutationOptions {
  int32_t symbols = 10;  // in [2, 1000]
  int32_t tasks = 8;     // K in [1, 100000], at most symbols!
  int32_t shots = 4;     // in [0, symbols - 1]
  uint32_t task_seed = 7;
};

class PermutationTask : public Task {
 public:
  // Throws UserError naming the option that is out of range.
  explicit PermutationTask(PermutationOptions options = {});

  std::string_view name() const override { return "permutation"; }
  const PermutationOptions& options() const { return options_; }
  int32_t vocab_size() const override { return options_.symbols + 2; }
  int32_t block_size() const override { return 3 * (options_.shots + 1); }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return 1.0 / options_.symbols; }
  int32_t padding_token() const override { return options_.symbols + 1; }
  int32_t answer_length(int32_t) const override { return 1; }

  // [K][symbols]: the output of each input.
  const std::vector<std::vector<int32_t>>& permutations() const { return permutations_; }
  // The Bayes-optimal distribution over the symbols that answers a prompt.
  std::vector<double> predictive(std::span<const int32_t> prompt) const;

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  // There is no chain to corrupt: InternalError.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

  //   bayes_loss   -log of the optimal probability of the right answer
  //   excess_loss  the model's loss less that; its expectation is KL(Bayes || model), as the items
  //                are draws from the prior that the posterior starts from
  //   posterior    optimal probability of the model's answer
  //   optimum      of the best answer
  //   regret       optimum - posterior
  std::vector<std::pair<std::string, double>> measures(const Item& item, std::span<const int32_t> response,
                                                       double nll) const override;

 private:
  int32_t arrow() const { return options_.symbols; }
  void draw(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens) const;
  std::string symbol(int32_t token) const;
  std::vector<std::string> symbols() const;  // of the whole vocabulary

  PermutationOptions options_;
  std::vector<std::string> arms_;
  std::vector<std::vector<int32_t>> permutations_;
};

}  // namespace surtsey::experiments::tasks
