// What one trained model is taught in many ways: a new operation and new facts (E19). One vocabulary for all that it
// learned before, learns now, and is told before a question.
//
//   A 3 1 4 1 = 4 8 9                   the operation that the base knows (tasks/operations.h)
//   B 3 1 4 1 = 0 5 6                   the new one
//   ? k12 v3                            a fact, closed book
//   k5 v1 k12 v3 ? k12 v3               and behind passages
//   B 3 1 4 1 = 0 5 6 ; B 2 7 .. =      an operation behind examples of it
//
// A row of training is one of four kinds, by `shares`:
//   old, fresh   texts of the operation, with ';' between them, as many as fit
//   facts        facts of the table, closed book, as many as fit
//   reading      passages whose values are drawn for this row, then questions about them: what stands there is the
//                only way to the answer
// Loss: weight 1 on every result of an operation and on the value behind every '?'.
//
// Arms: "new" and "old" ask an operation; "facts" asks any fact of the world, "changed" those that change, with the
// value of the world, "stale" the same for the value of before. `shots` examples, or passages with that of the question
// among them, stand before each question.
//
// Text: symbols separated by blanks; PAD is '_'.
#pragma once

#include "experiments/tasks/changing_facts.h"
#include "experiments/tasks/operations.h"
#include "experiments/tasks/task.h"

#include <memory>

namespace surtsey::experiments::tasks {

struct LessonShares {
  double old = 0, fresh = 0, facts = 0, reading = 0;
};

// How passages stand before a question; the first is the one that is trained.
enum class PassageFormat : uint8_t { pairs, separated, questions };  // "k v", "k v ;", "? k v"
const char* name(PassageFormat format);

struct LessonOptions {
  Operation old{"old", "A", 1, 1, 0}, fresh{"new", "B", 3, 1, 1};
  int32_t digits = 8;  // of a text of an operation, in [2, 100]
  int32_t keys = 256;  // words that are keys, of which the table has the first; at least its facts
  std::shared_ptr<const FactTable> table = std::make_shared<FactTable>();
  World world = World::before;
  LessonShares shares = {.fresh = 1};
  int32_t block = 0;     // T; 0: of the longest question with its answer
  int32_t examples = 0;  // different texts of the new operation to train on, of each seed; 0: new ones always
  int32_t shots = 0;     // before each question
  PassageFormat format = PassageFormat::pairs;
};

class LessonTask : public Task {
 public:
  // UserError: more facts than keys, shares that are negative or all 0, a block in which no question fits.
  explicit LessonTask(LessonOptions options);

  const LessonOptions& options() const { return options_; }
  // From here on facts have these values; no thread may be sampling.
  void set_world(World world) { options_.world = world; }

  std::string_view name() const override { return "lessons"; }
  int32_t vocab_size() const override { return int32_t(symbols_.size()); }
  int32_t block_size() const override { return options_.block; }
  const std::vector<std::string>& arms() const override { return arms_; }
  double chance() const override { return .1; }  // of an operation; a fact's is one in its values
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t answer_length(int32_t arm) const override { return arm < 2 ? options_.digits - 1 : 1; }
  int32_t prompt_length(int32_t arm) const;  // with what stands before the question

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

  std::string key_text(int32_t fact) const;                // "k12"
  std::string statement(int32_t fact, World world) const;  // "k12 v3"
  // The question whose right answer is that of `world`, behind these texts such as statement() writes. UserError: they
  // leave no room, or have other symbols.
  Item question(int32_t fact, World world, std::span<const std::string> passages) const;

 private:
  // A row as it grows; targets are where it is learned.
  struct Row {
    std::vector<int32_t> tokens;
    std::vector<size_t> learned;
  };

  int32_t token(std::string_view symbol) const;
  int32_t key_token(int32_t key) const { return first_key_ + key; }
  int32_t value_token(int32_t value) const { return first_value_ + value; }
  void add_operation(Row& row, const Operation& operation, std::span<const int32_t> digits) const;
  std::vector<int32_t> draw_digits(uint32_t key, uint32_t number) const;
  void add_operations(Row& row, bool fresh, Split split, uint32_t seed, uint32_t key) const;
  void add_facts(Row& row, uint32_t key) const;
  void add_reading(Row& row, uint32_t key) const;
  void add_passage(Row& row, int32_t key, int32_t value) const;
  Item item_of(int32_t arm, Row row, int32_t answer_length) const;
  Item operation_item(int32_t arm, uint32_t key, uint32_t index) const;
  Item fact_item(int32_t arm, int32_t fact, uint32_t key, uint32_t index) const;

  LessonOptions options_;
  std::vector<std::string> arms_ = {"new", "old", "facts", "changed", "stale"};
  std::vector<std::string> symbols_;
  int32_t equals_ = 0, separator_ = 0, ask_ = 0, first_key_ = 0, first_value_ = 0;
};

}  // namespace surtsey::experiments::tasks
