// E18, the part on capacity: how many bits does a parameter hold? Models memorise random facts
// (tasks/facts.h) until their loss says how many bits of them they know:
//
//   bits = facts * mean over facts of (log2 V - loss / ln 2)
//
// More facts than a model can hold leave its bits at a ceiling in proportion to its size;
// published: two bits a parameter when every fact is seen a thousand times, one at a hundred
// (Allen-Zhu and Li 2024).
#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/base/join.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/facts.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kTask = "facts";
constexpr const char* kBits = "direct.bits";
constexpr double kPublished = 2;  // bits a parameter

struct Options {
  SweepOptions sweep;  // steps follow from exposures
  std::vector<int32_t> facts = {512};
  std::vector<int32_t> exposures = {500};
  int32_t relations = 4;
  int32_t values = 32;
  // Bounds of the claims.
  double ceiling = kPublished;
  double flat = 0.2;
  double span = 4;
};

std::string variant_of(int32_t facts, int32_t exposures) { return fmt::format("{} facts x {}", facts, exposures); }

// Bits a parameter that one model knows.
struct Known {
  const Cell* cell;
  int32_t facts;
  double bits = 0;            // a parameter
  double standard_error = 0;  // over the facts that were asked
  double asked = 0;           // bits a parameter that there are to know

  Interval interval(double confidence) const { return measure_interval({"", bits, standard_error, 0}, confidence); }
};

std::vector<Known> known(const StudyResult& result, const Options& options, int32_t exposures) {
  std::vector<Known> list;
  for (const int32_t facts : options.facts) {
    for (const Cell* cell : claim_cells(result, kTask, variant_of(facts, exposures))) {
      const Measure* bits = cell->find_measure(kBits);
      ensure(bits != nullptr, "[capacity] {} has no {}", cell->cell, kBits);
      const double each = facts / static_cast<double>(cell->parameters);
      // All facts asked leave no sampling error.
      const double left = 1 - static_cast<double>(bits->n) / facts;
      list.push_back({cell, facts, bits->mean * each, bits->standard_error * each * std::sqrt(std::max(0.0, left)),
                      std::log2(options.values) * each});
    }
  }
  return list;
}

std::string text(const Known& one) {
  return fmt::format("{} parameters, {} facts, seed {}: {:.3f} of {:.3f}", one.cell->parameters, one.facts,
                     one.cell->seed, one.bits, one.asked);
}

int32_t most_exposures(const Options& options) {
  return *std::max_element(options.exposures.begin(), options.exposures.end());
}

Judgement judge_ceiling(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  std::vector<const Cell*> cells;
  for (const int32_t exposures : options.exposures) {
    for (const Known& one : known(result, options, exposures)) {
      verdicts.push_back(at_most(one.interval(confidence), options.ceiling));
      evidence.push_back(text(one));
      cells.push_back(one.cell);
    }
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

// Of each size that was asked for more than it holds: bits a parameter by seed, of the number of
// facts of which it knows the most.
std::map<int64_t, std::vector<double>> plateaus(const StudyResult& result, const Options& options) {
  std::map<int64_t, std::map<int32_t, std::vector<double>>> sizes;
  for (const Known& one : known(result, options, most_exposures(options))) {
    if (one.asked > kPublished) sizes[one.cell->parameters][one.facts].push_back(one.bits);
  }
  std::map<int64_t, std::vector<double>> most;
  for (const auto& [parameters, sets] : sizes) {
    for (const auto& [facts, bits] : sets) {
      auto& best = most[parameters];
      if (best.empty() || mean(bits) > mean(best)) best = bits;
    }
  }
  return most;
}

Judgement judge_plateau(const StudyResult& result, const Options& options, double confidence) {
  const auto most = plateaus(result, options);
  if (most.size() < 2) {
    return {Verdict::kInconclusive, "fewer than two sizes have more than enough to learn", 0};
  }
  std::vector<double> means;
  std::vector<std::string> evidence;
  for (const auto& [parameters, bits] : most) {
    means.push_back(mean(bits));
    evidence.push_back(fmt::format("{} parameters: {:.3f}", parameters, means.back()));
  }
  const double middle = mean(means);
  std::vector<Verdict> verdicts;
  size_t seeds = most.begin()->second.size();
  for (const auto& [parameters, bits] : most) {
    const Interval interval = t_interval(bits, confidence);
    verdicts.push_back(at_least(interval, (1 - options.flat) * middle));
    verdicts.push_back(at_most(interval, (1 + options.flat) * middle));
    seeds = std::min(seeds, bits.size());
  }
  const double span = static_cast<double>(most.rbegin()->first) / static_cast<double>(most.begin()->first);
  if (span < options.span) verdicts.push_back(Verdict::kInconclusive);
  return {all_of(verdicts), fmt::format("{}; sizes span a factor of {:.1f}", join(evidence, "; "), span),
          static_cast<int64_t>(seeds)};
}

Figure load_figure(const StudyResult& result, const Options& options, int32_t exposures) {
  Figure figure{fmt::format("Bits known, {} exposures of a fact", exposures),
                "Means over seeds. Along the diagonal everything is known; a ceiling is what a "
                "parameter holds.",
                {"bits to know, a parameter", true},
                {"bits known, a parameter", true},
                {}};
  figure.references = {{"published for 1000 exposures", kPublished}};
  std::map<int64_t, std::map<double, std::vector<double>>> sizes;
  for (const Known& one : known(result, options, exposures)) {
    sizes[one.cell->parameters][one.asked].push_back(one.bits);
  }
  for (const auto& [parameters, points] : sizes) {
    FigureSeries& series = figure.series.emplace_back();
    series.name = fmt::format("{} parameters", parameters);
    for (const auto& [asked, bits] : points) series.points.push_back({asked, mean(bits)});
  }
  return figure;
}

class Capacity : public Study {
 public:
  std::string_view name() const override { return "capacity"; }
  std::string_view title() const override { return "Bits a parameter"; }
  std::string_view question() const override {
    return "How many bits of random facts does a model hold for each of its parameters?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    sweep.widths = {4, 8, 16};
    sweep.seeds = {0};
    sweep.learning_rates = {0.16};
    sweep.batch_size = 256;
    if (scale == "quick") return;
    sweep.seeds = {0, 1, 2, 3, 4};
    sweep.learning_rates = {0.32, 0.16, 0.08};
    sweep.batch_size = 4096;
    sweep.test_items = 4096;
    sweep.evaluation_rows = 1024;
    sweep.checkpoint_interval = 2000;
    sweep.log_interval = 200;
    options_.exposures = {100, 1000};
    if (scale == "full") {
      sweep.widths = {8, 16, 32, 64};
      options_.facts = {1024, 4096, 16'384, 65'536};
      return;
    }
    sweep.widths = {32, 64, 128, 256};
    options_.facts = {16'384, 65'536, 262'144, 1'048'576};
    sweep.batch_size = 16'384;
  }

  void add_fields(ConfigTable& table) override {
    Options& o = options_;
    SweepOptions& sweep = o.sweep;
    table.add("widths", &sweep.widths, "n_embd of each size").at_least(2);
    table.add("n_layer", &sweep.n_layer, "blocks").at_least(1);
    table.add("learning_rates", &sweep.learning_rates, "peak learning rates, times 1 / n_embd").at_least(0);
    table.add("batch_size", &sweep.batch_size, "facts a step").at_least(1);
    table.add("facts", &o.facts, "to memorise; models of each width for each").at_least(1);
    table.add("exposures", &o.exposures, "how often a fact is seen in the mean").at_least(1);
    table.add("relations", &o.relations, "facts of an entity").at_least(1).at_most(64);
    table.add("values", &o.values, "that a fact can have").at_least(2).at_most(1024);
    add_run_fields(table, sweep);
    table.add("ceiling", &o.ceiling, "claims: most bits a parameter").at_least(0);
    table.add("flat", &o.flat, "claims: largest distance from the mean ceiling, as a share of it")
        .at_least(0)
        .at_most(1);
    table.add("span", &o.span, "claims: by what factor sizes differ at least").at_least(1);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    check(!options_.facts.empty() && !options_.exposures.empty(),
          "facts or exposures is empty: there is nothing to train");
    for (const int32_t facts : options_.facts) task(facts);
  }

  void run(StudyRun& run) override {
    for (const int32_t facts : options_.facts) {
      const tasks::FactTask data = task(facts);
      for (const int32_t exposures : options_.exposures) {
        for (const int32_t width : options_.sweep.widths) {
          Experiment one = sweep_experiment(options_.sweep, kTask, variant_of(facts, exposures), &data, width);
          one.steps = steps(facts, exposures);
          one.optimizer = recipe_optimizer(one.steps);
          one.optimizer->weight_decay = 0;
          run_experiment(run, options_.sweep, one);
        }
      }
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options o = options_;
    return {{"ceiling", fmt::format("No model knows more than {} bits a parameter.", o.ceiling),
             [o](const StudyResult& result, double confidence) { return judge_ceiling(result, o, confidence); }},
            {"plateau",
             fmt::format("Sizes that have more than {} bits a parameter to learn, in {} exposures, "
                         "know equally many a parameter: all within {} of their mean, over sizes "
                         "that differ by a factor of {}.",
                         kPublished, most_exposures(o), o.flat, o.span),
             [o](const StudyResult& result, double confidence) { return judge_plateau(result, o, confidence); }}};
  }

  void describe(StudyResult& result) const override {
    const Options& o = options_;
    result.settings = {
        {"facts", fmt::format("{}, of {} values, {} an entity", fmt::join(o.facts, ", "), o.values, o.relations)},
        {"exposures", fmt::format("{}", fmt::join(o.exposures, ", "))},
        {"batch", fmt::format("{} facts", o.sweep.batch_size)},
        {"learning rates", fmt::format("{} / d", fmt::join(o.sweep.learning_rates, ", "))},
        {"seeds", fmt::format("{}", fmt::join(o.sweep.seeds, ", "))}};
    result.caveats = {
        "Bits are counted by the loss on what was trained: there is nothing to generalise. A model "
        "that is sure and wrong counts against itself.",
        "Facts are drawn at random, so exposures differ: of a fact that is seen a hundred times in "
        "the mean, one in a thousand is seen fewer than seventy times.",
        "Embeddings count as parameters, though few facts can stand in the smallest vocabularies.",
        "A plateau that one learning rate and schedule reached is a lower bound of what fits in."};
    for (const int32_t exposures : o.exposures) {
      result.figures.push_back(load_figure(result, o, exposures));
    }
  }

 private:
  tasks::FactTask task(int32_t facts) const {
    return tasks::FactTask({.facts = facts, .relations = options_.relations, .values = options_.values});
  }

  int32_t steps(int32_t facts, int32_t exposures) const {
    const double samples = static_cast<double>(facts) * exposures;
    return std::max(1, static_cast<int32_t>(std::lround(samples / options_.sweep.batch_size)));
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::Capacity study;
  return surtsey::experiments::run_study(argc, argv, study);
}
