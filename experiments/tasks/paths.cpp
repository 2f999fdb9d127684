#include "experiments/tasks/paths.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

// Draws of a prompt until one belongs to the split: (1 - 1/16)^512 fail.
constexpr uint32_t kAttempts = 512;

}  // namespace

PathsTask::PathsTask(PathsOptions options) : options_(options) {
  check_range("[paths] modulus", options_.modulus, 2, 100);
  check_range("[paths] length", options_.length, 2, 26);
  check(options_.held_out_share >= 0.05 && options_.held_out_share <= 0.5,
        "[paths] held_out_share is {}, it must be in [0.05, 0.5]", options_.held_out_share);
  for (int32_t digit = 0; digit < options_.modulus; ++digit) {
    symbols_.push_back(fmt::to_string(digit));
  }
  for (int32_t place = 0; place < options_.length; ++place) {
    symbols_.emplace_back(1, static_cast<char>('a' + place));
  }
  symbols_.emplace_back("=");
  symbols_.emplace_back("_");
}

Split PathsTask::split_of(std::span<const int32_t> digits) const {
  uint32_t state = graph::stream_seed(0, "paths.split");
  for (const int32_t digit : digits) {
    state = graph::random_bits(state, 0, static_cast<uint32_t>(digit));
  }
  const double place = graph::uniform_from_bits(state);
  if (place < options_.held_out_share) return Split::kTest;
  return place < 1.5 * options_.held_out_share ? Split::kValidation : Split::kTrain;
}

std::vector<int32_t> PathsTask::draw(Split split, uint32_t seed, uint32_t step, uint32_t index) const {
  const uint32_t key = graph::stream_seed(seed, split_name(split));
  const auto n = static_cast<uint32_t>(options_.length);
  const uint32_t stride = (kAttempts + 1) * n;
  std::vector<int32_t> sequence(n);
  for (uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t at = index * stride + attempt * n + i;
      sequence[i] = static_cast<int32_t>(graph::random_range(key, step, at, static_cast<uint32_t>(options_.modulus)));
    }
    if (split_of(sequence) == split) break;
    check(attempt + 1 < kAttempts, "[paths] no prompt of {} digits is for {}", n, split_name(split));
  }
  sequence.push_back(options_.modulus + options_.length);  // '='
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  for (uint32_t i = n - 1; i > 0; --i) {
    const uint32_t at = index * stride + kAttempts * n + i;
    std::swap(order[i], order[graph::random_range(key, step, at, i + 1)]);
  }
  int32_t sum = 0;
  for (const int32_t place : order) {
    sum = (sum + sequence[static_cast<size_t>(place)]) % options_.modulus;
    sequence.push_back(options_.modulus + place);
    sequence.push_back(sum);
  }
  return sequence;
}

void PathsTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                             std::span<int32_t> targets, std::span<float> weights) const {
  const std::vector<int32_t> sequence = draw(split, seed, step, index);
  const auto prompt = static_cast<size_t>(options_.length) + 1;
  for (size_t t = 0; t < tokens.size(); ++t) {
    tokens[t] = sequence[t];
    const bool last = t + 1 == tokens.size();
    targets[t] = last ? padding_token() : sequence[t + 1];
    weights[t] = t + 1 >= prompt && !last ? 1.0f : 0.0f;
  }
}

std::string PathsTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols_, name());
}

std::vector<int32_t> PathsTask::encode(std::string_view text) const { return encode_symbols(text, symbols_, name()); }

std::vector<Item> PathsTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  std::vector<Item> items;
  for (int32_t i = 0; i < count; ++i) {
    Item& item = items.emplace_back();
    item.arm = arm;
    item.sequence = draw(Split::kTest, seed, 0, static_cast<uint32_t>(i));
    item.prompt_length = options_.length + 1;
    item.answer_length = answer_length(arm);
  }
  return items;
}

Corruption PathsTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const { return {}; }

}  // namespace surtsey::experiments::tasks
