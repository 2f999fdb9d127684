#include "experiments/commands/finetune_held_out.h"

#include "experiments/base/progress.h"
#include "experiments/evaluate/label_measures.h"

#include <fmt/format.h>

#include <algorithm>

namespace surtsey::experiments::commands {
namespace {

using tasks::Split;
using tasks::TuningSource;

struct LabelledTexts {
  std::vector<text::EncodedText> texts;
  std::vector<std::vector<float>> labels;
};

// The first of the held-out rows.
LabelledTexts labelled_texts(const TuningSource& source, int64_t rows) {
  tasks::LabelledBatch batch(rows, source.block_size(), source.labels());
  source.fill_labelled(Split::kValidation, 0, 0, 0, batch.spans());
  LabelledTexts made;
  for (size_t row = 0; row < size_t(rows); ++row) {
    const size_t first = row * size_t(source.block_size()), length = size_t(batch.lengths[row]);
    const auto part = [&](const auto& all, size_t from, size_t count) {
      return std::pair(all.begin() + std::ptrdiff_t(from), all.begin() + std::ptrdiff_t(from + count));
    };
    const auto [ids, ids_end] = part(batch.tokens, first, length);
    const auto [kinds, kinds_end] = part(batch.kinds, first, length);
    const auto [labels, labels_end] = part(batch.labels, row * size_t(source.labels()), size_t(source.labels()));
    made.texts.push_back({{ids, ids_end}, {kinds, kinds_end}, int64_t(length)});
    made.labels.emplace_back(labels, labels_end);
  }
  return made;
}

class HeldOutTexts : public HeldOut {
 public:
  HeldOutTexts(Evaluator& evaluator, const TuningSource& source) : evaluator_(evaluator), source_(source) {}

  std::vector<HeldOutResult> of(int64_t rows) override {
    const LossResult loss = evaluator_.loss(source_.sample(Split::kValidation, 0, 0, int32_t(rows)));
    std::vector<HeldOutResult> results;
    for (size_t e = 0; e < loss.mean.size(); ++e)
      results.push_back({loss.mean[e],
                         loss.accuracy[e],
                         fmt::format("{:.1f} % of tokens right ({} rows)", 100 * loss.accuracy[e], rows),
                         {{"eval_mean_token_accuracy", loss.accuracy[e]}}});
    return results;
  }

 private:
  Evaluator& evaluator_;
  const TuningSource& source_;
};

class HeldOutLabels : public HeldOut {
 public:
  HeldOutLabels(LabelProgram& scorer, const TuningSource& source, tasks::ProblemType problem)
      : scorer_(scorer), source_(source), problem_(problem) {}

  std::vector<HeldOutResult> of(int64_t rows) override {
    const LabelledTexts held_out = labelled_texts(source_, rows);
    std::vector<HeldOutResult> results;
    for (const TextScores& scores : scorer_.of(held_out.texts)) {
      const LabelMeasures measures = label_measures(problem_, scores, held_out.labels);
      const auto named = measures.named(problem_);
      HeldOutResult& one =
          results.emplace_back(HeldOutResult{measures.loss, named.front().second, measures.sentence(problem_), {}});
      for (const auto& [name, value] : named) one.metrics.emplace_back("eval_" + name, value);
    }
    return results;
  }

 private:
  LabelProgram& scorer_;
  const TuningSource& source_;
  tasks::ProblemType problem_;
};

HeldOutResult of_pairs(const align::PreferenceObjective& objective, const align::SequenceNumbers& rows) {
  const align::MeasuredObjective made = align::measured(objective, rows);
  HeldOutResult result{.loss = made.loss};
  for (size_t i = 0; i < made.measures.size(); ++i) {
    result.metrics.emplace_back("eval_" + objective.measures[i], made.measures[i]);
    if (objective.measures[i] == align::kPreferenceAccuracy) result.measure = made.measures[i];
  }
  const size_t pairs = std::max(rows.log_probs.size(), rows.scores.size()) / 2;
  result.sentence = fmt::format("{:.1f} % of {} pairs right", 100 * result.measure, pairs);
  return result;
}

class PolicyPairs : public HeldOut {
 public:
  PolicyPairs(Evaluator& evaluator, const TuningSource& source, align::PreferenceObjective objective)
      : evaluator_(evaluator), source_(source), objective_(std::move(objective)) {}

  std::vector<HeldOutResult> of(int64_t rows) override {
    const tasks::Batch batch = source_.sample(Split::kValidation, 0, 0, int32_t(rows));
    align::SequenceNumbers numbers;
    std::vector<float> reference(static_cast<size_t>(rows));
    source_.fill_numbers(Split::kValidation, 0, 0, 0, reference);
    numbers.numbers.assign(reference.begin(), reference.end());
    const auto block = std::ptrdiff_t(batch.block_size);
    for (auto row = batch.weights.begin(); row != batch.weights.end(); row += block)
      numbers.learned.push_back(double(std::count(row, row + block, 1.0f)));
    std::vector<HeldOutResult> results;
    for (const std::vector<double>& nll : evaluator_.loss(batch).nll) {
      numbers.log_probs.clear();
      for (const double one : nll) numbers.log_probs.push_back(-one);
      results.push_back(of_pairs(objective_, numbers));
    }
    return results;
  }

 private:
  Evaluator& evaluator_;
  const TuningSource& source_;
  align::PreferenceObjective objective_;
};

class RewardPairs : public HeldOut {
 public:
  RewardPairs(LabelProgram& scorer, const TuningSource& source, align::PreferenceObjective objective)
      : scorer_(scorer), source_(source), objective_(std::move(objective)) {}

  std::vector<HeldOutResult> of(int64_t rows) override {
    const LabelledTexts held_out = labelled_texts(source_, rows);
    align::SequenceNumbers numbers;
    for (const std::vector<float>& margin : held_out.labels) numbers.labels.push_back(margin.at(0));
    std::vector<HeldOutResult> results;
    for (const TextScores& scores : scorer_.of(held_out.texts)) {
      numbers.scores.clear();
      for (const std::vector<float>& one : scores) numbers.scores.push_back(one.at(0));
      results.push_back(of_pairs(objective_, numbers));
    }
    return results;
  }

 private:
  LabelProgram& scorer_;
  const TuningSource& source_;
  align::PreferenceObjective objective_;
};

}  // namespace

std::unique_ptr<HeldOut> held_out_texts(Evaluator& evaluator, const TuningSource& source) {
  return std::make_unique<HeldOutTexts>(evaluator, source);
}

std::unique_ptr<HeldOut> held_out_labels(LabelProgram& scorer, const TuningSource& source, tasks::ProblemType problem) {
  return std::make_unique<HeldOutLabels>(scorer, source, problem);
}

std::unique_ptr<HeldOut> held_out_pairs(Evaluator& evaluator, const TuningSource& source,
                                        align::PreferenceObjective objective) {
  return std::make_unique<PolicyPairs>(evaluator, source, std::move(objective));
}

std::unique_ptr<HeldOut> held_out_pairs(LabelProgram& scorer, const TuningSource& source,
                                        align::PreferenceObjective objective) {
  return std::make_unique<RewardPairs>(scorer, source, std::move(objective));
}

std::vector<float> log_probs_of(Evaluator& evaluator, const TuningSource& source, Split split) {
  constexpr int64_t kRowsAtOnce = 256;  // of which the host has the tokens
  const int64_t rows = split == Split::kTrain ? source.train_rows() : source.held_out_rows();
  std::vector<float> log_probs;
  Progress progress("reference", rows);
  for (int64_t first = 0; first < rows; first += kRowsAtOnce) {
    const LossResult loss = evaluator.loss(source.in_order(split, first, std::min(kRowsAtOnce, rows - first)));
    for (const double nll : loss.nll.front()) log_probs.push_back(float(-nll));
    progress.update(int64_t(log_probs.size()));
  }
  if (rows > 0) progress.finish();
  return log_probs;
}

}  // namespace surtsey::experiments::commands
