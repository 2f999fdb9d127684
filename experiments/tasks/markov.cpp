#include "experiments/tasks/markov.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr size_t kMostContexts = 1000000;
constexpr int kMostIterations = 100000;

double entropy_of(std::span<const double> distribution) {
  double entropy = 0;
  for (const double p : distribution) entropy -= p > 0 ? p * std::log(p) : 0;
  return entropy;
}

// A random order of 0 .. count - 1: the ranks of the symbols at a node (Fisher and Yates).
std::vector<int32_t> ranks(uint32_t key, uint32_t node, int32_t count) {
  std::vector<int32_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (uint32_t i = static_cast<uint32_t>(count) - 1; i > 0; --i) {
    std::swap(order[i], order[graph::random_range(key, node, i, i + 1)]);
  }
  return order;
}

// Where a uniform number falls in running sums.
size_t place(std::span<const double> sums, double uniform) {
  const auto at = std::upper_bound(sums.begin(), sums.end(), uniform * sums.back());
  return std::min(static_cast<size_t>(at - sums.begin()), sums.size() - 1);
}

}  // namespace

MarkovTask::MarkovTask(MarkovOptions options) : options_(std::move(options)) {
  const auto depth = static_cast<size_t>(std::max(options_.order, 0));
  check_range("[markov] symbols", options_.symbols, 2, 1000);
  check_range("[markov] order", options_.order, 1, 4);
  check(options_.block_size > options_.order, "[markov] block_size {} leaves nothing to predict after {} symbols",
        options_.block_size, options_.order);
  check(options_.exponent >= 0 && std::isfinite(options_.exponent), "[markov] exponent is {}, it must not be negative",
        options_.exponent);
  check(options_.shares.size() == depth + 1, "[markov] {} shares for order {}: it takes {}", options_.shares.size(),
        options_.order, depth + 1);
  for (const double share : options_.shares) {
    check(share > 0 && std::isfinite(share), "[markov] a share is {}, it must be positive", share);
  }
  const auto V = static_cast<size_t>(options_.symbols);
  contexts_ = 1;
  for (size_t i = 0; i < depth; ++i) contexts_ *= V;
  check(contexts_ <= kMostContexts, "[markov] {} contexts, at most {}", contexts_, kMostContexts);

  std::vector<double> zipf(V);
  for (size_t r = 0; r < V; ++r) {
    zipf[r] = std::pow(static_cast<double>(r + 1), -options_.exponent);
  }
  const double whole = std::accumulate(zipf.begin(), zipf.end(), 0.0) *
                       std::accumulate(options_.shares.begin(), options_.shares.end(), 0.0);
  probabilities_.assign(contexts_ * V, 0);
  size_t nodes = 1;  // V^j: the last j symbols
  for (size_t j = 0; j <= depth; ++j, nodes *= V) {
    const uint32_t key = graph::stream_seed(options_.source_seed, fmt::format("markov.{}", j));
    for (size_t node = 0; node < nodes; ++node) {
      const std::vector<int32_t> rank = ranks(key, static_cast<uint32_t>(node), options_.symbols);
      for (size_t s = node; s < contexts_; s += nodes) {
        for (size_t c = 0; c < V; ++c) {
          probabilities_[s * V + c] += options_.shares[j] * zipf[static_cast<size_t>(rank[c])] / whole;
        }
      }
    }
  }
  cumulative_ = probabilities_;
  for (size_t s = 0; s < contexts_; ++s) {
    std::partial_sum(cumulative_.begin() + static_cast<std::ptrdiff_t>(s * V),
                     cumulative_.begin() + static_cast<std::ptrdiff_t>((s + 1) * V),
                     cumulative_.begin() + static_cast<std::ptrdiff_t>(s * V));
  }

  // Every symbol can follow every context, so the chain forgets its start.
  stationary_.assign(contexts_, 1.0 / static_cast<double>(contexts_));
  std::vector<double> next(contexts_);
  double change = 1;
  for (int i = 0; change > 1e-13 && i < kMostIterations; ++i) {
    std::fill(next.begin(), next.end(), 0.0);
    for (size_t s = 0; s < contexts_; ++s) {
      for (size_t c = 0; c < V; ++c) {
        next[(s * V + c) % contexts_] += stationary_[s] * probabilities_[s * V + c];
      }
    }
    change = 0;
    for (size_t s = 0; s < contexts_; ++s) change += std::abs(next[s] - stationary_[s]);
    stationary_.swap(next);
  }
  ensure(change <= 1e-13, "[markov] the stationary distribution still moves by {}", change);
  starts_.resize(contexts_);
  std::partial_sum(stationary_.begin(), stationary_.end(), starts_.begin());
  entropy_rate_ = conditional_entropy(options_.order);
  std::vector<double> frequency(V, 0);
  for (size_t s = 0; s < contexts_; ++s) frequency[s % V] += stationary_[s];
  chance_ = *std::max_element(frequency.begin(), frequency.end());
}

double MarkovTask::conditional_entropy(int32_t depth) const {
  check(depth >= 0 && depth <= options_.order, "[markov] a depth of {} where the order is {}", depth, options_.order);
  const auto V = static_cast<size_t>(options_.symbols);
  size_t nodes = 1;
  for (int32_t j = 0; j < depth; ++j) nodes *= V;
  std::vector<double> joint(nodes * V, 0), weight(nodes, 0);
  for (size_t s = 0; s < contexts_; ++s) {
    weight[s % nodes] += stationary_[s];
    for (size_t c = 0; c < V; ++c) {
      joint[s % nodes * V + c] += stationary_[s] * probabilities_[s * V + c];
    }
  }
  return entropy_of(joint) - entropy_of(weight);
}

size_t MarkovTask::number_of(std::span<const int32_t> context) const {
  ensure(context.size() == static_cast<size_t>(options_.order), "[markov] a context of {}", context.size());
  size_t number = 0;
  for (const int32_t symbol : context) {
    check(symbol >= 0 && symbol < options_.symbols, "[markov] there is no symbol {}", symbol);
    number = number * static_cast<size_t>(options_.symbols) + static_cast<size_t>(symbol);
  }
  return number;
}

std::span<const double> MarkovTask::distribution(std::span<const int32_t> context) const {
  const auto V = static_cast<size_t>(options_.symbols);
  return std::span(probabilities_).subspan(number_of(context) * V, V);
}

double MarkovTask::source_nll(const Item& item) const {
  const auto k = static_cast<size_t>(options_.order);
  double nll = 0;
  for (size_t t = k; t < item.sequence.size(); ++t) {
    const auto context = std::span(item.sequence).subspan(t - k, k);
    nll -= std::log(distribution(context)[static_cast<size_t>(item.sequence[t])]);
  }
  return nll;
}

int32_t MarkovTask::answer_length(int32_t) const { return options_.block_size - options_.order; }

// T + 1 symbols.
std::vector<int32_t> MarkovTask::draw(Split split, uint32_t seed, uint32_t step, uint32_t index) const {
  const uint32_t key = graph::stream_seed(seed, split_name(split));
  const auto length = static_cast<uint32_t>(options_.block_size + 1);
  const auto V = static_cast<size_t>(options_.symbols);
  const auto uniform = [&](uint32_t t) -> double { return graph::random_uniform(key, step, index * length + t); };
  size_t context = place(starts_, uniform(0));
  std::vector<int32_t> symbols(static_cast<size_t>(options_.order));
  size_t rest = context;
  for (auto symbol = symbols.rbegin(); symbol != symbols.rend(); ++symbol, rest /= V) {
    *symbol = static_cast<int32_t>(rest % V);
  }
  for (auto t = static_cast<uint32_t>(options_.order); t < length; ++t) {
    const size_t c = place(std::span(cumulative_).subspan(context * V, V), uniform(t));
    symbols.push_back(static_cast<int32_t>(c));
    context = (context * V + c) % contexts_;
  }
  return symbols;
}

void MarkovTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                              std::span<int32_t> targets, std::span<float> weights) const {
  const std::vector<int32_t> symbols = draw(split, seed, step, index);
  std::copy_n(symbols.begin(), tokens.size(), tokens.begin());
  std::copy_n(symbols.begin() + 1, targets.size(), targets.begin());
  for (size_t t = 0; t < weights.size(); ++t) {
    weights[t] = t + 1 >= static_cast<size_t>(options_.order) ? 1.0f : 0.0f;
  }
}

std::string MarkovTask::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t token : tokens) {
    text += fmt::format("{}{}", text.empty() ? "" : " ", token);
  }
  return text;
}

std::vector<int32_t> MarkovTask::encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  while (true) {
    const size_t start = text.find_first_not_of(' ');
    if (start == std::string_view::npos) return tokens;
    text.remove_prefix(start);
    const std::string_view word = text.substr(0, text.find(' '));
    int32_t symbol = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), symbol);
    check(error == std::errc() && end == word.data() + word.size() && symbol >= 0 && symbol < options_.symbols,
          "[markov] '{}' is not a symbol: 0 to {}", word, options_.symbols - 1);
    tokens.push_back(symbol);
    text.remove_prefix(word.size());
  }
}

std::vector<Item> MarkovTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  std::vector<Item> items;
  for (int32_t i = 0; i < count; ++i) {
    Item& item = items.emplace_back();
    item.arm = arm;
    item.sequence = draw(Split::kTest, seed, 0, static_cast<uint32_t>(i));
    item.sequence.resize(static_cast<size_t>(options_.block_size));
    item.prompt_length = options_.order;
    item.answer_length = answer_length(arm);
  }
  return items;
}

Corruption MarkovTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const { return {}; }

}  // namespace surtsey::experiments::tasks
