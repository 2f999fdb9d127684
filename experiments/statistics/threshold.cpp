#include "experiments/statistics/threshold.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "experiments/statistics/distributions.h"
#include "experiments/statistics/minimize.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kEdge = 1e-6;  // accuracies keep this distance from 0 and 1
const double kLogWidthOfSlope = std::log10(81.0);

// Cells of one size share a mean, and with it most of the likelihood.
struct Size {
  double log_size = 0;                            // log10
  std::vector<std::pair<double, double>> counts;  // successes, failures
};

class Likelihood {
 public:
  explicit Likelihood(std::span<const SizeCount> cells) {
    std::map<double, Size> sizes;
    for (const SizeCount& cell : cells) {
      check(cell.size > 0 && cell.trials > 0 && 0 <= cell.successes && cell.successes <= cell.trials,
            "[threshold] {} right answers of {} at size {}", cell.successes, cell.trials, cell.size);
      Size& size = sizes[cell.size];
      size.log_size = std::log10(cell.size);
      const auto k = static_cast<double>(cell.successes), n = static_cast<double>(cell.trials);
      size.counts.emplace_back(k, n - k);
      constant_ += log_gamma(n + 1) - log_gamma(k + 1) - log_gamma(n - k + 1);
    }
    for (auto& [value, size] : sizes) sizes_.push_back(std::move(size));
  }

  const std::vector<Size>& sizes() const { return sizes_; }

  // -log likelihood of means(log10 N) with the correlation 10^log_correlation.
  template <class Mean>
  double operator()(Mean&& means, double log_correlation) const {
    const double sum = std::pow(10, -log_correlation) - 1;
    double total = constant_;
    for (const Size& size : sizes_) {
      const double p = std::clamp(means(size.log_size), kEdge, 1 - kEdge);
      const double a = p * sum, b = (1 - p) * sum;
      const double shared = log_gamma(sum) - log_gamma(a) - log_gamma(b);
      for (const auto& [right, wrong] : size.counts) {
        total += shared + log_gamma(right + a) + log_gamma(wrong + b) - log_gamma(right + wrong + sum);
      }
    }
    return -total;
  }

 private:
  std::vector<Size> sizes_;
  double constant_ = 0;
};

constexpr double kLowCorrelation = -6, kHighCorrelation = -0.05;  // log10

// log10 N50, log10 width, ceiling, log10 correlation.
using Point = std::vector<double>;

class LogisticFit {
 public:
  LogisticFit(const Likelihood& likelihood, double chance) : likelihood_(likelihood), chance_(chance) {
    const double first = likelihood.sizes().front().log_size;
    const double last = likelihood.sizes().back().log_size;
    low_ = {first - 1, std::log10(0.02), chance + 0.02 * (1 - chance), kLowCorrelation};
    high_ = {last + 1, std::log10(20.0), 1 - kEdge, kHighCorrelation};
    starts_ = coarse_starts(first, last);
    best_ = minimise(starts_, -1, 0);
  }

  const Minimum& best() const { return best_; }
  const Point& low() const { return low_; }
  const Point& high() const { return high_; }

  // Where the profile of one coordinate, the others at their best, falls by `drop`; infinite ends
  // where it does not within the box.
  Interval profile(size_t coordinate, double drop) const {
    return {profile_end(coordinate, drop, -1), profile_end(coordinate, drop, 1)};
  }

 private:
  double value(std::span<const double> at) const {
    const double slope = kLogWidthOfSlope / std::pow(10, at[1]);
    return likelihood_(
        [&](double log_size) { return chance_ + (at[2] - chance_) / (1 + std::pow(10, slope * (at[0] - log_size))); },
        at[3]);
  }

  // The best few of a grid: the likelihood has a hill for every gap between sizes.
  std::vector<Point> coarse_starts(double first, double last) const {
    double most = chance_;
    for (const Size& size : likelihood_.sizes()) {
      for (const auto& [right, wrong] : size.counts) most = std::max(most, right / (right + wrong));
    }
    std::vector<std::pair<double, Point>> grid;
    constexpr int kPlaces = 16;
    for (int place = 0; place <= kPlaces; ++place) {
      for (const double width : {0.1, 0.3, 0.8, 2.0}) {
        for (const double correlation : {-4.0, -2.0, -1.0}) {
          Point at = {first + (last - first) * place / kPlaces, std::log10(width), std::clamp(most, low_[2], high_[2]),
                      correlation};
          const double here = value(at);
          grid.emplace_back(here, std::move(at));
        }
      }
    }
    std::sort(grid.begin(), grid.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<Point> starts;
    for (const auto& [here, at] : grid) {
      // Different hills, not the same one three times.
      const bool near = std::any_of(starts.begin(), starts.end(), [&](const Point& other) {
        return std::abs(other[0] - at[0]) < 1.5 * (last - first) / kPlaces && std::abs(other[1] - at[1]) < 0.5;
      });
      if (!near) starts.push_back(at);
      if (starts.size() == 3) break;
    }
    return starts;
  }

  // Minimum from several starts; with 0 <= fixed < 4 that coordinate stays at `held`.
  Minimum minimise(const std::vector<Point>& starts, int fixed, double held) const {
    Minimum best{{}, kInfinity};
    for (const Point& start : starts) {
      Point from, low, high;
      for (size_t i = 0; i < start.size(); ++i) {
        if (static_cast<int>(i) == fixed) continue;
        from.push_back(start[i]), low.push_back(low_[i]), high.push_back(high_[i]);
      }
      const auto whole = [&](std::span<const double> part) {
        Point at(part.begin(), part.end());
        if (fixed >= 0) at.insert(at.begin() + fixed, held);
        return at;
      };
      Minimum found =
          minimize_in_box([&](std::span<const double> part) { return value(whole(part)); }, from, low, high);
      if (found.value < best.value) best = {whole(found.at), found.value};
    }
    return best;
  }

  double profile_end(size_t coordinate, double drop, int direction) const {
    const double bound = direction < 0 ? low_[coordinate] : high_[coordinate];
    double inside = best_.at[coordinate];
    std::vector<Point> from = {best_.at, best_.at};
    const auto excess = [&](double at) {
      const Minimum found = minimise(from, static_cast<int>(coordinate), at);
      from[1] = found.at;
      return found.value - best_.value - drop;
    };
    double step = 0.02 * direction, outside = inside;
    while (true) {
      outside = inside + step;
      if ((outside - bound) * direction >= 0) {
        if (excess(bound) <= 0) return direction * kInfinity;
        outside = bound;
        break;
      }
      if (excess(outside) > 0) break;
      inside = outside;
      step *= 2;
    }
    for (int i = 0; i < 40 && std::abs(outside - inside) > 1e-4; ++i) {
      const double middle = (inside + outside) / 2;
      (excess(middle) > 0 ? outside : inside) = middle;
    }
    return (inside + outside) / 2;
  }

  const Likelihood& likelihood_;
  double chance_;
  Point low_, high_;
  std::vector<Point> starts_;
  Minimum best_;
};

double aicc(double negative_log_likelihood, double parameters, double cells) {
  if (cells - parameters - 1 <= 0) return kInfinity;
  return 2 * parameters + 2 * negative_log_likelihood + 2 * parameters * (parameters + 1) / (cells - parameters - 1);
}

double best_constant(const Likelihood& likelihood) {
  double best = kInfinity;
  for (const double start : {-4.0, -1.5}) {
    best = std::min(
        best,
        minimize_in_box([&](std::span<const double> at) { return likelihood([&](double) { return at[0]; }, at[1]); },
                        Point{0.5, start}, Point{kEdge, kLowCorrelation}, Point{1 - kEdge, kHighCorrelation})
            .value);
  }
  return best;
}

// A line through its values at the two outer sizes, so that it stays a line within them.
double best_line(const Likelihood& likelihood) {
  const double first = likelihood.sizes().front().log_size;
  const double last = likelihood.sizes().back().log_size;
  double best = kInfinity;
  for (const double start : {-4.0, -1.5}) {
    for (const auto& [low, high] : {std::pair{0.2, 0.8}, std::pair{0.5, 0.5}, std::pair{0.8, 0.2}}) {
      best = std::min(best, minimize_in_box(
                                [&](std::span<const double> at) {
                                  return likelihood(
                                      [&](double log_size) {
                                        return at[0] + (at[1] - at[0]) * (log_size - first) / (last - first);
                                      },
                                      at[2]);
                                },
                                Point{low, high, start}, Point{kEdge, kEdge, kLowCorrelation},
                                Point{1 - kEdge, 1 - kEdge, kHighCorrelation})
                                .value);
    }
  }
  return best;
}

}  // namespace

double ThresholdFit::aicc_gain() const { return std::min(aicc_constant, aicc_linear) - aicc; }

ThresholdFit fit_threshold(std::span<const SizeCount> cells, double chance, double confidence) {
  check(0 <= chance && chance < 1, "[threshold] chance {} is not in [0, 1)", chance);
  check(0 < confidence && confidence < 1, "[threshold] confidence {} is not in (0, 1)", confidence);
  const Likelihood likelihood(cells);
  check(likelihood.sizes().size() >= 2, "[threshold] {} size{}: a curve needs two at least", likelihood.sizes().size(),
        likelihood.sizes().size() == 1 ? "" : "s");
  const LogisticFit logistic(likelihood, chance);
  const Minimum& best = logistic.best();

  ThresholdFit fit;
  fit.sizes = likelihood.sizes().size();
  fit.size50 = std::pow(10, best.at[0]);
  fit.width = std::pow(10, best.at[1]);
  fit.ceiling = best.at[2];
  fit.correlation = std::pow(10, best.at[3]);
  fit.log_likelihood = -best.value;
  const auto count = static_cast<double>(cells.size());
  fit.aicc = aicc(best.value, 4, count);
  fit.aicc_constant = aicc(best_constant(likelihood), 2, count);
  fit.aicc_linear = aicc(best_line(likelihood), 3, count);

  const double quantile = t_quantile(std::max(1.0, count - 4), 0.5 + confidence / 2);
  const double drop = quantile * quantile / 2;
  const auto power = [](const Interval& log) { return Interval{std::pow(10, log.low), std::pow(10, log.high)}; };
  fit.size50_interval = power(logistic.profile(0, drop));
  fit.width_interval = power(logistic.profile(1, drop));
  return fit;
}

Verdict sharp(const ThresholdFit& fit) {
  if (fit.sizes < kThresholdSizes) return Verdict::kInconclusive;
  const Verdict narrow = at_most(fit.width_interval, kSharpWidth);
  if (narrow == Verdict::kPass && !(fit.aicc_gain() > kAiccMargin)) return Verdict::kInconclusive;
  return narrow;
}

Verdict emergent(std::span<const Interval> sizes, double chance) {
  if (sizes.size() < kThresholdSizes) return Verdict::kInconclusive;
  return all_of(
      std::vector{at_chance(sizes[0], chance), at_chance(sizes[1], chance), at_least(sizes.back(), kEmergedAccuracy)});
}

}  // namespace surtsey::experiments
