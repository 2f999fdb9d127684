// Facts that change, to ask models that know them by heart, that read them before they answer, or both (E19; retrieval
// as in Lewis et al. 2020, 2005.11401):
//
//   a12 b3 v17 a12 b9 v4 ? a12 b3 v17     two passages, the question, its answer
//   - - - - - - ? a12 b3 v17              the same without: closed book
//
// A fact is a key of two words and a value without any rule. A share of them has another value after the change. There
// is nothing to generalise of facts: a test asks what was trained. What can be learned beside them is to read.
//
// Text: symbols separated by blanks; PAD is '_'.
#pragma once

#include <memory>

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct ChangingFactOptions {
  int32_t facts = 512;         // at most key_words^2
  int32_t key_words = 32;      // of either half of a key, in [2, 1024]
  int32_t values = 32;         // in [2, 1024]
  double changed_share = .25;  // of the facts
};

enum class World : uint8_t { before, after };  // the change

// The facts alone, for whoever writes them in symbols of their own. A pure function of the options.
class FactTable {
 public:
  explicit FactTable(ChangingFactOptions options = {});  // UserError: options out of range

  const ChangingFactOptions& options() const { return options_; }
  int32_t size() const { return options_.facts; }
  std::pair<int32_t, int32_t> key(int32_t fact) const;  // each half in [0, key_words), no two facts alike
  int32_t value(int32_t fact, World world) const;       // in [0, values)
  const std::vector<int32_t>& all() const { return all_; }
  const std::vector<int32_t>& changed() const { return changed_; }
  const std::vector<int32_t>& unchanged() const { return unchanged_; }
  const std::vector<int32_t>& neighbours(int32_t fact) const;  // the other facts with one half of its key; may be empty

 private:
  ChangingFactOptions options_;
  std::vector<int32_t> keys_;            // first * key_words + second
  std::vector<int32_t> before_, after_;  // values
  std::vector<int32_t> all_, changed_, unchanged_;
  std::vector<std::vector<int32_t>> neighbours_;
};

// What a model is trained on.
struct FactLesson {
  // Half of the rows have passages, whose values are those of the table, or drawn for each row: then what stands there
  // is the only way to the answer.
  enum class Passages : uint8_t { none, agreeing, made_up };
  Passages passages = Passages::none;
  bool near = false;  // the other passages share half of the asked key, where there are such facts
  World world = World::before;
  // Share of rows that ask facts that change; negative: every fact is as likely.
  double changed_share = -1;
};

class ChangingFactTask : public Task {
 public:
  // `passages`: places for them before a question, in [1, 64]. UserError: out of range, a lesson about none.
  ChangingFactTask(std::shared_ptr<const FactTable> table, FactLesson lesson = {}, int32_t passages = 2);

  const FactTable& table() const { return *table_; }
  const FactLesson& lesson() const { return lesson_; }
  int32_t passages() const { return passages_; }

  std::string_view name() const override { return "changing_facts"; }
  const std::vector<std::string>& arms() const override { return arms_; }  // "closed", "open"
  int32_t vocab_size() const override { return static_cast<int32_t>(symbols_.size()); }
  int32_t block_size() const override { return 3 * passages_ + 4; }
  double chance() const override { return 1.0 / table_->options().values; }
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t answer_length(int32_t) const override { return 1; }

  // By the lesson; every split asks the same facts.
  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  // Different facts of the lesson's world, in "open" behind the fact itself and others, as rows of its training.
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;

  // A question whose right answer is that of `world`, behind texts such as statement() writes, in their order; places
  // that are left stay empty. UserError: more than there are places, a text that is no fact.
  Item question(int32_t fact, World world, std::span<const std::string> passages = {}) const;
  std::string key_text(int32_t fact) const;                // "a12 b3"
  std::string statement(int32_t fact, World world) const;  // "a12 b3 v17"

 private:
  std::vector<int32_t> key_tokens(int32_t fact) const;
  int32_t value_token(int32_t value) const { return first_value_ + value; }
  int32_t draw_fact(uint32_t key) const;
  // Which facts stand in the places, that of the question in a place drawn at random.
  std::vector<int32_t> draw_places(int32_t fact, uint32_t key) const;
  Item written(int32_t fact, int32_t answer, std::span<const int32_t> passage_tokens) const;
  Item open_row(int32_t fact, uint32_t key) const;

  std::shared_ptr<const FactTable> table_;
  FactLesson lesson_;
  int32_t passages_;
  int32_t first_value_ = 0, empty_ = 0, ask_ = 0;  // tokens
  std::vector<std::string> arms_ = {"closed", "open"};
  std::vector<std::string> symbols_;
};

}  // namespace surtsey::experiments::tasks
