#include "experiments/tasks/chain.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

using graph::random_bits;
using graph::random_range;
using graph::stream_seed;

constexpr uint64_t kHoldOutBelow = 1000000;
// Prompts kept for validation, as a share of those kept for the test.
constexpr double kChainValidation = 0.5;
// Which prompts are held out is part of the task, not of a run: the key is fixed.
constexpr uint32_t kChainKey = stream_seed(0, "chain.held_out");

// m^n, or kHoldOutBelow if it is not below that.
uint64_t count_prompts(int32_t modulus, int32_t length) {
  uint64_t count = 1;
  for (int32_t i = 0; i < length && count < kHoldOutBelow; ++i) {
    count *= static_cast<uint64_t>(modulus);
  }
  return std::min(count, kHoldOutBelow);
}

// The split that the prompt of this rank belongs to.
Split split_of_rank(uint64_t rank, double share) {
  const double place = graph::uniform_from_bits(random_bits(kChainKey, 0, static_cast<uint32_t>(rank)));
  if (place < share) return Split::kTest;
  return place < share * (1 + kChainValidation) ? Split::kValidation : Split::kTrain;
}

}  // namespace

ChainTask::ChainTask(ChainOptions options) : options_(std::move(options)) {
  const auto& o = options_;
  check(2 <= o.modulus && o.modulus <= 1000, "[{}] {} {} is not in [2, 1000]", o.name,
        o.modulus_key.empty() ? "modulus" : o.modulus_key, o.modulus);
  check(2 <= o.length && o.length <= 1000, "[{}] {} {} is not in [2, 1000]", o.name, o.length_key, o.length);
  check(!o.arms.empty(), "[{}] needs at least one arm: cot, direct, filler, permuted", o.name);
  check(0 <= o.held_out_share && o.held_out_share <= 0.5, "[{}] held-out share {} is not in [0, 0.5]", o.name,
        o.held_out_share);
  check(o.mixture.empty() || o.mixture.size() == o.arms.size(), "[{}] a mixture of {} numbers for {} arms", o.name,
        o.mixture.size(), o.arms.size());

  for (int32_t digit = 0; digit < o.modulus; ++digit) symbols_.push_back(fmt::to_string(digit));
  symbols_.insert(symbols_.end(), {"=", "D", "C", "_"});
  for (size_t i = 0; i < o.arms.size(); ++i) {
    const std::string& arm = o.arms[i];
    check(std::count(o.arms.begin(), o.arms.end(), arm) == 1, "[{}] arm '{}' is named twice", o.name, arm);
    if (arm == "cot") {
      kinds_.push_back(Kind::kCot);
    } else if (arm == "direct") {
      kinds_.push_back(Kind::kDirect);
    } else if (arm == "filler") {
      kinds_.push_back(Kind::kFiller);
    } else {
      check(arm == "permuted", "[{}] unknown arm '{}': cot, direct, filler, permuted", o.name, arm);
      kinds_.push_back(Kind::kPermuted);
    }
    const int32_t share = o.mixture.empty() ? 1 : o.mixture[i];
    check(0 <= share && share <= 1000, "[{}] mixture entry {} is not in [0, 1000]", o.name, share);
    round_.insert(round_.end(), static_cast<size_t>(share), static_cast<int32_t>(i));
  }
  check(!round_.empty(), "[{}] the mixture trains no arm", o.name);
  const auto uses = [&](Kind kind) { return std::find(kinds_.begin(), kinds_.end(), kind) != kinds_.end(); };
  if (uses(Kind::kFiller)) {
    filler_prompt_ = static_cast<int32_t>(symbols_.size());
    filler_token_ = filler_prompt_ + 1;
    symbols_.insert(symbols_.end(), {"F", "."});
  }
  if (uses(Kind::kPermuted)) {
    permuted_prompt_ = static_cast<int32_t>(symbols_.size());
    symbols_.push_back("P");
  }
  vocab_size_ = static_cast<int32_t>(symbols_.size());
  prompt_count_ = count_prompts(o.modulus, o.length);
  holds_out_ = o.held_out_share > 0 && prompt_count_ < kHoldOutBelow;
  if (holds_out_) {
    std::array<uint64_t, 3> sizes{};
    for (uint64_t rank = 0; rank < prompt_count_; ++rank) {
      sizes[static_cast<size_t>(split_of_rank(rank, o.held_out_share))] += 1;
    }
    const bool both = !o.modulus_key.empty();
    check(std::count(sizes.begin(), sizes.end(), 0u) == 0,
          "[{}] {} {}{} make {} prompts, of which {} fall to training, {} to validation and {} to the test: too few; "
          "take a greater {}{}",
          o.name, o.length_key, o.length, both ? fmt::format(" and {} {}", o.modulus_key, o.modulus) : "",
          prompt_count_, sizes[0], sizes[1], sizes[2], o.length_key, both ? " or " + o.modulus_key : "");
  }
}

int32_t ChainTask::answer_length(int32_t arm) const {
  ensure(0 <= arm && static_cast<size_t>(arm) < kinds_.size(), "[{}] no arm {}", name(), arm);
  return kinds_[static_cast<size_t>(arm)] == Kind::kDirect ? 1 : options_.length;
}

int32_t ChainTask::prompt_token(Kind kind) const {
  switch (kind) {
    case Kind::kDirect:
      return options_.modulus + 1;
    case Kind::kCot:
      return options_.modulus + 2;
    case Kind::kFiller:
      return filler_prompt_;
    case Kind::kPermuted:
      return permuted_prompt_;
  }
  ensure(false, "[{}] unknown prompt kind", name());
  return -1;
}

Split ChainTask::split_of(std::span<const int32_t> digits) const {
  if (!holds_out_) return Split::kTrain;
  uint64_t rank = 0;
  for (const int32_t digit : digits) {
    rank = rank * static_cast<uint64_t>(options_.modulus) + static_cast<uint64_t>(digit);
  }
  return split_of_rank(rank, options_.held_out_share);
}

void ChainTask::draw_digits(Split split, uint32_t seed, uint32_t step, uint32_t index,
                            std::span<int32_t> digits) const {
  // One key per sample: digits then never compete for counters, however many there are.
  const uint32_t key = random_bits(stream_seed(seed, split_name(split)), step, index);
  const auto count = static_cast<uint32_t>(digits.size());
  for (uint32_t attempt = 0;; ++attempt) {
    for (uint32_t i = 0; i < count; ++i) {
      digits[i] = static_cast<int32_t>(random_range(key, attempt, i, static_cast<uint32_t>(options_.modulus)));
    }
    if (!holds_out_ || split_of(digits) == split) return;
  }
}

void ChainTask::write_sequence(Kind kind, std::span<const int32_t> digits, std::span<int32_t> tokens) const {
  const auto n = static_cast<size_t>(options_.length);
  std::fill(tokens.begin(), tokens.end(), padding_token());
  tokens[0] = prompt_token(kind);
  std::copy(digits.begin(), digits.end(), tokens.begin() + 1);
  tokens[n + 1] = equals_token();
  const auto answer = tokens.subspan(n + 2);
  int32_t sum = 0;
  for (size_t i = 0; i < n; ++i) {
    sum = (sum + digits[i]) % options_.modulus;
    if (kind == Kind::kCot) {
      answer[i] = sum;
    } else if (kind == Kind::kFiller && i + 1 < n) {
      answer[i] = filler_token_;
    } else if (kind == Kind::kPermuted && i + 1 < n) {
      answer[n - 2 - i] = sum;
    }
  }
  answer[kind == Kind::kDirect ? 0 : n - 1] = sum;
}

void ChainTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                             std::span<int32_t> targets, std::span<float> weights) const {
  const auto n = static_cast<size_t>(options_.length);
  const int32_t arm = round_[index % round_.size()];
  std::vector<int32_t> digits(n);
  draw_digits(split, seed, step, index, digits);
  write_sequence(kinds_[static_cast<size_t>(arm)], digits, tokens);
  const size_t block = tokens.size();
  const size_t answer_end = n + 2 + static_cast<size_t>(answer_length(arm));
  for (size_t t = 0; t < block; ++t) {
    targets[t] = t + 1 < block ? tokens[t + 1] : padding_token();
    weights[t] = t + 1 >= n + 2 && t + 1 < answer_end ? 1.0f : 0.0f;
  }
}

std::string ChainTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols_, name());
}

std::vector<int32_t> ChainTask::encode(std::string_view text) const { return encode_symbols(text, symbols_, name()); }

Item ChainTask::make_item(int32_t arm, std::span<const int32_t> digits) const {
  Item item;
  item.arm = arm;
  item.sequence.resize(static_cast<size_t>(block_size()));
  item.prompt_length = options_.length + 2;
  item.answer_length = answer_length(arm);
  write_sequence(kinds_[static_cast<size_t>(arm)], digits, item.sequence);
  return item;
}

std::vector<Item> ChainTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[{}] {} test items", name(), count);
  std::vector<Item> items;
  std::vector<int32_t> digits(static_cast<size_t>(options_.length));
  if (!holds_out_) {
    for (int32_t i = 0; i < count; ++i) {
      draw_digits(Split::kTest, seed, 0, static_cast<uint32_t>(i), digits);
      items.push_back(make_item(arm, digits));
    }
    return items;
  }
  // Few prompts: ask each at most once, or the intervals would count repetitions as evidence.
  std::vector<uint64_t> ranks;
  for (uint64_t rank = 0; rank < prompt_count_; ++rank) {
    if (split_of_rank(rank, options_.held_out_share) == Split::kTest) ranks.push_back(rank);
  }
  const uint32_t key = stream_seed(seed, "chain.test_order");
  const size_t taken = std::min(ranks.size(), static_cast<size_t>(count));
  for (size_t i = 0; i < taken; ++i) {
    const uint32_t left = static_cast<uint32_t>(ranks.size() - i);
    std::swap(ranks[i], ranks[i + random_range(key, 0, static_cast<uint32_t>(i), left)]);
    uint64_t rank = ranks[i];
    for (size_t digit = digits.size(); digit-- > 0;) {
      digits[digit] = static_cast<int32_t>(rank % static_cast<uint64_t>(options_.modulus));
      rank /= static_cast<uint64_t>(options_.modulus);
    }
    items.push_back(make_item(arm, digits));
  }
  return items;
}

Corruption ChainTask::corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                              std::span<const int32_t> response) const {
  check(kinds_[static_cast<size_t>(item.arm)] == Kind::kCot,
        "[{}] only the steps of a chain of thought can be corrupted, not arm '{}'", name(),
        arms()[static_cast<size_t>(item.arm)]);
  const int32_t m = options_.modulus;
  const uint32_t key = random_bits(stream_seed(seed, "chain.corruption"), 0, item_index);
  Corruption corruption;
  corruption.position = static_cast<int32_t>(random_range(key, 0, 0, static_cast<uint32_t>(options_.length - 1)));
  corruption.amount = 1 + static_cast<int32_t>(random_range(key, 0, 1, static_cast<uint32_t>(m - 1)));
  const auto at = static_cast<size_t>(corruption.position);
  const auto is_digit = [&](int32_t token) { return 0 <= token && token < m; };
  corruption.possible = is_digit(response[at]) && is_digit(response.back());
  corruption.forced.assign(response.begin(), response.begin() + corruption.position + 1);
  if (corruption.possible) {
    corruption.forced[at] = (response[at] + corruption.amount) % m;
    corruption.expected_final_token = (response.back() + corruption.amount) % m;
  }
  return corruption;
}

}  // namespace surtsey::experiments::tasks
