// E12: key-value recall from the context. One layer cannot, two layers can (Olsson et al. 2022, Sanford et al. 2024):
// accuracy by how often the key occurred before.
#include "experiments/tasks/recall.h"
#include "experiments/study/study.h"

namespace surtsey::experiments {
namespace {

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{32}, {16, 32, 64, 128, 256}},
                   .learning_rates = {{.112}, {.224, .112, .056}},
                   .steps = {1200, 2400, 10'000},
                   .batch_size = {48, 64},
                   .seeds = {{0}, seeds(5)},
                   .test_items = {2000, 10'000}}) {}
  Key<Integers> layers{this, "layers", {{1, 2}, {1, 2, 3, 4}}, "n_layer of the models of each width", 1, kMostLayers};
  Key<int32_t> keys{this, "keys", {8, 8, 32}, "different keys", 2, 10'000};
  Key<int32_t> values{this, "values", {16}, "different values", 2, 10'000};
  Key<int32_t> pairs{this, "pairs", {16, 16, 64}, "pairs in a sequence", 4, 10'000};
  Share one_layer{this, "one_layer", {.3}, "claims: recall that one layer does not exceed"};
  Share two_layers{this, "two_layers", {.95}, "claims: recall from which two layers can"};
  Share seed_share{this, "seed_share", {.8}, "claims: in so many of the seeds"};
};

void experiments(const Keys& k, Experiments& list) {
  const auto task = std::make_shared<tasks::RecallTask>(tasks::RecallOptions{k.keys, k.values, k.pairs});
  for (const int32_t width : k.sweep.widths)
    for (const int32_t layers : *k.layers) list.add("recall", "dense", task, width).n_layer = layers;
}

std::vector<ClaimRow> claims(const Keys& k) {
  const Pick models = cells("recall", "dense");
  const Score once = exact_match("1_prior");
  return {
      {"one_layer",
       "One layer, of any width here, recalls the value of a key that occurred exactly once before in at most "
       "{one_layer} of cases, in every seed.",
       every_seed(models.layers(1), is(once, at_most(k.one_layer)))},
      {"two_layers",
       "Two layers of some width recall it in at least {two_layers} of cases, in at least {seed_share} of the seeds.",
       share_of_seeds(models.layers(2), is(once, at_least(k.two_layers)), k.seed_share), "full"}};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"recall", "Recall from the context", "From which depth can a model recall what stands in its context?"},
    .parts = {.experiments = experiments, .claims = claims},
    .caveats = {"That one layer cannot recall is a theorem about growing contexts; here it is measured at one recipe "
                "and budget. Two layers need a schedule that is long enough: with half the steps few seeds form the "
                "induction head, and a seed that fails is slow, not unable.",
                "Guessing among the values that stand in the context already beats one in all values: compare recall "
                "with the one-layer models, not with blind chance."}};

}  // namespace surtsey::experiments
