// From answers to numbers, by the names and definitions of lm-evaluation-harness.
//
//   loglikelihood          perplexity   exp of the mean negative log-likelihood of an item's target
//                          acc          the target is what greedy decoding writes
//   multiple_choice        acc          the likeliest choice, the first of equals, is the right one
//                          acc_norm     the same of log-likelihoods by character of the choice, acc_bytes by byte
//   generate_until         exact_match
//   loglikelihood_rolling  word_perplexity, byte_perplexity, bits_per_byte: exp (bits: 1 / ln 2) of the negative
//                          log-likelihood of all texts by their words (runs of blanks part them) or bytes;
//                          token_perplexity by tokens, which compares models of one tokenizer only
//
// Standard errors: of shares that of the mean, sd / sqrt(n). Of perplexities and bits the delta method, where the
// harness resamples or says nothing: sums over items are a ratio of means, whose residuals have the error, and exp
// carries it over. A single text has its windows for items, its words and bytes by token taken as given. Intervals
// are of 95 percent: Wilson's of shares, Student's of the mean or ratio, through exp.
#pragma once

#include "experiments/evaluate/harness/prompts.h"
#include "experiments/statistics/intervals.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace surtsey::experiments {

// What a model said to one continuation, or wrote.
struct Answer {
  // The log-likelihood in nats is that of `tokens` tokens. Of a text: one a window.
  struct Part {
    double loglikelihood = 0;
    int64_t tokens = 0;
  };
  double loglikelihood = 0;
  bool greedy = false;
  std::string text;                // of generate_until, before filters
  std::vector<Part> windows = {};  // of loglikelihood_rolling
};

// What is measured of one item: value / weight has the unit of the metric.
struct ItemMetric {
  std::string name;
  double value = 0;
  double weight = 1;
};

struct MetricResult {
  std::string name;
  double value = 0;
  std::optional<double> standard_error;  // none for a single item
  std::optional<Interval> ci95;
  bool higher_is_better = true;
};

// All that a type has.
std::vector<std::string> metrics_of(OutputType type);
bool higher_is_better(std::string_view metric);

// An answer as it is compared: what the task's strip and regex leave. "[invalid]" where the regex finds nothing, as the
// harness has it.
class AnswerFilter {
 public:
  // UserError: a pattern that cannot be read.
  explicit AnswerFilter(const EvalTask& task);
  ~AnswerFilter();
  std::string filter(const std::string& text) const;
  bool equal(const std::string& answer, const std::string& target) const;

 private:
  std::string compared(std::string text) const;
  struct Pattern;
  const EvalTask& task_;
  std::unique_ptr<const Pattern> pattern_;
};

// `answers` as the prompt's continuations, or one.
std::vector<ItemMetric> item_metrics(const EvalTask& task, const AnswerFilter& filter, const Prompt& prompt,
                                     std::span<const Answer> answers);

// Of all items, in the task's order of metrics; `windows`: of a single text.
std::vector<MetricResult> aggregate(const EvalTask& task, std::span<const std::vector<ItemMetric>> items,
                                    std::span<const Answer::Part> windows);

// Of (value, weight) pairs: the ratio of their sums, its standard error, its 95% interval.
struct Ratio {
  double value = 0;
  std::optional<double> standard_error;
  std::optional<Interval> ci95;
};
Ratio ratio_of_sums(std::span<const std::pair<double, double>> pairs);

int64_t count_words(std::string_view text);

}  // namespace surtsey::experiments
