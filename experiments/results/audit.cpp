#include "experiments/results/audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <sstream>

#include "experiments/statistics/curves.h"
#include "experiments/statistics/scaling_law.h"
#include "graph/random.h"

namespace surtsey::experiments {
namespace {

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> list;
  for (std::string word; stream >> word;) list.push_back(word);
  return list;
}

// Sums over the items of one arm of one cell.
struct Sums {
  double items = 0, tokens = 0, similarity = 0, brier = 0;
};

Sums sums_of(const std::vector<const SampleLine*>& lines) {
  Sums sums;
  for (const SampleLine* line : lines) {
    const auto target = static_cast<double>(words(line->target).size());
    const auto longer = std::max(target, static_cast<double>(words(line->response).size()));
    sums.items += 1;
    sums.tokens += target;
    if (longer > 0) {
      const auto distance = static_cast<double>(token_edit_distance(line->target, line->response));
      sums.similarity += 1 - distance / longer;
    }
    const double wrong = 1 - std::exp(-line->nll.value_or(std::nan("")));
    sums.brier += wrong * wrong;
  }
  return sums;
}

double explained(const std::vector<std::pair<double, double>>& points) {
  auto sorted = points;
  // The higher the loss, the lower the accuracy.
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  std::vector<double> values;
  for (const auto& [loss, accuracy] : sorted) values.push_back(accuracy);
  return explained_variance(values, isotonic_fit(values));
}

}  // namespace

size_t token_edit_distance(const std::string& left, const std::string& right) {
  const auto a = words(left), b = words(right);
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::vector<AuditSeries> audit_series(const StudyResult& result, const std::vector<SampleLine>& samples) {
  std::map<std::pair<std::string, std::string>, std::vector<const SampleLine*>> lines;
  for (const SampleLine& line : samples) lines[{line.cell, line.arm}].push_back(&line);
  std::vector<AuditSeries> all;
  for (const Cell& cell : result.cells) {
    if (!cell.selected || cell.validation_only) continue;
    for (const ArmResult& arm : cell.arms) {
      if (arm.arm == kGivenArm) continue;
      const auto at = lines.find({cell.cell, arm.arm});
      if (at == lines.end()) continue;
      std::string name;
      for (const std::string& part : {cell.task, cell.variant, arm.arm}) {
        if (!part.empty()) name += (name.empty() ? "" : ", ") + part;
      }
      auto series = std::find_if(all.begin(), all.end(), [&](const AuditSeries& one) { return one.name == name; });
      if (series == all.end()) series = all.insert(all.end(), AuditSeries{name, {}});
      const Sums sums = sums_of(at->second);
      AuditRow& row = series->rows.emplace_back();
      row.cell = cell.cell;
      row.parameters = cell.parameters;
      row.seed = cell.seed;
      row.tokens_per_answer = sums.tokens / sums.items;
      row.final_answer = arm.exact_match;
      row.whole_answer = arm.chain_exact_match;
      row.position_product = arm.position_accuracy.empty() ? 0 : 1;
      for (const double accuracy : arm.position_accuracy) row.position_product *= accuracy;
      row.edit_similarity = sums.similarity / sums.items;
      row.loss_per_token = arm.loss_per_token;
      row.brier_right = sums.brier / sums.items;
    }
  }
  for (AuditSeries& series : all) {
    std::stable_sort(series.rows.begin(), series.rows.end(),
                     [](const AuditRow& a, const AuditRow& b) { return a.parameters < b.parameters; });
  }
  return all;
}

std::vector<Forecast> forecast_losses(const AuditSeries& series, double confidence) {
  std::set<int64_t> distinct;
  for (const AuditRow& row : series.rows) {
    if (!(row.loss_per_token > 0)) return {};
    distinct.insert(row.parameters);
  }
  const std::vector<int64_t> sizes(distinct.begin(), distinct.end());
  const size_t half = sizes.size() / 2;
  if (half < 2) return {};
  std::vector<double> dials, losses;
  for (const AuditRow& row : series.rows) {
    if (row.parameters >= sizes[half]) continue;
    dials.push_back(static_cast<double>(row.parameters));
    losses.push_back(row.loss_per_token);
  }
  if (dials.size() < 3) return {};
  std::vector<Forecast> forecasts;
  for (size_t i = half; i < sizes.size(); ++i) {
    Forecast& one = forecasts.emplace_back();
    one.parameters = sizes[i];
    one.expected = forecast(dials, losses, static_cast<double>(sizes[i]), /*with_floor=*/false, confidence);
    one.found = {std::numeric_limits<double>::infinity(), 0};
    for (const AuditRow& row : series.rows) {
      if (row.parameters != sizes[i]) continue;
      one.found.low = std::min(one.found.low, row.loss_per_token);
      one.found.high = std::max(one.found.high, row.loss_per_token);
    }
  }
  return forecasts;
}

LossAxis loss_axis(const AuditSeries& series, double confidence, int resamples) {
  std::vector<std::pair<double, double>> points;
  for (const AuditRow& row : series.rows) {
    points.emplace_back(row.loss_per_token, row.whole_answer);
  }
  LossAxis axis;
  axis.explained = points.empty() ? 0 : explained(points);
  if (points.size() < 4) return axis;
  std::vector<double> values;
  const auto count = static_cast<uint32_t>(points.size());
  const uint32_t key = graph::stream_seed(0, "audit.loss_axis");
  for (int i = 0; i < resamples; ++i) {
    std::vector<std::pair<double, double>> drawn;
    for (uint32_t k = 0; k < count; ++k) {
      drawn.push_back(points[graph::random_range(key, static_cast<uint32_t>(i), k, count)]);
    }
    values.push_back(explained(drawn));
  }
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double share) {
    const double at = share * static_cast<double>(values.size() - 1);
    return values[static_cast<size_t>(std::lround(at))];
  };
  axis.interval = {quantile((1 - confidence) / 2), quantile((1 + confidence) / 2)};
  return axis;
}

std::string audit_csv(const std::map<std::string, std::vector<AuditSeries>>& runs) {
  std::string text =
      "run,series,cell,parameters,seed,tokens_per_answer,final_answer,whole_answer,"
      "position_product,edit_similarity,loss_per_token,brier_right\n";
  for (const auto& [run, all] : runs) {
    for (const AuditSeries& series : all) {
      for (const AuditRow& row : series.rows) {
        text += fmt::format("{},\"{}\",{},{},{},{},{},{},{},{},{},{}\n", run, series.name, row.cell, row.parameters,
                            row.seed, row.tokens_per_answer, row.final_answer, row.whole_answer, row.position_product,
                            row.edit_similarity, row.loss_per_token, row.brier_right);
      }
    }
  }
  return text;
}

}  // namespace surtsey::experiments
