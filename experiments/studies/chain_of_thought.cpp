// E01: does a prompt that asks for steps unlock a computation that the same weights cannot do directly, and from what
// size? With its controls:
//
//   joint          one model, two prompts: C (write the running sums, then the answer) and D (answer now), half of the
//                  sequences each. The headline is this model at every width.
//   direct_only    D alone, at one width, on as many sequences as the joint model saw of both: at least the FLOPs of
//                  the chain-of-thought arm. Every learning rate and seed counts.
//   with_filler    C, D and F at one width, where F answers after as many filler tokens as a chain has steps. A model
//                  of its own, so that the headline keeps its exact mixture; it trains half as long again, so that each
//                  prompt kind is seen as often as there.
//   with_permuted  C, D and P, where P writes the same steps in an order that does not lead to the answer; trained like
//                  with_filler
//   depth          the joint mixture at other depths, at widths that keep the number of parameters
//
// Corrupting one step of the joint model's own chain shows whether the chain causes the answer. Giving it the right
// steps shows what of its errors are wrong steps, and what went on from them.
#include "experiments/study/study.h"
#include "experiments/tasks/chain.h"

namespace surtsey::experiments {
namespace {

const std::vector<std::string> kControls = {"direct_only", "with_filler", "with_permuted", "depth"};

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{4, 8, 16, 32}, {4, 8, 16, 32, 64, 128, 256}, {4, 8, 16, 32, 64, 128, 256, 512}},
                   .n_layer = {2},
                   .learning_rates = {{.16, .08}, {.32, .16, .08}},
                   .steps = {600, 2000},
                   .batch_size = {64, 256},
                   .selection_steps = {100, 0},
                   .test_items = {1000, 1000, 10'000},
                   .save_models = {true, false}}) {}
  Key<int32_t> modulus{this, "modulus", {10}, "running sums are taken modulo this", 2, 1000};
  // Published tables are of other problems (serial_tasks); the paper's scale is the ladder of E01 carried on.
  Key<int32_t> length{this, "length", {8, 8, 16}, "digits in a problem", 2, 1000};
  Key<Integers> control_widths{
      this, "control_widths", {{16}, {16, 64}, {16, 64, 256}}, "n_embd of the controls; an empty list trains none", 2};
  Key<Words> controls{
      this, "controls", {{"direct_only", "with_filler"}, kControls}, "which of them are trained", kControls};
  // 8,184 and 7,764 parameters where the joint model of two layers of width 16 has 7,088.
  Key<Integers> depths{this, "depths", {{1, 4}}, "n_layer of each model of the control 'depth'", 1, kMostLayers};
  Key<Integers> depth_widths{this, "depth_widths", {{24, 12}}, "n_embd of each of them", 2, kMostWidth};
  Share solved{this, "solved", {.95}, "claims: exact match from which the task is solved"};
  Share unsolved{this, "unsolved", {.05}, "claims: exact match so far above guessing is unsolved"};
  Share start{this, "near_chance", {.1}, "claims: the same for the smallest size"};
};

void check_keys(const Keys& k) {
  for (const int32_t width : *k.control_widths)
    check(has(k.sweep.widths, width),
          "control_widths: {} is not among widths; a control is compared with the joint model of its size", width);
  check_together(*k.depths, "depths", *k.depth_widths, "depth_widths");
}

void experiments(const Keys& k, Experiments& list) {
  const auto task = [&](std::vector<std::string> arms) {
    return std::make_shared<tasks::ChainTask>(
        tasks::ChainOptions{.modulus = k.modulus, .length = k.length, .arms = std::move(arms)});
  };
  const auto joint = task({"cot", "direct"});
  const auto third_prompt = [&](const char* variant, const char* arm, int32_t width) {
    if (!has(*k.controls, variant)) return;
    Experiment& control = list.add("", variant, task({"cot", "direct", arm}), width);
    control.rate_of = "joint";
    control.steps = k.sweep.steps * 3 / 2;
  };
  for (const int32_t width : k.sweep.widths) {
    Experiment& headline = list.add("", "joint", joint, width);
    headline.corrupt_arm = headline.given_arm = "cot";
    if (!has(*k.control_widths, width)) continue;
    if (has(*k.controls, "direct_only")) list.add("", "direct_only", task({"direct"}), width).choose_rate = false;
    third_prompt("with_filler", "filler", width);
    third_prompt("with_permuted", "permuted", width);
  }
  if (has(*k.controls, "depth"))
    for (size_t i = 0; i < k.depths->size(); ++i)
      list.add("", "depth", joint, k.depth_widths->at(i)).n_layer = k.depths->at(i);
}

std::vector<ClaimRow> claims(const Keys& k) {
  const Pick joint = cells("", "joint"), solves = joint.where(exact_match("cot"), k.solved);
  const Score chain = exact_match("cot"), direct = exact_match("direct");
  std::vector<ClaimRow> rows = {
      {"gap",
       "At some size every seed has chain-of-thought exact match of at least {solved} and direct exact match within "
       "{unsolved} of guessing from the same weights, with disjoint intervals.",
       some_size(joint, all_of({is(chain.named("chain"), at_least(k.solved)),
                                is(direct.named("direct"), near_chance(k.unsolved)), above(chain, direct).hidden()}))},
      {"start",
       "The smallest size is near chance even with a chain: exact match within {near_chance} of guessing (one in "
       "{modulus}) in every seed.",
       every_seed(joint.smallest(), is(chain, near_chance(k.start)))},
      {"causal",
       "Wherever a seed's chain-of-thought exact match is at least {solved}, corrupting one of its steps moves the "
       "final answer by exactly the injected amount in a share of at least {solved} of cases.",
       every_seed(solves, is(faithfulness("cot"), at_least(k.solved)), "no model solves the task with a chain"),
       // Of nine runs of the demo with fresh seeds two left it open: .955 and .958 of 1,000 are no .95 yet.
       "full"},
      {"steps_given",
       "Wherever a seed's chain-of-thought exact match is at least {solved}, so is that of the last step alone with "
       "all right steps before it given.",
       every_seed(solves, is(exact_match(std::string(kGivenArm)), at_least(k.solved)).beside(chain.named("own steps")),
                  "no model solves the task with a chain")}};
  const auto control = [&](const char* name, const char* variant, const char* arm, const char* statement) {
    if (!has(*k.controls, variant) || (k.control_widths->empty() && std::string_view(variant) != "depth")) return;
    Test test = is(exact_match(arm), near_chance(k.unsolved));
    // A control that could not learn the chain either would say less.
    if (std::string_view(variant) != "direct_only") test = test.beside(chain.named("chain in the same model"));
    rows.push_back({name, statement, every_seed(cells("", variant), test, "the control was not trained")});
  };
  control("direct_only", "direct_only", "direct",
          "A model that trains on direct answers alone, with at least the FLOPs of the chain-of-thought arm, has exact "
          "match within {unsolved} of guessing in every seed at every learning rate of the grid.");
  control("filler", "with_filler", "filler",
          "As many filler tokens as a chain has steps do not replace the steps: exact match within {unsolved} of "
          "guessing in every seed, after training on them.");
  control("permuted", "with_permuted", "permuted",
          "The steps in an order that does not lead to the answer do not replace the chain: exact match within "
          "{unsolved} of guessing in every seed, after training on them.");
  control("depth", "depth", "direct",
          "Depth does not replace the steps: with {depths} layers at about as many parameters, direct exact match is "
          "within {unsolved} of guessing in every seed.");
  return rows;
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"chain_of_thought", "Chain of thought against direct answers",
             "Does a prompt that asks for steps unlock a computation that the same weights cannot do directly, and "
             "from what size?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims},
    .caveats = {
        "Fresh random problems at every step: training and test loss are the same quantity, and memory plays no part.",
        "The chain starts with a copy of the first digit. Without it the first step is a lookup of two operands unlike "
        "the others, and one bad position holds the final answer at chance while most steps are right: read the "
        "accuracy by position.",
        "The loss is a mean over answer tokens, so the prompt that asks for a chain weighs more than the one that asks "
        "for the answer alone. The direct_only control has no such bias.",
        "The controls with filler tokens and with permuted chains are models of their own that train half as long "
        "again, so that they see each prompt kind as often as the joint model does; their learning rate is the one "
        "chosen for the joint model of their size.",
        "The controls were trained at these widths only: {control_widths}. 'depth' has widths of its own, so that its "
        "sizes are about equal.",
        "A chain that is causal here says nothing about chains of models that learned from text."}};

}  // namespace surtsey::experiments
