// E05: problems whose answers take many steps in series, by chain of thought at depth 3, and at once at depths 3, 4 and
// 5 (Feng et al. 2023, 2305.15408, and its code, guyuntian/CoT_benchmark):
//
//   arithmetic     expressions of n operators modulo 11
//   equation       linear systems of n variables modulo 11
//   increasing     the longest increasing subsequence of n numbers
//   edit_distance  of strings of about n letters
//
// One model each, "cot" or "direct". As in the published code, the first two are right when their final answer is
// (whatever the steps), the last two only when every token is.
#include <array>

#include "experiments/study/study.h"
#include "experiments/tasks/arithmetic.h"
#include "experiments/tasks/edit_distance.h"
#include "experiments/tasks/equation.h"
#include "experiments/tasks/increasing.h"

namespace surtsey::experiments {
namespace {

struct Family {
  std::string name;
  bool whole;  // every token must be right
  int32_t quick_size;
};
const std::vector<Family> kFamilies = {
    {"arithmetic", false, 2}, {"equation", false, 2}, {"increasing", true, 10}, {"edit_distance", true, 4}};

// Test accuracy of direct models after the last epoch: mean and standard deviation over the four seeds of the logs of
// guyuntian/CoT_benchmark @650a246, at 3, 4 and 5 layers.
struct Published {
  std::string family;
  int32_t size;
  std::array<std::pair<double, double>, 3> layers;
};
constexpr int32_t kFirstPublishedLayers = 3;
const std::vector<Published> kPublished = {
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
struct Problem {
  const Family* family;
  int32_t size;

  std::string name() const { return fmt::format("{}_{}", family->name, size); }
  Pick pick(const char* variant) const { return cells(name(), variant); }
  // Share of right answers, by the rule of the problem.
  Score right() const { return family->whole ? whole_answer("") : exact_match(""); }
};

struct Keys : StudyKeys {
  // full: five million problems. paper: 100 epochs of a million problems, of which 5 warm up.
  Keys()
      : StudyKeys({.steps = {1500, 9766, 195'313},
                   .batch_size = {32, 512},
                   .seeds = {{0}, seeds(5)},
                   .test_items = {1000, 10'000, 100'000},
                   .log_interval = {50, 100, 1000},
                   .checkpoint_interval = {0, 2000}}) {
    explain("batch_size", "problems a step");
    for (size_t i = 0; i < kFamilies.size(); ++i) {
      const Family& family = kFamilies[i];
      Integers all;
      for (const Published& one : kPublished)
        if (one.family == family.name) all.push_back(one.size);
      add(family.name + "_sizes", &sizes[i], {{family.quick_size}, {all.front()}, all},
          fmt::format("n of each {} problem", family.name), 1, 1000);
    }
  }
  std::array<Integers, 4> sizes;  // of each family
  Key<Words> problems{
      this, "problems", {{}, {"arithmetic"}, names_of(kFamilies)}, "which are trained", names_of(kFamilies)};
  Key<int32_t> width{this, "width", {64, 256}, "n_embd", 2, kMostWidth};
  Key<int32_t> heads{this, "heads", {4}, "n_head", 1, 1024};
  Key<int32_t> steps_layers{this, "steps_layers", {3}, "blocks of models that write steps down", 1, kMostLayers};
  Key<Integers> direct_layers{this, "direct_layers", {{3}, {3, 4, 5}}, "blocks of each model that answers at once"};
  Rates learning_rates{this, "learning_rates", {{2.5e-3}, {1e-3}, {1e-4}}, "peak learning rates"};
  Steps warmup_steps{this, "warmup_steps", {75, 488, 9766}, "of them, with a rising rate", 0};
  Share beta2{this, "beta2", {.98, .98, .999}, "of AdamW"};
  Key<double> clip_norm{this, "clip_norm", {1, 1, 0}, "largest norm of a gradient; 0: any", 0, 1e9};
  Key<double> dropout{this, "dropout", {0, 0, .1}, "share of activations that are dropped", 0, 0.99};
  Key<int32_t> training_problems =
      Key<int32_t>(this, "training_problems", {0, 0, 1'000'000},
                   "different problems in the training set; 0: new ones at every step", 0, 10'000'000);
  Key<bool> shorter{this, "shorter", {true}, "training mixes shorter arithmetic expressions in"};
  Share solved{this, "solved", {.99}, "claims: accuracy from which a problem is solved"};
  Key<double> floor{this, "floor", {.05}, "claims: depth is judged where accuracy is so far from 0 and 1", 0, .5};
  Share published_margin{
      this, "published_margin", {.1}, "claims: distance from published means, or two of their deviations if more"};

  std::vector<Problem> chosen() const {
    std::vector<Problem> list;
    for (const std::string& name : *problems)
      for (size_t i = 0; i < kFamilies.size(); ++i)
        for (const int32_t size : sizes[i])
          if (kFamilies[i].name == name) list.push_back({&kFamilies[i], size});
    return list;
  }

  std::shared_ptr<tasks::Task> task(const Problem& one, bool steps) const {
    const tasks::SerialOptions serial{.steps = steps, .training_problems = training_problems};
    const std::string& name = one.family->name;
    if (name == "arithmetic") return std::make_shared<tasks::Arithmetic>(one.size, serial, *shorter);
    if (name == "equation") return std::make_shared<tasks::Equation>(one.size, serial);
    if (name == "increasing") return std::make_shared<tasks::IncreasingSubsequence>(one.size, serial);
    return std::make_shared<tasks::EditDistance>(one.size, serial);
  }
};

void check_keys(const Keys& k) {
  check_some(*k.learning_rates, "learning_rates");
  check_heads(k.heads, k.width);
  for (const Problem& one : k.chosen()) k.task(one, true);
}

void add_experiment(const Keys& k, Experiments& list, const Problem& problem, std::shared_ptr<tasks::Task> data,
                    const char* variant, int32_t layers) {
  Experiment& one = list.add(problem.name(), variant, data, k.width);
  one.n_layer = layers;
  one.learning_rates = k.learning_rates;
  one.model = decoder_config(layers, k.width, k.heads, data->vocab_size(), data->block_size());
  one.model->dropout = k.dropout;
  one.model->position = Position::sinusoidal;
  one.model->embedding_norm = true;
  one.model->activation = Activation::gelu_tanh;
  one.model->initialisation = InitialisationScheme::recipe;
  one.optimizer = graph::OptimizerConfig{.beta2 = k.beta2, .clip_norm = k.clip_norm};
  one.optimizer->schedule = {graph::Decay::linear, k.warmup_steps, k.sweep.steps, 0};
}

void experiments(const Keys& k, Experiments& list) {
  for (const Problem& one : k.chosen()) {
    add_experiment(k, list, one, k.task(one, true), "cot", k.steps_layers);
    const auto direct = k.task(one, false);
    for (const int32_t layers : *k.direct_layers) add_experiment(k, list, one, direct, "direct", layers);
  }
}

Judge every_problem(const Keys& k, const std::function<Judge(const Problem&)>& rule) {
  std::vector<NamedJudge> parts;
  for (const Problem& one : k.chosen()) parts.emplace_back(one.name(), rule(one));
  return every_part(std::move(parts));
}

// Only where the shallowest model is neither lost nor done: else there is nothing for depth to add.
Judge depth_helps(const Keys& k, const Problem& one) {
  const auto [shallow, deep] = std::minmax_element(k.direct_layers->begin(), k.direct_layers->end());
  const Pick few = one.pick("direct").layers(*shallow), many = one.pick("direct").layers(*deep);
  const Score right = one.right();
  const Judge rule = mean_difference(many, few, right, positive());
  return [=, floor = *k.floor](const StudyResult& result, double confidence) {
    const Cells start = few.of(result);
    Judgement found = rule(result, confidence);
    const double share = mean_value(start, right);
    if (floor < share && share < 1 - floor) return found;
    return Judgement{Verdict::kInconclusive, found.evidence + " (not judged)", 0};
  };
}

// Nothing for what was not published.
std::optional<std::pair<double, double>> published(const Problem& problem, int32_t layers) {
  const int32_t at = layers - kFirstPublishedLayers;
  for (const Published& row : kPublished)
    if (row.family == problem.family->name && row.size == problem.size && 0 <= at && at < std::ssize(row.layers))
      return row.layers[static_cast<size_t>(at)];
  return {};
}

Judge as_published(const Keys& k, const Problem& problem, int32_t layers) {
  const auto theirs = published(problem, layers);
  return [=, margin = *k.published_margin](const StudyResult& result, double confidence) {
    const Cells own = problem.pick("direct").layers(layers).of(result);
    if (!theirs || own.empty()) return Judgement{};
    const Bound bound = within(theirs->first, std::max(margin, 2 * theirs->second));
    return Judgement{
        bound(t_interval(values(own, problem.right()), confidence), *own.front()),
        fmt::format("{} layers: {} (published {:.4f})", layers, evidence_of(own, {problem.right()}), theirs->first),
        count_seeds(own)};
  };
}

std::vector<ClaimRow> claims(const Keys& k) {
  std::vector<ClaimRow> rows = {
      {"steps",
       "With {steps_layers} layers and a chain of thought, every problem is solved with accuracy of at least {solved} "
       "in every seed.",
       every_problem(
           k, [&](const Problem& one) { return every_seed(one.pick("cot"), is(one.right(), at_least(k.solved))); })},
      // Against the direct model of the same depth and seed.
      {"gap",
       "In every seed, accuracy with a chain of thought is above that of the direct model of {steps_layers} layers, "
       "with disjoint intervals.",
       every_problem(k, [&](const Problem& one) {
         return above_in_pairs({{one.pick("cot"), one.pick("direct").layers(k.steps_layers)}}, one.right());
       })}};
  if (k.direct_layers->size() > 1)
    rows.push_back({"depth",
                    fmt::format("Wherever mean accuracy of the shallowest direct models is between {{floor}} and {}, "
                                "that of the deepest is higher.",
                                1 - k.floor),
                    every_problem(k, [&](const Problem& one) { return depth_helps(k, one); })});
  if (k.training_problems == 0) return rows;
  std::vector<NamedJudge> compared;
  for (const Problem& one : k.chosen())
    for (const int32_t layers : *k.direct_layers) compared.emplace_back(one.name(), as_published(k, one, layers));
  rows.push_back({"published",
                  "Mean accuracy of direct models is within {published_margin}, or two standard deviations if that is "
                  "more, of the published mean.",
                  every_part(std::move(compared))});
  return rows;
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  std::vector<Figure> list;
  for (const Problem& one : k.chosen()) {
    Curves curves(fmt::format("{}: accuracy against depth", one.name()),
                  "Means over seeds with their 95% t intervals. Published: direct models of Feng et al., trained on "
                  "their own sample of such problems.",
                  {"layers"}, {one.family->whole ? "share with every token right" : "share with the right answer"});
    for (const char* variant : {"cot", "direct"}) {
      curves.line(variant, {.spread = true});
      curves.add(variant, one.pick(variant).of(result), &Cell::n_layer, one.right());
    }
    curves.line("direct, published", {.dashed = true});
    for (const int32_t layers : *k.direct_layers)
      if (const auto found = published(one, layers)) curves.add("direct, published", layers, found->first);
    list.push_back(curves.figure());
  }
  return list;
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"serial_tasks", "Steps in series, written down or not",
             "Do three layers that write their steps down solve problems that deeper models cannot answer at once?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats =
        {"Arithmetic and equations count by their final answer alone, subsequences and edit distances only with every "
         "token right, as in the published evaluation: compare them with themselves, not with each other.",
         "Direct models see as many problems as the others, at a fraction of the FLOPs: their sequences are shorter.",
         "What differs from the published code: weights start as in the recipe of this project, the head has no bias, "
         "the learning rate moves every step and not every epoch, a training set is drawn from with replacement "
         "instead of in epochs, and prompts of the test are kept out of training by their text, not by their text and "
         "chain.",
         "Every step of a chain is there in training. That such chains can be learned says nothing of how a model "
         "would find them."},
    .on_request = [](const Keys& k) { return k.problems->empty() ? "--problems=arithmetic" : nullptr; }};

}  // namespace surtsey::experiments
