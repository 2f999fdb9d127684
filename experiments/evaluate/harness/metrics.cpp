#include "experiments/evaluate/harness/metrics.h"

#include "experiments/evaluate/harness/blanks.h"
#include "experiments/statistics/distributions.h"
#include "experiments/text/regex.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <numbers>

namespace surtsey::experiments {
namespace {

constexpr const char* kInvalid = "[invalid]";

// How items become one number.
enum class Kind { share, mean_perplexity, perplexity, bits };

struct MetricRow {
  const char* name;
  OutputType type;
  Kind kind;
};
constexpr std::array<MetricRow, 10> kRows = {{
    {"perplexity", OutputType::loglikelihood, Kind::mean_perplexity},
    {"acc", OutputType::loglikelihood, Kind::share},
    {"acc", OutputType::multiple_choice, Kind::share},
    {"acc_norm", OutputType::multiple_choice, Kind::share},
    {"acc_bytes", OutputType::multiple_choice, Kind::share},
    {"exact_match", OutputType::generate_until, Kind::share},
    {"word_perplexity", OutputType::loglikelihood_rolling, Kind::perplexity},
    {"byte_perplexity", OutputType::loglikelihood_rolling, Kind::perplexity},
    {"bits_per_byte", OutputType::loglikelihood_rolling, Kind::bits},
    {"token_perplexity", OutputType::loglikelihood_rolling, Kind::perplexity},
}};

const MetricRow& row_of(OutputType type, std::string_view metric) {
  const auto row = std::find_if(kRows.begin(), kRows.end(),
                                [&](const MetricRow& one) { return one.type == type && one.name == metric; });
  ensure(row != kRows.end(), "[metrics] {} has no metric '{}'", name(type), metric);
  return *row;
}

bool is_ascii_punctuation(char c) { return c > ' ' && c < 0x7F && std::isalnum(static_cast<unsigned char>(c)) == 0; }

// The choice with the highest log-likelihood for its length, the first of equals.
int64_t chosen(std::span<const Answer> answers, const std::vector<double>& lengths) {
  int64_t best = 0;
  const auto score = [&](int64_t i) { return answers[size_t(i)].loglikelihood / lengths[size_t(i)]; };
  for (int64_t i = 1; i < std::ssize(answers); ++i) {
    if (score(i) > score(best)) best = i;
  }
  return best;
}

Interval transformed(const Interval& of, double (*by)(double)) { return {by(of.low), by(of.high)}; }

}  // namespace

std::vector<std::string> metrics_of(OutputType type) {
  std::vector<std::string> names;
  for (const MetricRow& row : kRows) {
    if (row.type == type) names.emplace_back(row.name);
  }
  return names;
}

bool higher_is_better(std::string_view metric) {
  const auto row = std::find_if(kRows.begin(), kRows.end(), [&](const MetricRow& one) { return one.name == metric; });
  return row != kRows.end() && row->kind == Kind::share;
}

struct AnswerFilter::Pattern {
  text::Regex regex;
};

AnswerFilter::AnswerFilter(const EvalTask& task) : task_(task) {
  if (!task.regex.empty()) {
    pattern_ = std::make_unique<Pattern>(Pattern{text::Regex::with_groups(task.regex, task.name + ": regex")});
  }
}

AnswerFilter::~AnswerFilter() = default;

std::string AnswerFilter::filter(const std::string& text) const {
  std::string result = text;
  if (pattern_ != nullptr) {
    // Of each find the first group that took part, or all of it where there are no groups.
    std::vector<std::string> finds;
    pattern_->regex.for_each_match_with_groups(text, [&](std::span<const std::string_view> groups) {
      const auto part =
          std::find_if(groups.begin() + 1, groups.end(), [](std::string_view one) { return !one.empty(); });
      finds.emplace_back(part == groups.end() ? groups.front() : *part);
    });
    const int64_t place = task_.regex_group_select < 0 ? std::ssize(finds) - 1 : task_.regex_group_select;
    result = 0 <= place && place < std::ssize(finds) ? finds[size_t(place)] : kInvalid;
  }
  return task_.strip ? std::string(without_blanks(result)) : result;
}

std::string AnswerFilter::compared(std::string text) const {
  if (task_.ignore_case) {
    std::string lower;
    for (const char32_t point : text::characters(text)) text::append_lower_case(lower, point);
    text = std::move(lower);
  }
  if (task_.ignore_punctuation) std::erase_if(text, is_ascii_punctuation);
  if (task_.ignore_numbers) std::erase_if(text, [](char c) { return c >= '0' && c <= '9'; });
  return text;
}

bool AnswerFilter::equal(const std::string& answer, const std::string& target) const {
  return compared(answer) == compared(task_.strip ? std::string(without_blanks(target)) : target);
}

int64_t count_words(std::string_view text) {
  int64_t words = 1;
  bool blank = false;
  for (const char32_t point : text::characters(text)) {
    const bool now = text::is_whitespace(point);
    words += now && !blank ? 1 : 0;
    blank = now;
  }
  return words;
}

std::vector<ItemMetric> item_metrics(const EvalTask& task, const AnswerFilter& filter, const Prompt& prompt,
                                     std::span<const Answer> answers) {
  const size_t expected = std::max<size_t>(1, prompt.continuations.size());
  ensure(answers.size() == expected, "[metrics] {} answers to {} questions", answers.size(), expected);
  const Answer& first = answers.front();
  const auto right = [&](const auto& length) {
    std::vector<double> lengths;
    for (const std::string& choice : prompt.choices) lengths.push_back(length(choice));
    return chosen(answers, lengths) == prompt.gold ? 1.0 : 0.0;
  };
  const auto value = [&](const std::string& metric) -> ItemMetric {
    switch (task.output_type) {
      case OutputType::loglikelihood:
        return {metric, metric == "acc" ? double(first.greedy) : first.loglikelihood};
      case OutputType::multiple_choice:
        if (metric == "acc") return {metric, right([](const std::string&) { return 1.0; })};
        if (metric == "acc_bytes") return {metric, right([](const std::string& one) { return double(one.size()); })};
        return {metric, right([](const std::string& one) { return double(text::character_count(one)); })};
      case OutputType::generate_until:
        return {metric, filter.equal(filter.filter(first.text), prompt.target) ? 1.0 : 0.0};
      case OutputType::loglikelihood_rolling:
        break;
    }
    if (metric == "word_perplexity") return {metric, first.loglikelihood, double(count_words(prompt.target))};
    if (metric != "token_perplexity") return {metric, first.loglikelihood, double(prompt.target.size())};
    double tokens = 0;
    for (const Answer::Part& window : first.windows) tokens += double(window.tokens);
    return {metric, first.loglikelihood, tokens};
  };
  std::vector<ItemMetric> metrics;
  for (const std::string& metric : task.metrics) metrics.push_back(value(metric));
  return metrics;
}

Ratio ratio_of_sums(std::span<const std::pair<double, double>> pairs) {
  Ratio ratio;
  double values = 0, weights = 0;
  for (const auto& [value, weight] : pairs) values += value, weights += weight;
  ratio.value = values / weights;
  const auto n = double(pairs.size());
  if (pairs.size() < 2) return ratio;
  double squares = 0;
  for (const auto& [value, weight] : pairs) squares += std::pow(value - ratio.value * weight, 2);
  ratio.standard_error = std::sqrt(n / (n - 1) * squares) / weights;
  const double reach = t_quantile(n - 1, .975) * *ratio.standard_error;
  ratio.ci95 = Interval{ratio.value - reach, ratio.value + reach};
  return ratio;
}

std::vector<MetricResult> aggregate(const EvalTask& task, std::span<const std::vector<ItemMetric>> items,
                                    std::span<const Answer::Part> windows) {
  ensure(!items.empty(), "[metrics] {} has no items", task.name);
  std::vector<MetricResult> results;
  for (size_t m = 0; m < task.metrics.size(); ++m) {
    const MetricRow& row = row_of(task.output_type, task.metrics[m]);
    MetricResult& result = results.emplace_back();
    result.name = row.name;
    result.higher_is_better = row.kind == Kind::share;
    std::vector<std::pair<double, double>> pairs;
    for (const auto& item : items) pairs.emplace_back(item[m].value, item[m].weight);
    if (row.kind == Kind::share) {
      std::vector<double> values;
      for (const auto& [value, weight] : pairs) values.push_back(value);
      result.value = mean(values);
      if (values.size() > 1) result.standard_error = standard_error(values);
      result.ci95 = wilson(int64_t(std::count(values.begin(), values.end(), 1.0)), std::ssize(values));
      continue;
    }
    const bool single = pairs.size() == 1 && windows.size() > 1;
    if (single) {
      double tokens = 0;
      for (const Answer::Part& window : windows) tokens += double(window.tokens);
      const double weight = pairs.front().second / tokens;
      pairs.clear();
      for (const Answer::Part& window : windows) {
        pairs.emplace_back(window.loglikelihood, weight * double(window.tokens));
      }
    }
    for (auto& [value, weight] : pairs) value = -value;
    const Ratio ratio = ratio_of_sums(pairs);
    const auto carry = [&](double (*by)(double), double slope) {
      result.value = by(ratio.value);
      if (!ratio.standard_error) return;
      result.standard_error = slope * *ratio.standard_error;
      result.ci95 = transformed(*ratio.ci95, by);
    };
    if (row.kind == Kind::bits) {
      carry([](double nats) { return nats / std::numbers::ln2; }, 1 / std::numbers::ln2);
    } else {
      carry([](double nats) { return std::exp(nats); }, std::exp(ratio.value));
    }
  }
  return results;
}

}  // namespace surtsey::experiments
