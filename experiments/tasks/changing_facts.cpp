#include "experiments/tasks/changing_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

using graph::random_bits;
using graph::random_range;

// Streams of the table.
constexpr uint32_t kFactKeys = graph::stream_seed(0, "changing_facts.keys");
constexpr uint32_t kFactValues = graph::stream_seed(0, "changing_facts.values");
constexpr uint32_t kFactChanges = graph::stream_seed(0, "changing_facts.changes");

// What one row draws, as steps of its key.
enum FactDraw : uint32_t { kDrawBook, kDrawGroup, kDrawFact, kDrawOther, kDrawPlace, kDrawValue };

uint32_t draw_below(uint32_t key, FactDraw what, uint32_t index, size_t count) {
  return random_range(key, what, index, static_cast<uint32_t>(count));
}

}  // namespace

FactTable::FactTable(ChangingFactOptions options) : options_(options) {
  check_range("[changing_facts] key_words", options.key_words, 2, 1024);
  check_range("[changing_facts] values", options.values, 2, 1024);
  check_range("[changing_facts] facts", options.facts, 1, options.key_words * options.key_words);
  check(0 <= options.changed_share && options.changed_share <= 1, "[changing_facts] changed_share {} is not in [0, 1]",
        options.changed_share);
  const int32_t words = options.key_words, facts = options.facts;
  keys_ = shuffled(kFactKeys, 0, words * words, facts);
  all_.resize(static_cast<size_t>(facts));
  std::iota(all_.begin(), all_.end(), 0);
  const auto changes = static_cast<int32_t>(std::lround(options.changed_share * facts));
  changed_ = shuffled(kFactChanges, 0, facts, changes);
  std::sort(changed_.begin(), changed_.end());
  std::set_difference(all_.begin(), all_.end(), changed_.begin(), changed_.end(), std::back_inserter(unchanged_));
  const auto values = static_cast<uint32_t>(options.values);
  for (const int32_t fact : all_) {
    before_.push_back(static_cast<int32_t>(random_range(kFactValues, 0, static_cast<uint32_t>(fact), values)));
    const uint32_t moved = 1 + random_range(kFactValues, 1, static_cast<uint32_t>(fact), values - 1);
    const bool changes_now = std::binary_search(changed_.begin(), changed_.end(), fact);
    after_.push_back(changes_now ? (before_.back() + static_cast<int32_t>(moved)) % options.values : before_.back());
  }
  std::vector<std::vector<int32_t>> first(static_cast<size_t>(words)), second(static_cast<size_t>(words));
  for (const int32_t fact : all_) {
    first[static_cast<size_t>(key(fact).first)].push_back(fact);
    second[static_cast<size_t>(key(fact).second)].push_back(fact);
  }
  for (const int32_t fact : all_) {
    std::vector<int32_t>& own = neighbours_.emplace_back(first[static_cast<size_t>(key(fact).first)]);
    const std::vector<int32_t>& others = second[static_cast<size_t>(key(fact).second)];
    own.insert(own.end(), others.begin(), others.end());
    std::erase(own, fact);
  }
}

std::pair<int32_t, int32_t> FactTable::key(int32_t fact) const {
  const int32_t both = keys_.at(static_cast<size_t>(fact));
  return {both / options_.key_words, both % options_.key_words};
}

int32_t FactTable::value(int32_t fact, World world) const {
  return (world == World::before ? before_ : after_).at(static_cast<size_t>(fact));
}

const std::vector<int32_t>& FactTable::neighbours(int32_t fact) const {
  return neighbours_.at(static_cast<size_t>(fact));
}

ChangingFactTask::ChangingFactTask(std::shared_ptr<const FactTable> table, FactLesson lesson, int32_t passages)
    : table_(std::move(table)), lesson_(lesson), passages_(passages) {
  check_range("[changing_facts] passages", passages, 1, std::min(64, table_->size()));
  check(lesson.changed_share <= 1, "[changing_facts] {} of the rows are to ask facts that change",
        lesson.changed_share);
  check(lesson.changed_share <= 0 || !table_->changed().empty(), "[changing_facts] no fact changes to be asked of");
  check(lesson.changed_share < 0 || lesson.changed_share == 1 || !table_->unchanged().empty(),
        "[changing_facts] every fact changes: there are no old ones to mix in");
  const ChangingFactOptions& options = table_->options();
  for (int32_t i = 0; i < options.key_words; ++i) symbols_.push_back(fmt::format("a{}", i));
  for (int32_t i = 0; i < options.key_words; ++i) symbols_.push_back(fmt::format("b{}", i));
  first_value_ = vocab_size();
  for (int32_t i = 0; i < options.values; ++i) symbols_.push_back(fmt::format("v{}", i));
  empty_ = vocab_size();
  ask_ = empty_ + 1;
  symbols_.insert(symbols_.end(), {"-", "?", "_"});
}

std::vector<int32_t> ChangingFactTask::key_tokens(int32_t fact) const {
  const auto [first, second] = table_->key(fact);
  return {first, table_->options().key_words + second};
}

std::string ChangingFactTask::key_text(int32_t fact) const { return decode(key_tokens(fact)); }

std::string ChangingFactTask::statement(int32_t fact, World world) const {
  std::vector<int32_t> tokens = key_tokens(fact);
  tokens.push_back(value_token(table_->value(fact, world)));
  return decode(tokens);
}

Item ChangingFactTask::written(int32_t fact, int32_t answer, std::span<const int32_t> passage_tokens) const {
  Item item;
  item.sequence.assign(passage_tokens.begin(), passage_tokens.end());
  item.sequence.resize(3 * static_cast<size_t>(passages_), empty_);
  item.sequence.push_back(ask_);
  for (const int32_t token : key_tokens(fact)) item.sequence.push_back(token);
  item.sequence.push_back(value_token(answer));
  item.arm = passage_tokens.empty() ? 0 : 1;
  item.prompt_length = block_size() - 1;
  item.answer_length = 1;
  return item;
}

Item ChangingFactTask::question(int32_t fact, World world, std::span<const std::string> passages) const {
  check(std::ssize(passages) <= passages_, "[changing_facts] {} passages, where there are {} places", passages.size(),
        passages_);
  std::vector<int32_t> tokens;
  for (const std::string& text : passages) {
    const std::vector<int32_t> statement = encode(text);
    check(statement.size() == 3 && statement[2] >= first_value_ && statement[2] < empty_,
          "[changing_facts] '{}' is no fact such as 'a0 b1 v2'", text);
    tokens.insert(tokens.end(), statement.begin(), statement.end());
  }
  return written(fact, table_->value(fact, world), tokens);
}

int32_t ChangingFactTask::draw_fact(uint32_t key) const {
  const std::vector<int32_t>* group = &table_->all();
  if (lesson_.changed_share >= 0) {
    const bool changes = graph::random_uniform(key, kDrawGroup, 0) < lesson_.changed_share;
    group = changes ? &table_->changed() : &table_->unchanged();
  }
  return (*group)[draw_below(key, kDrawFact, 0, group->size())];
}

std::vector<int32_t> ChangingFactTask::draw_places(int32_t fact, uint32_t key) const {
  std::vector<int32_t> places;
  const std::vector<int32_t>& near = table_->neighbours(fact);
  for (uint32_t attempt = 0; std::ssize(places) < passages_ - 1; ++attempt) {
    // When neighbours run out, any other fact stands there.
    const bool from_near = lesson_.near && attempt < 64 && places.size() < near.size();
    const int32_t other = from_near ? near[draw_below(key, kDrawOther, attempt, near.size())]
                                    : static_cast<int32_t>(draw_below(key, kDrawOther, attempt, table_->all().size()));
    if (other != fact && std::find(places.begin(), places.end(), other) == places.end()) places.push_back(other);
  }
  places.insert(places.begin() + draw_below(key, kDrawPlace, 0, places.size() + 1), fact);
  return places;
}

Item ChangingFactTask::open_row(int32_t fact, uint32_t key) const {
  std::vector<int32_t> tokens;
  int32_t answer = 0;
  for (const int32_t one : draw_places(fact, key)) {
    const auto values = static_cast<size_t>(table_->options().values);
    const int32_t value = lesson_.passages == FactLesson::Passages::made_up
                              ? static_cast<int32_t>(draw_below(key, kDrawValue, static_cast<uint32_t>(one), values))
                              : table_->value(one, lesson_.world);
    if (one == fact) answer = value;
    for (const int32_t token : key_tokens(one)) tokens.push_back(token);
    tokens.push_back(value_token(value));
  }
  return written(fact, answer, tokens);
}

void ChangingFactTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index,
                                    std::span<int32_t> tokens, std::span<int32_t> targets,
                                    std::span<float> weights) const {
  const uint32_t key = random_bits(graph::stream_seed(seed, split_name(split)), step, index);
  const int32_t fact = draw_fact(key);
  const bool open = lesson_.passages != FactLesson::Passages::none && draw_below(key, kDrawBook, 0, 2) == 1;
  const Item row = open ? open_row(fact, key) : question(fact, lesson_.world);
  std::copy(row.sequence.begin(), row.sequence.end(), tokens.begin());
  std::copy(row.sequence.begin() + 1, row.sequence.end(), targets.begin());
  targets.back() = padding_token();
  std::fill(weights.begin(), weights.end(), 0.0f);
  weights[static_cast<size_t>(row.prompt_length) - 1] = 1;
}

std::vector<Item> ChangingFactTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[changing_facts] {} test items", count);
  ensure(arm == 0 || arm == 1, "[changing_facts] no arm {}", arm);
  const uint32_t key = graph::stream_seed(seed, split_name(Split::kTest));
  std::vector<Item> items;
  for (const int32_t fact : shuffled(key, 0, table_->size(), std::min(count, table_->size())))
    items.push_back(arm == 0 ? question(fact, lesson_.world)
                             : open_row(fact, random_bits(key, 1, static_cast<uint32_t>(fact))));
  return items;
}

std::string ChangingFactTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols_, name());
}

std::vector<int32_t> ChangingFactTask::encode(std::string_view text) const {
  return encode_symbols(text, symbols_, name());
}

Corruption ChangingFactTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  throw UserError("[changing_facts] a fact has no step to corrupt");
}

}  // namespace surtsey::experiments::tasks
