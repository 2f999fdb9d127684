#include "experiments/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

// Continued fraction of the incomplete beta function; converges fast for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  constexpr double kPrecision = 1e-16;
  double c = 1;
  double d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::abs(d) < kTiny ? kTiny : d);
  double fraction = d;
  for (int m = 1; m <= 100000; ++m) {
    const auto advance = [&](double numerator) {
      d = 1 + numerator * d;
      c = 1 + numerator / c;
      d = 1 / (std::abs(d) < kTiny ? kTiny : d);
      c = std::abs(c) < kTiny ? kTiny : c;
      fraction *= d * c;
    };
    advance(m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)));
    advance(-(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)));
    if (std::abs(d * c - 1) < kPrecision) {
      break;
    }
  }
  return fraction;
}

// Root of an increasing function between two finite ends, to the last bit.
template <class Function>
double bisect(double low, double high, double target, Function function) {
  for (int i = 0; i < 200; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) {
      break;
    }
    (function(middle) < target ? low : high) = middle;
  }
  return low + (high - low) / 2;
}

double t_distribution(double degrees, double t) {
  const double tail = 0.5 * regularized_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
  return t > 0 ? 1 - tail : tail;
}

void check_proportion(int64_t successes, int64_t trials, double confidence) {
  check(0 <= successes && successes <= trials, "[statistics] {} successes in {} trials", successes,
        trials);
  check(0 < confidence && confidence < 1, "[statistics] confidence {} is not in (0, 1)",
        confidence);
}

}  // namespace

bool disjoint(const Interval& left, const Interval& right) {
  return left.high < right.low || right.high < left.low;
}

double regularized_beta(double a, double b, double x) {
  check(a > 0 && b > 0, "[statistics] beta parameters {}, {} must be positive", a, b);
  if (x <= 0) {
    return 0;
  }
  if (x >= 1) {
    return 1;
  }
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) {
    return front * beta_fraction(a, b, x) / a;
  }
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double beta_quantile(double a, double b, double probability) {
  return bisect(0, 1, probability, [&](double x) { return regularized_beta(a, b, x); });
}

double normal_quantile(double probability) {
  check(0 < probability && probability < 1, "[statistics] probability {} is not in (0, 1)",
        probability);
  return bisect(-40, 40, probability,
                [](double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); });
}

double t_quantile(double degrees, double probability) {
  check(degrees > 0 && 0 < probability && probability < 1,
        "[statistics] t quantile of {} degrees at {}", degrees, probability);
  if (probability == 0.5) {
    return 0;
  }
  // The distribution is symmetric, and the lower half keeps its precision.
  const double tail = std::min(probability, 1 - probability);
  double reach = 1;
  while (t_distribution(degrees, -reach) > tail) {
    reach *= 2;
  }
  const double t = bisect(-reach, 0, tail, [&](double x) { return t_distribution(degrees, x); });
  return probability < 0.5 ? t : -t;
}

double binomial_tail(int64_t successes, int64_t trials, double probability) {
  if (successes <= 0) {
    return 1;
  }
  if (successes > trials) {
    return 0;
  }
  return regularized_beta(static_cast<double>(successes),
                          static_cast<double>(trials - successes + 1), probability);
}

Interval wilson(int64_t successes, int64_t trials, double confidence) {
  check_proportion(successes, trials, confidence);
  if (trials == 0) {
    return {0, 1};
  }
  const double z = normal_quantile(0.5 + confidence / 2);
  const double n = static_cast<double>(trials);
  const double p = static_cast<double>(successes) / n;
  const double center = (p + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  // The ends are exactly 0 and 1 at the borders; rounding must not move them.
  return {successes == 0 ? 0 : std::max(0.0, center - half),
          successes == trials ? 1 : std::min(1.0, center + half)};
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

double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) {
    return 0;
  }
  const double center = mean(values);
  double sum = 0;
  for (const double value : values) {
    sum += (value - center) * (value - center);
  }
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double standard_error(std::span<const double> values) {
  return standard_deviation(values) / std::sqrt(static_cast<double>(values.size()));
}

Interval t_interval(std::span<const double> seed_means, double confidence) {
  check(0 < confidence && confidence < 1, "[statistics] confidence {} is not in (0, 1)",
        confidence);
  if (seed_means.size() < 2) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    return {-kInfinity, kInfinity};
  }
  const double degrees = static_cast<double>(seed_means.size() - 1);
  const double half = t_quantile(degrees, 0.5 + confidence / 2) * standard_error(seed_means);
  const double center = mean(seed_means);
  return {center - half, center + half};
}

double mcnemar(int64_t only_first, int64_t only_second) {
  const int64_t discordant = only_first + only_second;
  if (discordant == 0) {
    return 1;
  }
  return std::min(1.0, 2 * binomial_tail(std::max(only_first, only_second), discordant, 0.5));
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

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "PASS";
    case Verdict::kFail:
      return "FAIL";
    case Verdict::kInconclusive:
      return "INCONCLUSIVE";
  }
  ensure(false, "[statistics] verdict {} is not one", static_cast<int>(verdict));
  return "";
}

Verdict parse_verdict(std::string_view name) {
  for (const Verdict verdict : {Verdict::kPass, Verdict::kFail, Verdict::kInconclusive}) {
    if (name == verdict_name(verdict)) {
      return verdict;
    }
  }
  check(false, "[statistics] '{}' is no verdict: PASS, FAIL or INCONCLUSIVE", name);
  return Verdict::kInconclusive;
}

Verdict at_least(const Interval& interval, double bound) {
  if (interval.low >= bound) {
    return Verdict::kPass;
  }
  return interval.high < bound ? Verdict::kFail : Verdict::kInconclusive;
}

Verdict at_most(const Interval& interval, double bound) {
  if (interval.high <= bound) {
    return Verdict::kPass;
  }
  return interval.low > bound ? Verdict::kFail : Verdict::kInconclusive;
}

Verdict at_chance(const Interval& interval, double chance, double margin) {
  return at_most(interval, chance + margin);
}

Verdict above(const Interval& first, const Interval& second) {
  if (first.low > second.high) {
    return Verdict::kPass;
  }
  return first.high < second.low ? Verdict::kFail : Verdict::kInconclusive;
}

Verdict all_of(std::span<const Verdict> parts) {
  Verdict verdict = parts.empty() ? Verdict::kInconclusive : Verdict::kPass;
  for (const Verdict part : parts) {
    if (part == Verdict::kFail) {
      return Verdict::kFail;
    }
    if (part == Verdict::kInconclusive) {
      verdict = Verdict::kInconclusive;
    }
  }
  return verdict;
}

Verdict any_of(std::span<const Verdict> parts) {
  Verdict verdict = parts.empty() ? Verdict::kInconclusive : Verdict::kFail;
  for (const Verdict part : parts) {
    if (part == Verdict::kPass) {
      return Verdict::kPass;
    }
    if (part == Verdict::kInconclusive) {
      verdict = Verdict::kInconclusive;
    }
  }
  return verdict;
}

}  // namespace surtsey::experiments
