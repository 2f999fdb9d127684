// Lessons: texts of operations and facts by hand, what is learned of a row, passages that hold the answer.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <map>
#include <set>
#include <sstream>

#include "experiments/tasks/lessons.h"
#include "graph/error.h"

using namespace surtsey;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;

namespace {

LessonOptions small_lesson(LessonShares shares, int32_t block = 0) {
  LessonOptions options;
  options.digits = 4;
  options.keys = 20;
  options.table = std::make_shared<FactTable>(ChangingFactOptions{.facts = 16, .values = 8});
  options.shares = shares;
  options.block = block;
  return options;
}

std::vector<std::string> lesson_words(const LessonTask& task, std::span<const int32_t> tokens) {
  std::istringstream text(task.decode(tokens));
  std::vector<std::string> words;
  for (std::string word; text >> word;) words.push_back(word);
  return words;
}

// Rows of a batch as words, with the places of what is learned.
struct LearnedRow {
  std::vector<std::string> words;
  std::set<size_t> learned;
};
std::vector<LearnedRow> rows_of(const LessonTask& task, int32_t count) {
  const Batch batch = task.sample(Split::kTrain, 3, 1, count);
  const auto length = size_t(task.block_size());
  std::vector<LearnedRow> rows;
  for (size_t b = 0; b < size_t(count); ++b) {
    LearnedRow& row = rows.emplace_back();
    row.words = lesson_words(task, std::span(batch.tokens).subspan(b * length, length));
    for (size_t t = 0; t < length; ++t) {
      if (batch.weights[b * length + t] == 0) continue;
      row.learned.insert(t + 1);
      REQUIRE(batch.targets[b * length + t] == batch.tokens[b * length + t + 1]);
    }
  }
  return rows;
}

// The results of an operation behind its digits, solved anew.
void check_operation(const std::vector<std::string>& words, size_t at) {
  const bool fresh = words[at] == "B";
  REQUIRE((fresh || words[at] == "A"));
  REQUIRE(words[at + 5] == "=");
  int state = std::stoi(words[at + 1]);
  for (size_t i = 2; i <= 4; ++i) {
    const int digit = std::stoi(words[at + i]);
    state = fresh ? (3 * state + digit + 1) % 10 : (state + digit) % 10;
    REQUIRE(words[at + 4 + i] == std::to_string(state));
  }
}

}  // namespace

TEST_CASE("lessons: operations fill a row, their results are learned", "[tasks]") {
  const LessonTask task(small_lesson({.old = 1, .fresh = 1}, 20));
  std::set<std::string> markers;
  for (const LearnedRow& row : rows_of(task, 40)) {
    for (const size_t at : {0, 10}) check_operation(row.words, at);
    CHECK(row.words[9] == ";");
    CHECK(row.learned == std::set<size_t>{6, 7, 8, 16, 17, 18});
    markers.insert(row.words[0]);
  }
  CHECK(markers.size() == 2);
}

TEST_CASE("lessons: few examples come again, those of another seed are others", "[tasks]") {
  LessonOptions options = small_lesson({.fresh = 1});
  options.examples = 5;
  const LessonTask task(options);
  std::set<std::string> seen, other;
  for (uint32_t step = 0; step < 60; ++step) {
    seen.insert(task.decode(task.sample(Split::kTrain, 1, step, 1).tokens));
    other.insert(task.decode(task.sample(Split::kTrain, 2, step, 1).tokens));
  }
  CHECK(seen.size() == 5);
  CHECK(other.size() == 5);
  CHECK(seen != other);
}

TEST_CASE("lessons: facts are those of the world, closed book", "[tasks]") {
  LessonTask task(small_lesson({.facts = 1}, 9));
  const FactTable& table = *task.options().table;
  for (const World world : {World::before, World::after}) {
    task.set_world(world);
    for (const LearnedRow& row : rows_of(task, 20)) {
      REQUIRE(row.learned == std::set<size_t>{2, 5, 8});
      for (const size_t at : {0, 3, 6}) {
        CHECK(row.words[at] == "?");
        const int32_t fact = std::stoi(row.words[at + 1].substr(1));
        CHECK(row.words[at + 2] == "v" + std::to_string(table.value(fact, world)));
      }
    }
  }
  // What has changed has a new answer and an old one.
  const auto fresh = task.test_items(task.arm_index("changed"), 100, 1);
  const auto stale = task.test_items(task.arm_index("stale"), 100, 1);
  REQUIRE(fresh.size() == table.changed().size());
  for (size_t i = 0; i < fresh.size(); ++i) {
    CHECK(std::vector(fresh[i].prompt().begin(), fresh[i].prompt().end()) ==
          std::vector(stale[i].prompt().begin(), stale[i].prompt().end()));
    CHECK(fresh[i].answer()[0] != stale[i].answer()[0]);
  }
}

TEST_CASE("lessons: what is read stands in its row, whatever the table says", "[tasks]") {
  const LessonTask task(small_lesson({.reading = 1}, 40));
  int against_the_table = 0;
  for (const LearnedRow& row : rows_of(task, 60)) {
    std::map<std::string, std::string> passages;
    size_t at = 0;
    for (; row.words[at] != "?"; at += 2) passages[row.words[at]] = row.words[at + 1];
    for (const size_t place : row.learned) {
      REQUIRE(row.words[place - 2] == "?");
      REQUIRE(passages.at(row.words[place - 1]) == row.words[place]);
      const int32_t fact = std::stoi(row.words[place - 1].substr(1));
      if (fact >= task.options().table->size()) continue;
      against_the_table += task.statement(fact, World::before) != row.words[place - 1] + " " + row.words[place];
    }
    CHECK(!row.learned.empty());
  }
  CHECK(against_the_table > 100);
}

TEST_CASE("lessons: questions behind examples, passages and what was found", "[tasks]") {
  LessonOptions options = small_lesson({.reading = 1}, 40);
  options.shots = 3;
  const LessonTask task(options);
  for (const Item& item : task.test_items(task.arm_index("new"), 5, 1)) {
    const auto words = lesson_words(task, item.sequence);
    for (const size_t at : {0, 10, 20, 30}) check_operation(words, at);
    CHECK(item.prompt_length == 36);
  }
  for (const Item& item : task.test_items(task.arm_index("facts"), 16, 1)) {
    const auto words = lesson_words(task, item.prompt());
    const std::string asked = words.back(), answer = task.decode(item.answer());
    CHECK(words.size() == 8);
    const auto passage = std::find(words.begin(), words.begin() + 6, asked);
    REQUIRE(passage < words.begin() + 5);
    CHECK(passage[1] == answer);
  }
  const std::string told = task.statement(4, World::after);
  const Item item = task.question(4, World::after, std::span(&told, 1));
  CHECK(task.decode(item.prompt()) == told + " ? k4");
  CHECK("k4 " + task.decode(item.answer()) == told);
}

TEST_CASE("lessons: what cannot be is said", "[tasks]") {
  CHECK_THROWS_WITH(LessonTask(small_lesson({.old = 0, .fresh = 0, .facts = 0, .reading = 0})),
                    ContainsSubstring("all shares are 0"));
  CHECK_THROWS_WITH(LessonTask(small_lesson({.fresh = 1}, 8)), ContainsSubstring("no room for a question of 9"));
  LessonOptions few = small_lesson({.facts = 1});
  few.keys = 15;
  CHECK_THROWS_WITH(LessonTask(few), ContainsSubstring("[lessons] keys"));
}
