#include "experiments/statistics/scaling_law.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "experiments/statistics/distributions.h"
#include "experiments/statistics/minimize.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments {
namespace {

constexpr double kDelta = 1e-3;  // of the Huber loss, in log L
constexpr double kExponents[] = {0.05, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3};
constexpr size_t kStarts = 4;
constexpr double kSameTokens = 1e-9;  // octaves: rounding puts no run into the one below
constexpr double kNothing = 1e-6;     // share of the least loss that stands for a vanished term

// Solves a symmetric positive definite system of at most three unknowns by elimination.
bool solve(std::vector<std::vector<double>> a, std::vector<double> b, std::vector<double>& x) {
  const size_t n = b.size();
  for (size_t i = 0; i < n; ++i) {
    if (!(a[i][i] > 1e-14 * (1 + std::abs(b[i])))) return false;
    for (size_t row = i + 1; row < n; ++row) {
      const double factor = a[row][i] / a[i][i];
      for (size_t k = i; k < n; ++k) a[row][k] -= factor * a[i][k];
      b[row] -= factor * b[i];
    }
  }
  x.assign(n, 0);
  for (size_t i = n; i-- > 0;) {
    double value = b[i];
    for (size_t k = i + 1; k < n; ++k) value -= a[i][k] * x[k];
    x[i] = value / a[i][i];
  }
  return std::all_of(x.begin(), x.end(), [](double v) { return std::isfinite(v); });
}

// L = E + sum over k of exp(a_k - alpha_k (log x_k - center_k)), unknowns e = log E, then a_k and
// alpha_k of each dial; without a floor e is missing. Centred dials keep a and alpha apart.
class PowerFit {
 public:
  PowerFit(std::vector<std::vector<double>> dials, std::vector<double> losses, bool with_floor)
      : dials_(std::move(dials)), losses_(std::move(losses)), with_floor_(with_floor) {
    const size_t unknowns = with_floor_ + 2 * dials_.size();
    check(losses_.size() >= unknowns, "[scaling] {} runs for {} unknowns", losses_.size(), unknowns);
    for (auto& dial : dials_) {
      ensure(dial.size() == losses_.size(), "[scaling] a dial of another length");
      double sum = 0;
      for (double& value : dial) {
        check(value > 0, "[scaling] a dial stands at {}: powers need positive numbers", value);
        value = std::log(value);
        sum += value;
      }
      centers_.push_back(sum / static_cast<double>(dial.size()));
      for (double& value : dial) value -= centers_.back();
    }
    for (const double loss : losses_) {
      check(std::isfinite(loss) && loss > 0, "[scaling] a loss of {}: its logarithm is fitted", loss);
      logs_.push_back(std::log(loss));
    }
    counts_.assign(losses_.size(), 1);
  }

  // Each run this many times: a resample.
  void set_counts(std::vector<double> counts) { counts_ = std::move(counts); }

  Minimum fit(std::span<const std::vector<double>> more_starts = {}) const {
    std::vector<std::vector<double>> starts = projected_starts();
    starts.insert(starts.end(), more_starts.begin(), more_starts.end());
    Minimum best{{}, std::numeric_limits<double>::infinity()};
    for (const auto& start : starts) {
      Minimum found = minimize_smooth(
          [&](std::span<const double> at, std::span<double> gradient) { return objective(at, gradient); }, start);
      if (found.value < best.value) best = std::move(found);
    }
    ensure(!best.at.empty(), "[scaling] no start led to a fit");
    return best;
  }

  double floor(const Minimum& fit) const { return with_floor_ ? std::exp(fit.at[0]) : 0; }
  PowerTerm term(const Minimum& fit, size_t dial) const {
    const size_t first = with_floor_ + 2 * dial;
    return {std::exp(fit.at[first] + fit.at[first + 1] * centers_[dial]), fit.at[first + 1]};
  }
  // log L of the fit minus what was measured, of one run.
  double residual(const Minimum& fit, size_t run) const {
    double loss = floor(fit);
    for (size_t k = 0; k < dials_.size(); ++k) {
      loss += term(fit, k).at(std::exp(dials_[k][run] + centers_[k]));
    }
    return std::log(loss) - logs_[run];
  }
  size_t runs() const { return losses_.size(); }
  size_t unknowns() const { return with_floor_ + 2 * dials_.size(); }

 private:
  // In units of delta^2, so that a stop is decided alike for rough and for noise-free data.
  double objective(std::span<const double> at, std::span<double> gradient) const {
    std::fill(gradient.begin(), gradient.end(), 0.0);
    double total = 0;
    std::array<double, 3> parts{};
    for (size_t i = 0; i < losses_.size(); ++i) {
      if (counts_[i] == 0) continue;
      size_t used = 0;
      if (with_floor_) parts[used++] = at[0];
      for (size_t k = 0; k < dials_.size(); ++k) {
        const size_t first = with_floor_ + 2 * k;
        parts[used++] = at[first] - at[first + 1] * dials_[k][i];
      }
      const double most = *std::max_element(parts.begin(), parts.begin() + used);
      double sum = 0;
      for (size_t j = 0; j < used; ++j) sum += std::exp(parts[j] - most);
      const double residual = (most + std::log(sum) - logs_[i]) / kDelta;
      const bool near = std::abs(residual) <= 1;
      total += counts_[i] * (near ? residual * residual / 2 : std::abs(residual) - 0.5);
      if (gradient.empty()) continue;
      const double slope = counts_[i] * (near ? residual : std::copysign(1.0, residual)) / kDelta;
      for (size_t j = 0; j < used; ++j) {
        const double share = slope * std::exp(parts[j] - most) / sum;
        if (with_floor_ && j == 0) {
          gradient[0] += share;
          continue;
        }
        const size_t k = j - with_floor_, first = with_floor_ + 2 * k;
        gradient[first] += share;
        gradient[first + 1] -= share * dials_[k][i];
      }
    }
    return total;
  }

  // Exponents from a grid; E, A and B by least squares of relative errors.
  std::vector<std::vector<double>> projected_starts() const {
    std::vector<std::pair<double, std::vector<double>>> starts;
    const double least = *std::min_element(losses_.begin(), losses_.end());
    const auto add = [&](std::span<const double> exponents) {
      const size_t terms = with_floor_ + dials_.size();
      std::vector<std::vector<double>> normal(terms, std::vector<double>(terms));
      std::vector<double> right(terms), x, row(terms);
      for (size_t i = 0; i < losses_.size(); ++i) {
        size_t used = 0;
        if (with_floor_) row[used++] = 1 / losses_[i];
        for (size_t k = 0; k < dials_.size(); ++k) {
          row[used++] = std::exp(-exponents[k] * dials_[k][i]) / losses_[i];
        }
        for (size_t j = 0; j < terms; ++j) {
          for (size_t k = 0; k < terms; ++k) normal[j][k] += counts_[i] * row[j] * row[k];
          right[j] += counts_[i] * row[j];
        }
      }
      if (!solve(normal, right, x)) x.assign(terms, least / 2);
      std::vector<double> start;
      for (size_t j = 0; j < terms; ++j) {
        start.push_back(std::log(std::max(x[j], kNothing * least)));
        if (j >= size_t{with_floor_}) start.push_back(exponents[j - with_floor_]);
      }
      starts.emplace_back(objective(start, {}), start);
    };
    for (const double first : kExponents) {
      if (dials_.size() == 1) {
        add(std::array{first});
        continue;
      }
      for (const double second : kExponents) add(std::array{first, second});
    }
    std::sort(starts.begin(), starts.end());
    std::vector<std::vector<double>> best;
    for (size_t i = 0; i < std::min(kStarts, starts.size()); ++i) best.push_back(starts[i].second);
    return best;
  }

  std::vector<std::vector<double>> dials_;  // log x - center
  std::vector<double> centers_, losses_, logs_, counts_;
  bool with_floor_;
};

// Draw i of a resample of `count` runs.
uint32_t draw(uint32_t seed, int resample, size_t i, size_t count) {
  return graph::random_range(graph::stream_seed(seed, "bootstrap"), static_cast<uint32_t>(resample),
                             static_cast<uint32_t>(i), static_cast<uint32_t>(count));
}

std::vector<double> resampled_counts(uint32_t seed, int resample, size_t runs) {
  std::vector<double> counts(runs);
  for (size_t i = 0; i < runs; ++i) counts[draw(seed, resample, i, runs)] += 1;
  return counts;
}

// The central interval of a sample, between order statistics.
Interval central(std::vector<double> values, double confidence) {
  check(0 < confidence && confidence < 1 && values.size() >= 20, "[scaling] {} resamples for a confidence of {}",
        values.size(), confidence);
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(place);
    const size_t next = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[next] - values[below]);
  };
  return {at((1 - confidence) / 2), at((1 + confidence) / 2)};
}

PowerFit two_dials(std::span<const ScalingPoint> points) {
  std::vector<double> n, d, losses;
  for (const ScalingPoint& point : points) {
    n.push_back(point.parameters), d.push_back(point.tokens), losses.push_back(point.loss);
  }
  return PowerFit({n, d}, losses, true);
}

ScalingLaw law_of(const PowerFit& fit, const Minimum& minimum) {
  return {fit.floor(minimum), fit.term(minimum, 0), fit.term(minimum, 1), minimum.value};
}

PowerFit one_dial(std::span<const double> dials, std::span<const double> losses, bool with_floor) {
  check(dials.size() == losses.size(), "[scaling] {} sizes with {} losses", dials.size(), losses.size());
  return PowerFit({{dials.begin(), dials.end()}}, {losses.begin(), losses.end()}, with_floor);
}

}  // namespace

double PowerTerm::at(double dial) const { return coefficient * std::pow(dial, -exponent); }

PowerLaw fit_power_law(std::span<const double> dials, std::span<const double> losses, bool with_floor) {
  const PowerFit fit = one_dial(dials, losses, with_floor);
  const Minimum minimum = fit.fit();
  return {fit.floor(minimum), fit.term(minimum, 0), minimum.value};
}

Interval forecast(std::span<const double> dials, std::span<const double> losses, double dial, bool with_floor,
                  double confidence, int resamples, uint32_t seed) {
  PowerFit fit = one_dial(dials, losses, with_floor);
  const Minimum whole = fit.fit();
  const size_t runs = fit.runs();
  check(runs > fit.unknowns(), "[scaling] {} runs leave no residual over {} unknowns", runs, fit.unknowns());
  // Residuals of a fit are smaller than those of the next run.
  const double stretch = std::sqrt(static_cast<double>(runs) / static_cast<double>(runs - fit.unknowns()));
  std::vector<double> values;
  for (int i = 0; i < resamples; ++i) {
    fit.set_counts(resampled_counts(seed, i, runs));
    const Minimum minimum = fit.fit(std::array{whole.at});
    const double center = fit.floor(minimum) + fit.term(minimum, 0).at(dial);
    const double residual = -fit.residual(whole, draw(seed, i, runs, runs)) * stretch;
    values.push_back(center * std::exp(residual));
  }
  return central(std::move(values), confidence);
}

ScalingLaw fit_scaling_law(std::span<const ScalingPoint> points) {
  const PowerFit fit = two_dials(points);
  return law_of(fit, fit.fit());
}

ScalingLawIntervals bootstrap_scaling_law(std::span<const ScalingPoint> points, double confidence, int resamples,
                                          uint32_t seed) {
  PowerFit fit = two_dials(points);
  const Minimum whole = fit.fit();
  std::array<std::vector<double>, 5> values;
  for (int i = 0; i < resamples; ++i) {
    fit.set_counts(resampled_counts(seed, i, points.size()));
    const ScalingLaw law = law_of(fit, fit.fit(std::array{whole.at}));
    const double all[] = {law.floor, law.parameters.coefficient, law.parameters.exponent, law.tokens.coefficient,
                          law.tokens.exponent};
    for (size_t k = 0; k < values.size(); ++k) values[k].push_back(all[k]);
  }
  return {central(values[0], confidence), central(values[1], confidence), central(values[2], confidence),
          central(values[3], confidence), central(values[4], confidence)};
}

namespace {

constexpr size_t kLeastGroups = 3;

// A way in which the errors of runs hang together: one label a run.
struct Grouping {
  const char* name;
  std::vector<double> labels;

  std::set<double> groups() const { return {labels.begin(), labels.end()}; }
};

// What the law misses: its dials, and both together. Seeds come last.
std::vector<Grouping> groupings_of(std::span<const ScalingPoint> points) {
  std::vector<Grouping> list = {{"sizes", {}}, {"octaves of tokens", {}}, {"budgets", {}}, {"seeds", {}}};
  double least = std::numeric_limits<double>::infinity();
  for (const ScalingPoint& point : points) least = std::min(least, point.tokens);
  for (const ScalingPoint& point : points) {
    list[0].labels.push_back(point.parameters);
    list[1].labels.push_back(std::floor(std::log2(point.tokens / least) + kSameTokens));
    list[2].labels.push_back(point.flops);
    list[3].labels.push_back(static_cast<double>(point.seed));
  }
  return list;
}

// E, log A, alpha, log B, beta.
std::array<double, 5> constants_of(const ScalingLaw& law) {
  return {law.floor, std::log(law.parameters.coefficient), law.parameters.exponent, std::log(law.tokens.coefficient),
          law.tokens.exponent};
}

// The variance that deleting one group at a time shows, of each constant; zero for one group.
std::array<double, 5> delete_one_group(PowerFit& fit, const Minimum& whole, const Grouping& grouping) {
  std::vector<std::array<double, 5>> fits;
  for (const double group : grouping.groups()) {
    std::vector<double> counts;
    for (const double label : grouping.labels) counts.push_back(label == group ? 0 : 1);
    if (std::all_of(counts.begin(), counts.end(), [](double n) { return n == 0; })) return {};
    fit.set_counts(std::move(counts));
    fits.push_back(constants_of(law_of(fit, fit.fit(std::array{whole.at}))));
  }
  const auto count = static_cast<double>(fits.size());
  std::array<double, 5> variance{};
  for (size_t k = 0; k < variance.size(); ++k) {
    double center = 0;
    for (const auto& one : fits) center += one[k] / count;
    for (const auto& one : fits) {
      variance[k] += (count - 1) / count * (one[k] - center) * (one[k] - center);
    }
  }
  return variance;
}

}  // namespace

void check_scaling_groups(std::span<const ScalingPoint> points) {
  for (const Grouping& grouping : groupings_of(points)) {
    const size_t count = grouping.groups().size();
    check(count >= kLeastGroups || std::string_view(grouping.name) == "seeds",
          "[scaling] runs of {} {}: an interval that leaves one out at a time takes {}", count, grouping.name,
          kLeastGroups);
  }
}

ScalingLawIntervals jackknife_scaling_law(std::span<const ScalingPoint> points, double confidence) {
  check(0 < confidence && confidence < 1, "[scaling] a confidence of {}", confidence);
  check_scaling_groups(points);
  PowerFit fit = two_dials(points);
  const Minimum whole = fit.fit();
  const std::array<double, 5> constants = constants_of(law_of(fit, whole));
  std::array<double, 5> sum{}, squares{};
  for (const Grouping& grouping : groupings_of(points)) {
    const auto variance = delete_one_group(fit, whole, grouping);
    const auto degrees = static_cast<double>(grouping.groups().size() - 1);
    for (size_t k = 0; k < variance.size(); ++k) {
      if (variance[k] == 0) continue;
      sum[k] += variance[k];
      squares[k] += variance[k] * variance[k] / degrees;
    }
  }
  std::array<Interval, 5> intervals;
  for (size_t k = 0; k < intervals.size(); ++k) {
    const double reach =
        sum[k] > 0 ? std::sqrt(sum[k]) * t_quantile(sum[k] * sum[k] / squares[k], (1 + confidence) / 2) : 0;
    intervals[k] = {constants[k] - reach, constants[k] + reach};
  }
  for (const size_t k : {size_t{1}, size_t{3}}) {
    intervals[k] = {std::exp(intervals[k].low), std::exp(intervals[k].high)};
  }
  return {intervals[0], intervals[1], intervals[2], intervals[3], intervals[4]};
}

FittedScalingLaw try_scaling_law(std::span<const ScalingPoint> points) {
  try {
    return {fit_scaling_law(points), jackknife_scaling_law(points), ""};
  } catch (const UserError& error) {
    return {{}, {}, error.what()};
  }
}

namespace {

// Least squares of y on powers of x below `terms`; nothing when x does not determine them.
std::optional<std::vector<double>> polynomial(std::span<const double> x, std::span<const double> y, size_t terms) {
  std::vector<std::vector<double>> normal(terms, std::vector<double>(terms));
  std::vector<double> right(terms), result;
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < terms; ++j) {
      for (size_t k = 0; k < terms; ++k) normal[j][k] += std::pow(x[i], double(j + k));
      right[j] += std::pow(x[i], double(j)) * y[i];
    }
  }
  if (!solve(normal, right, result)) return {};
  return result;
}

using Budgets = std::map<double, std::vector<ScalingPoint>>;

Budgets by_budget(std::span<const ScalingPoint> points) {
  Budgets budgets;
  for (const ScalingPoint& point : points) {
    check(point.flops > 0 && point.parameters > 0 && point.tokens > 0,
          "[scaling] a run of {} FLOPs, {} parameters, {} tokens", point.flops, point.parameters, point.tokens);
    budgets[point.flops].push_back(point);
  }
  return budgets;
}

// exp of the lowest point of a parabola over log x.
template <class Dial>
std::optional<double> lowest(const std::vector<ScalingPoint>& points, Dial dial) {
  std::vector<double> x, y;
  for (const ScalingPoint& point : points) {
    x.push_back(std::log(dial(point)));
    y.push_back(point.loss);
  }
  const double center = mean(x);
  for (double& value : x) value -= center;
  const auto parabola = polynomial(x, y, 3);
  if (!parabola || !((*parabola)[2] > 0)) return {};
  return std::exp(center - (*parabola)[1] / (2 * (*parabola)[2]));
}

std::optional<Frontier> frontier_of(const Budgets& budgets) {
  Frontier frontier;
  std::vector<double> flops, n, d;
  for (const auto& [budget, points] : budgets) {
    const auto parameters = lowest(points, [](const ScalingPoint& p) { return p.parameters; });
    const auto tokens = lowest(points, [](const ScalingPoint& p) { return p.tokens; });
    if (!parameters || !tokens) return {};
    frontier.optima.push_back({budget, *parameters, *tokens});
    flops.push_back(std::log(budget));
    n.push_back(std::log(*parameters)), d.push_back(std::log(*tokens));
  }
  const double center = flops.empty() ? 0 : mean(flops);
  for (double& value : flops) value -= center;
  const auto by_n = polynomial(flops, n, 2), by_d = polynomial(flops, d, 2);
  if (!by_n || !by_d) return {};
  frontier.parameters_exponent = (*by_n)[1];
  frontier.tokens_exponent = (*by_d)[1];
  return frontier;
}

}  // namespace

Frontier fit_frontier(std::span<const ScalingPoint> points) {
  const auto frontier = frontier_of(by_budget(points));
  check(frontier.has_value(),
        "[scaling] no frontier: it takes two budgets of three sizes each, with the lowest loss "
        "between them");
  return *frontier;
}

FrontierIntervals bootstrap_frontier(std::span<const ScalingPoint> points, double confidence, int resamples,
                                     uint32_t seed) {
  const Budgets budgets = by_budget(points);
  fit_frontier(points);
  std::vector<double> n, d;
  // A budget of few runs often draws the same one again; most draws succeed all the same.
  for (int i = 0; i < 20 * resamples && static_cast<int>(n.size()) < resamples; ++i) {
    Budgets drawn;
    size_t at = 0;
    for (const auto& [budget, runs] : budgets) {
      for (size_t k = 0; k < runs.size(); ++k) {
        drawn[budget].push_back(runs[draw(seed, i, at++, runs.size())]);
      }
    }
    const auto frontier = frontier_of(drawn);
    if (!frontier) continue;
    n.push_back(frontier->parameters_exponent);
    d.push_back(frontier->tokens_exponent);
  }
  return {central(std::move(n), confidence), central(std::move(d), confidence)};
}

}  // namespace surtsey::experiments
