#include "experiments/tasks/permutation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

using graph::random_bits;
using graph::random_range;
using graph::stream_seed;

}  // namespace

PermutationTask::PermutationTask(PermutationOptions options) : options_(options) {
  check_range("[permutation] symbols", options.symbols, 2, 1000);
  check_range("[permutation] tasks", options.tasks, 1, 100'000);
  check_range("[permutation] shots", options.shots, 0, options.symbols - 1);
  double most = 1;
  for (int32_t i = 2; i <= options.symbols && most < options.tasks; ++i) most *= i;
  check(options.tasks <= most, "[permutation] {} symbols have only {} permutations, not {}", options.symbols, most,
        options.tasks);
  for (int32_t shot = 0; shot <= options.shots; ++shot) {
    arms_.push_back(fmt::format("{}_shot", shot));
  }
  const uint32_t key = stream_seed(options.task_seed, "permutation.tasks");
  std::set<std::vector<int32_t>> known;
  for (uint32_t drawn = 0; known.size() < static_cast<size_t>(options.tasks); ++drawn) {
    auto permutation = shuffled(key, drawn, options.symbols, options.symbols);
    if (known.insert(permutation).second) permutations_.push_back(std::move(permutation));
  }
}

void PermutationTask::draw(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens) const {
  const uint32_t key = random_bits(stream_seed(seed, split_name(split)), step, index);
  const auto& permutation = permutations_[random_range(key, 0, 0, static_cast<uint32_t>(options_.tasks))];
  const std::vector<int32_t> inputs = shuffled(key, 1, options_.symbols, options_.shots + 1);
  for (size_t i = 0; i < inputs.size(); ++i) {
    tokens[3 * i] = inputs[i];
    tokens[3 * i + 1] = arrow();
    tokens[3 * i + 2] = permutation[static_cast<size_t>(inputs[i])];
  }
}

std::vector<double> PermutationTask::predictive(std::span<const int32_t> prompt) const {
  check(prompt.size() % 3 == 2, "[permutation] a prompt of {} tokens does not end with '>'", prompt.size());
  const auto input = static_cast<size_t>(prompt[prompt.size() - 2]);
  std::vector<double> probability(static_cast<size_t>(options_.symbols), 0);
  double total = 0;
  for (const auto& permutation : permutations_) {
    bool agrees = true;
    for (size_t t = 0; t + 2 < prompt.size() && agrees; t += 3) {
      agrees = permutation[static_cast<size_t>(prompt[t])] == prompt[t + 2];
    }
    if (!agrees) continue;
    probability[static_cast<size_t>(permutation[input])] += 1;
    total += 1;
  }
  check(total > 0, "[permutation] no task agrees with the examples: {}", decode(prompt));
  for (double& one : probability) one /= total;
  return probability;
}

void PermutationTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                                   std::span<int32_t> targets, std::span<float> weights) const {
  draw(split, seed, step, index, tokens);
  for (size_t t = 0; t < tokens.size(); ++t) {
    targets[t] = t + 1 < tokens.size() ? tokens[t + 1] : padding_token();
    weights[t] = t % 3 == 1 ? 1.0f : 0.0f;
  }
}

std::string PermutationTask::symbol(int32_t token) const {
  check(0 <= token && token < vocab_size(), "[permutation] token {} is not in a vocabulary of {}", token, vocab_size());
  if (token == arrow()) return ">";
  if (token == padding_token()) return "_";
  return token < 26 ? std::string(1, static_cast<char>('a' + token)) : fmt::format("s{}", token);
}

std::vector<std::string> PermutationTask::symbols() const {
  std::vector<std::string> list;
  for (int32_t token = 0; token < vocab_size(); ++token) list.push_back(symbol(token));
  return list;
}

std::string PermutationTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols(), name());
}

std::vector<int32_t> PermutationTask::encode(std::string_view text) const {
  return encode_symbols(text, symbols(), name());
}

std::vector<Item> PermutationTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[permutation] {} test items", count);
  ensure(0 <= arm && arm <= options_.shots, "[permutation] no arm {}", arm);
  std::vector<Item> items;
  std::vector<int32_t> tokens(static_cast<size_t>(block_size()));
  for (uint32_t i = 0; i < static_cast<uint32_t>(count); ++i) {
    draw(Split::kTest, seed, 0, i, tokens);
    Item& item = items.emplace_back();
    item.arm = arm;
    item.prompt_length = 3 * arm + 2;
    item.answer_length = 1;
    item.sequence.assign(tokens.size(), padding_token());
    std::copy_n(tokens.begin(), item.prompt_length + 1, item.sequence.begin());
  }
  return items;
}

Corruption PermutationTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  ensure(false, "[permutation] an answer of one token has no step to corrupt");
  return {};
}

std::vector<std::pair<std::string, double>> PermutationTask::measures(const Item& item,
                                                                      std::span<const int32_t> response,
                                                                      double nll) const {
  const std::vector<double> best = predictive(item.prompt());
  const auto of = [&](int32_t token) { return token < options_.symbols ? best[static_cast<size_t>(token)] : 0.0; };
  const double bayes_loss = -std::log(of(item.answer().front()));
  const double optimum = *std::max_element(best.begin(), best.end());
  const double posterior = of(response.front());
  return {{"bayes_loss", bayes_loss},
          {"excess_loss", nll - bayes_loss},
          {"posterior", posterior},
          {"optimum", optimum},
          {"regret", optimum - posterior}};
}

}  // namespace surtsey::experiments::tasks
