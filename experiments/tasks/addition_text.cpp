#include "experiments/tasks/addition_text.h"

#include <fmt/format.h>

#include <array>
#include <numeric>
#include <set>

#include "experiments/base/join.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

using graph::random_range;
using graph::stream_seed;

constexpr std::string_view kNames[] = {"plain", "reverse", "simplified", "detailed"};
// Every character of every format; the padding follows.
constexpr std::string_view kCharacters = "\n $+,-.0123456789:<=>ACDEINT[]acdeghinprstu/";
constexpr const char* kNewline = "↵";
constexpr const char* kBlank = "␣";
constexpr const char* kPadding = "_";

// Which pairs are asked, and which make up a training set, is part of the task: the keys are fixed.
constexpr uint32_t kSplitKey = stream_seed(0, "addition_text.split");
constexpr uint32_t kSetKey = stream_seed(0, "addition_text.examples");
constexpr int32_t kOperands = 1000;
constexpr double kTestShare = 0.125, kTextValidation = 0.0625;
constexpr double kTwoDigitShare = 0.09;
constexpr int32_t kValidationExamples = 1000;

int32_t digits_of(AdditionText::Pair pair) {
  return static_cast<int32_t>(fmt::to_string(std::max(pair.left, pair.right)).size());
}

int32_t carries_of(AdditionText::Pair pair) {
  int32_t carries = 0, carry = 0;
  for (; pair.left > 0 || pair.right > 0; pair.left /= 10, pair.right /= 10) {
    carry = (pair.left % 10 + pair.right % 10 + carry) / 10;
    carries += carry;
  }
  return carries;
}

// Draws pairs, each once.
class Drawer {
 public:
  Drawer(uint32_t key, Split split) : key_(key), split_(split) {}

  template <class Wanted>
  AdditionText::Pair next(int32_t below, Wanted&& wanted) {
    while (true) {
      const auto number = [&](uint32_t which) {
        return static_cast<int32_t>(random_range(key_, count_, which, static_cast<uint32_t>(below)));
      };
      const AdditionText::Pair pair{number(0), number(1)};
      ++count_;
      if (AdditionText::split_of(pair) == split_ && wanted(pair) && known_.insert({pair.left, pair.right}).second) {
        return pair;
      }
    }
  }

 private:
  uint32_t key_;
  Split split_;
  uint32_t count_ = 0;
  std::set<std::pair<int32_t, int32_t>> known_;
};

std::vector<AdditionText::Pair> training_pairs(int32_t count) {
  std::vector<AdditionText::Pair> pairs;
  std::array<int32_t, 4> carries = {};
  const auto add = [&](AdditionText::Pair pair) {
    pairs.push_back(pair);
    ++carries[static_cast<size_t>(carries_of(pair))];
  };
  for (int32_t left = 0; left < 10; ++left) {
    for (int32_t right = 0; right < 10; ++right) add({left, right});
  }
  Drawer drawer(kSetKey, Split::kTrain);
  const auto twos = static_cast<int32_t>(kTwoDigitShare * count);
  for (int32_t i = 0; i < twos; ++i) {
    add(drawer.next(100, [](AdditionText::Pair pair) { return digits_of(pair) == 2; }));
  }
  while (std::ssize(pairs) < count) {
    const auto fewest = std::min_element(carries.begin(), carries.end()) - carries.begin();
    add(drawer.next(kOperands,
                    [&](AdditionText::Pair pair) { return digits_of(pair) == 3 && carries_of(pair) == fewest; }));
  }
  for (size_t i = pairs.size(); i > 1; --i) {
    std::swap(pairs[i - 1], pairs[random_range(kSetKey, 1, static_cast<uint32_t>(i), static_cast<uint32_t>(i))]);
  }
  return pairs;
}

// "1,2,8" of 128, without its last `cut` digits.
std::string list(std::string number, size_t cut) {
  number.resize(number.size() - std::min(cut, number.size()));
  std::vector<std::string> digits;
  for (const char digit : number) digits.emplace_back(1, digit);
  return "[" + join(digits, ",") + "]";
}

// The digit at a place from the right, 0 beyond the number.
int32_t digit_at(const std::string& number, size_t place) {
  return place < number.size() ? number[number.size() - 1 - place] - '0' : 0;
}

std::string scratchpad(const std::string& left, const std::string& right, bool detailed) {
  std::string text;
  if (detailed) {
    text = fmt::format("<scratch>\n{} has {} digits.\n{} has {} digits.\n", list(left, 0), left.size(), list(right, 0),
                       right.size());
  }
  std::string sum;
  int32_t carry = 0;
  const size_t places = std::max(left.size(), right.size());
  for (size_t i = 0; i < places; ++i) {
    const int32_t a = digit_at(left, i), b = digit_at(right, i), c = a + b + carry;
    if (detailed) {
      text += fmt::format("{} + {} , A={} , C={} , {}+{}+{}={} , ", list(left, i), list(right, i), list(sum, 0), carry,
                          a, b, carry, c);
    }
    text += fmt::format("A->{} , C->{}", c % 10, c / 10);
    text += !detailed && i + 1 == places ? ".\n" : "\n";
    sum.insert(sum.begin(), static_cast<char>('0' + c % 10));
    carry = c / 10;
  }
  if (detailed) {
    text += fmt::format("[] + [] , A={} C={} , END\n</scratch>\n", list(sum, 0), carry);
  }
  if (carry > 0) sum.insert(sum.begin(), '1');
  for (size_t i = 0; i < sum.size(); ++i) {
    if (detailed && i > 0) text += ' ';
    text += sum[i];
  }
  return text + "\n";
}

}  // namespace

std::string_view addition_format_name(AdditionFormat format) { return kNames[static_cast<size_t>(format)]; }

std::vector<std::string> addition_format_names() { return {std::begin(kNames), std::end(kNames)}; }

AdditionFormat parse_addition_format(std::string_view name) {
  const auto found = std::find(std::begin(kNames), std::end(kNames), name);
  check(found != std::end(kNames), "[addition_text] no format '{}': {}", name, join(addition_format_names(), ", "));
  return static_cast<AdditionFormat>(found - std::begin(kNames));
}

AdditionText::Example AdditionText::write(AdditionFormat format, Pair pair) {
  const std::string left = fmt::to_string(pair.left), right = fmt::to_string(pair.right);
  const std::string sum = fmt::to_string(pair.left + pair.right);
  switch (format) {
    case AdditionFormat::plain:
      return {left + "+" + right + "=", sum + "\n"};
    case AdditionFormat::reverse:
      return {"$" + left + "+" + right + "=", std::string(sum.rbegin(), sum.rend()) + "$\n"};
    case AdditionFormat::simplified:
    case AdditionFormat::detailed:
      return {fmt::format("Input:\n{}+{}\nTarget:\n", left, right),
              scratchpad(left, right, format == AdditionFormat::detailed)};
  }
  ensure(false, "[addition_text] format {} is not one", static_cast<int>(format));
  return {};
}

Split AdditionText::split_of(Pair pair) {
  if (digits_of(pair) == 1) return Split::kTrain;
  const double place =
      graph::random_uniform(kSplitKey, static_cast<uint32_t>(pair.left), static_cast<uint32_t>(pair.right));
  if (place < kTestShare) return Split::kTest;
  return place < kTestShare + kTextValidation ? Split::kValidation : Split::kTrain;
}

AdditionText::AdditionText(AdditionTextOptions options) : options_(options) {
  check(200 <= options.examples && options.examples <= 100'000, "[addition_text] {} examples are not in [200, 100000]",
        options.examples);
  const auto text_of = [&](const std::vector<Pair>& pairs) {
    std::string text;
    for (const Pair pair : pairs) {
      const Example example = write(options_.format, pair);
      text += example.prompt + example.answer;
    }
    return tokens_of(text);
  };
  examples_ = training_pairs(options.examples);
  training_ = text_of(examples_);
  std::vector<Pair> held_out;
  Drawer drawer(kSetKey, Split::kValidation);
  for (int32_t i = 0; i < kValidationExamples; ++i) {
    held_out.push_back(drawer.next(kOperands, [](Pair) { return true; }));
  }
  validation_ = text_of(held_out);
  // The longest example, and the newline before it.
  const Example longest = write(options_.format, {999, 999});
  const size_t least = longest.prompt.size() + longest.answer.size() + 1;
  const size_t most = std::min(training_.size(), validation_.size()) - 1;
  check(least <= static_cast<size_t>(options.context) && static_cast<size_t>(options.context) <= most,
        "[addition_text] a context of {} characters is not in [{}, {}]: an example must fit in, "
        "and the text must fill it",
        options.context, least, most);
}

int32_t AdditionText::vocab_size() const { return static_cast<int32_t>(kCharacters.size()) + 1; }

int32_t AdditionText::answer_length(int32_t) const {
  return static_cast<int32_t>(write(options_.format, {999, 999}).answer.size());
}

std::vector<int32_t> AdditionText::tokens_of(std::string_view raw) const {
  std::vector<int32_t> tokens;
  for (const char character : raw) {
    const size_t found = kCharacters.find(character);
    ensure(found != std::string_view::npos, "[addition_text] no character '{}'", character);
    tokens.push_back(static_cast<int32_t>(found));
  }
  return tokens;
}

std::string AdditionText::raw(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t one : tokens) {
    text += one == padding_token() ? '_' : kCharacters[static_cast<size_t>(one)];
  }
  return text;
}

void AdditionText::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                                std::span<int32_t> targets, std::span<float> weights) const {
  check(split != Split::kTest, "[addition_text] the test has prompts, and no windows of text");
  const auto& text = split == Split::kTrain ? training_ : validation_;
  const auto T = static_cast<size_t>(options_.context);
  const auto places = static_cast<uint32_t>(text.size() - T);
  const uint32_t start = random_range(stream_seed(seed, split_name(split)), step, index, places);
  const auto first = text.begin() + start;
  std::copy_n(first, T, tokens.begin());
  std::copy_n(first + 1, T, targets.begin());
  std::fill(weights.begin(), weights.end(), 1.0f);
}

std::vector<Item> AdditionText::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(0 < count && count <= 50'000, "[addition_text] {} test items are not in [1, 50000]", count);
  Drawer drawer(stream_seed(seed, split_name(Split::kTest)), Split::kTest);
  std::vector<Item> items;
  for (int32_t i = 0; i < count; ++i) {
    Example example = write(options_.format, drawer.next(kOperands, [](Pair) { return true; }));
    if (options_.newline_before) example.prompt.insert(0, "\n");
    Item& item = items.emplace_back();
    item.arm = arm;
    item.sequence = tokens_of(example.prompt + example.answer);
    item.prompt_length = static_cast<int32_t>(example.prompt.size());
    item.answer_length = static_cast<int32_t>(example.answer.size());
    item.room = answer_length(arm);
    item.sequence.resize(static_cast<size_t>(options_.context), padding_token());
  }
  return items;
}

std::string AdditionText::decode(std::span<const int32_t> tokens) const {
  std::vector<std::string> symbols;
  for (const int32_t one : tokens) {
    check(0 <= one && one < vocab_size(), "[addition_text] token {} is not in [0, {})", one, vocab_size());
    const char character = raw(std::span(&one, 1))[0];
    symbols.push_back(character == '\n' ? kNewline : character == ' ' ? kBlank : std::string(1, character));
  }
  return join(symbols, " ");
}

std::vector<int32_t> AdditionText::encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  while (true) {
    const size_t start = text.find_first_not_of(' ');
    if (start == std::string_view::npos) return tokens;
    text.remove_prefix(start);
    const std::string_view symbol = text.substr(0, text.find(' '));
    text.remove_prefix(symbol.size());
    const std::string character = symbol == kNewline ? "\n" : symbol == kBlank ? " " : std::string(symbol);
    if (character == kPadding) {
      tokens.push_back(padding_token());
      continue;
    }
    const size_t found = kCharacters.find(character);
    check(character.size() == 1 && found != std::string_view::npos, "[addition_text] '{}' is not in the vocabulary",
          symbol);
    tokens.push_back(static_cast<int32_t>(found));
  }
}

Corruption AdditionText::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  throw UserError("[addition_text] its answers have no step to corrupt");
}

std::pair<size_t, size_t> AdditionText::sum_of(std::string_view answer) const {
  const std::string_view before = options_.format == AdditionFormat::simplified ? ".\n"
                                  : options_.format == AdditionFormat::detailed ? "</scratch>\n"
                                                                                : "";
  const size_t found = answer.find(before);
  if (found == std::string_view::npos) return {found, found};
  const size_t start = found + before.size();
  return {start, answer.find('\n', start)};
}

std::span<const int32_t> AdditionText::written(std::span<const int32_t> response) const {
  const size_t newline = sum_of(raw(response)).second;
  return newline == std::string::npos ? response : response.first(newline + 1);
}

std::string AdditionText::value(std::span<const int32_t> answer) const {
  const std::string text = raw(answer);
  const auto [start, newline] = sum_of(text);
  if (newline == std::string::npos) return "unfinished";
  std::string sum = text.substr(start, newline - start);
  if (options_.format != AdditionFormat::reverse) return sum;
  // As published, whatever comes after the second sign counts for nothing.
  return sum.substr(0, sum.find('$'));
}

}  // namespace surtsey::experiments::tasks
