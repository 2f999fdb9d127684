// E02: up to what length can a model add without writing anything down?
//
//   sum_of_N / direct   the sum of N digits modulo ten, at once
//   sum_of_N / cot      the same by running sums
//   parity_of_N / cot   the parity of N bits by running parities, at a size of its own
//
// One model each. From `long_length` on, direct models are claimed to stay unsolved: there every learning rate of the
// grid counts, and they train as many steps as the models that write their steps down (the sequences have the same
// length, so the FLOPs are the same). Below it the learning rate is chosen by held-out loss. Prompts that a test asks
// are kept out of training wherever there are fewer than a million.
#include "experiments/study/study.h"
#include "experiments/tasks/parity.h"

namespace surtsey::experiments {
namespace {

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{16}, {16, 32, 64, 128, 256}},
                   .n_layer = {2},
                   .learning_rates = {{.16}, {.32, .16, .08}},
                   .steps = {1200, 2000, 10'000},
                   .batch_size = {64, 256},
                   .test_items = {1000, 1000, 10'000}}) {}
  Key<Integers> lengths = Key<Integers>(this, "lengths", {{2, 3, 4, 8}, {2, 3, 4, 6, 8, 12, 16}},
                                        "digits of the sums that direct models are asked", 2, 1000);
  Key<Integers> cot_lengths{this, "cot_lengths", {{8}, {2, 3, 4, 6, 8, 12, 16}}, "digits of the sums by steps", 2};
  Key<int32_t> long_length = Key<int32_t>(this, "long_length", {8},
                                          "from so many digits on direct models train long_steps, at every learning "
                                          "rate, and are claimed not to solve the task");
  Steps long_steps{
      this, "long_steps", {600, 2000, 10'000}, "optimizer steps of those, and of all models that write steps down"};
  // Never a grid: direct models get more tries.
  Rate cot_learning_rate{
      this, "cot_learning_rate", {.16}, "peak learning rate, times 1 / n_embd, of models that write steps down"};
  // The quick one: see configs/horizon/reference.toml.
  Key<double> held_out_share =
      Key<double>(this, "held_out_share", {.1, .25},
                  "share of the prompts that tests ask, where there are fewer than a million", 0, .5);
  Key<int32_t> parity_bits{this, "parity_bits", {16, 16, 32}, "bits of the parity by steps", 2, 1000};
  Key<int32_t> parity_width{this, "parity_width", {8}, "n_embd of its model", 2, kMostWidth};
  Steps parity_steps{this, "parity_steps", {1200, 1000, 5000}, "optimizer steps of its model"};
  Rate parity_rate{this, "parity_learning_rate", {.08}, "its peak learning rate, times 1 / parity_width"};
  Key<int32_t> short_length{this, "short_length", {3}, "claims: so many digits are summed at once", 2, 1000};
  Share solved{this, "solved", {.95}, "claims: exact match from which a task is solved"};
  Share unsolved{this, "unsolved", {.05}, "claims: exact match so far above guessing is unsolved"};
  Share seed_share{this, "seed_share", {.8}, "claims: share of the seeds that must sum the short length"};
};

void check_keys(const Keys& k) {
  check(has(*k.lengths, *k.short_length), "short_length: {} is not among lengths ({})", *k.short_length,
        k.text("lengths"));
  check_once(*k.lengths, "lengths");
  check_once(*k.cot_lengths, "cot_lengths");
}

std::string sum_name(int32_t length) { return fmt::format("sum_of_{}", length); }
std::string parity_name(const Keys& k) { return fmt::format("parity_of_{}", *k.parity_bits); }

void experiments(const Keys& k, Experiments& list) {
  const auto add_sum = [&](int32_t length, const char* arm, int32_t width) -> Experiment& {
    const auto task = std::make_shared<tasks::ChainTask>(
        tasks::ChainOptions{.length = length, .arms = {arm}, .held_out_share = k.held_out_share});
    return list.add(sum_name(length), arm, task, width);
  };
  const auto train_by_steps = [](Experiment& one, int32_t steps, double rate) {
    one.steps = steps;
    one.choose_rate = false;
    one.learning_rates = {rate / one.width};
  };
  for (const int32_t width : k.sweep.widths) {
    for (const int32_t length : *k.lengths) {
      Experiment& direct = add_sum(length, "direct", width);
      if (length < k.long_length) continue;
      direct.steps = k.long_steps;
      direct.choose_rate = false;
    }
    for (const int32_t length : *k.cot_lengths)
      train_by_steps(add_sum(length, "cot", width), k.long_steps, k.cot_learning_rate);
  }
  const std::shared_ptr<tasks::Task> parity = tasks::make_parity(k.parity_bits, {"cot"}, "parity_bits");
  train_by_steps(list.add(parity_name(k), "cot", parity, k.parity_width), k.parity_steps, k.parity_rate);
}

std::vector<ClaimRow> claims(const Keys& k) {
  std::vector<Pick> longer, chains;
  for (const int32_t length : *k.lengths)
    if (length >= k.long_length) longer.push_back(cells(sum_name(length), "direct").largest());
  for (const int32_t length : *k.cot_lengths) chains.push_back(cells(sum_name(length), "cot").largest());
  const Test solved = is(exact_match("cot"), at_least(k.solved));
  return {{"short",
           "Asked for the answer at once, the largest size sums {short_length} digits with exact match of at least "
           "{solved} in a share of at least {seed_share} of the seeds.",
           share_of_seeds(cells(sum_name(k.short_length), "direct").largest(),
                          is(exact_match("direct"), at_least(k.solved)), k.seed_share),
           "full"},
          {"long",
           "From {long_length} digits on, within the budget of the models that write steps down, it has exact match "
           "within {unsolved} of guessing in every seed at every learning rate of the grid.",
           every_seed(longer, is(exact_match("direct"), near_chance(k.unsolved)))},
          {"steps",
           "By steps the largest size sums {cot_lengths} digits with exact match of at least {solved} in every seed.",
           every_seed(chains, solved), "full"},
          {"parity",
           "By steps a model of width {parity_width} tells the parity of {parity_bits} bits with exact match of at "
           "least {solved} in every seed.",
           every_seed(cells(parity_name(k), "cot"), solved), "full"}};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"horizon", "How far without writing steps down",
             "Up to what length does a model add at once, and how far does the same size get by steps?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims},
    .caveats = {
        "A direct model that stays at chance does so within this budget: it is not shown that the task is impossible "
        "without steps.",
        "Lengths between the short one ({short_length}) and {long_length} are reported without a claim: there seeds "
        "and learning rates decide.",
        "Short sums have few prompts: two digits have a hundred, of which a share is asked and never trained on.",
        "Models that write steps down train at one learning rate, direct models at the whole grid: where that favours "
        "one side, it is the direct one."}};

}  // namespace surtsey::experiments
