// E14: one layer of linear attention against one step of gradient descent, whose loss has a closed form (von Oswald et
// al. 2023).
#include "experiments/device_data/regression.h"
#include "experiments/study/study.h"

namespace surtsey::experiments {
namespace {

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{32}, {32}, {64}},
                   .learning_rates = {{.01}, {.02, .01, .005}},
                   .steps = {2000, 10'000, 100'000},
                   .batch_size = {512},
                   .seeds = {{0}, seeds(5)},
                   .evaluation_rows = {256}}) {
    explain("widths", "channels of the layer");
    explain("learning_rates", "peak learning rates");
  }
  Key<int32_t> dimension{this, "dimension", {10, 10, 20}, "d: numbers in an input", 1, 1024};
  Key<int32_t> context{this, "context", {10, 10, 40}, "N: examples before the query", 1, 65'536};
  Key<int32_t> test_sequences{this, "test_sequences", {262'144, 1 << 20}, "of the test loss", 1, 1 << 24};
  Share loss_margin{this, "loss_margin", {.02}, "claims: relative distance from the closed form"};
  Share cosine{this, "cosine", {.99}, "claims: of predictions with those of a gradient step"};

  RegressionOptions regression() const {
    return {.dimension = dimension, .context = context, .test_sequences = test_sequences};
  }
};

void check_keys(const Keys& k) {
  for (const int32_t width : k.sweep.widths)
    check(width > k.dimension, "widths: {} channels cannot hold a token, which has {} numbers", width, k.dimension + 1);
}

void experiments(const Keys& k, Experiments& list) {
  const auto data = std::make_shared<LinearRegression>(k.regression());
  for (const int32_t width : k.sweep.widths) {
    Experiment& one = list.add("regression", "one_layer", nullptr, width);
    one.n_layer = 1;
    one.learning_rates = k.sweep.learning_rates;
    one.generated = data;
    one.model = linear_attention_config(k.regression(), 1, width);
    one.optimizer = recipe_optimizer(one.steps, 0);  // weight decay would pull the predictions below the optimum's
  }
}

std::vector<ClaimRow> claims(const Keys& k) {
  const Pick models = cells("regression", "one_layer");
  return {
      {"gradient_step_loss",
       fmt::format("One layer of linear attention has the loss of the best step of gradient descent, d(d+1)/(N+d+1) = "
                   "{:.4f}, within {{loss_margin}} of it on both sides, in every seed.",
                   gradient_step_loss(k.regression())),
       every_seed(models, is(measure("loss_over_optimum").named("loss over the optimum's"), within(1, k.loss_margin))
                              .beside(measure("loss").named("loss"))
                              .beside(measure("gradient_step_loss").named("the gradient step on the same sequences")))},
      {"gradient_step_prediction",
       "Its predictions have a cosine of at least {cosine} with those of that step, in every seed.",
       every_seed(models, is(measure("cosine"), at_least(k.cosine)))}};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"linear_attention", "A step of gradient descent in the context",
             "Does one layer of linear attention take a step of gradient descent on the examples in its context?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims},
    .caveats = {
        "A regression layer with few more channels than its tokens have numbers can stand for long at a saddle that "
        "lacks one direction (d = 10, 16 channels, rate .01: 5 of 10 seeds after 2000 steps, 1.09 times the optimum); "
        "with 32 channels no seed did.",
        "The closed form holds for Gaussian inputs and weights without noise. Only the linear layers of these models "
        "were trained; nothing here shows that softmax attention in language models descends gradients."}};

}  // namespace surtsey::experiments
