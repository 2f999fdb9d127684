// A sum with many ways to it: n digits are added in an order that the answer chooses.
//
//   d1 .. dn = i1 s1 i2 s2 .. in sn     s_j = (d_{i1} + .. + d_{ij}) mod m
//
// The order is drawn afresh for every sequence, so a model learns to write any of n! chains that
// end in the same answer. Samples then go wrong in different places, which is what a vote over them
// lives on (Wang et al. 2022); the chain task has one path, and its errors are the same each time.
//
// Every prompt belongs to one split: `held_out_share` of them to the test, half as many to
// validation. Layout: T = 3n + 1. Vocabulary: digits 0 .. m-1, places a, b, .. (n of them), '=',
// PAD. Loss: weight 1 on every token after '='.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct PathsOptions {
  int32_t modulus = 10;  // m in [2, 100]
  int32_t length = 5;    // n in [2, 26]
  double held_out_share = 0.125;
};

class PathsTask : public Task {
 public:
  // Throws UserError naming the option that is out of range.
  explicit PathsTask(PathsOptions options);

  std::string_view name() const override { return "paths"; }
  int32_t vocab_size() const override { return options_.modulus + options_.length + 2; }
  int32_t block_size() const override { return 3 * options_.length + 1; }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return 1.0 / options_.modulus; }
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t answer_length(int32_t) const override { return 2 * options_.length; }

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  // Distinct draws may ask the same prompt; none is asked in training.
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  // A chain has no position whose token could be moved alone: places and sums alternate.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

  // The split that asks these digits [n].
  Split split_of(std::span<const int32_t> digits) const;

 private:
  // A whole sequence [T].
  std::vector<int32_t> draw(Split split, uint32_t seed, uint32_t step, uint32_t index) const;

  PathsOptions options_;
  std::vector<std::string> arms_ = {"cot"};
  std::vector<std::string> symbols_;
};

}  // namespace surtsey::experiments::tasks
