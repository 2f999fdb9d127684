// E05: problems whose answers take many steps in series, by chain of thought at depth 3, and at
// once at depths 3, 4 and 5 (Feng et al. 2023, 2305.15408, and its code, guyuntian/CoT_benchmark):
//
//   arithmetic     expressions of n operators modulo 11
//   equation       linear systems of n variables modulo 11
//   increasing     the longest increasing subsequence of n numbers
//   edit_distance  of strings of about n letters
//
// One model each, "cot" or "direct". As in the published code, the first two are right when their
// final answer is (whatever the steps), the last two only when every token is.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>

#include "experiments/base/join.h"
#include "experiments/study/study.h"
#include "experiments/sweeps/sweep.h"
#include "experiments/tasks/arithmetic.h"
#include "experiments/tasks/edit_distance.h"
#include "experiments/tasks/equation.h"
#include "experiments/tasks/increasing.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kSteps = "cot";
constexpr const char* kDirect = "direct";

struct Family {
  const char* name;
  bool whole;                    // every token must be right
  std::vector<int32_t> sizes;    // as published
  std::vector<int32_t> trained;  // of these
};

struct Options {
  SweepOptions sweep;  // seeds, questions, logging; batch_size, steps and widths are used too
  std::vector<Family> families = {{"arithmetic", false, {4, 5, 6}, {}},
                                  {"equation", false, {3, 4, 5}, {}},
                                  {"increasing", true, {50, 80, 100}, {}},
                                  {"edit_distance", true, {12, 16, 20}, {}}};
  std::vector<std::string> problems;
  int32_t width = 256;
  int32_t heads = 4;
  int32_t steps_layers = 3;
  std::vector<int32_t> direct_layers = {3, 4, 5};
  std::vector<double> learning_rates = {1e-3};
  int32_t warmup_steps = 0;
  double beta2 = 0.98;
  double clip_norm = 1;
  double dropout = 0;
  int32_t training_problems = 0;
  bool shorter = true;
  // Bounds of the claims.
  double solved = 0.99;
  double floor = 0.05;
  double published_margin = 0.10;
};

// Test accuracy of direct models after the last epoch: mean and standard deviation over the four
// seeds of the logs of guyuntian/CoT_benchmark @650a246, at 3, 4 and 5 layers.
struct Published {
  const char* family;
  int32_t size;
  std::array<std::pair<double, double>, 3> layers;
};
constexpr int32_t kFirstPublishedLayers = 3;
const Published kPublished[] = {
    {"arithmetic", 4, {{{.7289, .0686}, {.9141, .0325}, {.9676, .0151}}}},
    {"arithmetic", 5, {{{.3744, .1058}, {.3220, .1441}, {.6986, .1759}}}},
    {"arithmetic", 6, {{{.2537, .0443}, {.2519, .0385}, {.4909, .1395}}}},
    {"equation", 3, {{{.0225, .0047}, {.0357, .0088}, {.0379, .0079}}}},
    {"equation", 4, {{{.0001, .0000}, {.0001, .0000}, {.0001, .0000}}}},
    {"equation", 5, {{{.0000, .0000}, {.0000, .0000}, {.0000, .0000}}}},
    {"increasing", 50, {{{.6444, .0487}, {.9075, .0115}, {.9587, .0039}}}},
    {"increasing", 80, {{{.3002, .0267}, {.6303, .0407}, {.7517, .0315}}}},
    {"increasing", 100, {{{.2260, .0096}, {.3354, .0241}, {.5505, .0452}}}},
    {"edit_distance", 12, {{{.7515, .0425}, {.8716, .0047}, {.9341, .0078}}}},
    {"edit_distance", 16, {{{.5471, .0501}, {.7198, .0268}, {.7990, .0139}}}},
    {"edit_distance", 20, {{{.4255, .0530}, {.5792, .0298}, {.6395, .0476}}}},
};

// One problem of one size.
struct Chosen {
  const Family* family;
  int32_t size;

  std::string name() const { return fmt::format("{}_{}", family->name, size); }
};

std::vector<Chosen> chosen(const Options& options) {
  std::vector<Chosen> list;
  for (const std::string& name : options.problems) {
    for (const Family& family : options.families) {
      if (family.name != name) continue;
      for (const int32_t size : family.trained) list.push_back({&family, size});
    }
  }
  return list;
}

std::unique_ptr<tasks::Task> make_task(const Options& options, const Chosen& one, bool steps) {
  const tasks::SerialOptions serial{.steps = steps, .training_problems = options.training_problems};
  const std::string_view name = one.family->name;
  if (name == "arithmetic") {
    return std::make_unique<tasks::Arithmetic>(one.size, serial, options.shorter);
  }
  if (name == "equation") return std::make_unique<tasks::Equation>(one.size, serial);
  if (name == "increasing") return std::make_unique<tasks::IncreasingSubsequence>(one.size, serial);
  return std::make_unique<tasks::EditDistance>(one.size, serial);
}

// Share of right answers, by the rule of the problem.
double right(const Cell& cell, const Chosen& one) {
  const ArmResult& arm = cell.arms.front();
  return one.family->whole ? arm.chain_exact_match : arm.exact_match;
}

Interval right_interval(const Cell& cell, const Chosen& one, double confidence) {
  const int64_t n = cell.arms.front().n;
  return clopper_pearson(std::llround(right(cell, one) * static_cast<double>(n)), n, confidence);
}

// Direct cells by depth, a cell a seed.
using Depths = std::map<int32_t, std::map<uint32_t, const Cell*>>;

Depths depths_of(const StudyResult& result, const Chosen& one, const char* variant) {
  Depths depths;
  for (const Cell* cell : claim_cells(result, one.name(), variant)) {
    depths[cell->n_layer][cell->seed] = cell;
  }
  return depths;
}

std::vector<double> shares(const std::map<uint32_t, const Cell*>& seeds, const Chosen& one) {
  std::vector<double> values;
  for (const auto& [seed, cell] : seeds) values.push_back(right(*cell, one));
  return values;
}

std::string shares_text(const std::map<uint32_t, const Cell*>& seeds, const Chosen& one) {
  std::vector<std::string> parts;
  for (const double share : shares(seeds, one)) parts.push_back(fmt::format("{:.4f}", share));
  return join(parts, ", ");
}

Judgement judge_steps(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  std::vector<const Cell*> cells;
  for (const Chosen& one : chosen(options)) {
    for (const Cell* cell : claim_cells(result, one.name(), kSteps)) {
      verdicts.push_back(at_least(right_interval(*cell, one, confidence), options.solved));
      evidence.push_back(fmt::format("{} seed {}: {:.4f}", one.name(), cell->seed, right(*cell, one)));
      cells.push_back(cell);
    }
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

// Against the direct model of the same depth and seed.
Judgement judge_gap(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  std::vector<const Cell*> cells;
  for (const Chosen& one : chosen(options)) {
    const auto direct = depths_of(result, one, kDirect)[options.steps_layers];
    for (const Cell* cell : claim_cells(result, one.name(), kSteps)) {
      const auto found = direct.find(cell->seed);
      if (found == direct.end()) continue;
      verdicts.push_back(
          above(right_interval(*cell, one, confidence), right_interval(*found->second, one, confidence)));
      evidence.push_back(fmt::format("{} seed {}: {:.4f} against {:.4f}", one.name(), cell->seed, right(*cell, one),
                                     right(*found->second, one)));
      cells.push_back(cell);
    }
  }
  return {all_of(verdicts), join(evidence, "; "), count_seeds(cells)};
}

// Only where the shallowest model is neither lost nor done: else there is nothing for depth to add.
Judgement judge_depth(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  int64_t fewest = 0;
  for (const Chosen& one : chosen(options)) {
    const Depths depths = depths_of(result, one, kDirect);
    if (depths.size() < 2) continue;
    const auto& [shallow, few] = *depths.begin();
    const auto& [deep, many] = *depths.rbegin();
    const double start = mean(shares(few, one));
    std::vector<double> gains;
    for (const auto& [seed, cell] : few) {
      const auto other = many.find(seed);
      if (other != many.end()) gains.push_back(right(*other->second, one) - right(*cell, one));
    }
    evidence.push_back(fmt::format("{}: {} layers {}; {} layers {}", one.name(), shallow, shares_text(few, one), deep,
                                   shares_text(many, one)));
    if (start <= options.floor || start >= 1 - options.floor) {
      evidence.back() += " (not judged)";
      continue;
    }
    const Interval gain = t_interval(gains, confidence);
    verdicts.push_back(gain.low > 0 ? Verdict::kPass : gain.high < 0 ? Verdict::kFail : Verdict::kInconclusive);
    const auto seeds = static_cast<int64_t>(gains.size());
    fewest = fewest == 0 ? seeds : std::min(fewest, seeds);
  }
  return {all_of(verdicts), join(evidence, "; "), fewest};
}

// Nothing for what was not published.
std::optional<std::pair<double, double>> published(const Chosen& one, int32_t layers) {
  const int32_t at = layers - kFirstPublishedLayers;
  for (const Published& row : kPublished) {
    if (std::string_view(row.family) != one.family->name || row.size != one.size) continue;
    if (at < 0 || at >= std::ssize(row.layers)) return {};
    return row.layers[static_cast<size_t>(at)];
  }
  return {};
}

Judgement judge_published(const StudyResult& result, const Options& options, double confidence) {
  std::vector<Verdict> verdicts;
  std::vector<std::string> evidence;
  int64_t fewest = 0;
  for (const Chosen& one : chosen(options)) {
    for (const auto& [layers, seeds] : depths_of(result, one, kDirect)) {
      const auto theirs = published(one, layers);
      if (!theirs) continue;
      const double margin = std::max(options.published_margin, 2 * theirs->second);
      const auto values = shares(seeds, one);
      const Interval interval = t_interval(values, confidence);
      verdicts.push_back(at_least(interval, theirs->first - margin));
      verdicts.push_back(at_most(interval, theirs->first + margin));
      evidence.push_back(fmt::format("{} {} layers: {} (published {:.4f})", one.name(), layers, shares_text(seeds, one),
                                     theirs->first));
      const auto count = static_cast<int64_t>(values.size());
      fewest = fewest == 0 ? count : std::min(fewest, count);
    }
  }
  return {all_of(verdicts), join(evidence, "; "), fewest};
}

Figure depth_figure(const StudyResult& result, const Options& options, const Chosen& one) {
  Figure figure{fmt::format("{}: accuracy against depth", one.name()),
                "Means over seeds with their 95% t intervals. Published: direct models of Feng et "
                "al., trained on their own sample of such problems.",
                {"layers"},
                {one.family->whole ? "share with every token right" : "share with the right answer"},
                {}};
  for (const char* variant : {kSteps, kDirect}) {
    FigureSeries series{variant, {}};
    for (const auto& [layers, seeds] : depths_of(result, one, variant)) {
      const auto values = shares(seeds, one);
      FigurePoint point{static_cast<double>(layers), mean(values)};
      if (values.size() > 1) {
        const Interval interval = t_interval(values);
        point.low = std::max(0.0, interval.low);
        point.high = std::min(1.0, interval.high);
      }
      series.points.push_back(point);
    }
    figure.series.push_back(std::move(series));
  }
  FigureSeries theirs{"direct, published", {}};
  theirs.dashed = true;
  for (const int32_t layers : options.direct_layers) {
    if (const auto found = published(one, layers)) {
      theirs.points.push_back({static_cast<double>(layers), found->first});
    }
  }
  if (!theirs.points.empty()) figure.series.push_back(std::move(theirs));
  return figure;
}

class SerialTasks : public Study {
 public:
  std::string_view name() const override { return "serial_tasks"; }
  std::string_view title() const override { return "Steps in series, written down or not"; }
  std::string_view question() const override {
    return "Do three layers that write their steps down solve problems that deeper models cannot "
           "answer at once?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    SweepOptions& sweep = options_.sweep;
    sweep.test_items = 10'000;
    sweep.evaluation_rows = 1000;
    sweep.log_interval = 100;
    sweep.checkpoint_interval = 2000;
    sweep.seeds = {0, 1, 2, 3, 4};
    sweep.batch_size = 512;
    Options& o = options_;
    if (scale == "quick") {
      // Nothing unless it is asked for: `--problems=arithmetic` is a run to see that all works.
      sweep = {};
      sweep.seeds = {0};
      sweep.steps = 1500;
      sweep.batch_size = 32;
      o.families[0].trained = {2};
      o.families[1].trained = {2};
      o.families[2].trained = {10};
      o.families[3].trained = {4};
      o.width = 64;
      o.direct_layers = {3};
      o.learning_rates = {2.5e-3};
      o.warmup_steps = 75;
      return;
    }
    if (scale == "full") {
      o.problems = {"arithmetic"};
      for (Family& family : o.families) family.trained = {family.sizes.front()};
      sweep.steps = 9766;  // five million problems
      o.warmup_steps = 488;
      return;
    }
    // 100 epochs of a million problems, of which 5 warm up.
    for (Family& family : o.families) {
      o.problems.emplace_back(family.name);
      family.trained = family.sizes;
    }
    sweep.steps = 195'313;
    sweep.test_items = 100'000;
    sweep.log_interval = 1000;
    o.warmup_steps = 9766;
    o.learning_rates = {1e-4};
    o.beta2 = 0.999;
    o.clip_norm = 0;
    o.dropout = 0.1;
    o.training_problems = 1'000'000;
  }

  void add_fields(ConfigTable& table) override {
    Options& o = options_;
    std::vector<std::string> names;
    for (const Family& family : o.families) names.emplace_back(family.name);
    table.add("problems", &o.problems, "which are trained").one_of(names);
    for (Family& family : o.families) {
      table.add(fmt::format("{}_sizes", family.name), &family.trained, fmt::format("n of each {} problem", family.name))
          .at_least(1);
    }
    table.add("width", &o.width, "n_embd").at_least(2);
    table.add("heads", &o.heads, "n_head").at_least(1);
    table.add("steps_layers", &o.steps_layers, "blocks of models that write steps down").at_least(1);
    table.add("direct_layers", &o.direct_layers, "blocks of each model that answers at once").at_least(1);
    table.add("learning_rates", &o.learning_rates, "peak learning rates").at_least(0);
    table.add("steps", &o.sweep.steps, "optimizer steps").at_least(1);
    table.add("warmup_steps", &o.warmup_steps, "of them, with a rising rate").at_least(0);
    table.add("batch_size", &o.sweep.batch_size, "problems a step").at_least(1);
    table.add("beta2", &o.beta2, "of AdamW").at_least(0).at_most(1);
    table.add("clip_norm", &o.clip_norm, "largest norm of a gradient; 0: any").at_least(0);
    table.add("dropout", &o.dropout, "share of activations that are dropped").at_least(0);
    table
        .add("training_problems", &o.training_problems,
             "different problems in the training set; 0: new ones at every step")
        .at_least(0);
    table.add("shorter", &o.shorter, "training mixes shorter arithmetic expressions in");
    add_run_fields(table, o.sweep);
    table.add("solved", &o.solved, "claims: accuracy from which a problem is solved").at_least(0).at_most(1);
    table.add("floor", &o.floor, "claims: depth is judged where accuracy is so far from 0 and 1")
        .at_least(0)
        .at_most(0.5);
    table
        .add("published_margin", &o.published_margin,
             "claims: distance from published means, or two of their deviations if more")
        .at_least(0)
        .at_most(1);
  }

  void check_options() const override {
    check_sweep_options(options_.sweep);
    check(!options_.learning_rates.empty(), "learning_rates is empty: there is nothing to train");
    check(options_.width % options_.heads == 0, "heads: {} does not divide the width {}", options_.heads,
          options_.width);
    for (const Chosen& one : chosen(options_)) make_task(options_, one, true);
  }

  void run(StudyRun& run) override {
    check(run.scouting() || !options_.problems.empty(),
          "problems is empty: this scale trains only what it is told to, such as "
          "--problems=arithmetic");
    for (const Chosen& one : chosen(options_)) {
      const auto steps = make_task(options_, one, true);
      run_experiment(run, options_.sweep, experiment(one, *steps, kSteps, options_.steps_layers));
      const auto direct = make_task(options_, one, false);
      for (const int32_t layers : options_.direct_layers) {
        run_experiment(run, options_.sweep, experiment(one, *direct, kDirect, layers));
      }
    }
  }

  std::vector<DeclaredClaim> claims() const override {
    const Options o = options_;
    const auto with = [o](auto rule) {
      return [o, rule](const StudyResult& result, double confidence) {
        Judgement judgement = rule(result, o, confidence);
        if (judgement.evidence.empty()) judgement.evidence = "nothing of this was trained";
        return judgement;
      };
    };
    std::vector<DeclaredClaim> claims = {
        {"steps",
         fmt::format("With {} layers and a chain of thought, every problem is solved with accuracy "
                     "of at least {} in every seed.",
                     o.steps_layers, o.solved),
         with(judge_steps)},
        {"gap",
         fmt::format("In every seed, accuracy with a chain of thought is above that of the direct "
                     "model of {} layers, with disjoint intervals.",
                     o.steps_layers),
         with(judge_gap)}};
    if (o.direct_layers.size() > 1) {
      claims.push_back({"depth",
                        fmt::format("Wherever mean accuracy of the shallowest direct models is "
                                    "between {} and {}, that of the deepest is higher.",
                                    o.floor, 1 - o.floor),
                        with(judge_depth)});
    }
    if (o.training_problems > 0) {
      claims.push_back({"published",
                        fmt::format("Mean accuracy of direct models is within {}, or two standard "
                                    "deviations if that is more, of the published mean.",
                                    o.published_margin),
                        with(judge_published)});
    }
    return claims;
  }

  void describe(StudyResult& result) const override {
    const Options& o = options_;
    std::vector<std::string> names;
    for (const Chosen& one : chosen(o)) names.push_back(one.name());
    result.settings = {
        {"problems", join(names, ", ")},
        {"training", o.training_problems > 0
                         ? fmt::format("{} different problems, drawn from again and again", o.training_problems)
                         : "new problems at every step"},
        {"models", fmt::format("width {}, {} heads, {} layers for chains, {} for direct answers, "
                               "sinusoidal positions, a norm after the embeddings, dropout {}",
                               o.width, o.heads, o.steps_layers, fmt::join(o.direct_layers, " and "), o.dropout)},
        {"steps", fmt::format("{} of {} problems, {} to warm up", o.sweep.steps, o.sweep.batch_size, o.warmup_steps)},
        {"learning rates", fmt::format("{}", fmt::join(o.learning_rates, ", "))},
        {"seeds", fmt::format("{}", fmt::join(o.sweep.seeds, ", "))},
        {"test items", fmt::to_string(o.sweep.test_items)}};
    result.caveats = {
        "Arithmetic and equations count by their final answer alone, subsequences and edit "
        "distances only with every token right, as in the published evaluation: compare them with "
        "themselves, not with each other.",
        "Direct models see as many problems as the others, at a fraction of the FLOPs: their "
        "sequences are shorter.",
        "What differs from the published code: weights start as in the recipe of this project, the "
        "head has no bias, the learning rate moves every step and not every epoch, a training set "
        "is drawn from with replacement instead of in epochs, and prompts of the test are kept "
        "out of training by their text, not by their text and chain.",
        "Every step of a chain is there in training. That such chains can be learned says nothing "
        "of how a model would find them."};
    for (const Chosen& one : chosen(o)) result.figures.push_back(depth_figure(result, o, one));
  }

 private:
  Experiment experiment(const Chosen& one, const tasks::Task& data, const char* variant, int32_t layers) const {
    const Options& o = options_;
    Experiment experiment = sweep_experiment(o.sweep, one.name(), variant, &data, o.width);
    experiment.n_layer = layers;
    experiment.learning_rates = o.learning_rates;
    ModelConfig model;
    model.n_layer = layers;
    model.n_head = o.heads;
    model.n_embd = o.width;
    model.block_size = data.block_size();
    model.vocab_size = data.vocab_size();
    model.dropout = o.dropout;
    model.position = Position::sinusoidal;
    model.embedding_norm = true;
    model.activation = Activation::gelu_tanh;
    model.initialisation = InitialisationScheme::recipe;
    experiment.model = model;
    experiment.optimizer = recipe_optimizer(o.sweep.steps);
    experiment.optimizer->beta2 = o.beta2;
    experiment.optimizer->clip_norm = o.clip_norm;
    experiment.optimizer->schedule = {graph::Decay::linear, o.warmup_steps, o.sweep.steps, 0};
    return experiment;
  }

  Options options_;
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::SerialTasks study;
  return surtsey::experiments::run_study(argc, argv, study);
}
