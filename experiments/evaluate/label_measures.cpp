#include "experiments/evaluate/label_measures.h"

#include "experiments/statistics/intervals.h"
#include "graph/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace surtsey::experiments {
namespace {

using tasks::ProblemType;

size_t largest_of(std::span<const float> numbers) {
  return size_t(std::max_element(numbers.begin(), numbers.end()) - numbers.begin());
}

// log(1 + e^x)
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

double text_loss(ProblemType problem, std::span<const float> scores, std::span<const float> labels) {
  double sum = 0;
  if (problem == ProblemType::single_label) {
    const double most = double(scores[largest_of(scores)]);
    double exponentials = 0, picked = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      exponentials += std::exp(double(scores[i]) - most);
      picked += double(labels[i]) * (double(scores[i]) - most);
    }
    return std::log(exponentials) - picked;
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    const double x = double(scores[i]), y = double(labels[i]);
    sum += problem == ProblemType::regression ? (x - y) * (x - y) : y * softplus(-x) + (1 - y) * softplus(x);
  }
  return sum / double(scores.size());
}

double correlation_of(std::span<const std::vector<float>> scores, std::span<const std::vector<float>> labels,
                      size_t k) {
  const auto n = double(scores.size());
  double x = 0, y = 0, xx = 0, xy = 0, yy = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    x += double(scores[i][k]) / n;
    y += double(labels[i][k]) / n;
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    const double dx = double(scores[i][k]) - x, dy = double(labels[i][k]) - y;
    xx += dx * dx;
    xy += dx * dy;
    yy += dy * dy;
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::vector<double> label_outputs(ProblemType problem, std::span<const float> scores) {
  std::vector<double> outputs(scores.begin(), scores.end());
  if (problem == ProblemType::multi_label)
    for (double& value : outputs) value = 1 / (1 + std::exp(-value));
  if (problem != ProblemType::single_label) return outputs;
  const double most = *std::max_element(outputs.begin(), outputs.end());
  for (double& value : outputs) value = std::exp(value - most);
  const double sum = std::accumulate(outputs.begin(), outputs.end(), 0.0);
  for (double& value : outputs) value /= sum;
  return outputs;
}

LabelMeasures label_measures(ProblemType problem, std::span<const std::vector<float>> scores,
                             std::span<const std::vector<float>> labels, double threshold) {
  ensure(scores.size() == labels.size() && !scores.empty(), "[labels] scores of {} texts, labels of {}", scores.size(),
         labels.size());
  LabelMeasures made{.texts = int64_t(scores.size())};
  for (size_t i = 0; i < scores.size(); ++i) {
    made.loss += text_loss(problem, scores[i], labels[i]) / double(scores.size());
    if (problem == ProblemType::single_label) made.right += largest_of(scores[i]) == largest_of(labels[i]) ? 1 : 0;
    if (problem != ProblemType::multi_label) continue;
    const std::vector<double> outputs = label_outputs(problem, scores[i]);
    for (size_t k = 0; k < outputs.size(); ++k) {
      const bool given = outputs[k] >= threshold, has = labels[i][k] > 0.5f;
      made.hits += given && has ? 1 : 0;
      made.wrong += given && !has ? 1 : 0;
      made.missed += !given && has ? 1 : 0;
    }
  }
  const int64_t all = 2 * made.hits + made.wrong + made.missed;
  made.micro_f1 = all > 0 ? 2 * double(made.hits) / double(all) : 1;
  if (problem != ProblemType::regression) return made;
  made.squared_error = made.loss;
  for (size_t k = 0; k < scores[0].size(); ++k) made.pearson.push_back(correlation_of(scores, labels, k));
  return made;
}

std::string LabelMeasures::sentence(ProblemType problem) const {
  if (problem == ProblemType::single_label) {
    const Interval interval = wilson(right, texts);
    return fmt::format("{} of {} right: {:.1f} % ({:.1f} to {:.1f} %, Wilson, 95 %)", right, texts,
                       100.0 * double(right) / double(texts), 100 * interval.low, 100 * interval.high);
  }
  if (problem == ProblemType::multi_label) {
    const auto share = [](int64_t part, int64_t rest) {
      return part + rest > 0 ? double(part) / double(part + rest) : 1.0;
    };
    return fmt::format(
        "{} texts: micro F1 {:.4f} (precision {:.4f}, recall {:.4f}; {} labels right, {} wrong, {} missed)", texts,
        micro_f1, share(hits, wrong), share(hits, missed), hits, wrong, missed);
  }
  std::string each;
  for (const double one : pearson) each += fmt::format("{}{:.4f}", each.empty() ? "" : ", ", one);
  return fmt::format("{} texts: mean squared error {:.6g}, Pearson correlation {}", texts, squared_error, each);
}

std::vector<std::pair<std::string, double>> LabelMeasures::named(ProblemType problem) const {
  if (problem == ProblemType::single_label) return {{"accuracy", double(right) / double(texts)}};
  if (problem == ProblemType::multi_label) return {{"micro_f1", micro_f1}};
  return {{"mse", squared_error},
          {"pearson", std::accumulate(pearson.begin(), pearson.end(), 0.0) / double(pearson.size())}};
}

}  // namespace surtsey::experiments
