// E18, the part on quantization: how many bits do the weights of a trained model need?
//
// Models of E01 (one model, two prompts: the chain of running sums, and the answer alone) are trained in f32, or taken
// from a run of chain_of_thought that kept its models, which costs no training:
//
//   build/experiments/compression --trained=runs/chain_of_thought
//
// Then every matrix but the embeddings is rounded in place, symmetric, to the nearest, one scale per output channel
// (quantize.h), and asked the same questions. The variants of a model are "f32" and "int8" .. "int2"; all numbers of
// claims are of the prompt for a chain.
//
// Loss of exact match is a difference within a seed, on the same items; the seed is the unit, so claims on it rest on t
// intervals over seeds.
#include "experiments/report/chart.h"
#include "experiments/study/study.h"
#include "experiments/tasks/chain.h"

namespace surtsey::experiments {
namespace {

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{32}, {16, 32, 64, 128, 256}, {16, 32, 64, 128, 256, 512}},
                   .n_layer = {2, 2, 4},
                   .learning_rates = {{.16}, {.32, .16, .08}},
                   .steps = {600, 2000},
                   .batch_size = {64, 256},
                   .test_items = {1000, 1000, 10'000}}) {}
  Key<std::string> trained =
      Key<std::string>(this, "trained", {""},
                       "a run of chain_of_thought with save_models, whose joint models of the chosen learning rate are "
                       "rounded instead: widths count, what else is said of training does not");
  Key<int32_t> modulus{this, "modulus", {10}, "running sums are taken modulo this", 2, 1000};
  Key<int32_t> length{this, "length", {8}, "digits in a problem", 2, 1000};
  Key<Integers> bits{this, "bits", {{8, 6, 5, 4, 3, 2}, {8, 7, 6, 5, 4, 3, 2}}, "bits of a weight after rounding",
                     2,    8};
  Share solved{this, "solved", {.95}, "claims: exact match from which the task is solved"};
  Key<int32_t> lossless_bits{this, "lossless_bits", {5}, "claims: so many bits lose nothing", 2, 8};
  Share lossless{this, "lossless", {.01}, "claims: largest loss of exact match that is nothing"};
  Key<int32_t> lossy_bits{this, "lossy_bits", {3}, "claims: so many bits lose much", 2, 8};
  Share lossy{this, "lossy", {.2}, "claims: smallest loss of exact match that is much"};
  Key<int32_t> destroyed_bits{this, "destroyed_bits", {2}, "claims: so many bits leave guessing", 2, 8};
  Share chance_margin{this, "chance_margin", {.05}, "claims: exact match so far above chance is still at chance"};
};

void check_keys(const Keys& k) {
  check_once(*k.bits, "bits");
  for (const char* key : {"lossless_bits", "lossy_bits", "destroyed_bits"})
    check(has(*k.bits, std::stoi(k.text(key))), "{}: {} is not among bits ({})", key, k.text(key), k.text("bits"));
}

void experiments(const Keys& k, Experiments& list) {
  const auto task = std::make_shared<tasks::ChainTask>(tasks::ChainOptions{.modulus = k.modulus, .length = k.length});
  for (const int32_t width : k.sweep.widths) {
    Experiment& one = list.add("", "f32", task, width);
    one.bits = k.bits;
    one.trained_by = k.trained;
    one.trained_variant = "joint";
  }
}

std::vector<ClaimRow> claims(const Keys& k) {
  const Score match = exact_match("cot");
  const auto rounded = [](int32_t bits) { return cells("", rounded_variant(bits)).largest(); };
  const Pick whole = cells("", "f32").largest();
  const auto lost = [&](int32_t bits, Bound bound) {
    return mean_difference(whole, rounded(bits), match, bound, {loss("cot").named("loss")});
  };
  return {
      {"trained",
       "Before rounding, every seed of the largest size has exact match of at least {solved} with a chain of thought.",
       every_seed(whole, is(match, at_least(k.solved)))},
      {"lossless", "Weights of {lossless_bits} bits lose at most {lossless} of exact match in the mean over seeds.",
       lost(k.lossless_bits, at_most(k.lossless))},
      {"lossy", "Weights of {lossy_bits} bits lose at least {lossy} of exact match in the mean over seeds.",
       lost(k.lossy_bits, at_least(k.lossy)), "full"},
      {"destroyed",
       "Weights of {destroyed_bits} bits leave exact match within {chance_margin} of chance in every seed.",
       every_seed(rounded(k.destroyed_bits), is(match, near_chance(k.chance_margin)))}};
}

// For each size the mean over seeds, and the seeds themselves.
Figure against_bits(Curves curves, const Keys& k, const StudyResult& result, const Score& score) {
  const auto whole = by_size(cells("", "f32").of(result));
  for (const auto& [parameters, models] : whole)
    curves.reference(fmt::format("f32, {}", short_number(double(parameters))), mean_value(models, score));
  for (const auto& [parameters, models] : whole) {
    const std::string size = short_number(double(parameters)) + " parameters";
    curves.line(size + ", mean over seeds", {.marks = false});
    for (const int32_t bits : *k.bits) {
      const Cells rounded = by_size(cells("", rounded_variant(bits)).of(result))[parameters];
      curves.add(size + ", mean over seeds", rounded, bits, score);
      for (const Cell* cell : rounded) {
        const std::string seed = fmt::format("{}, seed {}", size, cell->seed);
        curves.line(seed, {.joined = false});
        curves.add(seed, {cell}, bits, score);
      }
    }
  }
  return curves.figure();
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  const FigureAxis bits{"bits of a weight"};
  const Curves matches("Exact match with a chain of thought against bits of a weight",
                       "Every model once a number of bits: rounded from what was trained.", {"bits of a weight"},
                       {"exact match of the final answer"});
  const Curves losses("Loss of a chain of thought against bits of a weight",
                      "Teacher-forced, over the answer tokens of the test items.", {"bits of a weight"},
                      {"nats per answer token", true});
  return {against_bits(matches, k, result, exact_match("cot")), against_bits(losses, k, result, loss("cot"))};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head =
        {"compression", "Weights of fewer bits",
         "How far can the weights of a trained model be rounded before the chain of thought that they carry breaks?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats = {"The arithmetic stays f32 and weights stay in memory as f32: this shows what precision costs, not what "
                "it saves.",
                "Weights are rounded after training, with no calibration data and no training at low precision; either "
                "would lose less.",
                "A cell of rounded weights repeats parameters, steps and tokens of the training that it comes from, "
                "and counts no FLOPs: they are those of the cell that was trained.",
                "Claims are about the largest size. Chance is one in {modulus} for a sum modulo {modulus}."}};

}  // namespace surtsey::experiments
