// E18, the part on quantization: how many bits do the weights of a trained model need?
//
// Models of E01 (one model, two prompts: the chain of running sums, and the answer alone) are
// trained in f32, or taken from a run of chain_of_thought that kept its models, which costs no
// training:
//
//   build/experiments/compression --trained=runs/chain_of_thought
//
// Then every matrix but the embeddings is rounded in place, symmetric, to the
// nearest, one scale per output channel (quantize.h), and asked the same questions. The variants of
// a model are "f32" and "int8" .. "int2"; all numbers of claims are of the prompt for a chain.
//
// Loss of exact match is a difference within a seed, on the same items; the seed is the unit, so
// claims on it rest on t intervals over seeds.
#include <algorithm>
#include <map>

#include "experiments/base/join.h"
#include "experiments/report/chart.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/chain.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kTrained = "f32";
constexpr const char* kArm = "cot";

struct Options {
  SweepOptions sweep;
  std::string trained;  // a run of chain_of_thought; empty: the study trains its own models
  int32_t modulus = 10;
  int32_t length = 8;
  std::vector<int32_t> bits = {8, 6, 5, 4, 3, 2};
  // Claims are about the largest width.
  double solved = 0.95;
  int32_t lossless_bits = 5;
  double lossless = 0.01;
  int32_t lossy_bits = 3;
  double lossy = 0.2;
  int32_t destroyed_bits = 2;
  double chance_margin = 0.05;
};

// Cells of the largest width of a variant, by seed.
std::map<uint32_t, const Cell*> largest(const StudyResult& result, const std::string& variant) {
  int32_t width = 0;
  std::map<uint32_t, const Cell*> seeds;
  for (const Cell* cell : claim_cells(result, "", variant)) {
    if (cell->n_embd < width) continue;
    if (cell->n_embd > width) seeds.clear();
    width = cell->n_embd;
    seeds[cell->seed] = cell;
  }
  return seeds;
}

// What rounding to `bits` takes from each seed's exact match.
struct Losses {
  std::vector<double> values;
  std::string evidence;
};

Losses losses(const StudyResult& result, int32_t bits) {
  const auto trained = largest(result, kTrained);
  Losses found;
  std::vector<std::string> parts;
  for (const auto& [seed, cell] : largest(result, rounded_variant(bits))) {
    const auto whole = trained.find(seed);
    if (whole == trained.end()) continue;
    const ArmResult *before = whole->second->find_arm(kArm), *after = cell->find_arm(kArm);
    found.values.push_back(before->exact_match - after->exact_match);
    parts.push_back(fmt::format("seed {}: {:.3f} to {:.3f} (loss {:.3g} to {:.3g})", seed, before->exact_match,
                                after->exact_match, before->loss_per_token, after->loss_per_token));
  }
  found.evidence = join(parts, "; ");
  return found;
}

Judgement judge_loss(const StudyResult& result, int32_t bits, double confidence,
                     Verdict (*rule)(const Interval&, double), double bound) {
  const Losses found = losses(result, bits);
  if (found.values.empty()) return {Verdict::kInconclusive, "nothing was rounded so", 0};
  const Interval interval = t_interval(found.values, confidence);
  return {rule(interval, bound),
          fmt::format("mean loss of exact match {:.4f} ({:.4f} to {:.4f} over seeds); {}", mean(found.values),
                      interval.low, interval.high, found.evidence),
          static_cast<int64_t>(found.values.size())};
}

Judgement judge_destroyed(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<const Cell*> cells;
  for (const auto& [seed, cell] : largest(result, rounded_variant(options.destroyed_bits))) {
    verdicts.push_back(
        at_chance(exact_match_interval(*cell->find_arm(kArm), confidence), cell->chance, options.chance_margin));
    cells.push_back(cell);
  }
  return {all_of(verdicts), losses(result, options.destroyed_bits).evidence, count_seeds(cells)};
}

Judgement judge_solved(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<const Cell*> cells;
  std::vector<std::string> evidence;
  for (const auto& [seed, cell] : largest(result, kTrained)) {
    const ArmResult* arm = cell->find_arm(kArm);
    verdicts.push_back(at_least(exact_match_interval(*arm, confidence), options.solved));
    cells.push_back(cell);
    evidence.push_back(fmt::format("seed {}: {:.3f}", seed, arm->exact_match));
  }
  return {all_of(verdicts), join(evidence, ", "), count_seeds(cells)};
}

// A figure over bits: for each size the mean over seeds, and the seeds themselves.
Figure bits_figure(Figure figure, const StudyResult& result, const std::vector<int32_t>& all_bits,
                   double (*value)(const ArmResult&)) {
  std::map<int64_t, std::map<int32_t, std::vector<double>>> sizes;
  for (const int32_t bits : all_bits) {
    for (const Cell* cell : claim_cells(result, "", rounded_variant(bits))) {
      sizes[cell->parameters][bits].push_back(value(*cell->find_arm(kArm)));
    }
  }
  std::map<int64_t, std::vector<double>> trained;
  for (const Cell* cell : claim_cells(result, "", kTrained)) {
    trained[cell->parameters].push_back(value(*cell->find_arm(kArm)));
  }
  for (const auto& [parameters, list] : trained) {
    figure.references.emplace_back(fmt::format("f32, {}", short_number(double(parameters))), mean(list));
  }
  for (const auto& [parameters, by_bits] : sizes) {
    const std::string size = short_number(double(parameters)) + " parameters";
    FigureSeries means{size + ", mean over seeds", {}}, seeds{size + ", a dot a seed", {}};
    means.marks = false;
    seeds.joined = false;
    for (const auto& [bits, list] : by_bits) {
      means.points.push_back({double(bits), mean(list)});
      for (const double one : list) seeds.points.push_back({double(bits), one});
    }
    figure.series.push_back(std::move(means));
    figure.series.push_back(std::move(seeds));
  }
  return figure;
}

Figure match_figure(const StudyResult& result, const std::vector<int32_t>& bits) {
  return bits_figure({"Exact match with a chain of thought against bits of a weight",
                      "Every model once a number of bits: rounded from what was trained.",
                      {"bits of a weight", false},
                      {"exact match of the final answer", false},
                      {}},
                     result, bits, [](const ArmResult& arm) { return arm.exact_match; });
}

Figure loss_figure(const StudyResult& result, const std::vector<int32_t>& bits) {
  return bits_figure({"Loss of a chain of thought against bits of a weight",
                      "Teacher-forced, over the answer tokens of the test items.",
                      {"bits of a weight", false},
                      {"nats per answer token", true},
                      {}},
                     result, bits, [](const ArmResult& arm) { return arm.loss_per_token; });
}

class Compression : public Study {
 public:
  std::string_view name() const override { return "compression"; }
  std::string_view title() const override { return "Weights of fewer bits"; }
  std::string_view question() const override {
    return "How far can the weights of a trained model be rounded before the chain of thought that "
           "they carry breaks?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    sweep.learning_rates = {0.16};
    if (scale != "quick") {
      sweep.widths = {16, 32, 64, 128, 256};
      sweep.seeds = {0, 1, 2, 3, 4};
      sweep.learning_rates = {0.32, 0.16, 0.08};
      sweep.steps = 2000;
      sweep.batch_size = 256;
      sweep.checkpoint_interval = 500;
      sweep.evaluation_rows = 1000;
      options_.bits = {8, 7, 6, 5, 4, 3, 2};
      if (scale == "full") return;
      sweep.widths = {16, 32, 64, 128, 256, 512};
      sweep.n_layer = 4;
      sweep.seeds = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
      sweep.test_items = 10'000;
    } else {
      sweep.widths = {32};
      sweep.batch_size = 64;
    }
  }

  void add_fields(ConfigTable& table) override {
    add_sweep_fields(table, options_.sweep);
    table.add("trained", &options_.trained,
              "a run of chain_of_thought with save_models, whose joint models of the chosen "
              "learning rate are rounded instead: widths count, what else is said of training does "
              "not");
    table.add("modulus", &options_.modulus, "running sums are taken modulo this").at_least(2).at_most(1000);
    table.add("length", &options_.length, "digits in a problem").at_least(2).at_most(1000);
    table.add("bits", &options_.bits, "bits of a weight after rounding").at_least(2).at_most(8);
    table.add("solved", &options_.solved, "claims: exact match from which the task is solved").at_least(0).at_most(1);
    table.add("lossless_bits", &options_.lossless_bits, "claims: so many bits lose nothing");
    table.add("lossless", &options_.lossless, "claims: largest loss of exact match that is nothing")
        .at_least(0)
        .at_most(1);
    table.add("lossy_bits", &options_.lossy_bits, "claims: so many bits lose much");
    table.add("lossy", &options_.lossy, "claims: smallest loss of exact match that is much").at_least(0).at_most(1);
    table.add("destroyed_bits", &options_.destroyed_bits, "claims: so many bits leave guessing");
    table.add("chance_margin", &options_.chance_margin, "claims: exact match so far above chance is still at chance")
        .at_least(0)
        .at_most(1);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    const auto& bits = options_.bits;
    for (size_t i = 0; i < bits.size(); ++i) {
      check(std::find(bits.begin(), bits.begin() + static_cast<std::ptrdiff_t>(i), bits[i]) ==
                bits.begin() + static_cast<std::ptrdiff_t>(i),
            "bits: {} is there twice", bits[i]);
    }
    for (const auto& [key, value] : {std::pair{"lossless_bits", options_.lossless_bits},
                                     {"lossy_bits", options_.lossy_bits},
                                     {"destroyed_bits", options_.destroyed_bits}}) {
      check(std::find(bits.begin(), bits.end(), value) != bits.end(), "{}: {} is not among bits ({})", key, value,
            fmt::join(bits, ", "));
    }
  }

  void check_inputs() const override {
    if (options_.trained.empty()) return;
    for (const int32_t width : options_.sweep.widths) {
      load_trained_models(options_.trained, "", "joint", width);
    }
  }

  void run(StudyRun& run) override {
    tasks::ChainOptions chain;
    chain.modulus = options_.modulus;
    chain.length = options_.length;
    const tasks::ChainTask task(chain);
    if (run.scouting() && !options_.trained.empty()) return;  // there is nothing to train
    for (const int32_t width : options_.sweep.widths) {
      Experiment experiment = sweep_experiment(options_.sweep, "", kTrained, &task, width);
      experiment.bits = options_.bits;
      if (options_.trained.empty()) {
        run_experiment(run, options_.sweep, experiment);
      } else {
        round_trained(run, experiment);
      }
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options options = options_;
    return {
        {"trained",
         fmt::format("Before rounding, every seed of the largest size has exact match of at least "
                     "{} with a chain of thought.",
                     options.solved),
         [options](const StudyResult& result, double confidence) { return judge_solved(result, options, confidence); }},
        {"lossless",
         fmt::format("Weights of {} bits lose at most {} of exact match in the mean over seeds.", options.lossless_bits,
                     options.lossless),
         [options](const StudyResult& result, double confidence) {
           return judge_loss(result, options.lossless_bits, confidence, at_most, options.lossless);
         }},
        {"lossy",
         fmt::format("Weights of {} bits lose at least {} of exact match in the mean over seeds.", options.lossy_bits,
                     options.lossy),
         [options](const StudyResult& result, double confidence) {
           return judge_loss(result, options.lossy_bits, confidence, at_least, options.lossy);
         }},
        {"destroyed",
         fmt::format("Weights of {} bits leave exact match within {} of chance in every seed.", options.destroyed_bits,
                     options.chance_margin),
         [options](const StudyResult& result, double confidence) {
           return judge_destroyed(result, options, confidence);
         }}};
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    result.settings = {
        {"task", fmt::format("running sums of {} digits modulo {}, with a chain of thought or without, half "
                             "of the sequences each",
                             options_.length, options_.modulus)},
        {"rounding", fmt::format("all matrices but the embeddings, symmetric, to the nearest, one scale per "
                                 "output channel, to {} bits",
                                 fmt::join(options_.bits, ", "))},
        {"test items", fmt::to_string(sweep.test_items)}};
    const Facts training = options_.trained.empty()
                               ? Facts{{"steps", fmt::to_string(sweep.steps)},
                                       {"batch", fmt::format("{} sequences", sweep.batch_size)},
                                       {"learning rates", fmt::format("{} / d", fmt::join(sweep.learning_rates, ", "))},
                                       {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))}}
                               : Facts{{"models", "the joint models of " + options_.trained}};
    result.settings.insert(result.settings.end(), training.begin(), training.end());
    result.figures = {match_figure(result, options_.bits), loss_figure(result, options_.bits)};
    result.caveats = {
        "The arithmetic stays f32 and weights stay in memory as f32: this shows what precision "
        "costs, not what it saves.",
        "Weights are rounded after training, with no calibration data and no training at low "
        "precision; either would lose less.",
        "A cell of rounded weights repeats parameters, steps and tokens of the training that it "
        "comes from, and counts no FLOPs: they are those of the cell that was trained.",
        "Claims are about the largest size. Chance is one in ten for a sum modulo ten."};
  }

 private:
  void round_trained(StudyRun& run, Experiment experiment) const {
    const TrainedModels models = load_trained_models(options_.trained, "", "joint", experiment.width);
    experiment.trained = &models;
    experiment.steps = static_cast<int32_t>(models.cells[0].steps);
    experiment.n_layer = models.cells[0].n_layer;
    experiment.learning_rates = {models.cells[0].learning_rate};
    experiment.seeds.clear();
    for (const Cell& cell : models.cells) {
      experiment.seeds.push_back(static_cast<int32_t>(cell.seed));
    }
    run_experiment(run, options_.sweep, experiment);
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::Compression study;
  return surtsey::experiments::run_study(argc, argv, study);
}
