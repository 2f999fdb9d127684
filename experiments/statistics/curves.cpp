#include "experiments/statistics/curves.h"

#include "experiments/statistics/intervals.h"
#include "graph/error.h"

namespace surtsey::experiments {

std::vector<double> isotonic_fit(std::span<const double> values, std::span<const double> weights) {
  check(weights.empty() || weights.size() == values.size(), "[statistics] isotonic fit of {} values with {} weights",
        values.size(), weights.size());
  struct Block {
    double mean, weight;
    size_t count;
  };
  std::vector<Block> blocks;
  for (size_t i = 0; i < values.size(); ++i) {
    const double weight = weights.empty() ? 1 : weights[i];
    check(weight > 0, "[statistics] isotonic fit: weight {} is {}", i, weight);
    blocks.push_back({values[i], weight, 1});
    while (blocks.size() > 1 && blocks[blocks.size() - 2].mean >= blocks.back().mean) {
      const Block last = blocks.back();
      blocks.pop_back();
      Block& into = blocks.back();
      into.mean = (into.mean * into.weight + last.mean * last.weight) / (into.weight + last.weight);
      into.weight += last.weight;
      into.count += last.count;
    }
  }
  std::vector<double> fitted;
  for (const Block& block : blocks) fitted.insert(fitted.end(), block.count, block.mean);
  return fitted;
}

double explained_variance(std::span<const double> values, std::span<const double> fitted) {
  check(values.size() == fitted.size() && !values.empty(), "[statistics] {} values against {} fitted ones",
        values.size(), fitted.size());
  const double center = mean(values);
  double residual = 0, total = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    residual += (values[i] - fitted[i]) * (values[i] - fitted[i]);
    total += (values[i] - center) * (values[i] - center);
  }
  if (total == 0) return residual == 0 ? 1 : 0;
  return 1 - residual / total;
}

double pass_at_k(int64_t samples, int64_t correct, int64_t k) {
  check(0 <= correct && correct <= samples && 1 <= k && k <= samples,
        "[statistics] pass@{} of {} right among {} samples", k, correct, samples);
  // C(n - c, k) / C(n, k) as a product of factors below one: no overflow.
  double all_wrong = 1;
  for (int64_t i = samples - correct + 1; i <= samples; ++i) {
    all_wrong *= i <= k ? 0 : 1 - static_cast<double>(k) / static_cast<double>(i);
  }
  return 1 - all_wrong;
}

}  // namespace surtsey::experiments
