#include "experiments/statistics/tests.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "experiments/statistics/distributions.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

constexpr size_t kMostValues = 24;

// Sums that differ by rounding alone count as equal, on the side of the larger p-value.
class Tails {
 public:
  Tails(double observed, double scale) : observed_(observed), tolerance_(1e-12 * scale) {}

  void add(double statistic) {
    ++total_;
    if (statistic <= observed_ + tolerance_) ++below_;
    if (statistic >= observed_ - tolerance_) ++above_;
  }
  double two_sided() const {
    return std::min(1.0, 2 * static_cast<double>(std::min(below_, above_)) / static_cast<double>(total_));
  }

 private:
  double observed_, tolerance_;
  int64_t total_ = 0, below_ = 0, above_ = 0;
};

double magnitude(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += std::abs(value);
  return sum;
}

}  // namespace

double mcnemar(int64_t only_first, int64_t only_second) {
  check(only_first >= 0 && only_second >= 0, "[statistics] counts {} and {} of a McNemar test", only_first,
        only_second);
  const int64_t discordant = only_first + only_second;
  if (discordant == 0) return 1;
  return std::min(1.0, 2 * binomial_tail(std::max(only_first, only_second), discordant, 0.5));
}

double permutation_test(std::span<const double> first, std::span<const double> second) {
  const size_t count = first.size() + second.size();
  check(!first.empty() && !second.empty() && count <= kMostValues,
        "[statistics] permutation test of {} and {} values: both groups need some, at most {} "
        "together",
        first.size(), second.size(), kMostValues);
  std::vector<double> values(first.begin(), first.end());
  values.insert(values.end(), second.begin(), second.end());
  // With the total fixed, the sum of the first group orders the differences of means.
  Tails tails(std::accumulate(first.begin(), first.end(), 0.0), magnitude(values));
  std::vector<bool> chosen(count, false);
  std::fill_n(chosen.begin(), first.size(), true);
  do {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += chosen[i] ? values[i] : 0;
    tails.add(sum);
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
  return tails.two_sided();
}

double sign_flip_test(std::span<const double> differences) {
  const size_t count = differences.size();
  check(count > 0 && count <= kMostValues, "[statistics] sign-flip test of {} pairs: from 1 to {} will do", count,
        kMostValues);
  Tails tails(std::accumulate(differences.begin(), differences.end(), 0.0), magnitude(differences));
  for (uint32_t signs = 0; signs < (1u << count); ++signs) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += (signs >> i & 1) ? -differences[i] : differences[i];
    tails.add(sum);
  }
  return tails.two_sided();
}

std::vector<double> holm(std::span<const double> p_values) {
  std::vector<size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t left, size_t right) { return p_values[left] < p_values[right]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const double scaled = p_values[order[rank]] * static_cast<double>(order.size() - rank);
    largest = std::max(largest, std::min(1.0, scaled));
    adjusted[order[rank]] = largest;
  }
  return adjusted;
}

}  // namespace surtsey::experiments
