// Random facts to memorise (E18), to measure how many bits a model can hold (Allen-Zhu and Li 2024,
// 2404.05405):
//
//   e12 e3 r2 = v17     entity 12 * 32 + 3, its relation 2: a value without any rule
//
// An entity is a number in base 32, so the vocabulary does not store the facts; a value is one of
// V, log2 V bits. There is nothing to generalise: a test asks what was trained. A fact of loss l
// (nats) is known to log2 V - l / ln 2 bits.
//
// Text: symbols separated by blanks; PAD is '_'.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct FactOptions {
  int32_t facts = 512;    // in [1, 2^24]
  int32_t relations = 4;  // of each entity, in [1, 64]
  int32_t values = 32;    // V, in [2, 1024]
};

class FactTask : public Task {
 public:
  explicit FactTask(FactOptions options = {});  // UserError: options out of range

  const FactOptions& options() const { return options_; }
  double bits_of_a_fact() const;  // log2 V

  std::string_view name() const override { return "facts"; }
  const std::vector<std::string>& arms() const override { return arms_; }
  int32_t vocab_size() const override { return static_cast<int32_t>(symbols_.size()); }
  int32_t block_size() const override { return digits_ + 3; }
  double chance() const override { return 1.0 / options_.values; }
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t answer_length(int32_t) const override { return 1; }

  // Any fact, each as likely; every split asks the same.
  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  // Different facts, all of them if count allows.
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;
  // "bits" of the fact that the model knows.
  std::vector<std::pair<std::string, double>> measures(const Item& item, std::span<const int32_t> response,
                                                       double nll) const override;

  int32_t value_of(int32_t fact) const;  // in [0, V)

 private:
  std::vector<int32_t> sentence(int32_t fact) const;

  FactOptions options_;
  int32_t digits_ = 2;  // of an entity
  std::vector<std::string> arms_ = {"direct"};
  std::vector<std::string> symbols_;
};

}  // namespace surtsey::experiments::tasks
