// The chain task (E01): running sums modulo m of n digits, asked in several ways.
//
//   cot       C d1 .. dn = s1 s2 .. sn        s1 = d1, s_i = (s_{i-1} + d_i) mod m
//   direct    D d1 .. dn = sn
//   filler    F d1 .. dn = . . . sn           n - 1 filler tokens: the answer comes after as many
//                                             positions of computation as in cot, but no step is
//                                             written down; trained like the others
//   permuted  P d1 .. dn = s_{n-1} .. s1 sn   the same steps in an order that does not lead to the
//                                             answer: the tokens are there, the help is not
//
// One model, several prompts: the prompt token is the only difference, so the arms share weights.
// The first sum is written out although it only copies d1: without it the first step is a lookup
// with two operands, unlike the others, and small models fail at it alone.
//
// Layout: T = 2n + 2 (prompt token, n digits, '=', n answer positions), padded with PAD.
// Vocabulary, in this order: digits 0 .. m-1, '=', 'D', 'C', PAD, then 'F' and '.' if the filler
// arm is asked for, then 'P' if the permuted arm is: V = 14 for m = 10 with cot and direct. Loss:
// weight 1 on every token after '=', 0 elsewhere.
//
// Text: tokens separated by one blank; digits from 10 on as decimal numbers; PAD is '_'.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct ChainOptions {
  std::string name = "chain";
  int32_t modulus = 10;  // m in [2, 1000]
  int32_t length = 8;    // n in [2, 1000]
  // Prompt kinds in use, without repetition, out of the four above.
  std::vector<std::string> arms = {"cot", "direct"};
  // Training mixture: sequences of each arm in one round, aligned with arms; empty is one each.
  // Sample i of a batch belongs to place i mod (sum of the mixture) of the round: exact shares.
  std::vector<int32_t> mixture = {};
  // With fewer than 1e6 prompts every prompt belongs to one split: this share of them is what the
  // test asks, half as many are for validation, and training sees neither. 0 switches that off.
  double held_out_share = 0.125;
  // What whoever makes the task calls length and modulus, for messages; without a name the modulus is fixed.
  std::string length_key = "length", modulus_key = "modulus";
};

class ChainTask : public Task {
 public:
  // Throws UserError naming the option that is out of range.
  explicit ChainTask(ChainOptions options);

  std::string_view name() const override { return options_.name; }
  const ChainOptions& options() const { return options_; }
  int32_t vocab_size() const override { return vocab_size_; }
  int32_t block_size() const override { return 2 * options_.length + 2; }
  const std::vector<std::string>& arms() const override { return options_.arms; }
  double chance() const override { return 1.0 / options_.modulus; }
  int32_t padding_token() const override { return options_.modulus + 3; }
  int32_t answer_length(int32_t arm) const override;

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;

  // With held-out prompts: distinct prompts in random order, at most as many as are held out.
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;

  // Moves one step (uniform over all but the last) by 1 .. m-1 (uniform), modulo m. Not possible
  // when the response has no digit there or at its end. The amount counts from the model's own
  // uncorrupted greedy answer, right or wrong.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

  bool holds_out() const { return holds_out_; }
  // The only split that asks these digits [n], when prompts are held out; else kTrain.
  Split split_of(std::span<const int32_t> digits) const;

 private:
  enum class Kind { kCot, kDirect, kFiller, kPermuted };

  int32_t equals_token() const { return options_.modulus; }
  int32_t prompt_token(Kind kind) const;
  void draw_digits(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> digits) const;
  // Writes prompt, answer and padding [T] for these digits [n].
  void write_sequence(Kind kind, std::span<const int32_t> digits, std::span<int32_t> tokens) const;
  Item make_item(int32_t arm, std::span<const int32_t> digits) const;

  ChainOptions options_;
  std::vector<Kind> kinds_;           // of each arm
  std::vector<int32_t> round_;        // arm of each place of the training round
  std::vector<std::string> symbols_;  // text of each token
  int32_t filler_prompt_ = -1;
  int32_t filler_token_ = -1;
  int32_t permuted_prompt_ = -1;
  int32_t vocab_size_ = 0;
  bool holds_out_ = false;
  uint64_t prompt_count_ = 0;  // m^n, only when held out
};

}  // namespace surtsey::experiments::tasks
