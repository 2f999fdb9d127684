#include "experiments/tasks/prompted.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_set>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

using graph::random_bits;
using graph::stream_seed;

// Which prompts are held out is part of the task, not of a run: the key is fixed.
constexpr uint32_t kHoldOutKey = stream_seed(0, "prompted.held_out");
constexpr double kValidationShare = 0.5;  // of those kept for the test
// Draws beyond four an item before a task is taken to have no more prompts.
constexpr uint32_t kSpareDraws = 200;
// And what a training set is drawn with, for every seed the same.
constexpr uint32_t kTrainingSetKey = stream_seed(0, "prompted.training_set");
constexpr int64_t kDrawsPerProblem = 20;

uint32_t hash_of(uint32_t key, std::span<const int32_t> prompt) {
  for (size_t i = 0; i < prompt.size(); ++i) {
    key = random_bits(key, static_cast<uint32_t>(i), static_cast<uint32_t>(prompt[i]));
  }
  return key;
}

}  // namespace

int32_t Draws::below(int32_t count) {
  return static_cast<int32_t>(graph::random_range(key_, attempt_, counter_++, static_cast<uint32_t>(count)));
}

double Draws::uniform() { return graph::uniform_from_bits(graph::random_bits(key_, attempt_, counter_++)); }

PromptedTask::PromptedTask(Layout layout) : layout_(std::move(layout)), symbols_(layout_.symbols) {
  check(!layout_.arms.empty(), "[{}] needs at least one arm", name());
  check(0 < layout_.held_out_share && layout_.held_out_share <= 0.5, "[{}] held-out share {} is not in (0, 0.5]",
        name(), layout_.held_out_share);
  int32_t longest = 0;
  for (const Arm& arm : layout_.arms) {
    check(std::find(arms_.begin(), arms_.end(), arm.name) == arms_.end(), "[{}] arm '{}' is named twice", name(),
          arm.name);
    arms_.push_back(arm.name);
    longest = std::max(longest, arm.answer_length);
    if (arm.kind.empty()) continue;
    if (std::find(symbols_.begin(), symbols_.end(), arm.kind) == symbols_.end()) {
      symbols_.push_back(arm.kind);
    }
    kinds_.push_back(token(arm.kind));
  }
  ensure(kinds_.empty() || kinds_.size() == arms_.size(), "[{}] some arms have no kind", name());
  symbols_.push_back("_");
  if (!layout_.end.empty()) end_token_ = token(layout_.end);
  block_size_ = (kinds_.empty() ? 0 : 1) + layout_.prompt_length + longest;
}

int32_t PromptedTask::token(std::string_view symbol) const {
  const auto found = std::find(symbols_.begin(), symbols_.end(), symbol);
  ensure(found != symbols_.end(), "[{}] has no symbol '{}'", name(), symbol);
  return static_cast<int32_t>(found - symbols_.begin());
}

int32_t PromptedTask::answer_length(int32_t arm) const {
  ensure(0 <= arm && static_cast<size_t>(arm) < arms_.size(), "[{}] no arm {}", name(), arm);
  return layout_.arms[static_cast<size_t>(arm)].answer_length;
}

Split PromptedTask::split_of(std::span<const int32_t> prompt) const {
  const double place = graph::uniform_from_bits(hash_of(kHoldOutKey, prompt));
  if (place < layout_.held_out_share) return Split::kTest;
  return place < layout_.held_out_share * (1 + kValidationShare) ? Split::kValidation : Split::kTrain;
}

void PromptedTask::write_problem(int32_t, Draws&, std::span<int32_t>, std::span<int32_t>) const {
  ensure(false, "[{}] writes no problems", name());
}

int32_t PromptedTask::sampled_arm(uint32_t, uint32_t index) const { return static_cast<int32_t>(index % arms_.size()); }

Problem PromptedTask::draw_problem(Split, int32_t arm, Draws& draws) const {
  Problem problem;
  problem.prompt.resize(static_cast<size_t>(layout_.prompt_length));
  problem.answer.resize(static_cast<size_t>(answer_length(arm)));
  write_problem(arm, draws, problem.prompt, problem.answer);
  return problem;
}

Problem PromptedTask::draw(Split split, uint32_t key, int32_t arm, double quantile) const {
  for (uint32_t attempt = 0;; ++attempt) {
    Draws draws(key, attempt, quantile);
    Problem problem = draw_problem(split, arm, draws);
    if (split_of(problem.prompt) == split && belongs(split, arm, problem.prompt)) return problem;
  }
}

Problem PromptedTask::draw_from_set(uint32_t key, int32_t arm) const {
  std::call_once(set_made_, [this] { make_training_set(); });
  const uint32_t place = graph::random_range(key, 0, 0, static_cast<uint32_t>(training_set_.size()));
  return draw_number(training_set_[place], arm);
}

Problem PromptedTask::draw_number(uint32_t number, int32_t arm) const {
  return draw(Split::kTrain, random_bits(kTrainingSetKey, 0, number), arm,
              number / static_cast<double>(layout_.training_problems));
}

void PromptedTask::make_training_set() const {
  training_set_.clear();
  const int64_t wanted = layout_.training_problems;
  const int64_t most = kSpareDraws + kDrawsPerProblem * wanted;
  std::unordered_set<uint64_t> known;
  for (int64_t number = 0; number < most && std::ssize(training_set_) < wanted; ++number) {
    const Problem problem = draw_number(static_cast<uint32_t>(number), 0);
    const uint64_t both =
        uint64_t{hash_of(kHoldOutKey, problem.prompt)} << 32 | hash_of(kTrainingSetKey, problem.prompt);
    if (known.insert(both).second) training_set_.push_back(static_cast<uint32_t>(number));
  }
  check(std::ssize(training_set_) == wanted,
        "[{}] a training set of {} different prompts was asked for, {} draws gave {}", name(), wanted, most,
        training_set_.size());
}

Item PromptedTask::make_item(const Problem& problem, int32_t arm) const {
  Item item;
  item.arm = arm;
  std::vector<int32_t>& row = item.sequence;
  if (!kinds_.empty()) row.push_back(kinds_[static_cast<size_t>(arm)]);
  row.insert(row.end(), problem.prompt.begin(), problem.prompt.end());
  item.prompt_length = static_cast<int32_t>(row.size());
  row.insert(row.end(), problem.answer.begin(), problem.answer.end());
  item.answer_length = static_cast<int32_t>(problem.answer.size());
  ensure(std::ssize(problem.prompt) <= layout_.prompt_length && item.answer_length <= answer_length(arm),
         "[{}] a prompt of {} tokens and an answer of {} exceed {} and {}", name(), problem.prompt.size(),
         problem.answer.size(), layout_.prompt_length, answer_length(arm));
  if (end_token_ >= 0) item.room = answer_length(arm);
  row.resize(static_cast<size_t>(block_size_), padding_token());
  return item;
}

void PromptedTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                                std::span<int32_t> targets, std::span<float> weights) const {
  const uint32_t key = random_bits(stream_seed(seed, split_name(split)), step, index);
  const int32_t arm = sampled_arm(key, index);
  const bool from_set = split == Split::kTrain && layout_.training_problems > 0;
  const Problem problem = from_set ? draw_from_set(key, arm) : draw(split, key, arm);
  const Batch batch = to_batch(std::vector{make_item(problem, arm)});
  std::copy(batch.tokens.begin(), batch.tokens.end(), tokens.begin());
  std::copy(batch.targets.begin(), batch.targets.end(), targets.begin());
  std::copy(batch.weights.begin(), batch.weights.end(), weights.begin());
}

std::vector<Item> PromptedTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[{}] {} test items", name(), count);
  std::vector<Item> items;
  std::set<std::vector<int32_t>> asked;
  const uint32_t stream = stream_seed(seed, split_name(Split::kTest));
  const uint32_t most = kSpareDraws + 4 * static_cast<uint32_t>(count);
  for (uint32_t i = 0; i < most && items.size() < static_cast<size_t>(count); ++i) {
    Item item = make_item(draw(Split::kTest, random_bits(stream, 0, i), arm), arm);
    if (asked.insert({item.prompt().begin(), item.prompt().end()}).second) {
      items.push_back(std::move(item));
    }
  }
  return items;
}

std::string PromptedTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols_, name());
}

std::vector<int32_t> PromptedTask::encode(std::string_view text) const {
  return encode_symbols(text, symbols_, name());
}

Corruption PromptedTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  throw UserError(fmt::format("[{}] its answers have no step to corrupt", name()));
}

std::vector<PromptedTask::Arm> step_arms(const std::string& task, const std::vector<std::string>& names,
                                         int32_t steps) {
  std::vector<PromptedTask::Arm> arms;
  for (const std::string& one : names) {
    check(one == "cot" || one == "direct", "[{}] unknown arm '{}': cot, direct", task, one);
    arms.push_back({one, one == "cot" ? "C" : "D", one == "cot" ? steps : 1});
  }
  return arms;
}

}  // namespace surtsey::experiments::tasks
