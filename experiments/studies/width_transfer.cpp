// Does the best learning rate of a narrow model serve a wide one? In the standard parametrisation
// it moves with the width; in the maximal update parametrisation (Yang et al. 2022, "Tensor
// Programs V"; model_config.h, width_scaled) it should stay where it is.
//
// Both train on the same text (tasks/markov.h) over a grid of widths and learning rates an octave
// apart. Beside it stands the coordinate check (coordinates.h): after a few steps the size of
// activations must not depend on the width, or some width is on its way to diverge or to stop
// learning.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "experiments/base/interrupt.h"
#include "experiments/base/join.h"
#include "experiments/evaluate/coordinates.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/markov.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kStandard = "standard";
constexpr const char* kTransfer = "mup";
constexpr const char* kArm = "text";

struct Options {
  SweepOptions sweep;  // its learning rates are not divided by the width here
  tasks::MarkovOptions source;
  int32_t base_width = 8;
  int32_t coordinate_steps = 4;
  double coordinate_rate = 1.0 / 64;
  int32_t coordinate_seeds = 20;
  // Bounds of the claims.
  double stays = 1;   // octaves
  double moves = 2;   // octaves
  double flat = 0.1;  // slope of log size against log width
};

std::string coordinate_variant(const std::string& variant) { return variant + " coordinates"; }

double log2_of(double value) { return std::log(value) / std::log(2.0); }

// A diverged model has lost.
double loss_of(const Cell& cell) {
  const double loss = cell.find_arm(kArm)->loss_per_token;
  return std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity();
}

// One seed of one width: its cells by learning rate.
using Curve = std::map<double, const Cell*>;

std::map<int32_t, std::map<uint32_t, Curve>> curves_of(const StudyResult& result, const char* variant) {
  std::map<int32_t, std::map<uint32_t, Curve>> curves;
  for (const Cell* cell : claim_cells(result, "", variant)) {
    curves[cell->n_embd][cell->seed][cell->learning_rate] = cell;
  }
  return curves;
}

// The learning rate with the least loss, unless it stands at an end of the grid.
struct Best {
  double rate = 0;
  bool interior = false;
};

Best best_of(const Curve& curve) {
  auto best = curve.begin();
  for (auto at = curve.begin(); at != curve.end(); ++at) {
    if (loss_of(*at->second) < loss_of(*best->second)) best = at;
  }
  return {best->first, best != curve.begin() && std::next(best) != curve.end()};
}

// How far the best rate stands from that of the narrowest width, over the widths, a seed.
Judgement judge_shift(const StudyResult& result, const char* variant, double bound, bool most) {
  const auto curves = curves_of(result, variant);
  if (curves.size() < 2) return {Verdict::kInconclusive, "fewer than two widths", 0};
  std::vector<std::string> evidence;
  size_t passed = 0, failed = 0, count = 0;
  for (const auto& [seed, narrow] : curves.begin()->second) {
    const Best start = best_of(narrow);
    bool interior = start.interior;
    double shift = 0;
    std::vector<std::string> rates;
    for (const auto& [width, seeds] : curves) {
      const Best best = best_of(seeds.at(seed));
      interior = interior && best.interior;
      shift = std::max(shift, std::abs(log2_of(best.rate / start.rate)));
      rates.push_back(fmt::format("{:.3g} at {}", best.rate, width));
    }
    evidence.push_back(fmt::format("seed {}: {}, {:.0f} octave{}{}", seed, join(rates, ", "), shift,
                                   shift == 1 ? "" : "s", interior ? "" : ", at an end of the grid"));
    ++count;
    if (!interior) continue;
    const bool holds = most ? shift <= bound + 1e-9 : shift >= bound - 1e-9;
    (holds ? passed : failed) += 1;
  }
  const Verdict verdict = passed == count ? Verdict::kPass : failed == count ? Verdict::kFail : Verdict::kInconclusive;
  return {verdict, "best rates: " + join(evidence, "; "), static_cast<int64_t>(count)};
}

// Slopes of the size of every activation against the width: [point][seed].
std::map<std::string, std::vector<double>> slopes_of(const StudyResult& result, const char* variant) {
  std::map<std::pair<std::string, uint32_t>, std::pair<std::vector<double>, std::vector<double>>> lines;
  for (const Cell& cell : result.cells) {
    if (cell.variant != coordinate_variant(variant)) continue;
    for (const Measure& measure : cell.measures) {
      auto& [widths, sizes] = lines[{measure.name, cell.seed}];
      widths.push_back(cell.n_embd);
      sizes.push_back(measure.mean);
    }
  }
  std::map<std::string, std::vector<double>> slopes;
  for (const auto& [key, line] : lines) {
    if (line.first.size() < 2) continue;
    slopes[key.first].push_back(log_slope(line.first, line.second));
  }
  return slopes;
}

std::string slopes_text(const std::map<std::string, std::vector<double>>& slopes) {
  std::vector<std::string> parts;
  for (const auto& [name, values] : slopes) {
    parts.push_back(fmt::format("{} {:.3f}", name, mean(values)));
  }
  return join(parts, ", ");
}

Judgement judge_coordinates(const StudyResult& result, double bound, double confidence) {
  const auto slopes = slopes_of(result, kTransfer);
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  size_t seeds = 0;
  for (const auto& [name, values] : slopes) {
    const Interval interval = t_interval(values, confidence);
    verdicts.push_back(at_most(interval, bound));
    verdicts.push_back(at_least(interval, -bound));
    evidence.push_back(fmt::format("{} [{:.3f}, {:.3f}]", name, interval.low, interval.high));
    seeds = values.size();
  }
  return {all_of(verdicts),
          fmt::format("slopes {}; in the standard parametrisation {}", join(evidence, ", "),
                      slopes_text(slopes_of(result, kStandard))),
          static_cast<int64_t>(seeds)};
}

// At the rate that is best for the narrowest width every wider one is at least as good.
Judgement judge_wider(const StudyResult& result, double confidence) {
  const auto curves = curves_of(result, kTransfer);
  if (curves.size() < 2) return {Verdict::kInconclusive, "fewer than two widths", 0};
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  for (const auto& [seed, narrow] : curves.begin()->second) {
    const double rate = best_of(narrow).rate;
    std::optional<Interval> before;
    std::vector<std::string> losses;
    for (const auto& [width, seeds] : curves) {
      const ArmResult& arm = *seeds.at(seed).at(rate)->find_arm(kArm);
      const Interval interval = loss_interval(arm, confidence);
      if (before) verdicts.push_back(above(*before, interval));
      before = interval;
      losses.push_back(fmt::format("{:.4f} at {}", arm.loss_per_token, width));
    }
    evidence.push_back(fmt::format("seed {}, rate {:.3g}: {}", seed, rate, join(losses, ", ")));
  }
  return {all_of(verdicts), join(evidence, "; "), static_cast<int64_t>(curves.begin()->second.size())};
}

Figure rates_figure(const StudyResult& result, const char* variant) {
  Figure figure{fmt::format("Loss against learning rate, {}", variant),
                "A line a width, means over seeds.",
                {"peak learning rate", true},
                {"nats a symbol", false},
                {}};
  for (const auto& [width, seeds] : curves_of(result, variant)) {
    FigureSeries& series = figure.series.emplace_back();
    series.name = fmt::format("{} wide", width);
    std::map<double, std::vector<double>> losses;
    for (const auto& [seed, curve] : seeds) {
      for (const auto& [rate, cell] : curve) losses[rate].push_back(loss_of(*cell));
    }
    for (const auto& [rate, list] : losses) series.points.push_back({rate, mean(list)});
  }
  return figure;
}

Figure coordinates_figure(const StudyResult& result, const char* variant, int32_t steps) {
  Figure figure{fmt::format("Size of activations after {} steps, {}", steps, variant),
                "Mean of |x|, over seeds, in the residual stream after each block and of the logits; "
                "flat is right.",
                {"width", true},
                {"mean |x|", true},
                {}};
  std::map<std::string, std::map<int32_t, std::vector<double>>> points;
  for (const Cell& cell : result.cells) {
    if (cell.variant != coordinate_variant(variant)) continue;
    for (const Measure& measure : cell.measures) {
      points[measure.name][cell.n_embd].push_back(measure.mean);
    }
  }
  for (const auto& [name, widths] : points) {
    FigureSeries& series = figure.series.emplace_back();
    series.name = name;
    for (const auto& [width, sizes] : widths) {
      series.points.push_back({static_cast<double>(width), mean(sizes)});
    }
  }
  return figure;
}

class WidthTransfer : public Study {
 public:
  std::string_view name() const override { return "width_transfer"; }
  std::string_view title() const override { return "One learning rate for every width"; }
  std::string_view question() const override {
    return "Does the best learning rate of a narrow model serve a wide one, in the standard and in "
           "the maximal update parametrisation?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    sweep.learning_rates.clear();
    if (scale != "quick") {
      sweep.widths = {16, 32, 64, 128, 256};
      sweep.seeds = {0, 1, 2, 3, 4};
      for (int octave = 11; octave >= 3; --octave) {
        sweep.learning_rates.push_back(std::pow(2.0, -octave));
      }
      sweep.steps = 1000;
      sweep.batch_size = 64;
      sweep.test_items = 2000;
      options_.base_width = 16;
      if (scale == "full") return;
      sweep.widths = {64, 128, 256, 512, 1024, 2048};
      sweep.learning_rates.clear();
      for (int octave = 14; octave >= 4; --octave) {
        sweep.learning_rates.push_back(std::pow(2.0, -octave));
      }
      sweep.steps = 10'000;
      options_.base_width = 64;
      options_.coordinate_rate = 1.0 / 512;
    } else {
      sweep.widths = {8, 16, 32};
      for (int octave = 8; octave >= 3; --octave) {
        sweep.learning_rates.push_back(std::pow(2.0, -octave));
      }
      sweep.steps = 150;
      sweep.batch_size = 8;
      sweep.evaluation_rows = 250;
    }
  }

  void add_fields(ConfigTable& table) override {
    SweepOptions& sweep = options_.sweep;
    table.add("widths", &sweep.widths, "n_embd of each size").at_least(2);
    table.add("n_layer", &sweep.n_layer, "blocks").at_least(1);
    table.add("learning_rates", &sweep.learning_rates, "peak learning rates, of every width").at_least(0);
    table.add("steps", &sweep.steps, "optimizer steps").at_least(1);
    table.add("batch_size", &sweep.batch_size, "sequences a step").at_least(1);
    add_run_fields(table, sweep, false);
    table.add("base_width", &options_.base_width, "whose learning rate the others take").at_least(2);
    table.add("block_size", &options_.source.block_size, "symbols in a sequence").at_least(2);
    table.add("exponent", &options_.source.exponent, "of the source's Zipf law").at_least(0);
    table.add("shares", &options_.source.shares, "of the source's contexts").at_least(0);
    table.add("coordinate_steps", &options_.coordinate_steps, "steps after which the size of activations is looked at")
        .at_least(1);
    table.add("coordinate_rate", &options_.coordinate_rate, "learning rate of those steps").at_least(0);
    table.add("coordinate_seeds", &options_.coordinate_seeds, "models of each width looked at").at_least(2);
    table.add("stays", &options_.stays, "claims: octaves that a best rate which stays may move").at_least(0);
    table.add("moves", &options_.moves, "claims: octaves from which a best rate moves").at_least(0);
    table.add("flat", &options_.flat, "claims: steepest slope of log size against log width").at_least(0);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    const tasks::MarkovTask source(options_.source);
    const SweepOptions& sweep = options_.sweep;
    check(std::is_sorted(sweep.widths.begin(), sweep.widths.end()),
          "widths must rise: the first is what the others are compared with");
    check(options_.coordinate_steps <= sweep.steps, "coordinate_steps is {}, more than the {} steps",
          options_.coordinate_steps, sweep.steps);
    for (const int32_t width : sweep.widths) {
      model(kTransfer, width);
      model(kStandard, width);
    }
  }

  void run(StudyRun& run) override {
    const tasks::MarkovTask source(options_.source);
    const SweepOptions& sweep = options_.sweep;
    for (const char* variant : {kTransfer, kStandard}) {
      for (const int32_t width : sweep.widths) {
        Experiment experiment = sweep_experiment(sweep, "", variant, &source, width);
        experiment.model = model(variant, width);
        experiment.learning_rates = sweep.learning_rates;
        experiment.choose_rate = false;  // the whole curve is the finding
        run_experiment(run, sweep, experiment);
        if (!run.scouting()) look(run, source, variant, width);
      }
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options options = options_;
    return {{"transfers",
             fmt::format("Maximal update parametrisation: the learning rate with the least test loss "
                         "moves by at most {} octave over the widths, in every seed.",
                         options.stays),
             [=](const StudyResult& result, double) { return judge_shift(result, kTransfer, options.stays, true); }},
            {"standard_moves",
             fmt::format("Standard parametrisation: the learning rate with the least test loss moves "
                         "by at least {} octaves over the widths, in every seed.",
                         options.moves),
             [=](const StudyResult& result, double) { return judge_shift(result, kStandard, options.moves, false); }},
            {"coordinates",
             fmt::format("Maximal update parametrisation: after {} steps at learning rate {:.4g} the "
                         "slope of log mean |x| against log width is at most {} either way, at every "
                         "point of the model.",
                         options.coordinate_steps, options.coordinate_rate, options.flat),
             [=](const StudyResult& result, double confidence) {
               return judge_coordinates(result, options.flat, confidence);
             }},
            {"wider_better",
             "Maximal update parametrisation: at the learning rate that is best for the narrowest "
             "width, each width has a lower test loss than the one before it, in every seed.",
             [](const StudyResult& result, double confidence) { return judge_wider(result, confidence); }}};
  }

  void describe(StudyResult& result) const override {
    const SweepOptions& sweep = options_.sweep;
    const tasks::MarkovTask source(options_.source);
    result.settings = {{"widths", fmt::format("{}", fmt::join(sweep.widths, ", "))},
                       {"base width", fmt::to_string(options_.base_width)},
                       {"training", fmt::format("{} steps of {} sequences of {} symbols", sweep.steps, sweep.batch_size,
                                                options_.source.block_size)},
                       {"learning rates", fmt::format("{:.4g}", fmt::join(sweep.learning_rates, ", "))},
                       {"seeds", fmt::format("{}", fmt::join(sweep.seeds, ", "))},
                       {"seeds of the coordinate check", fmt::to_string(options_.coordinate_seeds)},
                       {"entropy rate of the source", fmt::format("{:.4f} nats", source.entropy_rate())},
                       {"test items", fmt::to_string(sweep.test_items)}};
    for (const char* variant : {kTransfer, kStandard}) {
      result.figures.push_back(rates_figure(result, variant));
      result.figures.push_back(coordinates_figure(result, variant, options_.coordinate_steps));
    }
    result.caveats = {"The source is random: exact match says nothing, the loss is the score.",
                      "The standard parametrisation here is the recipe's: deviations already fall "
                      "with the square "
                      "root of the fan-in, so only learning rates, the head and the start differ.",
                      "A best rate is known to an octave, the distance of two points of the grid."};
  }

 private:
  ModelConfig model(std::string_view variant, int32_t width) const {
    const auto recipe = [&](int32_t wide) {
      return recipe_config(options_.sweep.n_layer, wide, options_.source.symbols, options_.source.block_size);
    };
    return variant == kTransfer ? width_scaled(recipe(width), recipe(options_.base_width)) : recipe(width);
  }

  // The coordinate check of one width, as cells of their own.
  void look(StudyRun& run, const tasks::MarkovTask& source, const char* variant, int32_t width) {
    const Model model(this->model(variant, width));
    TrainConfig config;
    config.optimizer = recipe_optimizer(options_.sweep.steps);
    config.optimizer.schedule = {};  // from the first step at the whole rate
    config.batch_size = options_.sweep.batch_size;
    config.steps = options_.coordinate_steps;
    config.members.clear();
    std::vector<Cell> cells;
    for (int32_t seed = 0; seed < options_.coordinate_seeds; ++seed) {
      config.members.push_back({static_cast<uint32_t>(seed), options_.coordinate_rate});
      Cell& cell = cells.emplace_back();
      cell.cell = fmt::format("{}-coordinates-d{}-s{}", variant, width, seed);
      cell.parameters = model.parameter_count();
      cell.n_layer = options_.sweep.n_layer;
      cell.n_embd = width;
      cell.seed = static_cast<uint32_t>(seed);
      cell.learning_rate = options_.coordinate_rate;
      cell.steps = config.steps;
      cell.tokens = config.steps * config.tokens_per_step(model.config());
      cell.variant = coordinate_variant(variant);
      cell.selected = false;  // not a point of the grid
    }
    if (run.finished(cells.front().cell)) return;
    if (interrupted()) throw Interrupted("interrupted before a coordinate check");
    const std::vector<std::string> names = coordinate_names(model.config());
    const auto sizes = coordinates_after(run.device(), model, config, source, config.steps);
    for (size_t e = 0; e < cells.size(); ++e) {
      for (size_t i = 0; i < names.size(); ++i) {
        cells[e].measures.push_back({names[i], sizes[e][i], 0, 1});
      }
    }
    run.add(cells);
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::WidthTransfer study;
  return surtsey::experiments::run_study(argc, argv, study);
}
