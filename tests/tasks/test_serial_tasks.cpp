// Problems with steps in series: every chain against an independent solver of its text, the strings
// as they were published, mixtures, training sets.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "experiments/tasks/arithmetic.h"
#include "experiments/tasks/edit_distance.h"
#include "experiments/tasks/equation.h"
#include "experiments/tasks/increasing.h"
#include "graph/error.h"
#include "tests/support/words.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;
using tests::Words;
using tests::words_of;

namespace {

// Parts between separators.
std::vector<Words> parts_of(const Words& words, const std::string& separator) {
  std::vector<Words> parts(1);
  for (const std::string& word : words) {
    if (word == separator) {
      parts.emplace_back();
    } else {
      parts.back().push_back(word);
    }
  }
  return parts;
}

// Recursive descent modulo 11, with division by trial.
struct Parser {
  const Words& words;
  size_t at = 0;

  bool sees(const char* symbol) const { return at < words.size() && words[at] == symbol; }

  int factor() {
    REQUIRE(at < words.size());
    if (sees("(")) {
      ++at;
      const int value = sum();
      REQUIRE(sees(")"));
      ++at;
      return value;
    }
    return std::stoi(words[at++]);
  }
  int product() {
    int value = factor();
    while (sees("*") || sees("/")) {
      const bool division = words[at++] == "/";
      const int other = factor();
      if (!division) {
        value = value * other % 11;
        continue;
      }
      REQUIRE(other != 0);
      int quotient = 0;
      while (quotient * other % 11 != value) ++quotient;
      value = quotient;
    }
    return value;
  }
  int sum() {
    int value = product();
    while (sees("+") || sees("-")) {
      const bool minus = words[at++] == "-";
      value = (value + (minus ? 11 - product() : product())) % 11;
    }
    return value;
  }
};

int evaluate(const Words& expression) {
  Parser parser{expression};
  const int value = parser.sum();
  REQUIRE(parser.at == expression.size());
  return value;
}

int operators_in(const Words& words) {
  return static_cast<int>(std::count_if(words.begin(), words.end(), [](const std::string& word) {
    return std::string("+-*/").find(word) != std::string::npos;
  }));
}

// Every step has the value of the whole and one operator fewer.
void check_arithmetic(const Words& prompt, const Words& answer, bool steps) {
  REQUIRE(prompt.back() == "=");
  const Words expression(prompt.begin(), prompt.end() - 1);
  const int value = evaluate(expression);
  if (!steps) {
    REQUIRE(answer == Words{std::to_string(value)});
    return;
  }
  REQUIRE(answer.back() == "<eos>");
  const auto chain = parts_of(Words(answer.begin(), answer.end() - 1), "=");
  int operators = operators_in(expression);
  REQUIRE(static_cast<int>(chain.size()) == operators);
  for (const Words& step : chain) {
    REQUIRE(operators_in(step) == --operators);
    REQUIRE(evaluate(step) == value);
  }
  REQUIRE(chain.back() == Words{std::to_string(value)});
}

// Coefficients by variable and the right-hand side under "=".
std::map<std::string, int> equation_of(const Words& words) {
  std::map<std::string, int> terms;
  int factor = 1;
  bool right = false;
  for (const std::string& word : words) {
    if (word == "=") {
      right = true;
    } else if (word == "+") {
      factor = 1;
    } else if (std::isdigit(static_cast<unsigned char>(word[0]))) {
      (right ? terms["="] : factor) = std::stoi(word);
    } else {
      REQUIRE_FALSE(terms.contains(word));
      terms[word] = factor;
      factor = 1;
    }
  }
  return terms;
}

// The last part names the solution; it solves every equation of every part. After step j the j-th
// variable stands in row j alone, without a coefficient.
void check_equation(const Words& prompt, const Words& answer, bool steps) {
  REQUIRE(prompt.back() == "<sep>");
  REQUIRE(answer.back() == "<eos>");
  auto systems = parts_of(Words(answer.begin(), answer.end() - 1), "<sep>");
  systems.insert(systems.begin(), Words(prompt.begin(), prompt.end() - 1));
  std::map<std::string, int> solution;
  for (const Words& row : parts_of(systems.back(), ",")) {
    REQUIRE(row.size() == 3);
    REQUIRE(row[1] == "=");
    solution[row[0]] = std::stoi(row[2]);
  }
  REQUIRE(systems.size() == (steps ? solution.size() + 1 : 2));
  for (size_t done = 0; done < systems.size(); ++done) {
    const auto rows = parts_of(systems[done], ",");
    REQUIRE(rows.size() == solution.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto terms = equation_of(rows[i]);
      int left = 0;
      for (const auto& [name, factor] : terms) {
        if (name != "=") left += factor * solution.at(name);
      }
      REQUIRE(left % 11 == terms.at("="));
      for (size_t j = 0; steps && j < done; ++j) {
        REQUIRE(terms.contains(std::string(1, static_cast<char>('a' + j))) == (i == j));
      }
    }
  }
}

// By patience: the top of the pile on which a number comes is where its subsequence ends.
void check_increasing(const Words& prompt, const Words& answer, bool steps) {
  std::vector<int> tops;
  Words lengths;
  for (size_t i = 0; i + 1 < prompt.size(); ++i) {
    const int number = std::stoi(prompt[i]);
    const auto pile = std::lower_bound(tops.begin(), tops.end(), number);
    lengths.push_back(std::to_string(pile - tops.begin() + 1));
    if (pile == tops.end()) {
      tops.push_back(number);
    } else {
      *pile = number;
    }
  }
  Words expected = steps ? lengths : Words{};
  if (steps) expected.emplace_back("<sep>");
  expected.insert(expected.end(), {std::to_string(tops.size()), "<eos>"});
  REQUIRE(prompt.back() == "<sep>");
  REQUIRE(answer == expected);
}

// From the front, with memory: the table of the task goes row by row.
void check_edit_distance(const Words& prompt, const Words& answer, bool steps) {
  const auto strings = parts_of(Words(prompt.begin(), prompt.end() - 1), "|");
  REQUIRE(strings.size() == 2);
  const Words &first = strings[0], &second = strings[1];
  REQUIRE(first.size() <= second.size());
  std::map<std::pair<size_t, size_t>, int> known;
  const std::function<int(size_t, size_t)> distance = [&](size_t i, size_t j) -> int {
    if (i == 0 || j == 0) return 2 * static_cast<int>(i + j);
    if (const auto found = known.find({i, j}); found != known.end()) return found->second;
    const int replaced = distance(i - 1, j - 1) + (first[i - 1] == second[j - 1] ? 0 : 3);
    return known[{i, j}] = std::min(replaced, 2 + std::min(distance(i - 1, j), distance(i, j - 1)));
  };
  Words expected;
  for (size_t i = 1; steps && i <= first.size(); ++i) {
    for (size_t j = 1; j <= second.size(); ++j) expected.push_back(std::to_string(distance(i, j)));
    expected.emplace_back(",");
  }
  if (steps) expected.emplace_back("<sep>");
  expected.insert(expected.end(), {std::to_string(distance(first.size(), second.size())), "<eos>"});
  REQUIRE(prompt.back() == "<sep>");
  REQUIRE(answer == expected);
}

struct SerialCase {
  std::string name;
  std::function<std::shared_ptr<SerialTask>(SerialOptions)> make;
  // Tokens of the longest sequence, with steps and without, and of the vocabulary.
  int32_t steps_block, direct_block, vocab_size;
  std::function<void(const Words&, const Words&, bool)> check;
};

template <class T>
SerialCase one_case(const std::string& name, int32_t size, int32_t steps, int32_t direct, int32_t vocab,
                    void (*check)(const Words&, const Words&, bool)) {
  return {name + " " + std::to_string(size),
          [size](SerialOptions options) { return std::make_shared<T>(size, options); },
          steps,
          direct,
          vocab,
          check};
}

// Lengths are the published ones (which count one position more), where they were published.
std::vector<SerialCase> serial_cases() {
  return {one_case<Arithmetic>("arithmetic", 2, 14, 9, 20, check_arithmetic),
          one_case<Arithmetic>("arithmetic", 4, 42, 17, 20, check_arithmetic),
          one_case<Arithmetic>("arithmetic", 6, 86, 25, 20, check_arithmetic),
          one_case<Equation>("equation", 3, 90, 45, 20, check_equation),
          one_case<Equation>("equation", 5, 315, 105, 22, check_equation),
          one_case<IncreasingSubsequence>("increasing", 10, 24, 13, 253, check_increasing),
          one_case<IncreasingSubsequence>("increasing", 100, 204, 103, 253, check_increasing),
          one_case<EditDistance>("edit distance", 12, 211, 30, 91, check_edit_distance),
          one_case<EditDistance>("edit distance", 20, 507, 46, 91, check_edit_distance)};
}

// Prompt and answer of row b, told apart by the weights.
std::pair<Words, Words> row_of(const Task& task, const Batch& batch, size_t b) {
  const auto T = static_cast<size_t>(batch.block_size);
  const auto weights = std::span(batch.weights).subspan(b * T, T);
  const auto first = static_cast<size_t>(std::find(weights.begin(), weights.end(), 1.0f) - weights.begin());
  const auto count = static_cast<size_t>(std::count(weights.begin(), weights.end(), 1.0f));
  for (size_t t = 0; t < T; ++t) {
    REQUIRE(weights[t] == (t >= first && t < first + count ? 1.0f : 0.0f));
  }
  const auto tokens = std::span(batch.tokens).subspan(b * T, T);
  const auto rest = tokens.subspan(first + 1 + count);
  REQUIRE(std::count(rest.begin(), rest.end(), task.padding_token()) == std::ssize(rest));
  return {words_of(task.decode(tokens.first(first + 1))), words_of(task.decode(tokens.subspan(first + 1, count)))};
}

std::set<Words> prompts_of(const Task& task, Split split, int32_t count) {
  std::set<Words> prompts;
  const Batch batch = task.sample(split, 1, 0, count);
  for (size_t b = 0; b < static_cast<size_t>(count); ++b) {
    prompts.insert(row_of(task, batch, b).first);
  }
  return prompts;
}

// A response as decoding gives it: as long as there is room.
std::vector<int32_t> padded(const Task& task, const Item& item, std::vector<int32_t> response) {
  response.resize(static_cast<size_t>(item.response_length()), task.padding_token());
  return response;
}

}  // namespace

TEST_CASE("every chain is what an independent solver makes of its prompt", "[tasks]") {
  for (const SerialCase& one : serial_cases()) {
    for (const bool steps : {true, false}) {
      DYNAMIC_SECTION(one.name << (steps ? ", steps" : ", direct")) {
        const auto task = one.make({.steps = steps});
        CHECK(task->vocab_size() == one.vocab_size);
        CHECK(task->block_size() == (steps ? one.steps_block : one.direct_block));
        for (const Split split : {Split::kTrain, Split::kValidation}) {
          const Batch batch = task->sample(split, 3, 1, 60);
          for (size_t b = 0; b < 60; ++b) {
            const auto [prompt, answer] = row_of(*task, batch, b);
            CAPTURE(prompt, answer);
            one.check(prompt, answer, steps);
          }
        }
        for (const Item& item : task->test_items(0, 60, 9)) {
          const Words prompt = words_of(task->decode(item.prompt()));
          const Words answer = words_of(task->decode(item.answer()));
          CAPTURE(prompt, answer);
          one.check(prompt, answer, steps);
          const std::vector<int32_t> gold(item.answer().begin(), item.answer().end());
          const ItemScore score = task->score(item, padded(*task, item, gold));
          REQUIRE(score.final_correct);
          REQUIRE(score.chain_correct);
        }
      }
    }
  }
}

TEST_CASE("serial tasks: no prompt of the test or of validation is in training", "[tasks]") {
  for (const SerialCase& one : serial_cases()) {
    DYNAMIC_SECTION(one.name) {
      for (const int64_t problems : {0, 500}) {
        const auto task = one.make({.training_problems = problems});
        const auto train = prompts_of(*task, Split::kTrain, 1000);
        const auto validation = prompts_of(*task, Split::kValidation, 500);
        const auto items = task->test_items(0, 300, 1);
        CHECK(items.size() == 300);
        for (const Item& item : items) {
          const Words prompt = words_of(task->decode(item.prompt()));
          REQUIRE_FALSE(train.contains(prompt));
          REQUIRE_FALSE(validation.contains(prompt));
        }
        for (const Words& prompt : validation) REQUIRE_FALSE(train.contains(prompt));
      }
    }
  }
}

TEST_CASE("a training set is drawn once, for every seed and both ways to ask", "[tasks]") {
  const auto prompts = [](const Task& task, uint32_t seed) {
    std::set<Words> all;
    const Batch batch = task.sample(Split::kTrain, seed, 0, 2000);
    for (size_t b = 0; b < 2000; ++b) all.insert(row_of(task, batch, b).first);
    return all;
  };
  const Arithmetic steps(3, {.training_problems = 200});
  const auto set = prompts(steps, 1);
  CHECK(set.size() == 200);  // 2000 draws miss none of them but with a chance of 1%
  CHECK(prompts(steps, 2) == set);
  CHECK(prompts(Arithmetic(3, {.steps = false, .training_problems = 200}), 1) == set);
  CHECK(prompts(Arithmetic(3), 1).size() > 1000);

  // There are 11 * 40 expressions of one operator, and a few less with 0 below.
  const Arithmetic few(1, {.training_problems = 1000});
  REQUIRE_THROWS_WITH(few.sample(Split::kTrain, 1, 0, 1), ContainsSubstring("training set of 1000 different prompts"));
}

TEST_CASE("training mixes shorter expressions in, k operators in proportion to k", "[tasks]") {
  const int64_t problems = GENERATE(int64_t{0}, int64_t{3000});
  const Arithmetic task(4, {.training_problems = problems});
  std::map<int, int> counts;
  const Batch batch = task.sample(Split::kTrain, 1, 0, 4000);
  for (size_t b = 0; b < 4000; ++b) ++counts[operators_in(row_of(task, batch, b).first)];
  CAPTURE(counts);
  CHECK(counts[1] + counts[2] + counts[3] + counts[4] == 4000);
  // Four standard deviations of a share of 4000; a set of different prompts has fewer of one
  // operator, and of four in their place.
  for (const int k : {2, 3}) CHECK(std::abs(counts[k] / 4000.0 - k / 10.0) < 0.035);
  if (problems == 0) CHECK(std::abs(counts[1] / 4000.0 - 0.1) < 0.02);
  if (problems > 0) CHECK(counts[1] < 300);
  CHECK(counts[4] > 1450);
  for (const Item& item : task.test_items(0, 100, 1)) {
    REQUIRE(operators_in(words_of(task.decode(item.prompt()))) == 4);
  }
  const Batch plain = Arithmetic(4, {}, false).sample(Split::kTrain, 1, 0, 100);
  for (size_t b = 0; b < 100; ++b) {
    REQUIRE(operators_in(row_of(task, plain, b).first) == 4);
  }
}

TEST_CASE("parentheses stand where precedence asks for them, and only there", "[tasks]") {
  const Arithmetic task(4);
  struct Row {
    const char* expression;
    size_t place;
    const char* operation;
    const char* expected;
  };
  const Row rows[] = {
      {"5", 0, "+", "2 + 3"},
      {"1 + 5", 2, "-", "1 + 2 - 3"},
      {"1 - 5", 2, "+", "1 - ( 2 + 3 )"},
      {"1 - 5", 2, "*", "1 - 2 * 3"},
      {"5 - 1", 0, "-", "2 - 3 - 1"},
      {"5 * 1", 0, "+", "( 2 + 3 ) * 1"},
      {"5 / 1", 0, "-", "( 2 - 3 ) / 1"},
      {"5 / 1", 0, "*", "2 * 3 / 1"},
      {"1 * 5", 2, "+", "1 * ( 2 + 3 )"},
      {"1 * 5", 2, "/", "1 * 2 / 3"},
      {"1 / 5", 2, "*", "1 / ( 2 * 3 )"},
      {"1 / 5", 2, "+", "1 / ( 2 + 3 )"},
      {"( 5 - 1 ) * 4", 1, "/", "( 2 / 3 - 1 ) * 4"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.expression, row.operation);
    std::vector<int32_t> expression = task.encode(row.expression);
    task.expand(expression, row.place, 2, row.operation, 3);
    CHECK(task.decode(expression) == row.expected);
  }
}

TEST_CASE("systems, subsequences and distances are written as published", "[tasks]") {
  const auto text = [](const SerialTask& task, const Problem& problem) {
    return task.decode(problem.prompt) + " | " + task.decode(problem.answer);
  };
  // 2a + 3b = 1 has its first row divided by 2; 0a + 4b = 8 asks for the rows' exchange nowhere.
  const Equation equation(2);
  CHECK(text(equation, *equation.solve({{2, 3, 1}, {0, 4, 8}})) ==
        "2 a + 3 b = 1 , 0 a + 4 b = 8 <sep> | a + 7 b = 6 , 4 b = 8 <sep> a = 3 , b = 2 <eos>");
  CHECK(text(equation, *equation.solve({{0, 4, 8}, {2, 3, 1}})) ==
        "0 a + 4 b = 8 , 2 a + 3 b = 1 <sep> | a + 7 b = 6 , 4 b = 8 <sep> a = 3 , b = 2 <eos>");
  CHECK_FALSE(equation.solve({{1, 2, 3}, {2, 4, 6}}).has_value());
  const Equation direct(2, {.steps = false});
  CHECK(text(direct, *direct.solve({{1, 1, 5}, {1, 0, 3}})) ==
        "1 a + 1 b = 5 , 1 a + 0 b = 3 <sep> | a = 3 , b = 2 <eos>");
  // Of variables that are not done, a coefficient of 1 or 0 is written.
  const Equation three(3);
  CHECK_THAT(text(three, *three.solve({{1, 1, 0, 5}, {0, 1, 1, 3}, {0, 0, 1, 2}})),
             ContainsSubstring("| a + 1 b + 0 c = 5 , 1 b + 1 c = 3 , 0 b + 1 c = 2 <sep> "
                               "a + 10 c = 2 , b + 1 c = 3 , 1 c = 2 <sep> "
                               "a = 4 , b = 1 , c = 2 <eos>"));

  const IncreasingSubsequence increasing(5);
  CHECK(text(increasing, increasing.solve({7, 3, 9, 8, 10})) == "7 3 9 8 10 <sep> | 1 1 2 2 3 <sep> 3 <eos>");

  const EditDistance distance(4);
  CHECK(text(distance, *distance.solve({0, 1}, {1, 1, 0})) == "a b | b b a <sep> | 3 5 4 , 2 3 5 , <sep> 5 <eos>");
}

TEST_CASE("mixtures of subsequences and of strings are the published ones", "[tasks]") {
  // Laid-over runs make subsequences that random numbers alone (about 2 sqrt(n)) would not have.
  const IncreasingSubsequence increasing(50);
  int longest = 0, above = 0;
  const Batch batch = increasing.sample(Split::kTrain, 1, 0, 1000);
  for (size_t b = 0; b < 1000; ++b) {
    const auto [prompt, answer] = row_of(increasing, batch, b);
    for (size_t i = 0; i + 1 < prompt.size(); ++i) {
      REQUIRE(std::stoi(prompt[i]) >= 51);
      REQUIRE(std::stoi(prompt[i]) < 250);
    }
    const int length = std::stoi(answer[answer.size() - 2]);
    longest = std::max(longest, length);
    above += length > 20 ? 1 : 0;
  }
  CHECK(longest > 45);
  CHECK(above > 300);
  CHECK(above < 700);

  const EditDistance distance(12);
  std::map<size_t, int> lengths;
  std::set<size_t> alphabets;
  for (const Words& prompt : prompts_of(distance, Split::kTrain, 2000)) {
    const auto strings = parts_of(Words(prompt.begin(), prompt.end() - 1), "|");
    const bool first_is_short = strings[0].size() < 12;
    REQUIRE((first_is_short || strings[0].size() == 12));
    REQUIRE((!first_is_short || strings[1].size() == 12));
    ++lengths[first_is_short ? strings[0].size() : strings[1].size()];
    std::set<std::string> letters(strings[0].begin(), strings[0].end());
    letters.insert(strings[1].begin(), strings[1].end());
    alphabets.insert(letters.size());
  }
  CHECK(lengths.begin()->first == 9);
  CHECK(lengths.rbegin()->first == 14);
  for (const auto& [length, count] : lengths) CHECK(count > 50);
  CHECK(*alphabets.rbegin() == 10);
}

TEST_CASE("a response counts up to its end, by its last part or by every token", "[tasks]") {
  const Arithmetic task(2);
  Item item;
  item.sequence = task.encode("2 * ( 1 + 3 ) = 2 * 4 = 8 <eos> _");
  item.prompt_length = 8;
  item.answer_length = 6;
  item.room = 7;
  const auto score = [&](const char* text) { return task.score(item, padded(task, item, task.encode(text))); };
  CHECK(score("2 * 4 = 8 <eos> 5").chain_correct);
  CHECK(score("2 * 4 = 8 <eos> 5").final_correct);
  const ItemScore other = score("2 * 5 = 8 <eos>");
  CHECK(other.final_correct);
  CHECK_FALSE(other.chain_correct);
  CHECK(other.position_correct == std::vector<uint8_t>{1, 1, 0, 1, 1, 1});
  const ItemScore early = score("8 <eos> 4 = 8 <eos>");
  CHECK(early.final_correct);
  CHECK_FALSE(early.chain_correct);
  CHECK(early.position_correct == std::vector<uint8_t>{0, 0, 0, 0, 0, 0});
  CHECK_FALSE(score("2 * 4 = 7 <eos>").final_correct);
  CHECK_FALSE(score("2 * 4 = 8 8 8").final_correct);  // it never ends
  CHECK(task.value(task.encode("2 * 4 = 8 8 8")) == "unfinished");
  CHECK(Equation(2).value(Equation(2).encode("b = 1 <sep> a = 3 , b = 2 <eos> a")) == "a = 3 , b = 2");
}

TEST_CASE("serial tasks refuse sizes that they have no strings for", "[tasks]") {
  REQUIRE_THROWS_WITH(Arithmetic(0), ContainsSubstring("0 operators"));
  REQUIRE_THROWS_WITH(Arithmetic(2, {}, true, 10), ContainsSubstring("10 is not a prime"));
  REQUIRE_THROWS_WITH(Equation(6), ContainsSubstring("6 variables"));
  REQUIRE_THROWS_WITH(Equation(2, {}, 9), ContainsSubstring("9 is not a prime"));
  REQUIRE_THROWS_WITH(IncreasingSubsequence(2), ContainsSubstring("2 numbers"));
  REQUIRE_THROWS_WITH(IncreasingSubsequence(50, {}, 100), ContainsSubstring("[101, 1000]"));
  REQUIRE_THROWS_WITH(EditDistance(21), ContainsSubstring("21 letters"));
}
