// Text with a known entropy: a Markov source of order k whose conditional distributions come from a
// context tree.
//
//   p(c | x_1 .. x_k) = sum over j = 0 .. k of share_j zipf(rank of c at the node of the last j)
//
// zipf(r) is proportional to 1 / (r + 1)^exponent; each node of the tree ranks the symbols in a
// random order of its own. Some symbols and contexts are frequent and many are rare, so a model
// that knows more of them predicts better: its loss falls with size and data towards the entropy
// rate
//
//   h = - sum over contexts s of pi(s) sum over c of p(c | s) log p(c | s)
//
// with pi the stationary distribution, which power iteration gives to rounding. No predictor has
// an expected loss below h, and the source itself has exactly h.
//
// A sequence is T + 1 symbols from the stationary distribution; the loss counts the symbols after
// the first k, which have a whole context. An item shows k symbols and asks for the T - k that
// follow in its sequence. They are random, so exact match says nothing here: the loss is the score.
//
// Text: symbols as numbers separated by one blank.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct MarkovOptions {
  int32_t symbols = 32;                          // V, in [2, 1000]
  int32_t order = 2;                             // k, in [1, 4]; V^k <= 1e6
  int32_t block_size = 8;                        // T, above the order
  double exponent = 3;                           // of Zipf's law, at least 0
  std::vector<double> shares = {0.5, 0.3, 0.2};  // k + 1 that are positive; scaled to sum 1
  uint32_t source_seed = 0;                      // of the tree, not of the text
};

class MarkovTask : public Task {
 public:
  // Throws UserError naming the option that is out of range.
  explicit MarkovTask(MarkovOptions options);

  const MarkovOptions& options() const { return options_; }
  double entropy_rate() const { return entropy_rate_; }  // h, nats a symbol
  // What a predictor that sees only the last `depth` <= k symbols must pay: h at depth k, the
  // entropy of the frequencies at 0.
  double conditional_entropy(int32_t depth) const;

  // p(. | context), the oldest symbol first; [V].
  std::span<const double> distribution(std::span<const int32_t> context) const;
  // pi, by context number: the oldest symbol is the highest digit in base V.
  const std::vector<double>& stationary() const { return stationary_; }
  // - sum of log p over the answer of an item, in nats: what the source itself pays.
  double source_nll(const Item& item) const;

  std::string_view name() const override { return "markov"; }
  int32_t vocab_size() const override { return options_.symbols; }
  int32_t block_size() const override { return options_.block_size; }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return chance_; }  // of the most frequent symbol
  int32_t padding_token() const override { return 0; }
  int32_t answer_length(int32_t arm) const override;

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  // There is no step to move.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

 private:
  size_t number_of(std::span<const int32_t> context) const;
  std::vector<int32_t> draw(Split split, uint32_t seed, uint32_t step, uint32_t index) const;

  MarkovOptions options_;
  std::vector<std::string> arms_ = {"text"};
  size_t contexts_ = 0;                // V^k
  std::vector<double> probabilities_;  // [V^k, V]
  std::vector<double> cumulative_;     // the same, summed along a row
  std::vector<double> stationary_;     // [V^k]
  std::vector<double> starts_;         // the same, summed
  double entropy_rate_ = 0;
  double chance_ = 0;
};

}  // namespace surtsey::experiments::tasks
