// The same questions in many formats: what a model that has seen a mixture of them makes of each, and of one that it
// has not seen.
//
//   e p > b ; j q > a ; c p > b      a rule: one of K memorised permutations, as examples show it
//   R3 c p > b                       or as an instruction names it
//   C d1 .. dn = s1 .. sn            a sum: running sums modulo m, step by step
//   D d1 .. dn = sn                  or at once
//
// A rule's question has two fields, the symbol that is mapped and a tag that says nothing. A format is the order of the
// fields, what stands before an answer (one of three arrows) and what stands behind it (one of two separators): twelve,
// of which every third is never trained, though its parts are. Sums have the arrow of the format in place of '='.
//
// Training: a quarter of the sequences are sums step by step, a quarter at once, half are rules, every other of those
// with its instruction. Rules have `shots` examples and a question; loss: weight 1 on every answer, those of the
// examples too, and on every step of a sum.
//
// Arms share their problems: item i of every arm of rules is the same question with the same examples, item i of every
// arm of sums the same digits.
//
//   "sp>;" ..            each format with all examples: s symbol, p tag (a '*' marks one that is not trained)
//   "0_shot" ..          fewer examples, in the first format
//   "order_1" ..         all examples in other orders, in the first format: turned by so many places
//   "instructed"         no example and the instruction
//   "cot", "direct"      sums
//
// Layout: T = 1 + 5 (shots + 1) or more for sums. Vocabulary: symbols 0 .. m-1, tags p q r s, '>' ':' '=', ';' ',',
// R0 .. , C, D, PAD. Text: tokens separated by one blank; PAD is '_'.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct PromptFormat {
  int32_t arrow = 0;      // of 3
  int32_t separator = 0;  // of 2
  bool tag_first = false;

  bool held_out() const { return (arrow + separator + (tag_first ? 1 : 0)) % 3 == 2; }
  std::string name() const;
};
// All twelve; the first is trained.
const std::vector<PromptFormat>& prompt_formats();

struct PromptFormatsOptions {
  int32_t symbols = 10;     // m in [3, 100]: of rules and of sums
  int32_t rules = 6;        // K in [1, 1000], at most m!
  int32_t shots = 3;        // in [1, m - 1]
  int32_t length = 6;       // n in [2, 100]: digits of a sum
  bool first_only = false;  // trains on the first format alone
  uint32_t task_seed = 7;
};

class PromptFormatsTask : public Task {
 public:
  // Throws UserError naming the option that is out of range.
  explicit PromptFormatsTask(PromptFormatsOptions options = {});

  std::string_view name() const override { return "prompt_formats"; }
  const PromptFormatsOptions& options() const { return options_; }
  int32_t vocab_size() const override { return int32_t(symbols_.size()); }
  int32_t block_size() const override { return block_size_; }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return 1.0 / options_.symbols; }
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t answer_length(int32_t arm) const override;

  // [K][m]: what each rule makes of each symbol.
  const std::vector<std::vector<int32_t>>& rules() const { return rules_; }

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  // UserError: answers of one token have no step to corrupt, and the chain task does it for sums.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

 private:
  // How an arm asks.
  struct Asked {
    PromptFormat format;
    int32_t shots = 0;
    int32_t turned = 0;
    bool instructed = false;
    enum class Kind { rule, steps, sum } kind = Kind::rule;
  };
  struct Rule {
    int32_t rule = 0;
    std::vector<int32_t> inputs, tags;  // [shots + 1]; the last is the question
  };
  // A sequence as it grows, and where its answers are.
  struct Text {
    std::vector<int32_t> tokens;
    std::vector<uint8_t> answer;  // of each token
    void add(int32_t token, bool is_answer = false);
  };

  void add_arm(std::string name, Asked asked);
  Rule draw_rule(uint32_t key) const;
  std::vector<int32_t> draw_digits(uint32_t key) const;
  Text write(const Asked& asked, uint32_t key) const;

  PromptFormatsOptions options_;
  std::vector<std::string> arms_;
  std::vector<Asked> asked_;  // of each arm
  std::vector<std::vector<int32_t>> rules_;
  std::vector<std::string> symbols_;
  int32_t tag_ = 0, arrow_ = 0, separator_ = 0, instruction_ = 0, steps_ = 0, direct_ = 0;  // first token of each kind
  int32_t block_size_ = 0;
};

}  // namespace surtsey::experiments::tasks
