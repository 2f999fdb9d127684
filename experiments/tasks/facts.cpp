#include "experiments/tasks/facts.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr int32_t kBase = 32;
constexpr uint32_t kValueKey = graph::stream_seed(0, "facts.values");

}  // namespace

FactTask::FactTask(FactOptions options) : options_(options) {
  check(1 <= options.facts && options.facts <= 1 << 24, "[facts] {} facts are not in [1, 2^24]", options.facts);
  check(1 <= options.relations && options.relations <= 64, "[facts] {} relations are not in [1, 64]",
        options.relations);
  check(2 <= options.values && options.values <= 1024, "[facts] {} values are not in [2, 1024]", options.values);
  const int32_t entities = (options.facts - 1) / options.relations + 1;
  for (int32_t most = kBase * kBase; most < entities; most *= kBase) ++digits_;
  for (int32_t i = 0; i < kBase; ++i) symbols_.push_back(fmt::format("e{}", i));
  for (int32_t i = 0; i < options.relations; ++i) symbols_.push_back(fmt::format("r{}", i));
  symbols_.emplace_back("=");
  for (int32_t i = 0; i < options.values; ++i) symbols_.push_back(fmt::format("v{}", i));
  symbols_.emplace_back("_");
}

double FactTask::bits_of_a_fact() const { return std::log2(options_.values); }

int32_t FactTask::value_of(int32_t fact) const {
  return static_cast<int32_t>(
      graph::random_range(kValueKey, 0, static_cast<uint32_t>(fact), static_cast<uint32_t>(options_.values)));
}

std::vector<int32_t> FactTask::sentence(int32_t fact) const {
  std::vector<int32_t> tokens(static_cast<size_t>(digits_));
  int32_t entity = fact / options_.relations;
  for (size_t at = tokens.size(); at-- > 0; entity /= kBase) tokens[at] = entity % kBase;
  const int32_t equals = kBase + options_.relations;
  tokens.insert(tokens.end(), {kBase + fact % options_.relations, equals, equals + 1 + value_of(fact)});
  return tokens;
}

void FactTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                            std::span<int32_t> targets, std::span<float> weights) const {
  const uint32_t key = graph::stream_seed(seed, split_name(split));
  const auto fact = static_cast<int32_t>(graph::random_range(key, step, index, static_cast<uint32_t>(options_.facts)));
  const std::vector<int32_t> row = sentence(fact);
  std::copy(row.begin(), row.end(), tokens.begin());
  std::copy(row.begin() + 1, row.end(), targets.begin());
  targets.back() = padding_token();
  std::fill(weights.begin(), weights.end(), 0.0f);
  weights[row.size() - 2] = 1;
}

std::vector<Item> FactTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[facts] {} test items", count);
  std::vector<int32_t> order(static_cast<size_t>(options_.facts));
  std::iota(order.begin(), order.end(), 0);
  const auto asked = std::min(order.size(), static_cast<size_t>(count));
  const uint32_t key = graph::stream_seed(seed, split_name(Split::kTest));
  std::vector<Item> items;
  for (size_t i = 0; i < asked; ++i) {
    const auto rest = static_cast<uint32_t>(order.size() - i);
    std::swap(order[i], order[i + graph::random_range(key, 0, static_cast<uint32_t>(i), rest)]);
    Item& item = items.emplace_back();
    item.arm = arm;
    item.sequence = sentence(order[i]);
    item.prompt_length = digits_ + 2;
    item.answer_length = 1;
  }
  return items;
}

std::string FactTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols_, "facts");
}

std::vector<int32_t> FactTask::encode(std::string_view text) const { return encode_symbols(text, symbols_, "facts"); }

Corruption FactTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  throw UserError("[facts] a fact has no step to corrupt");
}

std::vector<std::pair<std::string, double>> FactTask::measures(const Item&, std::span<const int32_t>,
                                                               double nll) const {
  return {{"bits", bits_of_a_fact() - nll / std::numbers::ln2}};
}

}  // namespace surtsey::experiments::tasks
