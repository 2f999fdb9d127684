// E09: the answers of other runs under other metrics. Nothing is trained.
//
//   build/experiments/metrics_audit --runs=runs/chain_of_thought,runs/emergence
//
// Exact match of an answer of many tokens is about a product, so it can jump where each token gets
// better slowly. Beside it stand the product of the position accuracies, the token edit distance,
// the loss and the Brier score of the right answer (audit.csv); every cell and answer is shown
// again with its own study's charts. A jump counts as a transition of the model when the loss, too,
// leaves what a power law through the smaller half of the sizes forecasts.
#include <algorithm>
#include <map>
#include <memory>

#include "experiments/base/join.h"
#include "experiments/results/audit.h"
#include "experiments/study/study.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string scale;  // of this audit and of the runs
  std::vector<std::string> runs;
  double solved = 0.9;     // whole answers from which a size has the ability
  double unsolved = 0.5;   // and up to which it has not
  double explained = 0.9;  // variance of accuracy that the loss explains
};

struct Audited {
  std::map<std::string, std::vector<AuditSeries>> runs;
  std::vector<std::string> disagreements;
  size_t lines = 0;
};

double mean_whole(const AuditSeries& series, int64_t parameters) {
  std::vector<double> values;
  for (const AuditRow& row : series.rows) {
    if (row.parameters == parameters) values.push_back(row.whole_answer);
  }
  return mean(values);
}

int64_t seeds_of(const AuditSeries& series) {
  std::map<uint32_t, int> seeds;
  for (const AuditRow& row : series.rows) seeds[row.seed] += 1;
  return static_cast<int64_t>(seeds.size());
}

// Series whose whole answers go from unsolved at the smallest size to solved at the largest.
std::vector<std::pair<std::string, const AuditSeries*>> jumps(const Audited& audited, const Options& options) {
  std::vector<std::pair<std::string, const AuditSeries*>> list;
  for (const auto& [run, all] : audited.runs) {
    for (const AuditSeries& series : all) {
      if (series.rows.front().parameters == series.rows.back().parameters) continue;
      if (mean_whole(series, series.rows.front().parameters) > options.unsolved ||
          mean_whole(series, series.rows.back().parameters) < options.solved) {
        continue;
      }
      list.emplace_back(run + ": " + series.name, &series);
    }
  }
  return list;
}

int64_t fewest(int64_t seeds, const AuditSeries& series) {
  const int64_t own = seeds_of(series);
  return seeds == 0 ? own : std::min(seeds, own);
}

Judgement judge_numbers(const Audited& audited) {
  return {audited.disagreements.empty() ? Verdict::kPass : Verdict::kFail,
          audited.disagreements.empty() ? fmt::format("{} runs, {} answers", audited.runs.size(), audited.lines)
                                        : join(audited.disagreements, "; "),
          0};
}

Judgement judge_genuine(const Audited& audited, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  int64_t seeds = 0;
  for (const auto& [name, series] : jumps(audited, options)) {
    seeds = fewest(seeds, *series);
    auto forecasts = forecast_losses(*series, confidence);
    if (forecasts.empty()) {
      verdicts.push_back(Verdict::kInconclusive);
      evidence.push_back(name + ": too few sizes for a forecast");
      continue;
    }
    // As many chances as there are larger sizes.
    const double each = 1 - (1 - confidence) / static_cast<double>(forecasts.size());
    forecasts = forecast_losses(*series, each);
    std::vector<Verdict> sizes;
    std::vector<std::string> parts;
    for (const Forecast& one : forecasts) {
      sizes.push_back(at_most(one.found, one.expected.low));
      parts.push_back(fmt::format("{} parameters {:.3g} to {:.3g} (forecast {:.3g} to {:.3g})", one.parameters,
                                  one.found.low, one.found.high, one.expected.low, one.expected.high));
    }
    verdicts.push_back(any_of(sizes));
    evidence.push_back(fmt::format("{}: loss at {}", name, join(parts, ", ")));
  }
  return {all_of(verdicts), evidence.empty() ? "no series goes from unsolved to solved" : join(evidence, "; "), seeds};
}

Judgement judge_loss_axis(const Audited& audited, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  int64_t seeds = 0;
  for (const auto& [name, series] : jumps(audited, options)) {
    seeds = fewest(seeds, *series);
    const LossAxis axis = loss_axis(*series, confidence);
    verdicts.push_back(at_least(axis.interval, options.explained));
    evidence.push_back(fmt::format("{}: {:.3f} ({:.3f} to {:.3f}, {} models)", name, axis.explained, axis.interval.low,
                                   axis.interval.high, series->rows.size()));
  }
  return {all_of(verdicts), evidence.empty() ? "no series goes from unsolved to solved" : join(evidence, "; "), seeds};
}

class MetricsAudit : public Study {
 public:
  std::string_view name() const override { return "metrics_audit"; }
  std::string_view title() const override { return "The same answers under other metrics"; }
  std::string_view question() const override {
    return "Is a jump in exact match a jump of the model, or of the metric?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }
  // Nothing but the runs that are audited has a scale: a verdict on quick runs demonstrates.
  void set_scale(std::string_view scale) override {
    options_ = {};
    options_.scale = scale;
  }

  void add_fields(ConfigTable& table) override {
    table.add("runs", &options_.runs, "directories of runs that are done");
    table.add("solved", &options_.solved, "share of whole answers from which a size has an ability")
        .at_least(0)
        .at_most(1);
    table.add("unsolved", &options_.unsolved, "share of whole answers up to which it has not").at_least(0).at_most(1);
    table.add("explained", &options_.explained, "claims: share of the variance of accuracy that the loss explains")
        .at_least(0)
        .at_most(1);
  }

  void check_options() const override {
    check(!options_.runs.empty(), "runs is empty: name directories of runs, as in --runs=runs/chain_of_thought");
    std::map<std::string, int> names;
    for (const std::string& run : options_.runs) {
      check(++names[run_name(run)] == 1, "runs: two directories are called '{}'", run_name(run));
    }
  }

  void check_inputs() const override {
    for (const std::string& run : options_.runs) {
      check(fs::exists(fs::path(run) / "result.json"),
            "runs: there is no result.json in '{}'; only runs that are done can be audited", run);
      const std::string scale = load_result(fs::path(run) / "result.json").scale;
      check(scale == options_.scale, "runs: '{}' is of the scale '{}': audit it with --scale {}", run, scale, scale);
    }
  }

  void run(StudyRun& run) override {
    if (run.scouting()) return;
    *audited_ = {};
    for (const std::string& directory : options_.runs) {
      const std::string name = run_name(directory);
      const StudyResult result = load_result(fs::path(directory) / "result.json");
      const std::vector<SampleLine> samples = load_samples(fs::path(directory) / "samples.jsonl");
      check(!samples.empty(), "'{}' has no answers in samples.jsonl", directory);
      for (const std::string& one : disagreements(result, samples)) {
        audited_->disagreements.push_back(name + ": " + one);
      }
      audited_->lines += samples.size();
      audited_->runs[name] = audit_series(result, samples);
      copy(run, name, result, samples);
    }
    write_file_atomic(run.directory().path() / "audit.csv", audit_csv(audited_->runs));
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options options = options_;
    const std::shared_ptr<const Audited> audited = audited_;
    return {{"numbers", "Every number of every run follows from its recorded answers.",
             [=](const StudyResult&, double) { return judge_numbers(*audited); }},
            {"genuine",
             fmt::format("Wherever whole answers go from at most {} at the smallest size to at least {} "
                         "at the largest, the loss of every seed of some larger size is below what a "
                         "power law through the smaller half of the sizes forecasts.",
                         options.unsolved, options.solved),
             [=](const StudyResult&, double confidence) { return judge_genuine(*audited, options, confidence); }},
            {"loss_axis",
             fmt::format("There, a monotone function of the loss explains at least {} of the variance "
                         "of whole-answer accuracy over all sizes and seeds.",
                         options.explained),
             [=](const StudyResult&, double confidence) { return judge_loss_axis(*audited, options, confidence); }}};
  }

  void describe(StudyResult& result) const override {
    result.settings = {{"runs", join(options_.runs, ", ")},
                       {"models", fmt::to_string(result.cells.size())},
                       {"answers", fmt::to_string(audited_->lines)}};
    result.caveats = {
        "Nothing was trained: cells are those of the audited runs, and so are their budgets, seeds "
        "and learning rates. audit.csv holds every metric of every cell.",
        "A forecast rests on the smaller half of the sizes: with two or three of them its interval "
        "says little about where a power law breaks.",
        "The Brier score is that of the right answer alone; probabilities of wrong answers are not "
        "recorded."};
  }

 private:
  static std::string run_name(const std::string& directory) {
    const fs::path path = fs::path(directory).lexically_normal();
    return (path.filename().empty() ? path.parent_path() : path).filename().string();
  }

  // Cells and answers of a run, so that the page shows what was audited.
  static void copy(StudyRun& run, const std::string& name, const StudyResult& result,
                   const std::vector<SampleLine>& samples) {
    std::vector<Cell> cells;
    for (Cell cell : result.cells) {
      if (!cell.selected || cell.validation_only) continue;
      cell.cell = name + "/" + cell.cell;
      if (run.finished(cell.cell)) return;
      cell.task = cell.task.empty() ? name : name + ", " + cell.task;
      cells.push_back(std::move(cell));
    }
    for (SampleLine line : samples) {
      line.cell = name + "/" + line.cell;
      const bool kept =
          std::any_of(cells.begin(), cells.end(), [&](const Cell& cell) { return cell.cell == line.cell; });
      if (kept) run.directory().append(line);
    }
    run.add(cells);
  }

  Options options_;
  std::shared_ptr<Audited> audited_ = std::make_shared<Audited>();
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::MetricsAudit study;
  return surtsey::experiments::run_study(argc, argv, study);
}
