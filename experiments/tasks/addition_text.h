// Addition of numbers below a thousand from a finite text (E03), as Lee et al. 2023 ("Teaching
// Arithmetic to Small Transformers", 2307.03381) write it, a token a character:
//
//   plain       128+367=495\n
//   reverse     $128+367=594$\n                              the last digit first, as carries run
//   simplified  Input:\n128+367\nTarget:\nA->5 , C->1\nA->9 , C->0\nA->4 , C->0.\n495\n
//   detailed    Input:\n128+367\nTarget:\n<scratch>\n[1,2,8] has 3 digits.\n...</scratch>\n4 9 5\n
//
// The training set holds so many examples: all 100 pairs of one digit, 9% pairs of two digits, and
// pairs of three digits that balance the numbers of carries. (A pair of n digits has n in its
// larger number.) Training reads windows at random places of their text, with a weight on every
// character, so examples are cut at both ends. A test asks for other pairs, from a prompt that
// starts the window; training has seen most examples begin in the middle of one, after a newline.
//
// Text: characters separated by blanks; a newline is ↵, a blank ␣.
#pragma once

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

enum class AdditionFormat : uint8_t { plain, reverse, simplified, detailed };

struct AdditionTextOptions {
  AdditionFormat format = AdditionFormat::plain;
  int32_t examples = 10'000;    // in [200, 100000]
  int32_t context = 256;        // T
  bool newline_before = false;  // prompts of a test start with the newline that ends an example
};

class AdditionText : public Task {
 public:
  explicit AdditionText(AdditionTextOptions options);

  std::string_view name() const override { return "addition_text"; }
  const std::vector<std::string>& arms() const override { return arms_; }
  int32_t vocab_size() const override;
  int32_t block_size() const override { return options_.context; }
  double chance() const override { return 1.0 / 1999; }  // one of the sums
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t answer_length(int32_t arm) const override;  // of the longest answer

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  // UserError: a character of these texts has not one right consequence.
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;
  // Up to the newline that ends the example.
  std::span<const int32_t> written(std::span<const int32_t> response) const override;
  // The sum as it is written, "unfinished" without one.
  std::string value(std::span<const int32_t> answer) const override;

  struct Pair {
    int32_t left = 0, right = 0;
    bool operator==(const Pair&) const = default;
  };
  // Pairs below ten are for training, others belong to one split each.
  static Split split_of(Pair pair);
  const std::vector<Pair>& examples() const { return examples_; }

  struct Example {
    std::string prompt, answer;
  };
  static Example write(AdditionFormat format, Pair pair);

 private:
  std::vector<int32_t> tokens_of(std::string_view raw) const;
  std::string raw(std::span<const int32_t> tokens) const;
  // Where the sum begins in an answer, and the newline after it; npos where there is none.
  std::pair<size_t, size_t> sum_of(std::string_view answer) const;

  AdditionTextOptions options_;
  std::vector<std::string> arms_ = {"direct"};
  std::vector<Pair> examples_;
  std::vector<int32_t> training_, validation_;  // texts
};

AdditionFormat parse_addition_format(std::string_view name);  // UserError lists the names
std::string_view addition_format_name(AdditionFormat format);
std::vector<std::string> addition_format_names();

}  // namespace surtsey::experiments::tasks
