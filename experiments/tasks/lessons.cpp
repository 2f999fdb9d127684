#include "experiments/tasks/lessons.h"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr int32_t kLessonModulus = 10;
constexpr int32_t kFirstFactArm = 2;
// Streams of a row, apart from each other.
constexpr uint32_t kKindDraw = 1, kDigitsDraw = 2, kAskedDraw = 3, kPassageDraw = 4, kMadeUpDraw = 5, kExampleDraw = 6;

uint32_t lesson_below(uint32_t key, uint32_t stream, uint32_t number, int32_t count) {
  return graph::random_range(key, stream, number, uint32_t(count));
}

}  // namespace

const char* name(PassageFormat format) {
  switch (format) {
    case PassageFormat::pairs:
      return "pairs";
    case PassageFormat::separated:
      return "separated";
    case PassageFormat::questions:
      return "questions";
  }
  ensure(false, "[lessons] a format {}", int(format));
  return "";
}

LessonTask::LessonTask(LessonOptions options) : options_(std::move(options)) {
  check_range("[lessons] digits", options_.digits, 2, 100);
  check_range("[lessons] keys", options_.keys, options_.table->size(), 1 << 16);
  check_range("[lessons] shots", options_.shots, 0, options_.table->size());
  const LessonShares& shares = options_.shares;
  for (const double share : {shares.old, shares.fresh, shares.facts, shares.reading})
    check(share >= 0, "[lessons] the share {} is negative", share);
  check(shares.old + shares.fresh + shares.facts + shares.reading > 0, "[lessons] all shares are 0");
  for (int32_t digit = 0; digit < kLessonModulus; ++digit) symbols_.push_back(fmt::to_string(digit));
  for (const std::string& symbol :
       {std::string("="), std::string(";"), std::string("?"), options_.old.marker, options_.fresh.marker})
    symbols_.push_back(symbol);
  first_key_ = int32_t(symbols_.size());
  for (int32_t i = 0; i < options_.keys; ++i) symbols_.push_back(fmt::format("k{}", i));
  first_value_ = int32_t(symbols_.size());
  for (int32_t i = 0; i < options_.table->options().values; ++i) symbols_.push_back(fmt::format("v{}", i));
  symbols_.emplace_back("_");
  equals_ = token("="), separator_ = token(";"), ask_ = token("?");
  int32_t longest = 0;
  for (const int32_t arm : {0, kFirstFactArm}) longest = std::max(longest, prompt_length(arm) + answer_length(arm));
  if (options_.block == 0) options_.block = longest;
  const int32_t least =
      shares.old + shares.fresh > 0 || options_.shots == 0 ? longest : prompt_length(kFirstFactArm) + 1;
  check(options_.block >= least, "[lessons] a block of {} tokens has no room for a question of {}", options_.block,
        least);
}

int32_t LessonTask::token(std::string_view symbol) const {
  const auto found = std::find(symbols_.begin(), symbols_.end(), symbol);
  ensure(found != symbols_.end(), "[lessons] no symbol '{}'", symbol);
  return int32_t(found - symbols_.begin());
}

int32_t LessonTask::prompt_length(int32_t arm) const {
  const int32_t n = options_.digits;
  if (arm < kFirstFactArm) return options_.shots * (2 * n + 2) + n + 2;
  return options_.shots * (options_.format == PassageFormat::pairs ? 2 : 3) + 2;
}

std::vector<int32_t> LessonTask::draw_digits(uint32_t key, uint32_t number) const {
  std::vector<int32_t> digits(size_t(options_.digits));
  for (size_t i = 0; i < digits.size(); ++i)
    digits[i] = int32_t(lesson_below(key, kDigitsDraw + (number << 3), uint32_t(i), kLessonModulus));
  return digits;
}

void LessonTask::add_operation(Row& row, const Operation& operation, std::span<const int32_t> digits) const {
  row.tokens.push_back(token(operation.marker));
  row.tokens.insert(row.tokens.end(), digits.begin(), digits.end());
  row.tokens.push_back(equals_);
  int32_t state = digits[0];
  for (size_t i = 1; i < digits.size(); ++i) {
    state = (operation.a * state + operation.b * digits[i] + operation.c) % kLessonModulus;
    row.learned.push_back(row.tokens.size());
    row.tokens.push_back(state);
  }
}

void LessonTask::add_operations(Row& row, bool fresh, Split split, uint32_t seed, uint32_t key) const {
  const auto length = size_t(2 * options_.digits + 1), block = size_t(options_.block);
  const bool few = fresh && options_.examples > 0 && split == Split::kTrain;
  for (uint32_t number = 0; row.tokens.size() + length <= block; ++number) {
    if (number > 0) row.tokens.push_back(separator_);
    if (row.tokens.size() + length > block) break;
    const uint32_t chosen = few ? lesson_below(key, kExampleDraw, number, options_.examples) : number;
    const uint32_t stream = few ? graph::stream_seed(seed, "lessons.examples") : key;
    // A finite set has a stream an example, as numbers of a row's own stream are few.
    const uint32_t own = few ? graph::random_bits(stream, kExampleDraw, chosen) : stream;
    add_operation(row, fresh ? options_.fresh : options_.old, draw_digits(own, few ? 0 : number));
  }
}

void LessonTask::add_facts(Row& row, uint32_t key) const {
  const FactTable& table = *options_.table;
  for (uint32_t number = 0; row.tokens.size() + 3 <= size_t(options_.block); ++number) {
    const auto fact = int32_t(lesson_below(key, kAskedDraw, number, table.size()));
    row.tokens.insert(row.tokens.end(), {ask_, key_token(fact)});
    row.learned.push_back(row.tokens.size());
    row.tokens.push_back(value_token(table.value(fact, options_.world)));
  }
}

void LessonTask::add_reading(Row& row, uint32_t key) const {
  const int32_t most = std::min((options_.block - 3) / 2, options_.keys);
  const auto passages = 1 + int32_t(lesson_below(key, kPassageDraw, 0, most));
  const std::vector<int32_t> keys = shuffled(key, kPassageDraw + 8, options_.keys, passages);
  std::vector<int32_t> values;
  for (int32_t i = 0; i < passages; ++i)
    values.push_back(int32_t(lesson_below(key, kMadeUpDraw, uint32_t(i), options_.table->options().values)));
  for (int32_t i = 0; i < passages; ++i)
    row.tokens.insert(row.tokens.end(), {key_token(keys[size_t(i)]), value_token(values[size_t(i)])});
  for (uint32_t number = 0; row.tokens.size() + 3 <= size_t(options_.block); ++number) {
    const uint32_t asked = lesson_below(key, kAskedDraw, number, passages);
    row.tokens.insert(row.tokens.end(), {ask_, key_token(keys[asked])});
    row.learned.push_back(row.tokens.size());
    row.tokens.push_back(value_token(values[asked]));
  }
}

void LessonTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                              std::span<int32_t> targets, std::span<float> weights) const {
  const uint32_t key = graph::random_bits(graph::stream_seed(seed, split_name(split)), step, index);
  const LessonShares& shares = options_.shares;
  double place = graph::uniform_from_bits(graph::random_bits(key, kKindDraw, 0));
  place *= shares.old + shares.fresh + shares.facts + shares.reading;
  Row row;
  if (place < shares.old) {
    add_operations(row, false, split, seed, key);
  } else if (place < shares.old + shares.fresh) {
    add_operations(row, true, split, seed, key);
  } else if (place < shares.old + shares.fresh + shares.facts || shares.reading == 0) {
    add_facts(row, key);
  } else {
    add_reading(row, key);
  }
  row.tokens.resize(tokens.size(), padding_token());
  std::copy(row.tokens.begin(), row.tokens.end(), tokens.begin());
  std::copy(row.tokens.begin() + 1, row.tokens.end(), targets.begin());
  targets.back() = padding_token();
  std::fill(weights.begin(), weights.end(), 0.0f);
  for (const size_t at : row.learned) weights[at - 1] = 1;
}

Item LessonTask::item_of(int32_t arm, Row row, int32_t answer_length) const {
  Item item;
  item.arm = arm;
  item.answer_length = answer_length;
  item.prompt_length = int32_t(row.tokens.size()) - answer_length;
  check(row.tokens.size() <= size_t(options_.block), "[lessons] a question of {} tokens in a block of {}",
        row.tokens.size(), options_.block);
  row.tokens.resize(size_t(options_.block), padding_token());
  item.sequence = std::move(row.tokens);
  return item;
}

Item LessonTask::operation_item(int32_t arm, uint32_t key, uint32_t index) const {
  const uint32_t own = graph::random_bits(key, 0, index);
  Row row;
  for (int32_t shot = 0; shot <= options_.shots; ++shot) {
    if (shot > 0) row.tokens.push_back(separator_);
    add_operation(row, arm == 0 ? options_.fresh : options_.old, draw_digits(own, uint32_t(shot)));
  }
  return item_of(arm, std::move(row), answer_length(arm));
}

void LessonTask::add_passage(Row& row, int32_t key, int32_t value) const {
  if (options_.format == PassageFormat::questions) row.tokens.push_back(ask_);
  row.tokens.insert(row.tokens.end(), {key_token(key), value_token(value)});
  if (options_.format == PassageFormat::separated) row.tokens.push_back(separator_);
}

Item LessonTask::fact_item(int32_t arm, int32_t fact, uint32_t key, uint32_t index) const {
  const FactTable& table = *options_.table;
  const uint32_t own = graph::random_bits(key, 0, index);
  Row row;
  if (options_.shots > 0) {
    std::vector<int32_t> shown = shuffled(own, kPassageDraw, table.size(), options_.shots);
    // That of the question is among them, in a place at random.
    if (std::find(shown.begin(), shown.end(), fact) == shown.end())
      shown[lesson_below(own, kAskedDraw, 0, options_.shots)] = fact;
    for (const int32_t one : shown) add_passage(row, one, table.value(one, options_.world));
  }
  const World wanted = arm == kFirstFactArm + 2 ? World::before : options_.world;
  row.tokens.insert(row.tokens.end(), {ask_, key_token(fact), value_token(table.value(fact, wanted))});
  return item_of(arm, std::move(row), 1);
}

std::vector<Item> LessonTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[lessons] {} test items", count);
  const uint32_t key = graph::stream_seed(seed, split_name(Split::kTest));
  std::vector<Item> items;
  if (arm < kFirstFactArm) {
    for (int32_t i = 0; i < count; ++i) items.push_back(operation_item(arm, key, uint32_t(i)));
    return items;
  }
  const FactTable& table = *options_.table;
  const std::vector<int32_t>& asked = arm == kFirstFactArm ? table.all() : table.changed();
  // Behind other passages the same fact is another question.
  const int32_t size = int32_t(asked.size()), most = options_.shots > 0 ? count : std::min(count, size);
  const std::vector<int32_t> order = shuffled(key, kAskedDraw, size, size);
  for (int32_t i = 0; i < most; ++i)
    items.push_back(fact_item(arm, asked[size_t(order[size_t(i % size)])], key, uint32_t(i)));
  return items;
}

std::string LessonTask::key_text(int32_t fact) const { return symbols_.at(size_t(key_token(fact))); }

std::string LessonTask::statement(int32_t fact, World world) const {
  return key_text(fact) + " " + symbols_.at(size_t(value_token(options_.table->value(fact, world))));
}

Item LessonTask::question(int32_t fact, World world, std::span<const std::string> passages) const {
  Row row;
  for (const std::string& passage : passages) {
    const std::vector<int32_t> tokens = encode(passage);
    row.tokens.insert(row.tokens.end(), tokens.begin(), tokens.end());
  }
  row.tokens.insert(row.tokens.end(), {ask_, key_token(fact), value_token(options_.table->value(fact, world))});
  return item_of(kFirstFactArm, std::move(row), 1);
}

std::string LessonTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols_, "lessons");
}

std::vector<int32_t> LessonTask::encode(std::string_view text) const {
  return encode_symbols(text, symbols_, "lessons");
}

Corruption LessonTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  throw UserError("[lessons] answers are not corrupted here: the chain task does it for running sums");
}

}  // namespace surtsey::experiments::tasks
