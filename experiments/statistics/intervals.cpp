#include "experiments/statistics/intervals.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "experiments/statistics/distributions.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

void check_confidence(double confidence) {
  check(0 < confidence && confidence < 1, "[statistics] confidence {} is not in (0, 1)", confidence);
}

void check_proportion(int64_t successes, int64_t trials, double confidence) {
  check(0 <= successes && successes <= trials, "[statistics] {} successes in {} trials", successes, trials);
  check_confidence(confidence);
}

}  // namespace

bool disjoint(const Interval& left, const Interval& right) { return left.high < right.low || right.high < left.low; }

Interval wilson(int64_t successes, int64_t trials, double confidence) {
  check_proportion(successes, trials, confidence);
  if (trials == 0) return {0, 1};
  const double z = normal_quantile(0.5 + confidence / 2);
  const double n = static_cast<double>(trials);
  const double p = static_cast<double>(successes) / n;
  const double center = (p + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  // The ends are exactly 0 and 1 at the borders; rounding must not move them.
  return {successes == 0 ? 0 : std::max(0.0, center - half), successes == trials ? 1 : std::min(1.0, center + half)};
}

Interval clopper_pearson(int64_t successes, int64_t trials, double confidence) {
  check_proportion(successes, trials, confidence);
  const double tail = (1 - confidence) / 2;
  const double k = static_cast<double>(successes);
  const double n = static_cast<double>(trials);
  return {successes == 0 ? 0 : beta_quantile(k, n - k + 1, tail),
          successes == trials ? 1 : beta_quantile(k + 1, n - k, 1 - tail)};
}

double mean(std::span<const double> values) {
  check(!values.empty(), "[statistics] mean of no values");
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  check(!values.empty(), "[statistics] median of no values");
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double center = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - center) * (value - center);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double standard_error(std::span<const double> values) {
  return standard_deviation(values) / std::sqrt(static_cast<double>(values.size()));
}

Interval t_interval(std::span<const double> seed_means, double confidence) {
  check_confidence(confidence);
  if (seed_means.size() < 2) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    return {-kInfinity, kInfinity};
  }
  const double degrees = static_cast<double>(seed_means.size() - 1);
  const double half = t_quantile(degrees, 0.5 + confidence / 2) * standard_error(seed_means);
  const double center = mean(seed_means);
  return {center - half, center + half};
}

}  // namespace surtsey::experiments
