#include "experiments/tasks/recall.h"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

using graph::random_bits;
using graph::random_range;
using graph::stream_seed;

constexpr int32_t kMostSymbols = 1000;
constexpr uint32_t kMostAttempts = 10'000;

// How often the key at each pair's place occurred before.
std::vector<int32_t> prior_occurrences(std::span<const int32_t> tokens, int32_t keys) {
  std::vector<int32_t> seen(static_cast<size_t>(keys), 0), prior;
  for (size_t t = 0; t < tokens.size(); t += 2) {
    prior.push_back(seen[static_cast<size_t>(tokens[t])]++);
  }
  return prior;
}

}  // namespace

RecallTask::RecallTask(RecallOptions options) : options_(options) {
  check_range("[recall] keys", options.keys, 2, kMostSymbols);
  check_range("[recall] values", options.values, 2, kMostSymbols);
  check_range("[recall] pairs", options.pairs, 2, kMostSymbols);
  check_range("[recall] most_prior", options.most_prior, 0, options.pairs - 1);
  for (int32_t prior = 0; prior <= options.most_prior; ++prior) {
    arms_.push_back(fmt::format("{}_prior", prior));
  }
}

void RecallTask::draw(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens) const {
  const auto keys = static_cast<uint32_t>(options_.keys);
  const uint32_t key = random_bits(stream_seed(seed, split_name(split)), step, index);
  for (uint32_t pair = 0; pair < static_cast<uint32_t>(options_.pairs); ++pair) {
    const uint32_t drawn = random_range(key, 0, pair, keys);
    const uint32_t bound = random_range(key, 1, drawn, static_cast<uint32_t>(options_.values));
    tokens[2 * pair] = static_cast<int32_t>(drawn);
    tokens[2 * pair + 1] = static_cast<int32_t>(keys + bound);
  }
}

void RecallTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                              std::span<int32_t> targets, std::span<float> weights) const {
  draw(split, seed, step, index, tokens);
  for (size_t t = 0; t < tokens.size(); ++t) {
    targets[t] = t + 1 < tokens.size() ? tokens[t + 1] : padding_token();
    weights[t] = t % 2 == 0 ? 1.0f : 0.0f;
  }
}

std::string RecallTask::symbol(int32_t token) const {
  check(0 <= token && token < vocab_size(), "[recall] token {} is not in a vocabulary of {}", token, vocab_size());
  if (token >= options_.keys) return fmt::to_string(token - options_.keys);
  return token < 26 ? std::string(1, static_cast<char>('a' + token)) : fmt::format("k{}", token);
}

std::vector<std::string> RecallTask::symbols() const {
  std::vector<std::string> list;
  for (int32_t token = 0; token < vocab_size(); ++token) list.push_back(symbol(token));
  return list;
}

std::string RecallTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols(), name());
}

std::vector<int32_t> RecallTask::encode(std::string_view text) const { return encode_symbols(text, symbols(), name()); }

std::vector<Item> RecallTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[recall] {} test items", count);
  ensure(0 <= arm && static_cast<size_t>(arm) < arms_.size(), "[recall] no arm {}", arm);
  const uint32_t places = stream_seed(seed, "recall.places");
  std::vector<Item> items;
  std::vector<int32_t> tokens(static_cast<size_t>(block_size()));
  for (uint32_t i = 0; i < static_cast<uint32_t>(count); ++i) {
    // The first sequence of this item that every arm can ask about: arms share the problem.
    std::vector<int32_t> prior;
    for (uint32_t attempt = 0;; ++attempt) {
      check(attempt < kMostAttempts, "[recall] sequences of {} pairs over {} keys hardly ever repeat a key {} times",
            options_.pairs, options_.keys, options_.most_prior);
      draw(Split::kTest, seed, attempt, i, tokens);
      prior = prior_occurrences(tokens, options_.keys);
      if (*std::max_element(prior.begin(), prior.end()) >= options_.most_prior) break;
    }
    std::vector<size_t> fit;
    for (size_t pair = 0; pair < prior.size(); ++pair) {
      if (prior[pair] == arm) fit.push_back(pair);
    }
    const size_t pair = fit[random_range(places, static_cast<uint32_t>(arm), i, static_cast<uint32_t>(fit.size()))];
    Item& item = items.emplace_back();
    item.arm = arm;
    item.prompt_length = static_cast<int32_t>(2 * pair + 1);
    item.answer_length = 1;
    item.sequence.assign(tokens.size(), padding_token());
    std::copy_n(tokens.begin(), 2 * pair + 2, item.sequence.begin());
  }
  return items;
}

Corruption RecallTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  ensure(false, "[recall] an answer of one token has no step to corrupt");
  return {};
}

}  // namespace surtsey::experiments::tasks
