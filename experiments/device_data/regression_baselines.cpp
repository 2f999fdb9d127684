#include "experiments/device_data/regression_baselines.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

using Matrix = std::vector<std::vector<double>>;

std::span<const double> input(const ContextExamples& examples, size_t k) {
  const auto d = static_cast<size_t>(examples.dimension);
  return examples.x.subspan(k * d, d);
}

double product(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

void check_examples(const ContextExamples& examples) {
  check(examples.dimension > 0 && examples.x.size() == examples.y.size() * static_cast<size_t>(examples.dimension),
        "[baselines] {} inputs of {} numbers and {} outputs", examples.x.size(), examples.dimension, examples.y.size());
}

// Solves A z = b by elimination with row exchanges.
std::vector<double> solve(Matrix a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t j = 0; j < n; ++j) {
    size_t pivot = j;
    for (size_t i = j + 1; i < n; ++i) {
      if (std::abs(a[i][j]) > std::abs(a[pivot][j])) pivot = i;
    }
    std::swap(a[j], a[pivot]);
    std::swap(b[j], b[pivot]);
    check(a[j][j] != 0, "[baselines] the examples are degenerate: two inputs are the same");
    for (size_t i = j + 1; i < n; ++i) {
      const double factor = a[i][j] / a[j][j];
      for (size_t k = j; k < n; ++k) a[i][k] -= factor * a[j][k];
      b[i] -= factor * b[j];
    }
  }
  for (size_t j = n; j-- > 0;) {
    for (size_t k = j + 1; k < n; ++k) b[j] -= a[j][k] * b[k];
    b[j] /= a[j][j];
  }
  return b;
}

// Weights of ridge regression on the first k examples, through whichever of X X' and X'X is
// smaller; without a penalty those of least squares.
std::vector<double> ridge_weights(const ContextExamples& examples, size_t k, double penalty) {
  const auto d = static_cast<size_t>(examples.dimension);
  std::vector<double> weights(d, 0);
  if (k == 0) return weights;
  if (k <= d) {
    Matrix gram(k, std::vector<double>(k));
    for (size_t i = 0; i < k; ++i) {
      for (size_t j = 0; j < k; ++j) {
        gram[i][j] = product(input(examples, i), input(examples, j)) + (i == j ? penalty : 0);
      }
    }
    const auto y = examples.y.first(k);
    const auto factors = solve(std::move(gram), {y.begin(), y.end()});
    for (size_t i = 0; i < k; ++i) {
      for (size_t j = 0; j < d; ++j) weights[j] += factors[i] * input(examples, i)[j];
    }
    return weights;
  }
  Matrix square(d, std::vector<double>(d, 0));
  std::vector<double> right(d, 0);
  for (size_t i = 0; i < k; ++i) {
    const auto x = input(examples, i);
    for (size_t a = 0; a < d; ++a) {
      for (size_t b = 0; b < d; ++b) square[a][b] += x[a] * x[b];
      right[a] += x[a] * examples.y[i];
    }
  }
  for (size_t a = 0; a < d; ++a) square[a][a] += penalty;
  return solve(std::move(square), std::move(right));
}

}  // namespace

std::vector<double> ridge(const ContextExamples& examples, double penalty) {
  check_examples(examples);
  check(penalty >= 0, "[baselines] a penalty of {}", penalty);
  std::vector<double> predictions;
  for (size_t k = 0; k < examples.y.size(); ++k) {
    predictions.push_back(product(ridge_weights(examples, k, penalty), input(examples, k)));
  }
  return predictions;
}

std::vector<double> least_squares(const ContextExamples& examples) { return ridge(examples, 0); }

std::vector<double> averaging(const ContextExamples& examples) {
  check_examples(examples);
  std::vector<double> sum(static_cast<size_t>(examples.dimension), 0), predictions;
  for (size_t k = 0; k < examples.y.size(); ++k) {
    const auto x = input(examples, k);
    predictions.push_back(k == 0 ? 0 : product(sum, x) / static_cast<double>(k));
    for (size_t j = 0; j < sum.size(); ++j) sum[j] += examples.y[k] * x[j];
  }
  return predictions;
}

std::vector<double> nearest_neighbours(const ContextExamples& examples, int64_t count) {
  check_examples(examples);
  check(count > 0, "[baselines] {} neighbours", count);
  std::vector<double> predictions;
  for (size_t k = 0; k < examples.y.size(); ++k) {
    std::vector<std::pair<double, double>> others;  // squared distance, y
    for (size_t i = 0; i < k; ++i) {
      double distance = 0;
      for (size_t j = 0; j < static_cast<size_t>(examples.dimension); ++j) {
        const double difference = input(examples, i)[j] - input(examples, k)[j];
        distance += difference * difference;
      }
      others.emplace_back(distance, examples.y[i]);
    }
    std::sort(others.begin(), others.end());
    others.resize(std::min(others.size(), static_cast<size_t>(count)));
    double sum = 0;
    for (const auto& [distance, y] : others) sum += y;
    predictions.push_back(others.empty() ? 0 : sum / static_cast<double>(others.size()));
  }
  return predictions;
}

std::vector<double> posterior_mean(const ContextExamples& examples, std::span<const double> tasks, double noise) {
  check_examples(examples);
  const auto d = static_cast<size_t>(examples.dimension);
  check(!tasks.empty() && tasks.size() % d == 0, "[baselines] {} numbers of tasks in {} dimensions", tasks.size(), d);
  check(noise > 0, "[baselines] noise of deviation {}", noise);
  const size_t count = tasks.size() / d;
  std::vector<double> logs(count, 0), outputs(count), predictions;
  for (size_t k = 0; k < examples.y.size(); ++k) {
    const auto x = input(examples, k);
    const double largest = *std::max_element(logs.begin(), logs.end());
    double sum = 0, total = 0;
    for (size_t i = 0; i < count; ++i) {
      outputs[i] = product(tasks.subspan(i * d, d), x);
      const double weight = std::exp(logs[i] - largest);
      sum += weight * outputs[i];
      total += weight;
    }
    predictions.push_back(sum / total);
    for (size_t i = 0; i < count; ++i) {
      const double error = examples.y[k] - outputs[i];
      logs[i] -= error * error / (2 * noise * noise);
    }
  }
  return predictions;
}

}  // namespace surtsey::experiments
