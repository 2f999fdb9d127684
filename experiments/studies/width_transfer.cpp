// Does the best learning rate of a narrow model serve a wide one? In the standard parametrisation it moves with the
// width; in the maximal update parametrisation (Yang et al. 2022, "Tensor Programs V"; model_config.h, width_scaled) it
// should stay where it is.
//
// Both train on the same text (tasks/markov.h) over a grid of widths and learning rates an octave apart. Beside it
// stands the coordinate check (coordinates.h): after a few steps the size of activations must not depend on the width,
// or some width is on its way to diverge or to stop learning.
#include "experiments/evaluate/coordinates.h"
#include "experiments/study/study.h"
#include "experiments/tasks/markov.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kStandard = "standard";
constexpr const char* kTransfer = "mup";

// 2^-first .. 2^-last, rising.
Numbers octaves(int first, int last) {
  Numbers rates;
  for (int octave = first; octave >= last; --octave) rates.push_back(std::exp2(-octave));
  return rates;
}

struct Keys : StudyKeys {
  // Learning rates are not divided by the width here.
  Keys()
      : StudyKeys({.widths = {{8, 16, 32}, {16, 32, 64, 128, 256}, {64, 128, 256, 512, 1024, 2048}},
                   .n_layer = {2},
                   .learning_rates = {octaves(8, 3), octaves(11, 3), octaves(14, 4)},
                   .steps = {150, 1000, 10'000},
                   .batch_size = {8, 64},
                   .seeds = {{0, 1}, seeds(5)},
                   .selection = false,
                   .test_items = {1000, 2000},
                   .evaluation_rows = {250, 256},
                   .checkpoint_interval = {0}}) {
    explain("learning_rates", "peak learning rates, of every width");
  }
  Key<int32_t> base_width{this, "base_width", {8, 16, 64}, "whose learning rate the others take", 2, kMostWidth};
  Key<int32_t> block_size{this, "block_size", {tasks::MarkovOptions().block_size}, "symbols in a sequence", 2, 65'536};
  Key<double> exponent{this, "exponent", {tasks::MarkovOptions().exponent}, "of the source's Zipf law", 0, 100};
  Key<Numbers> shares{this, "shares", {tasks::MarkovOptions().shares}, "of the source's contexts", 0, 1};
  Steps coordinate_steps{this, "coordinate_steps", {4}, "steps after which the size of activations is looked at"};
  Rate coordinate_rate{this, "coordinate_rate", {1.0 / 64, 1.0 / 64, 1.0 / 512}, "learning rate of those steps"};
  Key<int32_t> coordinate_seeds{this, "coordinate_seeds", {20}, "models of each width looked at", 2, 1000};
  Key<double> stays{this, "stays", {1}, "claims: octaves that a best rate which stays may move", 0, 100};
  Key<double> moves{this, "moves", {2}, "claims: octaves from which a best rate moves", 0, 100};
  Key<double> flat{this, "flat", {.1}, "claims: steepest slope of log size against log width", 0, 100};

  std::shared_ptr<tasks::MarkovTask> source() const {
    return std::make_shared<tasks::MarkovTask>(
        tasks::MarkovOptions{.block_size = block_size, .exponent = exponent, .shares = shares});
  }

  ModelConfig model(std::string_view variant, int32_t width) const {
    const tasks::MarkovOptions source;
    const auto recipe = [&](int32_t wide) { return recipe_config(sweep.n_layer, wide, source.symbols, block_size); };
    return variant == kTransfer ? width_scaled(recipe(width), recipe(base_width)) : recipe(width);
  }
};

void check_keys(const Keys& k) {
  k.source();
  check_rising(k.sweep.widths, "widths", ": the first is what the others are compared with");
  check(k.coordinate_steps <= k.sweep.steps, "coordinate_steps is {}, more than the {} steps", *k.coordinate_steps,
        k.sweep.steps);
  for (const int32_t width : k.sweep.widths)
    for (const char* variant : {kTransfer, kStandard}) k.model(variant, width);
}

std::string coordinate_variant(const std::string& variant) { return variant + " coordinates"; }

// The coordinate check of one width, as cells of their own.
PackResult look(const Keys& k, engine::Device& device, const Experiment& experiment,
                const std::vector<Member>& members) {
  const Model model(*experiment.model);
  TrainConfig config;
  config.optimizer = recipe_optimizer(k.sweep.steps);
  config.optimizer.schedule = {};  // from the first step at the whole rate
  config.batch_size = k.sweep.batch_size;
  config.steps = k.coordinate_steps;
  config.members = members;
  const std::vector<std::string> names = coordinate_names(model.config());
  const auto sizes = coordinates_after(device, model, config, *k.source(), config.steps);
  PackResult result;
  for (size_t e = 0; e < members.size(); ++e) {
    Cell& cell = result.cells.emplace_back(empty_cell(experiment, members[e]));
    cell.parameters = model.parameter_count();
    cell.steps = config.steps;
    cell.tokens = config.steps * config.tokens_per_step(model.config());
    cell.selected = false;  // not a point of the grid
    for (size_t i = 0; i < names.size(); ++i) cell.measures.push_back({names[i], sizes[e][i], 0, 1});
  }
  return result;
}

void experiments(const Keys& k, Experiments& list) {
  const auto source = k.source();
  for (const char* variant : {kTransfer, kStandard}) {
    for (const int32_t width : k.sweep.widths) {
      Experiment& grid = list.add("", variant, source, width);
      grid.model = k.model(variant, width);
      grid.learning_rates = k.sweep.learning_rates;
      grid.choose_rate = false;  // the whole curve is the finding
      Experiment& coordinates = list.add(grid);
      coordinates.variant = coordinate_variant(variant);
      coordinates.seeds = seeds(k.coordinate_seeds);
      coordinates.learning_rates = {*k.coordinate_rate};
      coordinates.steps = 0;
      coordinates.procedure = [&k](auto& device, const auto& own, const auto& members) {
        return look(k, device, own, members);
      };
    }
  }
}

// A diverged model has lost.
double loss_of(const Cell& cell) {
  const double loss = cell.arm("text").loss_per_token;
  return std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity();
}

// One seed of one width: its cells by learning rate.
using Curve = std::map<double, const Cell*>;

std::map<int32_t, std::map<uint32_t, Curve>> curves_of(const StudyResult& result, const char* variant) {
  std::map<int32_t, std::map<uint32_t, Curve>> curves;
  for (const Cell* cell : cells("", variant).of(result)) curves[cell->n_embd][cell->seed][cell->learning_rate] = cell;
  return curves;
}

// The learning rate with the least loss, unless it stands at an end of the grid.
struct Best {
  double rate = 0;
  bool interior = false;
};

Best best_of(const Curve& curve) {
  const auto best = std::min_element(
      curve.begin(), curve.end(), [](const auto& a, const auto& b) { return loss_of(*a.second) < loss_of(*b.second); });
  return {best->first, best != curve.begin() && std::next(best) != curve.end()};
}

// How far the best rate stands from that of the narrowest width, in octaves, over the widths, a seed.
Judge shift(const char* variant, Bound bound) {
  return [=](const StudyResult& result, double) {
    const auto curves = curves_of(result, variant);
    if (curves.size() < 2) return Judgement{Verdict::kInconclusive, "fewer than two widths", 0};
    std::vector<Verdict> seeds;
    std::vector<std::string> evidence;
    for (const auto& [seed, narrow] : curves.begin()->second) {
      const Best start = best_of(narrow);
      bool interior = start.interior;
      double shift = 0;
      std::vector<std::string> rates;
      for (const auto& [width, models] : curves) {
        const Best best = best_of(models.at(seed));
        interior = interior && best.interior;
        shift = std::max(shift, std::abs(std::log2(best.rate / start.rate)));
        rates.push_back(fmt::format("{:.3g} at {}", best.rate, width));
      }
      evidence.push_back(fmt::format("seed {}: {}, {:.0f} octave{}{}", seed, join(rates, ", "), shift,
                                     shift == 1 ? "" : "s", interior ? "" : ", at an end of the grid"));
      seeds.push_back(interior ? bound({shift, shift}, {}) : Verdict::kInconclusive);
    }
    // It fails only where no seed holds and none is open.
    const Verdict open = any_of(seeds) == Verdict::kFail ? Verdict::kFail : Verdict::kInconclusive;
    return Judgement{all_of(seeds) == Verdict::kPass ? Verdict::kPass : open, "best rates: " + join(evidence, "; "),
                     std::ssize(seeds)};
  };
}

// Slopes of the size of every activation against the width: [point][seed].
std::map<std::string, std::vector<double>> slopes_of(const StudyResult& result, const char* variant) {
  std::map<std::pair<std::string, uint32_t>, std::pair<std::vector<double>, std::vector<double>>> lines;
  for (const Cell& cell : result.cells) {
    if (cell.variant != coordinate_variant(variant) || diverged(cell)) continue;
    for (const Measure& measure : cell.measures) {
      auto& [widths, sizes] = lines[{measure.name, cell.seed}];
      widths.push_back(cell.n_embd);
      sizes.push_back(measure.mean);
    }
  }
  std::map<std::string, std::vector<double>> slopes;
  for (const auto& [key, line] : lines)
    if (line.first.size() > 1) slopes[key.first].push_back(log_slope(line.first, line.second));
  return slopes;
}

Judgement judge_coordinates(const Keys& k, const StudyResult& result, double confidence) {
  Parts parts;
  std::vector<std::string> slopes, standard;
  for (const auto& [name, values] : slopes_of(result, kTransfer)) {
    const Interval interval = t_interval(values, confidence);
    parts.add(within(0, k.flat)(interval, {}), "", std::ssize(values));
    slopes.push_back(fmt::format("{} [{:.3f}, {:.3f}]", name, interval.low, interval.high));
  }
  for (const auto& [name, values] : slopes_of(result, kStandard))
    standard.push_back(fmt::format("{} {:.3f}", name, mean(values)));
  parts.say("slopes " + join(slopes, ", "));
  parts.say("in the standard parametrisation " + join(standard, ", "));
  return parts.judgement();
}

// At the rate that is best for the narrowest width every wider one is at least as good.
Judgement judge_wider(const StudyResult& result, double confidence) {
  const auto curves = curves_of(result, kTransfer);
  if (curves.size() < 2) return {Verdict::kInconclusive, "fewer than two widths", 0};
  Parts parts;
  for (const auto& [seed, narrow] : curves.begin()->second) {
    const double rate = best_of(narrow).rate;
    std::optional<Interval> before;
    std::vector<std::string> losses;
    for (const auto& [width, seeds] : curves) {
      const ArmResult& arm = seeds.at(seed).at(rate)->arm("text");
      const Interval interval = loss_interval(arm, confidence);
      if (before) parts.add(above(*before, interval));
      before = interval;
      losses.push_back(fmt::format("{:.4f} at {}", arm.loss_per_token, width));
    }
    parts.say(fmt::format("seed {}, rate {:.3g}: {}", seed, rate, join(losses, ", ")),
              std::ssize(curves.begin()->second));
  }
  return parts.judgement();
}

std::vector<ClaimRow> claims(const Keys& k) {
  return {{"transfers",
           "Maximal update parametrisation: the learning rate with the least test loss moves by at most {stays} octave "
           "over the widths, in every seed.",
           shift(kTransfer, at_most(k.stays + 1e-9))},
          {"standard_moves",
           "Standard parametrisation: the learning rate with the least test loss moves by at least {moves} octaves "
           "over the widths, in every seed.",
           shift(kStandard, at_least(k.moves - 1e-9))},
          {"coordinates",
           "Maximal update parametrisation: after {coordinate_steps} steps at learning rate {coordinate_rate} the "
           "slope of log mean |x| against log width is at most {flat} either way, at every point of the model.",
           [&k](const StudyResult& result, double confidence) { return judge_coordinates(k, result, confidence); }},
          {"wider_better",
           "Maximal update parametrisation: at the learning rate that is best for the narrowest width, each width has "
           "a lower test loss than the one before it, in every seed.",
           judge_wider}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  std::vector<Figure> list;
  for (const char* variant : {kTransfer, kStandard}) {
    Curves rates(fmt::format("Loss against learning rate, {}", variant), "A line a width, means over seeds.",
                 {"peak learning rate", true}, {"nats a symbol"});
    for (const Cell* cell : cells("", variant).of(result))
      rates.add(fmt::format("{} wide", cell->n_embd), cell->learning_rate, loss_of(*cell));
    Curves sizes(fmt::format("Size of activations after {} steps, {}", *k.coordinate_steps, variant),
                 "Mean of |x|, over seeds, in the residual stream after each block and of the logits; flat is right.",
                 {"width", true}, {"mean |x|", true});
    for (const Cell& cell : result.cells)
      for (const Measure& one : cell.measures)
        if (cell.variant == coordinate_variant(variant)) sizes.add(one.name, cell.n_embd, one.mean);
    list.push_back(rates.figure());
    list.push_back(sizes.figure());
  }
  return list;
}

}  // namespace

const StudyProgram kStudy =
    StudyOf<Keys>{.head = {"width_transfer", "One learning rate for every width",
                           "Does the best learning rate of a narrow model serve a wide one, in the standard and in the "
                           "maximal update parametrisation?"},
                  .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
                  .caveats = {"The source is random: exact match says nothing, the loss is the score.",
                              "The standard parametrisation here is the recipe's: deviations already fall with the "
                              "square root of the fan-in, so only learning rates, the head and the start differ.",
                              "A best rate is known to an octave, the distance of two points of the grid."},
                  .settings = [](const Keys& k, const StudyResult&) -> Facts {
                    return {{"entropy rate of the source", fmt::format("{:.4f} nats", k.source()->entropy_rate())}};
                  }};

}  // namespace surtsey::experiments
