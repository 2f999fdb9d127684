// Tasks derived from PromptedTask: every answer against an independent solution of the text of its
// prompt, every prompt in one split, the documented strings.
#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "experiments/tasks/addition.h"
#include "experiments/tasks/false_belief.h"
#include "experiments/tasks/postfix.h"
#include "experiments/tasks/shell_game.h"
#include "experiments/tasks/unscramble.h"
#include "experiments/tasks/variables.h"
#include "graph/error.h"
#include "tests/support/words.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;
using tests::Words;
using tests::words_of;

namespace {

std::string joined(const Words& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// What a prompt must be answered with, from its text alone.
std::string solve_unscramble(const Unscramble& task, const Words& prompt) {
  Words letters(prompt.begin(), prompt.begin() + 5);
  std::sort(letters.begin(), letters.end());
  Words found;
  for (const std::string& word : task.words()) {
    Words own;
    for (const char letter : word) own.emplace_back(1, letter);
    Words sorted = own;
    std::sort(sorted.begin(), sorted.end());
    if (sorted == letters) found.push_back(joined(own));
  }
  REQUIRE(found.size() == 1);
  return found[0];
}

// Every cup is moved, not only the one with the ball.
std::string solve_shell_game(const Words& prompt) {
  const bool steps = prompt[0] == "C";
  std::string table = "12345";  // table[i]: which cup of the start stands at place i + 1
  const char ball = prompt[1][0];
  Words answer;
  const auto look = [&] { answer.push_back(std::string(1, static_cast<char>('1' + table.find(ball)))); };
  look();
  for (size_t i = 2; i + 1 < prompt.size(); ++i) {
    std::swap(table[static_cast<size_t>(prompt[i][0] - '1')], table[static_cast<size_t>(prompt[i][1] - '1')]);
    look();
  }
  return steps ? joined(answer) : answer.back();
}

// Shunting-yard (Dijkstra 1961), where every operation has its parentheses.
std::string solve_postfix(const Words& prompt) {
  Words output, operations;
  for (const std::string& symbol : prompt) {
    if (symbol == ")") {
      output.push_back(operations.back());
      operations.pop_back();
    } else if (std::string("+-*").find(symbol) != std::string::npos) {
      operations.push_back(symbol);
    } else if (symbol != "(" && symbol != "=") {
      output.push_back(symbol);
    }
  }
  return joined(output);
}

std::string solve_addition(const Words& prompt, Addition::Format format) {
  const auto number = [&](size_t first) { return std::stoi(prompt[first] + prompt[first + 1] + prompt[first + 2]); };
  std::string sum = std::to_string(number(0) + number(4));
  sum.insert(0, 4 - sum.size(), '0');
  if (format == Addition::Format::reversed) std::reverse(sum.begin(), sum.end());
  Words digits;
  // A carry out of a place is what the sum of all up to it has above them.
  for (int up_to = 10; format == Addition::Format::scratchpad && up_to <= 1000; up_to *= 10) {
    const int below = number(0) % up_to + number(4) % up_to;
    const int digit = below % up_to / (up_to / 10);
    digits.insert(digits.end(), {"A", std::to_string(digit), "C", std::to_string(below / up_to)});
  }
  if (!digits.empty()) digits.emplace_back("=");
  for (const char digit : sum) digits.emplace_back(1, digit);
  return joined(digits);
}

// By substitution from the asked variable down to digits.
std::string solve_variables(const Words& prompt) {
  const bool steps = prompt[0] == "C";
  std::map<std::string, std::pair<std::string, std::string>> definitions;
  Words names;
  size_t at = 1;
  for (; prompt[at] != "?"; at += 3) {
    definitions[prompt[at]] = {prompt[at + 1], prompt[at + 2]};
    names.push_back(prompt[at]);
  }
  const std::function<int(const std::string&)> value = [&](const std::string& name) -> int {
    if (!definitions.contains(name)) return std::stoi(name);
    return (value(definitions[name].first) + value(definitions[name].second)) % 10;
  };
  Words answer;
  for (const std::string& name : names) answer.push_back(std::to_string(value(name)));
  return steps ? joined(answer) : std::to_string(value(prompt[at + 1]));
}

// Three minds at once, each with the boxes it saw.
std::string solve_false_belief(const Words& prompt, std::string* reality = nullptr) {
  std::map<std::string, std::string> minds = {{"x", prompt[0]}, {"y", prompt[0]}, {"z", prompt[0]}};
  std::set<std::string> room = {"x", "y", "z"};
  const std::string asked = prompt[prompt.size() - 2];
  Words answer = {prompt[0]};
  std::string ball = prompt[0];
  for (size_t i = 1; prompt[i] != "?"; i += 2) {
    const std::string &agent = prompt[i], &act = prompt[i + 1];
    if (act == "leave") {
      REQUIRE(room.erase(agent) == 1);
    } else if (act == "enter") {
      REQUIRE(room.insert(agent).second);
    } else {
      REQUIRE(room.contains(agent));
      REQUIRE(act != ball);
      ball = act;
      for (const std::string& witness : room) minds[witness] = act;
    }
    answer.push_back(minds[asked]);
  }
  if (reality != nullptr) *reality = ball;
  return joined(answer);
}

struct AbilityCase {
  std::string name;
  std::shared_ptr<PromptedTask> task;
  int32_t vocab_size = 0, block_size = 0;
  std::function<std::string(const Words&)> solve;
};

std::vector<AbilityCase> ability_cases() {
  const auto unscramble = std::make_shared<Unscramble>();
  const auto add = [](Addition::Format format) {
    return [=](const Words& prompt) { return solve_addition(prompt, format); };
  };
  const Words both = {"cot", "direct"};
  return {
      {"unscramble", unscramble, 28, 11, [=](const Words& prompt) { return solve_unscramble(*unscramble, prompt); }},
      {"shell game", std::make_shared<ShellGame>(5, 12, both), 19, 28, solve_shell_game},
      {"postfix", std::make_shared<Postfix>(), 17, 21, solve_postfix},
      {"reversed addition", std::make_shared<Addition>(), 13, 12, add(Addition::Format::reversed)},
      {"plain addition", std::make_shared<Addition>(3, Addition::Format::plain), 13, 12, add(Addition::Format::plain)},
      {"addition by steps", std::make_shared<Addition>(3, Addition::Format::scratchpad), 15, 25,
       add(Addition::Format::scratchpad)},
      {"variables", std::make_shared<Variables>(4, both), 19, 20, solve_variables},
      {"false belief", std::make_shared<FalseBelief>(), 12, 23,
       [](const Words& prompt) { return solve_false_belief(prompt); }},
      {"false belief, balanced", std::make_shared<FalseBelief>(6, true), 12, 23,
       [](const Words& prompt) { return solve_false_belief(prompt); }},
  };
}

}  // namespace

TEST_CASE("every answer is what an independent solution of the prompt gives", "[tasks]") {
  for (const AbilityCase& one : ability_cases()) {
    DYNAMIC_SECTION(one.name) {
      const PromptedTask& task = *one.task;
      CHECK(task.vocab_size() == one.vocab_size);
      REQUIRE(task.block_size() == one.block_size);
      for (const Split split_of : {Split::kTrain, Split::kValidation}) {
        const Batch batch = task.sample(split_of, 3, 1, 200);
        const auto T = static_cast<size_t>(batch.block_size);
        for (size_t b = 0; b < 200; ++b) {
          const auto tokens = std::span(batch.tokens).subspan(b * T, T);
          CAPTURE(task.decode(tokens));
          const Words words = words_of(task.decode(tokens));
          const auto equals = std::find(words.begin(), words.end(), "=");
          REQUIRE(equals != words.end());
          const Words prompt(words.begin(), equals + 1);
          const Words answer = words_of(one.solve(prompt));
          Words expected = prompt;
          expected.insert(expected.end(), answer.begin(), answer.end());
          expected.resize(T, "_");
          REQUIRE(words == expected);
          REQUIRE(task.encode(joined(words)) == std::vector<int32_t>(tokens.begin(), tokens.end()));
          for (size_t t = 0; t < T; ++t) {
            const bool scored = t + 1 >= prompt.size() && t + 1 < prompt.size() + answer.size();
            REQUIRE(batch.weights[b * T + t] == (scored ? 1.0f : 0.0f));
            if (t + 1 < T) REQUIRE(batch.targets[b * T + t] == tokens[t + 1]);
          }
        }
      }
      for (int32_t arm = 0; arm < static_cast<int32_t>(task.arms().size()); ++arm) {
        for (const Item& item : task.test_items(arm, 200, 9)) {
          REQUIRE(task.decode(item.answer()) == one.solve(words_of(task.decode(item.prompt()))));
          REQUIRE(task.score(item, item.answer()).final_correct);
          REQUIRE(item.answer_length == task.answer_length(arm));
        }
      }
    }
  }
}

TEST_CASE("no prompt of the test or of validation is in training", "[tasks]") {
  for (const AbilityCase& one : ability_cases()) {
    DYNAMIC_SECTION(one.name) {
      const PromptedTask& task = *one.task;
      // A prompt without the kind that asks for steps.
      const auto problem = [](const Words& words) {
        Words kept(words.begin(), std::find(words.begin(), words.end(), "="));
        if (kept[0] == "C" || kept[0] == "D") kept.erase(kept.begin());
        return joined(kept);
      };
      const auto drawn = [&](Split from) {
        std::set<std::string> prompts;
        const Batch batch = task.sample(from, 1, 0, 4000);
        const auto T = static_cast<size_t>(batch.block_size);
        for (size_t b = 0; b < 4000; ++b) {
          prompts.insert(problem(words_of(task.decode(std::span(batch.tokens).subspan(b * T, T)))));
        }
        return prompts;
      };
      const auto train = drawn(Split::kTrain), validation = drawn(Split::kValidation);
      CHECK(train.size() > validation.size() / 2);
      std::set<std::string> asked;
      for (int32_t arm = 0; arm < static_cast<int32_t>(task.arms().size()); ++arm) {
        const auto items = task.test_items(arm, 1000, 1);
        REQUIRE(items.size() == 1000);
        std::set<std::string> of_arm;
        for (const Item& item : items) of_arm.insert(problem(words_of(task.decode(item.prompt()))));
        CHECK(of_arm.size() == 1000);
        asked.insert(of_arm.begin(), of_arm.end());
      }
      for (const std::string& prompt : asked) {
        CAPTURE(prompt);
        REQUIRE_FALSE(train.contains(prompt));
        REQUIRE_FALSE(validation.contains(prompt));
      }
      for (const std::string& prompt : validation) REQUIRE_FALSE(train.contains(prompt));
    }
  }
}

TEST_CASE("arms that differ by how they are asked share their problems", "[tasks]") {
  const ShellGame task(5, 12, {"cot", "direct"});
  const auto steps = task.test_items(0, 50, 4), at_once = task.test_items(1, 50, 4);
  REQUIRE(steps.size() == at_once.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto prompt = steps[i].prompt().subspan(1), other = at_once[i].prompt().subspan(1);
    CHECK(std::equal(prompt.begin(), prompt.end(), other.begin(), other.end()));
    CHECK(steps[i].answer().back() == at_once[i].answer().back());
  }
}

TEST_CASE("pseudo-words have letters of their own, and the same number gives the same words", "[tasks]") {
  const Unscramble task;
  REQUIRE(task.words().size() == 256);
  std::set<std::string> letters;
  for (std::string word : task.words()) {
    CAPTURE(word);
    REQUIRE(word.size() == 5);
    for (size_t i = 0; i < 5; ++i) {
      const bool vowel = std::string("aeiou").find(word[i]) != std::string::npos;
      CHECK(vowel == (i % 2 == 1));
    }
    std::sort(word.begin(), word.end());
    letters.insert(word);
  }
  CHECK(letters.size() == 256);
  CHECK(Unscramble().words() == task.words());
}

TEST_CASE("a program is right when it computes the number", "[tasks]") {
  const Postfix task;
  struct Row {
    const char *program, *value;
  };
  for (const Row& row : {Row{"3 4 + 2 5 - *", "9"}, Row{"3 4 + 5 2 - *", "1"}, Row{"0 1 - 2 - 3 -", "4"},
                         Row{"9 9 * 9 * 9 *", "1"}, Row{"3 4 + 2 5 * *", "0"}, Row{"3 + 4 2 5 - *", "invalid"},
                         Row{"3 4 2 5 + - 1", "invalid"}, Row{"3 4 + 2 5 - =", "invalid"}}) {
    CAPTURE(row.program);
    CHECK(task.value(task.encode(row.program)) == row.value);
  }
  Item item;
  item.sequence = task.encode("( ( 3 + 4 ) * ( 2 - 5 ) ) = 3 4 + 2 5 - *");
  item.prompt_length = 14;
  item.answer_length = 7;
  const ItemScore other = task.score(item, task.encode("4 3 + 2 5 - *"));
  CHECK(other.final_correct);
  CHECK_FALSE(other.chain_correct);
  CHECK_FALSE(task.score(item, task.encode("4 3 + 5 2 - *")).final_correct);
}

TEST_CASE("the final answer of a word or a sum is all of it", "[tasks]") {
  const Addition task;
  Item item;
  item.sequence = task.encode("1 2 8 + 3 6 7 = 5 9 4 0");
  item.prompt_length = 8;
  item.answer_length = 4;
  CHECK(task.score(item, task.encode("5 9 4 0")).final_correct);
  CHECK_FALSE(task.score(item, task.encode("6 9 4 0")).final_correct);
  CHECK(task.score(item, task.encode("6 9 4 0")).position_correct.back() == 1);
}

TEST_CASE("false beliefs are a subset of their own, rare unless they are asked for", "[tasks]") {
  const auto share = [](const FalseBelief& task) {
    const Batch batch = task.sample(Split::kTrain, 0, 0, 4000);
    const auto T = static_cast<size_t>(batch.block_size);
    int32_t found = 0;
    for (size_t b = 0; b < 4000; ++b) {
      const Words words = words_of(task.decode(std::span(batch.tokens).subspan(b * T, T)));
      std::string reality;
      solve_false_belief({words.begin(), std::find(words.begin(), words.end(), "=") + 1}, &reality);
      found += words.back() != reality ? 1 : 0;
    }
    return found / 4000.0;
  };
  const double natural = share(FalseBelief());
  CHECK(natural > 0.05);
  CHECK(natural < 0.30);
  CHECK(share(FalseBelief(6, true)) == 0.5);

  const FalseBelief task;
  for (int32_t arm = 0; arm < 2; ++arm) {
    for (const Item& item : task.test_items(arm, 200, 2)) {
      const auto prompt = item.prompt();
      const auto end = task.ending(prompt);
      CHECK((end.ball != end.belief) == (task.arms()[size_t(arm)] == "false_belief"));
      CHECK(item.answer().back() == end.belief);
    }
  }
}

TEST_CASE("bad options of the tasks name what is wrong", "[tasks]") {
  struct Row {
    std::function<void()> make;
    const char* message;
  };
  const Row rows[] = {
      {[] { Unscramble(1); }, "[unscramble] 1 words"},
      {[] { ShellGame(10); }, "[shell_game] 10 cups"},
      {[] { ShellGame(5, 0); }, "[shell_game] 0 swaps"},
      {[] { ShellGame(5, 3, {"filler"}); }, "[shell_game] unknown arm 'filler'"},
      {[] { ShellGame(5, 3, {"cot", "cot"}); }, "arm 'cot' is named twice"},
      {[] { ShellGame(5, 3, {}); }, "needs at least one arm"},
      {[] { Postfix(0); }, "[postfix] 0 operations"},
      {[] { Addition(19); }, "[addition] 19 digits"},
      {[] { Variables(1); }, "[variables] 1 assignments"},
      {[] { FalseBelief(0); }, "[false_belief] 0 events"},
      {[] { Addition().encode("1 x"); }, "[addition_reversed] 'x' is not in the vocabulary"},
      {[] { Addition().corrupt(0, 0, {}, {}); }, "no step to corrupt"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.message);
    CHECK_THROWS_WITH(row.make(), ContainsSubstring(row.message));
    CHECK_THROWS_AS(row.make(), UserError);
  }
}
