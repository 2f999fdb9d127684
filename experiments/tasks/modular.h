// Modular addition as a finite table: a + b = c mod p, part of it trained, the rest held out (Power
// et al. 2022, grokking).
//
//   a + b = c      T = 5, loss on c alone
//
// Every one of the p^2 pairs is in training or held out; `table_seed` says which, so seeds of
// models share the table. A training sample is a pair of the training part, drawn with replacement.
// Validation and test draw from the held-out part. Arms share no pair: "trained" asks pairs that
// training has seen, "held_out" the others. Vocabulary: numbers 0 .. p-1, '+', '='.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct ModularOptions {
  int32_t modulus = 97;        // p in [3, 1000]
  double trained_share = 0.5;  // of the pairs, in [0.05, 0.95]
  uint32_t table_seed = 0;
};

class ModularTask : public Task {
 public:
  // Throws UserError naming the option that is out of range.
  explicit ModularTask(ModularOptions options);

  std::string_view name() const override { return "modular"; }
  int32_t vocab_size() const override { return options_.modulus + 2; }
  int32_t block_size() const override { return 5; }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return 1.0 / options_.modulus; }
  int32_t padding_token() const override { return 0; }
  int32_t answer_length(int32_t) const override { return 1; }
  size_t trained_pairs() const { return trained_; }

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  // Distinct pairs in the order of the table: at most as many as the arm has.
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  // There is no step to move.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

 private:
  std::vector<int32_t> sequence(size_t place) const;

  ModularOptions options_;
  std::vector<std::string> arms_ = {"trained", "held_out"};
  std::vector<int32_t> pairs_;  // a p + b: those that are trained first
  size_t trained_ = 0;
};

}  // namespace surtsey::experiments::tasks
