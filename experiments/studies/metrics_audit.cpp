// E09: the answers of other runs under other metrics. Nothing is trained.
//
//   build/experiments/metrics_audit --runs=runs/chain_of_thought,runs/emergence
//
// Exact match of an answer of many tokens is about a product, so it can jump where each token gets better slowly.
// Beside it stand the product of the position accuracies, the token edit distance, the loss and the Brier score of the
// right answer (audit.csv); every cell and answer is shown again with its own study's charts. A jump counts as a
// transition of the model when the loss, too, leaves what a power law through the smaller half of the sizes forecasts.
#include <filesystem>
#include <set>

#include "experiments/results/audit.h"
#include "experiments/study/study.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

struct Audited {
  std::map<std::string, std::vector<AuditSeries>> runs;
  std::vector<std::string> disagreements;
  size_t lines = 0;
};

// Nothing but the runs that are audited has a scale: a verdict on quick runs demonstrates.
struct Keys : KeySet {
  SweepOptions sweep;  // nothing is trained
  Key<Words> runs{this, "runs", {{}}, "directories of runs that are done"};
  Share solved{this, "solved", {.9}, "claims: share of whole answers from which a size has an ability"};
  Share unsolved{this, "unsolved", {.5}, "claims: share of whole answers up to which it has not"};
  Share explained{this, "explained", {.9}, "claims: share of the variance of accuracy that the loss explains"};
  std::shared_ptr<Audited> audited = std::make_shared<Audited>();  // once the runs are read
};

std::string name_of(const std::string& directory) {
  const fs::path path = fs::path(directory).lexically_normal();
  return (path.filename().empty() ? path.parent_path() : path).filename().string();
}

void check_keys(const Keys& k) {
  check(!k.runs->empty(), "runs is empty: name directories of runs, as in --runs=runs/chain_of_thought");
  std::set<std::string> names;
  for (const std::string& run : *k.runs)
    check(names.insert(name_of(run)).second, "runs: two directories are called '{}'", name_of(run));
}

void check_inputs(const Keys& k) {
  for (const std::string& run : *k.runs) {
    check(fs::exists(fs::path(run) / kResultFile),
          "runs: there is no result.json in '{}'; only runs that are done can be audited", run);
    const std::string scale = load_result(fs::path(run) / kResultFile).scale;
    check(scale == k.scale(), "runs: '{}' is of the scale '{}': audit it with --scale {}", run, scale, scale);
  }
}

// Cells and answers of a run, so that the page shows what was audited.
void copy(StudyRun& run, const std::string& name, const StudyResult& result, const std::vector<SampleLine>& samples) {
  std::vector<Cell> cells;
  std::set<std::string> kept;
  for (Cell cell : result.cells) {
    if (!cell.selected || cell.validation_only) continue;
    cell.cell = name + "/" + cell.cell;
    if (run.finished(cell.cell)) return;
    cell.task = cell.task.empty() ? name : name + ", " + cell.task;
    kept.insert(cell.cell);
    cells.push_back(std::move(cell));
  }
  for (SampleLine line : samples) {
    line.cell = name + "/" + line.cell;
    if (kept.contains(line.cell)) run.directory().append(line);
  }
  run.add(cells);
}

void read_runs(const Keys& k, StudyRun& run) {
  Audited& audited = *k.audited = {};
  for (const std::string& directory : *k.runs) {
    const std::string name = name_of(directory);
    StudyResult result = load_result(fs::path(directory) / kResultFile);
    const std::vector<SampleLine> samples = load_samples(fs::path(directory) / kSamplesFile);
    check(!samples.empty(), "'{}' has no answers in samples.jsonl", directory);
    for (const std::string& one : disagreements(result, samples)) audited.disagreements.push_back(name + ": " + one);
    audited.lines += samples.size();
    copy(run, name, result, samples);
    std::erase_if(result.cells, diverged);  // shown, and not fitted
    audited.runs[name] = audit_series(result, samples);
  }
  write_file_atomic(run.directory().path() / "audit.csv", audit_csv(audited.runs));
}

double mean_whole(const AuditSeries& series, int64_t parameters) {
  std::vector<double> values;
  for (const AuditRow& row : series.rows)
    if (row.parameters == parameters) values.push_back(row.whole_answer);
  return mean(values);
}

// One verdict over the series whose whole answers go from unsolved at the smallest size to solved at the largest.
Judge every_jump(const Keys& k, std::pair<Verdict, std::string> (*judge)(const Keys&, const AuditSeries&, double)) {
  return [&k, judge](const StudyResult&, double confidence) {
    Parts parts;
    for (const auto& [run, all] : k.audited->runs) {
      for (const AuditSeries& series : all) {
        const int64_t first = series.rows.front().parameters, last = series.rows.back().parameters;
        if (first == last || mean_whole(series, first) > k.unsolved || mean_whole(series, last) < k.solved) continue;
        std::set<uint32_t> seeds;
        for (const AuditRow& row : series.rows) seeds.insert(row.seed);
        const auto [verdict, text] = judge(k, series, confidence);
        parts.add(verdict, fmt::format("{}: {}: {}", run, series.name, text), std::ssize(seeds));
      }
    }
    return parts.judgement("no series goes from unsolved to solved");
  };
}

std::pair<Verdict, std::string> judge_genuine(const Keys&, const AuditSeries& series, double confidence) {
  const size_t sizes = forecast_losses(series, confidence).size();
  if (sizes == 0) return {Verdict::kInconclusive, "too few sizes for a forecast"};
  std::vector<Verdict> verdicts;
  std::vector<std::string> parts;
  for (const Forecast& one : forecast_losses(series, corrected(confidence, sizes))) {
    verdicts.push_back(at_most(one.found, one.expected.low));
    parts.push_back(fmt::format("{} parameters {:.3g} to {:.3g} (forecast {:.3g} to {:.3g})", one.parameters,
                                one.found.low, one.found.high, one.expected.low, one.expected.high));
  }
  return {any_of(verdicts), "loss at " + join(parts, ", ")};
}

std::pair<Verdict, std::string> judge_loss_axis(const Keys& k, const AuditSeries& series, double confidence) {
  const LossAxis axis = loss_axis(series, confidence);
  return {at_least(axis.interval, k.explained), fmt::format("{:.3f} ({:.3f} to {:.3f}, {} models)", axis.explained,
                                                            axis.interval.low, axis.interval.high, series.rows.size())};
}

std::vector<ClaimRow> claims(const Keys& k) {
  return {{"numbers", "Every number of every run follows from its recorded answers.",
           [&k](const StudyResult&, double) {
             const Audited& audited = *k.audited;
             const std::string all = fmt::format("{} runs, {} answers", audited.runs.size(), audited.lines);
             const bool agree = audited.disagreements.empty();
             return Judgement{pass_if(agree), agree ? all : join(audited.disagreements, "; "), 0};
           }},
          {"genuine",
           "Wherever whole answers go from at most {unsolved} at the smallest size to at least {solved} at the "
           "largest, the loss of every seed of some larger size is below what a power law through the smaller half of "
           "the sizes forecasts.",
           every_jump(k, judge_genuine), "full"},
          {"loss_axis",
           "There, a monotone function of the loss explains at least {explained} of the variance of whole-answer "
           "accuracy over all sizes and seeds.",
           every_jump(k, judge_loss_axis)}};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"metrics_audit", "The same answers under other metrics",
             "Is a jump in exact match a jump of the model, or of the metric?"},
    .parts = {.check = check_keys, .claims = claims},
    .caveats = {"Nothing was trained: cells are those of the audited runs, and so are their budgets, seeds and "
                "learning rates. audit.csv holds every metric of every cell.",
                "A forecast rests on the smaller half of the sizes: with two or three of them its interval says little "
                "about where a power law breaks.",
                "The Brier score is that of the right answer alone; probabilities of wrong answers are not recorded."},
    .check_inputs = check_inputs,
    .settings = [](const Keys& k, const StudyResult& result) -> Facts {
      return {{"models", fmt::to_string(result.cells.size())}, {"answers", fmt::to_string(k.audited->lines)}};
    },
    .finish = read_runs};

}  // namespace surtsey::experiments
