// E13: which of K memorised permutations? Zero, one and few shots against the exact Bayes posterior; and whether the
// residual stream holds the task (H3, evaluate/task_vectors.h).
#include "experiments/evaluate/task_vectors.h"
#include "experiments/study/study.h"
#include "experiments/tasks/permutation.h"

namespace surtsey::experiments {
namespace {

constexpr int32_t kVectorPrompts = 1000;

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{32}, {128}, {256}},
                   .n_layer = {3, 6},
                   .learning_rates = {{.16}, {.32, .16, .08}},
                   .steps = {900, 5000, 50'000},
                   .batch_size = {128, 256},
                   .seeds = {{0}, seeds(5)},
                   .test_items = {2000, 10'000}}) {}
  Key<Integers> tasks{this, "tasks", {{8}, {2, 8, 32, 128, 512}}, "K: permutations to memorise; one model each"};
  Key<int32_t> symbols{this, "symbols", {10}, "symbols that are permuted", 2, 1000};
  Key<int32_t> shots{this, "shots", {4}, "most examples before a question", 0, 100};
  Share excess_loss{this, "excess_loss", {.1}, "claims: nats that a model may lose to Bayes"};
  Share regret{this, "regret", {.02}, "claims: posterior probability that its answers may lack"};
  Share vector_share{this, "vector_share", {.8}, "claims: share of few-shot accuracy that a task vector keeps"};
  Share control_margin{
      this, "control_margin", {.05}, "claims: accuracy above zero shots that another task's vector may have"};
};

std::string variant_of(int32_t tasks) { return fmt::format("K{}", tasks); }

void experiments(const Keys& k, Experiments& list) {
  for (const int32_t width : k.sweep.widths) {
    for (const int32_t count : *k.tasks) {
      const auto task = std::make_shared<tasks::PermutationTask>(tasks::PermutationOptions{k.symbols, count, k.shots});
      Experiment& one = list.add("few_shot", variant_of(count), task, width);
      if (count < 2) continue;  // one task has no other to compare with
      one.probe = std::make_shared<TaskVectors>(task, std::min(k.sweep.test_items, kVectorPrompts), one.n_layer);
    }
  }
}

// The patched stream at this depth keeps the few-shot accuracy, and another task's does not make it.
Test holds_the_task(const Keys& k, int32_t depth) {
  const Score patched = measure(fmt::format("patched.{}", depth)), control = measure(fmt::format("control.{}", depth)),
              few = measure("few_shot"), none = measure("zero_shot");
  const Test keeps = {
      {patched.named(fmt::format("patched at depth {}", depth)), control.named("control")},
      [=, share = *k.vector_share, margin = *k.control_margin](const Cell& cell, double confidence) {
        return all_of(std::vector{at_least(patched.interval(cell, confidence), share * few.value(cell)),
                                  at_most(control.interval(cell, confidence), none.value(cell) + margin)});
      }};
  return all_of({keeps, above(patched, none).hidden()});
}

// At some depth between the embeddings and the last norm, by the depth of each model.
Test some_depth(const Keys& k) {
  std::vector<Test> depths;
  for (int32_t depth = 1; depth < k.sweep.n_layer; ++depth) depths.push_back(holds_the_task(k, depth));
  return any_of(std::move(depths))
      .beside(measure("few_shot").named("few shots"))
      .beside(measure("zero_shot").named("none"));
}

std::vector<ClaimRow> claims(const Keys& k) {
  std::vector<Pick> all, several;
  for (const int32_t count : *k.tasks) {
    all.push_back(cells("few_shot", variant_of(count)));
    if (count > 1) several.push_back(all.back());
  }
  const auto at_every_shot = [&](const char* name, double bound) {
    std::vector<Test> shots;
    for (int32_t shot = 0; shot <= k.shots; ++shot)
      shots.push_back(is(measure(fmt::format("{}_shot.{}", shot, name)), at_most(bound)));
    return every_seed(all, all_of(std::move(shots)));
  };
  return {{"bayes_loss",
           "At every number of shots, in every seed, the model's loss exceeds that of the Bayes posterior by at most "
           "{excess_loss} nats.",
           at_every_shot("excess_loss", k.excess_loss)},
          {"bayes_answer",
           "The same of its answers: their mean posterior probability is within {regret} of the best answers'.",
           at_every_shot("regret", k.regret)},
          {"task_vectors",
           "At some depth the residual stream at the arrow of a prompt with examples, put into a prompt without, keeps "
           "{vector_share} of the few-shot accuracy, which is more than without it, and another task's is at most "
           "{control_margin} above that of no examples, in every seed.",
           every_seed(several, some_depth(k))}};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"few_shot", "Inference among known tasks",
             "Is a model a Bayesian over the tasks that it knows, and does its residual stream hold the task?"},
    .parts = {.experiments = experiments, .claims = claims},
    .caveats = {"The K permutations are memorised in training. This is inference among known tasks, not learning of a "
                "new one; with more tasks than a model can store the optimum is another.",
                "Task vectors are read and patched at learned absolute positions that differ, and few blocks are left "
                "after a task is inferred: with three blocks the transfer is not expected.",
                "Excess loss is an average over test items and estimates KL(Bayes || model); single prompts can lie "
                "farther away."}};

}  // namespace surtsey::experiments
