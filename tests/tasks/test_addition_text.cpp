// Addition as text: the published strings, examples against sums done by hand, what a training set
// holds, where an answer ends.
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <map>
#include <regex>
#include <set>

#include "experiments/tasks/addition_text.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr AdditionFormat kFormats[] = {AdditionFormat::plain, AdditionFormat::reverse, AdditionFormat::simplified,
                                       AdditionFormat::detailed};

AdditionText make(AdditionFormat format, int32_t examples = 1000, int32_t context = 256) {
  return AdditionText({.format = format, .examples = examples, .context = context});
}

std::string raw(const AdditionText& task, std::span<const int32_t> tokens) {
  std::string text = task.decode(tokens);
  const auto replace = [&](const std::string& from, const std::string& to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
      text.replace(at, from.size(), to);
    }
  };
  replace(" ", "");
  replace("↵", "\n");
  replace("␣", " ");
  return text;
}

// The columns of an addition from the right: digit and carry out.
std::vector<std::pair<int, int>> columns(int left, int right) {
  std::vector<std::pair<int, int>> list;
  const size_t places = std::to_string(std::max(left, right)).size();
  int scale = 1;
  for (size_t i = 0; i < places; ++i, scale *= 10) {
    const int below = left % (10 * scale) + right % (10 * scale);
    list.emplace_back(below / scale % 10, below / (10 * scale));
  }
  return list;
}

int carries(AdditionText::Pair pair) {
  int count = 0;
  for (const auto& [digit, carry] : columns(pair.left, pair.right)) count += carry;
  return count;
}

}  // namespace

TEST_CASE("sums are written as published", "[tasks]") {
  const auto written = [](AdditionFormat format, AdditionText::Pair pair) {
    const auto example = AdditionText::write(format, pair);
    return example.prompt + "|" + example.answer;
  };
  CHECK(written(AdditionFormat::plain, {128, 367}) == "128+367=|495\n");
  CHECK(written(AdditionFormat::plain, {7, 0}) == "7+0=|7\n");
  CHECK(written(AdditionFormat::reverse, {128, 367}) == "$128+367=|594$\n");
  CHECK(written(AdditionFormat::simplified, {199, 949}) ==
        "Input:\n199+949\nTarget:\n|A->8 , C->1\nA->4 , C->1\nA->1 , C->1.\n1148\n");
  CHECK(written(AdditionFormat::simplified, {8, 12}) == "Input:\n8+12\nTarget:\n|A->0 , C->1\nA->2 , C->0.\n20\n");
  CHECK(written(AdditionFormat::detailed, {199, 949}) ==
        "Input:\n199+949\nTarget:\n|<scratch>\n"
        "[1,9,9] has 3 digits.\n[9,4,9] has 3 digits.\n"
        "[1,9,9] + [9,4,9] , A=[] , C=0 , 9+9+0=18 , A->8 , C->1\n"
        "[1,9] + [9,4] , A=[8] , C=1 , 9+4+1=14 , A->4 , C->1\n"
        "[1] + [9] , A=[4,8] , C=1 , 1+9+1=11 , A->1 , C->1\n"
        "[] + [] , A=[1,4,8] C=1 , END\n</scratch>\n1 1 4 8\n");
  CHECK_THAT(written(AdditionFormat::detailed, {5, 23}),
             ContainsSubstring("[5] has 1 digits.\n[2,3] has 2 digits.\n"
                               "[5] + [2,3] , A=[] , C=0 , 5+3+0=8 , A->8 , C->0\n"
                               "[] + [2] , A=[8] , C=0 , 0+2+0=2 , A->2 , C->0\n"
                               "[] + [] , A=[2,8] C=0 , END\n</scratch>\n2 8\n"));
}

TEST_CASE("every question is answered with the sum, by the right digits and carries", "[tasks]") {
  const std::regex step("A->(\\d) , C->(\\d)"), numbers("(\\d+)\\+(\\d+)");
  for (const AdditionFormat format : kFormats) {
    DYNAMIC_SECTION(addition_format_name(format)) {
      const AdditionText task = make(format, 1000, 384);
      const auto items = task.test_items(0, 300, 1);
      REQUIRE(items.size() == 300);
      for (const Item& item : items) {
        const std::string prompt = raw(task, item.prompt()), answer = raw(task, item.answer());
        CAPTURE(prompt, answer);
        std::smatch found;
        REQUIRE(std::regex_search(prompt, found, numbers));
        const int left = std::stoi(found[1]), right = std::stoi(found[2]);
        std::string sum = task.value(item.answer());
        sum.erase(std::remove(sum.begin(), sum.end(), ' '), sum.end());
        if (format == AdditionFormat::reverse) sum.assign(sum.rbegin(), sum.rend());
        REQUIRE(sum == std::to_string(left + right));
        if (format == AdditionFormat::simplified || format == AdditionFormat::detailed) {
          std::vector<std::pair<int, int>> steps;
          for (std::sregex_iterator at(answer.begin(), answer.end(), step), end; at != end; ++at) {
            steps.emplace_back(std::stoi((*at)[1]), std::stoi((*at)[2]));
          }
          REQUIRE(steps == columns(left, right));
        }
        REQUIRE(task.encode(task.decode(item.sequence)) == item.sequence);
        std::vector<int32_t> response(item.answer().begin(), item.answer().end());
        response.resize(static_cast<size_t>(item.response_length()), response[0]);
        REQUIRE(task.score(item, response).chain_correct);
        REQUIRE(task.score(item, response).final_correct);
      }
    }
  }
}

TEST_CASE("a training set holds all small sums, and balances carries", "[tasks]") {
  const int32_t count = GENERATE(250, 1000, 5000);
  const AdditionText task = make(AdditionFormat::plain, count);
  std::set<std::pair<int, int>> different;
  std::map<size_t, int> digits;
  std::array<int, 4> by_carries = {};
  for (const AdditionText::Pair pair : task.examples()) {
    different.insert({pair.left, pair.right});
    ++digits[std::to_string(std::max(pair.left, pair.right)).size()];
    ++by_carries[static_cast<size_t>(carries(pair))];
    REQUIRE(AdditionText::split_of(pair) == Split::kTrain);
  }
  CHECK(different.size() == static_cast<size_t>(count));
  CHECK(digits[1] == 100);
  CHECK(digits[2] == count * 9 / 100);
  CHECK(digits[3] == count - 100 - count * 9 / 100);
  // As even as can be: small sums alone have more of some.
  if (count >= 1000) {
    CHECK(*std::max_element(by_carries.begin(), by_carries.end()) -
              *std::min_element(by_carries.begin(), by_carries.end()) <=
          1);
  }
  for (const Item& item : task.test_items(0, 500, 3)) {
    const std::string prompt = raw(task, item.prompt());
    const size_t plus = prompt.find('+');
    REQUIRE_FALSE(different.contains({std::stoi(prompt.substr(0, plus)), std::stoi(prompt.substr(plus + 1))}));
  }
}

TEST_CASE("training reads windows of whole examples in a row, validation others", "[tasks]") {
  const AdditionFormat format = GENERATE(AdditionFormat::plain, AdditionFormat::reverse);
  const AdditionText task = make(format, 500, 128);
  std::set<std::string> known;
  for (const AdditionText::Pair pair : task.examples()) {
    const auto example = AdditionText::write(format, pair);
    known.insert(example.prompt + example.answer);
  }
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    const Batch batch = task.sample(split, 7, 3, 50);
    int64_t mine = 0, others = 0;
    for (size_t b = 0; b < 50; ++b) {
      const std::string text = raw(task, std::span(batch.tokens).subspan(b * 128, 128));
      for (size_t start = text.find('\n') + 1;;) {
        const size_t end = text.find('\n', start);
        if (end == std::string::npos) break;
        (known.contains(text.substr(start, end + 1 - start)) ? mine : others) += 1;
        start = end + 1;
      }
      for (size_t t = 0; t < 128; ++t) {
        REQUIRE(batch.weights[b * 128 + t] == 1.0f);
        if (t < 127) REQUIRE(batch.targets[b * 128 + t] == batch.tokens[b * 128 + t + 1]);
      }
    }
    CHECK(mine + others > 300);
    CHECK((split == Split::kTrain ? others : mine) == 0);
  }
}

TEST_CASE("an answer ends where its example does", "[tasks]") {
  const auto value = [](AdditionFormat format, std::string text) {
    const AdditionText task = make(format, 1000, 384);
    std::string symbols;
    for (const char one : text) {
      symbols += one == '\n' ? "↵ " : one == ' ' ? "␣ " : std::string(1, one) + " ";
    }
    const auto tokens = task.encode(symbols);
    return std::pair{task.value(tokens), raw(task, task.written(tokens))};
  };
  using Ends = std::pair<std::string, std::string>;
  CHECK(value(AdditionFormat::plain, "495\n1+2") == Ends{"495", "495\n"});
  CHECK(value(AdditionFormat::plain, "495123") == Ends{"unfinished", "495123"});
  CHECK(value(AdditionFormat::reverse, "594$\n$1+") == Ends{"594", "594$\n"});
  CHECK(value(AdditionFormat::simplified, "A->8 , C->1.\n18\nInput:\n") == Ends{"18", "A->8 , C->1.\n18\n"});
  CHECK(value(AdditionFormat::simplified, "18\nInput:\n").first == "unfinished");
  CHECK(value(AdditionFormat::detailed, "[1]. \n</scratch>\n1 8\nInput").first == "1 8");

  const AdditionText asked({.format = AdditionFormat::plain, .examples = 300, .newline_before = true});
  CHECK(raw(asked, asked.test_items(0, 1, 1)[0].prompt()).front() == '\n');

  REQUIRE_THROWS_WITH(make(AdditionFormat::plain, 100), ContainsSubstring("100 examples"));
  REQUIRE_THROWS_WITH(make(AdditionFormat::detailed, 1000, 64), ContainsSubstring("a context of 64 characters"));
  REQUIRE_THROWS_WITH(parse_addition_format("reversed"), ContainsSubstring("plain, reverse, simplified, detailed"));
}
