// Questions in formats against a solver of their text; what is trained and what is not.
#include "experiments/tasks/prompt_formats.h"
#include "graph/error.h"
#include "tests/support/words.h"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <map>
#include <set>

using namespace surtsey;
using namespace surtsey::experiments;
using tasks::PromptFormat;
using tasks::Split;
using tests::Words;
using tests::words_of;

namespace {

// The format that a text is written in: the words of its first question. Empty: a sum.
std::string format_of(const Words& text) {
  size_t at = text[0].starts_with('R') ? 1 : 0;
  if (text[0] == "C" || text[0] == "D") return "";
  const bool tag_first = std::isalpha(static_cast<unsigned char>(text[at][0])) != 0;
  const std::string separator = at + 4 < text.size() && text[at + 4] != "_" ? text[at + 4] : "";
  return (tag_first ? "ps" : "sp") + text[at + 2] + separator;
}

// Symbols of the questions of a rule and what answers them; the last has no answer where the text ends before it.
std::vector<std::pair<int, std::string>> questions(const Words& text) {
  std::vector<std::pair<int, std::string>> list;
  for (size_t at = text[0].starts_with('R') ? 1 : 0; at + 2 < text.size() && text[at] != "_"; at += 5) {
    const bool tag_first = std::isalpha(static_cast<unsigned char>(text[at][0])) != 0;
    list.emplace_back(std::stoi(text[at + (tag_first ? 1 : 0)]), at + 3 < text.size() ? text[at + 3] : "");
  }
  return list;
}

std::string answer_of(const tasks::Task& task, const tasks::Item& item) { return task.decode(item.answer()); }

}  // namespace

TEST_CASE("formats: twelve, a third of them never trained, every part of them trained") {
  std::set<std::string> names;
  std::map<std::string, std::set<int>> trained;
  int held_out = 0;
  for (const PromptFormat& format : tasks::prompt_formats()) {
    names.insert(format.name());
    held_out += format.held_out() ? 1 : 0;
    CHECK(format.name().ends_with('*') == format.held_out());
    if (format.held_out()) continue;
    trained["arrow"].insert(format.arrow);
    trained["separator"].insert(format.separator);
    trained["order"].insert(format.tag_first);
  }
  CHECK(names.size() == 12);
  CHECK(held_out == 4);
  CHECK(trained["arrow"].size() == 3);
  CHECK(trained["separator"].size() == 2);
  CHECK(trained["order"].size() == 2);
  CHECK_FALSE(tasks::prompt_formats().front().held_out());
}

TEST_CASE("formats: every arm asks the same questions, and its answers follow from the text") {
  const tasks::PromptFormatsTask task({.symbols = 7, .rules = 4, .shots = 3, .length = 5});
  constexpr int32_t kItems = 200;
  const auto items = [&](const std::string& arm) { return task.test_items(task.arm_index(arm), kItems, 3); };
  const std::vector<tasks::Item> first = items("sp>;"), none = items("0_shot"), instructed = items("instructed");
  std::set<int> rules;
  for (const PromptFormat& format : tasks::prompt_formats()) {
    const std::vector<tasks::Item> asked = items(format.name());
    for (size_t i = 0; i < kItems; ++i) {
      const Words text = words_of(task.decode(asked[i].prompt()));
      REQUIRE(text.size() == 3 * 5 + 3);
      const std::string name = format.name();
      CHECK(format_of(text) == name.substr(0, name.find('*')));
      auto pairs = questions(text);
      REQUIRE(pairs.size() == 4);
      CHECK(pairs == questions(words_of(task.decode(first[i].prompt()))));
      CHECK(answer_of(task, asked[i]) == answer_of(task, first[i]));
      // Without an example, and with the rule's name.
      CHECK(questions(words_of(task.decode(none[i].prompt()))).at(0).first == pairs[3].first);
      const Words named = words_of(task.decode(instructed[i].prompt()));
      REQUIRE(named.size() == 4);
      const auto rule = size_t(std::stoi(named[0].substr(1)));
      rules.insert(int(rule));
      pairs[3].second = answer_of(task, asked[i]);
      std::set<int> inputs;
      for (const auto& [input, output] : pairs) {
        inputs.insert(input);
        CHECK(std::to_string(task.rules()[rule][size_t(input)]) == output);
      }
      CHECK(inputs.size() == 4);  // no example answers the question
      CHECK(answer_of(task, instructed[i]) == pairs[3].second);
    }
  }
  CHECK(rules.size() == 4);
  // Orders: the same examples, turned.
  const std::vector<tasks::Item> turned = items("order_2");
  for (size_t i = 0; i < kItems; ++i) {
    const auto a = questions(words_of(task.decode(first[i].prompt())));
    const auto b = questions(words_of(task.decode(turned[i].prompt())));
    CHECK(std::vector{a[2], a[0], a[1], a[3]} == b);
  }
  // Sums, as their text says.
  const std::vector<tasks::Item> steps = items("cot"), direct = items("direct");
  for (size_t i = 0; i < kItems; ++i) {
    const Words text = words_of(task.decode(steps[i].prompt())), at_once = words_of(task.decode(direct[i].prompt()));
    REQUIRE(text.size() == 7);
    CHECK(text[0] == "C");
    CHECK(at_once[0] == "D");
    CHECK(std::equal(text.begin() + 1, text.end(), at_once.begin() + 1));
    std::string chain;
    int sum = 0;
    for (size_t d = 1; d <= 5; ++d) {
      sum = (sum + std::stoi(text[d])) % 7;
      chain += (d > 1 ? " " : "") + std::to_string(sum);
    }
    CHECK(answer_of(task, steps[i]) == chain);
    CHECK(answer_of(task, direct[i]) == std::to_string(sum));
  }
  CHECK_THROWS_AS(task.corrupt(0, 0, steps[0], steps[0].answer()), UserError);
}

TEST_CASE("formats: training is the mixture that is said, on answers alone, without what is held out") {
  const tasks::PromptFormatsTask task({.symbols = 7, .rules = 4, .shots = 2, .length = 4});
  constexpr int32_t kRows = 4000;
  const tasks::Batch batch = task.sample(Split::kTrain, 5, 6, kRows);
  const auto block = size_t(task.block_size());
  std::set<std::string> held_out;
  for (const PromptFormat& format : tasks::prompt_formats()) {
    if (format.held_out()) held_out.insert(format.name().substr(0, 4));
  }
  std::map<std::string, int> seen;
  int steps = 0, direct = 0, instructed = 0, rules = 0;
  for (size_t row = 0; row < kRows; ++row) {
    const auto tokens = std::span(batch.tokens).subspan(row * block, block);
    const Words text = words_of(task.decode(tokens));
    std::vector<size_t> expected;
    if (text[0] == "C" || text[0] == "D") {
      (text[0] == "C" ? steps : direct) += 1;
      for (size_t i = 0; i < (text[0] == "C" ? 4u : 1u); ++i) expected.push_back(5 + i);
    } else {
      rules += 1;
      const size_t begin = text[0].starts_with('R') ? 1 : 0;
      instructed += int(begin);
      seen[format_of(text)] += 1;
      for (size_t i = 0; i < 3; ++i) expected.push_back(begin + 5 * i + 2);
    }
    std::vector<size_t> weighted;
    for (size_t t = 0; t < block; ++t) {
      const float weight = batch.weights[row * block + t];
      CHECK((weight == 0 || weight == 1));
      if (weight == 1) weighted.push_back(t);
      if (t + 1 < block) CHECK(batch.targets[row * block + t] == tokens[t + 1]);
    }
    CHECK(weighted == expected);
  }
  CHECK(steps == kRows / 4);
  CHECK(direct == kRows / 4);
  CHECK(std::abs(instructed - rules / 2) < 120);  // five standard deviations of a coin
  CHECK(seen.size() == 8);
  for (const auto& [format, count] : seen) {
    CHECK_FALSE(held_out.contains(format));
    CHECK(std::abs(count - rules / 8) < 80);
  }
  CHECK(task.encode(task.decode(std::span(batch.tokens).first(block))) ==
        std::vector<int32_t>(batch.tokens.begin(), batch.tokens.begin() + std::ptrdiff_t(block)));
  const tasks::PromptFormatsTask single({.symbols = 7, .rules = 4, .shots = 2, .length = 4, .first_only = true});
  const tasks::Batch alone = single.sample(Split::kTrain, 5, 6, 400);
  for (size_t row = 0; row < 400; ++row) {
    const std::string format = format_of(words_of(single.decode(std::span(alone.tokens).subspan(row * block, block))));
    CHECK((format.empty() || format == "sp>;"));
  }
  for (const tasks::PromptFormatsOptions& wrong : {tasks::PromptFormatsOptions{.symbols = 2},
                                                   {.shots = 10},
                                                   {.rules = 0},
                                                   {.length = 1},
                                                   {.symbols = 3, .rules = 7, .shots = 2}}) {
    CHECK_THROWS_AS(tasks::PromptFormatsTask(wrong), UserError);
  }
}
