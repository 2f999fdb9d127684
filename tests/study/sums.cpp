// Does a chain of thought add longer sums? One model a length, at every width.
#include "experiments/study/study.h"
#include "experiments/tasks/chain.h"

namespace surtsey::experiments {
namespace {

struct Keys : StudyKeys {
  // Keys that every study has, at quick, full and paper; a scale without a value has that of the scale before.
  Keys()
      : StudyKeys({.widths = {{16}, {16, 32, 64}},
                   .n_layer = {2},
                   .learning_rates = {{.16}, {.32, .16, .08}},
                   .steps = {300, 2000},
                   .batch_size = {64, 256}}) {}
  // Keys of its own: name, values, help, least, most. Help with "claims:" in front marks a bound, no setting.
  Key<Integers> lengths{this, "lengths", {{2, 8}, {2, 4, 8, 16}}, "digits of the sums", 2, 1000};
  Share solved{this, "solved", {.95}, "claims: exact match from which a sum is solved"};
};

void check_keys(const Keys& k) { check_once(*k.lengths, "lengths"); }

std::string task_of(int32_t length) { return fmt::format("sum_of_{}", length); }

void experiments(const Keys& k, Experiments& list) {
  for (const int32_t length : *k.lengths) {
    const auto task = std::make_shared<tasks::ChainTask>(tasks::ChainOptions{.length = length, .arms = {"cot"}});
    for (const int32_t width : k.sweep.widths) list.add(task_of(length), "cot", task, width);
  }
}

std::vector<ClaimRow> claims(const Keys& k) {
  std::vector<Pick> largest;
  for (const int32_t length : *k.lengths) largest.push_back(cells(task_of(length), "cot").largest());
  return {{"solves", "The largest size sums {lengths} digits with exact match of at least {solved} in every seed.",
           every_seed(largest, is(exact_match("cot"), at_least(k.solved)))}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  Curves curves("Accuracy against length", "A line a width, means over seeds.", {"digits"}, {"exact match"});
  for (const int32_t length : *k.lengths)
    for (const Cell* cell : cells(task_of(length), "cot").of(result))
      curves.add(fmt::format("{} wide", cell->n_embd), {cell}, length, exact_match("cot"));
  return {curves.figure()};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"sums", "Longer sums", "Up to what length does a model add by steps?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats = {"Sums of {lengths} digits were tried, at one number of steps: longer ones may take more."}};

}  // namespace surtsey::experiments
