// Facts that change: the table, rows of every lesson, questions behind passages.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <map>
#include <set>

#include "experiments/tasks/changing_facts.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;
using Passages = FactLesson::Passages;

namespace {

std::shared_ptr<const FactTable> small_table() {
  return std::make_shared<FactTable>(ChangingFactOptions{.facts = 60, .key_words = 10, .values = 16});
}

// A row of a batch as words.
std::vector<std::string> words_of(const ChangingFactTask& task, std::span<const int32_t> row) {
  std::vector<std::string> words;
  for (const int32_t token : row) words.push_back(task.decode(std::vector{token}));
  return words;
}

// By key text, all that rows say of a fact: in a closed book, in passages, and as answers behind passages.
struct SeenFacts {
  std::map<std::string, std::set<std::string>> closed, read, answered;
  int closed_rows = 0, open_rows = 0, near_rows = 0;

  SeenFacts(const ChangingFactTask& task, int32_t rows) {
    const Batch batch = task.sample(Split::kTrain, 5, 2, rows);
    const auto length = static_cast<size_t>(task.block_size());
    for (size_t b = 0; b < static_cast<size_t>(rows); ++b) {
      const auto row = std::span(batch.tokens).subspan(b * length, length);
      const auto words = words_of(task, row);
      for (size_t t = 0; t < length; ++t) {
        REQUIRE(batch.weights[b * length + t] == (t == length - 2 ? 1.0f : 0.0f));
        if (t + 1 < length) REQUIRE(batch.targets[b * length + t] == row[t + 1]);
      }
      const std::string asked = words[length - 3] + " " + words[length - 2], answer = words[length - 1];
      REQUIRE(words[length - 4] == "?");
      if (words[0] == "-") {
        ++closed_rows;
        closed[asked].insert(answer);
        continue;
      }
      ++open_rows;
      std::string found;
      bool near = true;
      for (size_t p = 0; p + 4 < length; p += 3) {
        const std::string key = words[p] + " " + words[p + 1];
        read[key].insert(words[p + 2]);
        if (key == asked) {
          REQUIRE(found.empty());  // it stands there once
          found = words[p + 2];
        } else {
          near = near && (words[p] == words[length - 3] || words[p + 1] == words[length - 2]);
        }
      }
      near_rows += near ? 1 : 0;
      REQUIRE(found == answer);  // what the passage says is the answer
      answered[asked].insert(answer);
    }
  }
};

}  // namespace

TEST_CASE("changing facts: keys are different, a share of values changes, and each to another", "[tasks]") {
  const FactTable table({.facts = 512, .key_words = 32, .values = 32, .changed_share = .25});
  CHECK(table.changed().size() == 128);
  CHECK(table.unchanged().size() == 384);
  std::set<std::pair<int32_t, int32_t>> keys;
  std::map<int32_t, int> values;
  for (const int32_t fact : table.all()) {
    keys.insert(table.key(fact));
    ++values[table.value(fact, World::before)];
    REQUIRE(table.value(fact, World::after) >= 0);
    REQUIRE(table.value(fact, World::after) < 32);
    for (const int32_t near : table.neighbours(fact)) {
      REQUIRE(near != fact);
      REQUIRE((table.key(near).first == table.key(fact).first || table.key(near).second == table.key(fact).second));
    }
  }
  CHECK(keys.size() == 512);
  CHECK(values.size() == 32);
  for (const auto& [value, count] : values) CHECK(count < 16 + 5 * 4);
  for (const int32_t fact : table.changed()) {
    REQUIRE(table.value(fact, World::before) != table.value(fact, World::after));
  }
  for (const int32_t fact : table.unchanged()) {
    REQUIRE(table.value(fact, World::before) == table.value(fact, World::after));
  }
  REQUIRE_THROWS_WITH(FactTable({.facts = 101, .key_words = 10}), ContainsSubstring("facts is 101"));
  REQUIRE_THROWS_WITH(FactTable({.values = 1}), ContainsSubstring("values is 1"));
  REQUIRE_THROWS_WITH(FactTable({.changed_share = 1.5}), ContainsSubstring("changed_share 1.5"));
}

TEST_CASE("changing facts: a lesson shows what it says, and the answer of a row is what its passage says", "[tasks]") {
  const auto table = small_table();
  {
    const SeenFacts seen(ChangingFactTask(table), 3000);
    CHECK(seen.open_rows == 0);
    CHECK(seen.closed.size() == 60);
    for (const auto& [key, values] : seen.closed) REQUIRE(values.size() == 1);
  }
  {
    const ChangingFactTask task(table, {.passages = Passages::agreeing});
    const SeenFacts seen(task, 3000);
    CHECK(std::abs(seen.open_rows - 1500) < 150);
    for (const auto& [key, values] : seen.read) {
      REQUIRE(values.size() == 1);
      REQUIRE(values == seen.closed.at(key));
    }
    CHECK(seen.near_rows < seen.open_rows / 2);
  }
  {
    const SeenFacts seen(ChangingFactTask(table, {.passages = Passages::made_up, .near = true}, 3), 3000);
    for (const auto& [key, values] : seen.closed) REQUIRE(values.size() == 1);
    for (const auto& [key, values] : seen.answered) REQUIRE(values.size() > 5);
    CHECK(seen.near_rows == seen.open_rows);
  }
  {
    const ChangingFactTask task(table, {.world = World::after, .changed_share = .5});
    const SeenFacts seen(task, 3000);
    int changed = 0;
    for (const int32_t fact : table->changed()) {
      const auto found = seen.closed.find(task.key_text(fact));
      if (found == seen.closed.end()) continue;
      ++changed;
      REQUIRE(task.statement(fact, World::after) == found->first + " " + *found->second.begin());
    }
    CHECK(changed == 15);
    CHECK(seen.closed.size() == 60);
    const SeenFacts alone(ChangingFactTask(table, {.world = World::after, .changed_share = 1}), 1000);
    CHECK(alone.closed.size() == 15);
  }
}

TEST_CASE("changing facts: questions stand behind passages as they were found", "[tasks]") {
  const auto table = small_table();
  const ChangingFactTask task(table, {}, 2);
  const int32_t fact = table->changed().front(), other = table->unchanged().front();
  const std::vector<std::string> found = {task.statement(other, World::after), task.statement(fact, World::after)};
  const Item open = task.question(fact, World::after, found);
  CHECK(task.decode(open.sequence) ==
        found[0] + " " + found[1] + " ? " + task.key_text(fact) + " " + found[1].substr(found[1].rfind(' ') + 1));
  CHECK(task.arms()[static_cast<size_t>(open.arm)] == "open");
  CHECK(task.encode(task.decode(open.sequence)) == open.sequence);
  const Item closed = task.question(fact, World::before);
  CHECK(task.decode(closed.prompt()) == "- - - - - - ? " + task.key_text(fact));
  CHECK(task.score(closed, closed.answer()).final_correct);
  CHECK(!task.score(open, closed.answer()).final_correct);
  const Item one = task.question(fact, World::after, std::span(found).last(1));
  CHECK(task.decode(one.prompt()) == found[1] + " - - - ? " + task.key_text(fact));
  for (const int32_t arm : {0, 1}) {
    std::set<std::string> asked;
    for (const Item& item : task.test_items(arm, 1000, 1)) {
      const auto words = words_of(task, item.prompt());
      asked.insert(words[7] + " " + words[8]);
      REQUIRE(item.arm == arm);
    }
    CHECK(asked.size() == 60);
  }
  REQUIRE_THROWS_WITH(task.question(fact, World::after, std::vector<std::string>(3, found[0])),
                      ContainsSubstring("3 passages, where there are 2"));
  REQUIRE_THROWS_WITH(task.question(fact, World::after, std::vector<std::string>{"a0 b1"}),
                      ContainsSubstring("'a0 b1' is no fact"));
  REQUIRE_THROWS_WITH(ChangingFactTask(table, {.changed_share = 2}), ContainsSubstring("2 of the rows"));
  REQUIRE_THROWS_WITH(ChangingFactTask(table, {}, 0), ContainsSubstring("passages is 0"));
  const auto constant = std::make_shared<FactTable>(ChangingFactOptions{.facts = 9, .changed_share = 0});
  REQUIRE_THROWS_WITH(ChangingFactTask(constant, {.changed_share = 1}), ContainsSubstring("no fact changes"));
}
