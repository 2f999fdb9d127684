// Key-value recall (E12): what came after this key last time?
//
//   a 7 c 2 a 7 f 11 c 2 ..     `pairs` pairs of a key and its value
//
// Every sequence binds each key to a value of its own draw (keys may share one), and repeats the
// keys at random: the value of a key that was seen can be copied, one that was not can only be
// guessed. Nothing carries over from sequence to sequence. One layer of attention can tell which
// values are about, not which key they belong to; two layers can form an induction head (Olsson et
// al. 2022; Sanford et al. 2024 prove the impossibility).
//
// Layout: T = 2 pairs. Loss: weight 1 on every value. Vocabulary: keys, then values.
// Arms "0_prior", "1_prior" ..: the prompt ends with a key that occurred exactly so often before,
// the answer is its value. Item i is one sequence, cut at a place drawn for each arm.
//
// Text: keys are letters (a .. z, then k26 ..), values numbers.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct RecallOptions {
  int32_t keys = 8;        // in [2, 1000]
  int32_t values = 16;     // in [2, 1000]
  int32_t pairs = 16;      // in [2, 1000]
  int32_t most_prior = 3;  // arms 0 .. most_prior, each needs a place: most_prior < pairs
};

class RecallTask : public Task {
 public:
  // Throws UserError naming the option that is out of range.
  explicit RecallTask(RecallOptions options = {});

  std::string_view name() const override { return "recall"; }
  const RecallOptions& options() const { return options_; }
  int32_t vocab_size() const override { return options_.keys + options_.values; }
  int32_t block_size() const override { return 2 * options_.pairs; }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return 1.0 / options_.values; }
  int32_t padding_token() const override { return 0; }
  int32_t answer_length(int32_t) const override { return 1; }

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  // There is no chain to corrupt: InternalError.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

 private:
  void draw(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens) const;
  std::string symbol(int32_t token) const;
  std::vector<std::string> symbols() const;  // of the whole vocabulary

  RecallOptions options_;
  std::vector<std::string> arms_;
};

}  // namespace surtsey::experiments::tasks
