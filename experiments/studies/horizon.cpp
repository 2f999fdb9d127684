// E02: up to what length can a model add without writing anything down?
//
//   sum_of_N / direct     the sum of N digits modulo ten, at once
//   sum_of_N / cot        the same by running sums
//   parity_of_N / cot     the parity of N bits by running parities, at a size of its own
//
// One model each. From `long_length` on, direct models are claimed to stay unsolved: there every
// learning rate of the grid counts, and they train as many steps as the models that write their
// steps down (the sequences have the same length, so the FLOPs are the same). Below it the learning
// rate is chosen by held-out loss. Prompts that a test asks are kept out of training wherever there
// are fewer than a million.
#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/base/join.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/parity.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kDirect = "direct";
constexpr const char* kSteps = "cot";

struct Options {
  SweepOptions sweep;  // of direct models
  std::vector<int32_t> lengths = {2, 3, 4, 8};
  std::vector<int32_t> cot_lengths = {8};
  int32_t long_length = 8;
  int32_t long_steps = 400;
  double cot_learning_rate = 0.16;  // times 1 / width; never a grid: direct models get more tries
  double held_out_share = 0.25;
  int32_t parity_bits = 16;
  int32_t parity_width = 8;
  int32_t parity_steps = 300;
  double parity_learning_rate = 0.08;  // times 1 / parity_width
  // Bounds of the claims.
  int32_t short_length = 3;
  double solved = 0.95;
  double unsolved = 0.15;
  double seed_share = 0.8;
};

std::string sum_name(int32_t length) { return fmt::format("sum_of_{}", length); }
std::string parity_name(int32_t bits) { return fmt::format("parity_of_{}", bits); }

struct Group {
  std::vector<const Cell*> cells;  // of the largest width
  std::vector<Interval> intervals;
  std::string evidence;
};

Group group_of(const StudyResult& result, const std::string& task, const char* arm, double confidence) {
  Group group;
  int32_t width = 0;
  for (const Cell* cell : claim_cells(result, task, arm)) width = std::max(width, cell->n_embd);
  std::vector<std::string> parts;
  for (const Cell* cell : claim_cells(result, task, arm)) {
    if (cell->n_embd != width) continue;
    const ArmResult* found = cell->find_arm(arm);
    group.cells.push_back(cell);
    group.intervals.push_back(exact_match_interval(*found, confidence));
    parts.push_back(fmt::format("seed {} lr {:.3g}: {:.3f}", cell->seed, cell->learning_rate, found->exact_match));
  }
  if (!parts.empty()) {
    group.evidence = fmt::format("{} {}, d={}, {} parameters, {:.3g} FLOPs each: {}", task, arm, width,
                                 group.cells[0]->parameters, group.cells[0]->flops, join(parts, ", "));
  }
  return group;
}

Judgement judge_all(const StudyResult& result, const std::vector<std::string>& tasks, const char* arm,
                    double confidence, Verdict (*rule)(const Interval&, double), double bound) {
  std::vector<Verdict> verdicts;
  std::vector<const Cell*> cells;
  std::vector<std::string> evidence;
  for (const std::string& task : tasks) {
    const Group group = group_of(result, task, arm, confidence);
    for (const Interval& one : group.intervals) verdicts.push_back(rule(one, bound));
    if (group.cells.empty()) verdicts.push_back(Verdict::kInconclusive);
    cells.insert(cells.end(), group.cells.begin(), group.cells.end());
    if (!group.evidence.empty()) evidence.push_back(group.evidence);
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

// A share of the seeds suffices: plateaus differ in length.
Judgement judge_short(const StudyResult& result, const Options& options, double confidence) {
  const Group group = group_of(result, sum_name(options.short_length), kDirect, confidence);
  const auto count = static_cast<int64_t>(group.cells.size());
  const auto needed = static_cast<int64_t>(std::ceil(options.seed_share * static_cast<double>(count) - 1e-9));
  int64_t passed = 0, failed = 0;
  for (const Interval& one : group.intervals) {
    const Verdict verdict = at_least(one, options.solved);
    passed += verdict == Verdict::kPass ? 1 : 0;
    failed += verdict == Verdict::kFail ? 1 : 0;
  }
  const Verdict verdict = count == 0                ? Verdict::kInconclusive
                          : passed >= needed        ? Verdict::kPass
                          : failed > count - needed ? Verdict::kFail
                                                    : Verdict::kInconclusive;
  return {verdict, group.evidence, count_seeds(group.cells)};
}

class Horizon : public Study {
 public:
  std::string_view name() const override { return "horizon"; }
  std::string_view title() const override { return "How far without writing steps down"; }
  std::string_view question() const override {
    return "Up to what length does a model add at once, and how far does the same size get by "
           "steps?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    if (scale != "quick") {
      sweep.widths = {16, 32, 64, 128, 256};
      sweep.seeds = {0, 1, 2, 3, 4};
      sweep.learning_rates = {0.32, 0.16, 0.08};
      sweep.steps = 2000;
      sweep.batch_size = 256;
      sweep.checkpoint_interval = 500;
      sweep.evaluation_rows = 1000;
      options_.lengths = {2, 3, 4, 6, 8, 12, 16};
      options_.cot_lengths = {2, 3, 4, 6, 8, 12, 16};
      options_.long_steps = 2000;
      options_.parity_steps = 1000;
      if (scale == "full") return;
      // More of everything that could move the horizon; ten seeds, since plateaus differ in length.
      sweep.seeds = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
      sweep.steps = 10'000;
      sweep.test_items = 10'000;
      options_.long_steps = 10'000;
      options_.parity_bits = 32;
      options_.parity_steps = 5000;
    } else {
      sweep.widths = {16};
      sweep.learning_rates = {0.16};
      sweep.steps = 1200;
      sweep.batch_size = 64;
      options_.held_out_share = 0.1;  // see configs/horizon/reference.toml
      options_.long_steps = 600;
      options_.parity_steps = 1200;
    }
  }

  void add_fields(ConfigTable& table) override {
    add_sweep_fields(table, options_.sweep);
    table.add("lengths", &options_.lengths, "digits of the sums that direct models are asked")
        .at_least(2)
        .at_most(1000);
    table.add("cot_lengths", &options_.cot_lengths, "digits of the sums by steps").at_least(2).at_most(1000);
    table.add("long_length", &options_.long_length,
              "from so many digits on direct models train long_steps, at every learning rate, and "
              "are claimed not to solve the task");
    table.add("long_steps", &options_.long_steps, "optimizer steps of those, and of all models that write steps down")
        .at_least(1);
    table.add("cot_learning_rate", &options_.cot_learning_rate,
              "peak learning rate, times 1 / n_embd, of models that write steps down");
    table
        .add("held_out_share", &options_.held_out_share,
             "share of the prompts that tests ask, where there are fewer than a million")
        .at_least(0)
        .at_most(0.5);
    table.add("parity_bits", &options_.parity_bits, "bits of the parity by steps").at_least(2).at_most(1000);
    table.add("parity_width", &options_.parity_width, "n_embd of its model").at_least(2);
    table.add("parity_steps", &options_.parity_steps, "optimizer steps of its model").at_least(1);
    table.add("parity_learning_rate", &options_.parity_learning_rate, "its peak learning rate, times 1 / parity_width")
        .at_least(0);
    table.add("short_length", &options_.short_length, "claims: so many digits are summed at once");
    table.add("solved", &options_.solved, "claims: exact match from which a task is solved").at_least(0).at_most(1);
    table.add("unsolved", &options_.unsolved, "claims: exact match up to which it is not").at_least(0).at_most(1);
    table.add("seed_share", &options_.seed_share, "claims: share of the seeds that must sum the short length")
        .at_least(0)
        .at_most(1);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    const auto& lengths = options_.lengths;
    const auto has = [](const std::vector<int32_t>& list, int32_t value) {
      return std::find(list.begin(), list.end(), value) != list.end();
    };
    check(has(lengths, options_.short_length), "short_length: {} is not among lengths ({})", options_.short_length,
          fmt::join(lengths, ", "));
    for (const auto& list : {lengths, options_.cot_lengths}) {
      for (const int32_t one : list) {
        check(std::count(list.begin(), list.end(), one) == 1, "a length is there twice: {}", one);
      }
    }
  }

  void run(StudyRun& run) override {
    for (const int32_t width : options_.sweep.widths) {
      for (const int32_t length : options_.lengths) {
        const tasks::ChainTask task = sum(length, kDirect);
        Experiment experiment = sweep_experiment(options_.sweep, sum_name(length), kDirect, &task, width);
        if (length >= options_.long_length) {
          experiment.steps = options_.long_steps;
          experiment.choose_rate = false;
        }
        run_experiment(run, options_.sweep, experiment);
      }
      for (const int32_t length : options_.cot_lengths) {
        const tasks::ChainTask task = sum(length, kSteps);
        run_experiment(run, options_.sweep, by_steps(sum_name(length), task, width));
      }
    }
    const auto parity = tasks::make_parity(options_.parity_bits, {kSteps});
    Experiment experiment = by_steps(parity_name(options_.parity_bits), *parity, options_.parity_width);
    experiment.steps = options_.parity_steps;
    experiment.learning_rates = {options_.parity_learning_rate / options_.parity_width};
    run_experiment(run, options_.sweep, experiment);
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options options = options_;
    std::vector<std::string> longer, chains;
    for (const int32_t length : options.lengths) {
      if (length >= options.long_length) longer.push_back(sum_name(length));
    }
    for (const int32_t length : options.cot_lengths) chains.push_back(sum_name(length));
    return {
        {"short",
         fmt::format("Asked for the answer at once, the largest size sums {} digits with exact "
                     "match of at least {} in a share of at least {} of the seeds.",
                     options.short_length, options.solved, options.seed_share),
         [options](const StudyResult& result, double confidence) { return judge_short(result, options, confidence); }},
        {"long",
         fmt::format("From {} digits on, within the budget of the models that write steps down, it "
                     "has exact match of at most {} in every seed at every learning rate of the "
                     "grid.",
                     options.long_length, options.unsolved),
         [=](const StudyResult& result, double confidence) {
           return judge_all(result, longer, kDirect, confidence, at_most, options.unsolved);
         }},
        {"steps",
         fmt::format("By steps the largest size sums {} digits with exact match of at least {} in "
                     "every seed.",
                     fmt::join(options.cot_lengths, ", "), options.solved),
         [=](const StudyResult& result, double confidence) {
           return judge_all(result, chains, kSteps, confidence, at_least, options.solved);
         }},
        {"parity",
         fmt::format("By steps a model of width {} tells the parity of {} bits with exact match of "
                     "at least {} in every seed.",
                     options.parity_width, options.parity_bits, options.solved),
         [=](const StudyResult& result, double confidence) {
           return judge_all(result, {parity_name(options.parity_bits)}, kSteps, confidence, at_least, options.solved);
         }}};
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    result.settings = {{"direct", fmt::format("{} digits, {} steps of {} sequences; {} steps from {} digits on",
                                              fmt::join(options_.lengths, ", "), sweep.steps, sweep.batch_size,
                                              options_.long_steps, options_.long_length)},
                       {"by steps", fmt::format("{} digits, {} steps; parity of {} bits at d = {}, {} steps",
                                                fmt::join(options_.cot_lengths, ", "), options_.long_steps,
                                                options_.parity_bits, options_.parity_width, options_.parity_steps)},
                       {"learning rates",
                        fmt::format("{} / d, {} / d by steps, {} / d for parity", fmt::join(sweep.learning_rates, ", "),
                                    options_.cot_learning_rate, options_.parity_learning_rate)},
                       {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
                       {"test items", fmt::to_string(sweep.test_items)}};
    result.caveats = {
        "A direct model that stays at chance does so within this budget: it is not shown that the "
        "task is impossible without steps.",
        fmt::format("Lengths between the short one ({}) and {} are reported without a claim: there "
                    "seeds and learning rates decide.",
                    options_.short_length, options_.long_length),
        "Short sums have few prompts: two digits have a hundred, of which a share is asked and "
        "never trained on.",
        "Models that write steps down train at one learning rate, direct models at the whole grid: "
        "where that favours one side, it is the direct one."};
  }

 private:
  tasks::ChainTask sum(int32_t length, const char* arm) const {
    tasks::ChainOptions options;
    options.length = length;
    options.arms = {arm};
    options.held_out_share = options_.held_out_share;
    return tasks::ChainTask(options);
  }

  Experiment by_steps(const std::string& task, const tasks::Task& data, int32_t width) const {
    Experiment experiment = sweep_experiment(options_.sweep, task, kSteps, &data, width);
    experiment.steps = options_.long_steps;
    experiment.choose_rate = false;
    experiment.learning_rates = {options_.cot_learning_rate / width};
    return experiment;
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::Horizon study;
  return surtsey::experiments::run_study(argc, argv, study);
}
