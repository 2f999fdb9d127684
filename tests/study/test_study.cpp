// The frame of a study: command lines, refusals that leave earlier results whole, resume.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"
#include "experiments/study/attempt.h"
#include "experiments/study/plan.h"
#include "experiments/study/rules.h"
#include "experiments/study/shards.h"
#include "experiments/study/study.h"
#include "experiments/tasks/chain.h"
#include "tests/support/folder.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

using namespace surtsey;
using namespace surtsey::experiments;

namespace {

namespace fs = std::filesystem;

// Interrupts the run, once there is a file `stop_at`, when batch 75 of 80 is made: the ring is 64
// batches ahead at most, so some steps are done and some are not.
class TinyTask : public tasks::ChainTask {
 public:
  TinyTask() : ChainTask({.modulus = 5, .length = 3, .held_out_share = 0}) {}
  fs::path stop_at;

  void write_sample(tasks::Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override {
    const bool late = split == tasks::Split::kTrain && step == 75 && !stop_at.empty();
    if (late && fs::exists(stop_at)) set_interrupted(true);
    ChainTask::write_sample(split, seed, step, index, tokens, targets, weights);
  }
};

// Two sizes of a small task; a control at half the steps, and another budget, take the rate that the first has chosen.
struct TinyKeys : StudyKeys {
  TinyKeys()
      : StudyKeys({.widths = {{4, 8}},
                   .n_layer = {2},
                   .learning_rates = {{.16, .08}},
                   .steps = {80},
                   .batch_size = {16},
                   .seeds = {{1, 2}},
                   .selection_steps = {20},
                   .test_items = {30},
                   .log_interval = {10}}) {}
  Share learned{this, "learned", {.5, .6}, "claims: exact match from which a model has learned"};
  Key<bool> follow_ups{this, "follow_ups", {false}, "train the control and the other budget"};
  TinyTask task;
};

void tiny_experiments(const TinyKeys& k, Experiments& list) {
  for (const int32_t width : k.sweep.widths) {
    Experiment& one = list.add("", "joint", &k.task, width);
    one.corrupt_arm = one.given_arm = "cot";
    one.bits = {2, 8};
    if (k.follow_ups) one.budgets = {{.share = .5}};
    if (!k.follow_ups) continue;
    Experiment& control = list.add("", "control", &k.task, width);
    control.rate_of = "joint";
    control.steps = 40;
  }
}

std::vector<ClaimRow> tiny_claims(const TinyKeys& k) {
  return {
      {"scored", "Every model was scored.",
       every_seed(cells("", "joint"),
                  {{}, [](const Cell& cell, double) { return cell.arms.empty() ? Verdict::kFail : Verdict::kPass; }})},
      {"learned", "Every model is right in a share of at least {learned}.",
       every_seed(cells("", "joint"), is(exact_match("cot"), at_least(k.learned)))}};
}

const StudyOf<TinyKeys> kTinyStudy = {.head = {"tiny", "A tiny study", "Does the frame hold?"},
                                      .parts = {.experiments = tiny_experiments, .claims = tiny_claims},
                                      .caveats = {"Tiny: {widths}."}};

int run_tiny(TinyKeys& keys, std::vector<std::string> words) {
  words.insert(words.begin(), "tiny");
  words.insert(words.end(), {"--ensemble_size=2", "--validation_items=20"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return run_study(static_cast<int>(argv.size()), argv.data(), bind(kTinyStudy, keys));
}

}  // namespace

TEST_CASE("study: a resumed run ends with the numbers of an uninterrupted one") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const tests::Folder scratch;
  const std::string whole = (scratch / "whole").string();
  const std::string parts = (scratch / "parts").string();
  TinyKeys study;
  REQUIRE(run_tiny(study, {"--out", whole}) == 0);

  TinyKeys stopped;
  stopped.task.stop_at = fs::path(parts) / "cells.json";
  REQUIRE(run_tiny(stopped, {"--out", parts}) == kInterruptedStatus);
  set_interrupted(false);
  REQUIRE_FALSE(fs::exists(fs::path(parts) / "result.json"));
  // Without --resume a directory with lines of a run is left alone.
  const std::string metrics = tests::slurp(fs::path(parts) / "metrics.jsonl");
  REQUIRE_FALSE(metrics.empty());
  REQUIRE(run_tiny(study, {"--out", parts}) == 1);
  REQUIRE(tests::slurp(fs::path(parts) / "metrics.jsonl") == metrics);
  REQUIRE(run_tiny(study, {"--out", parts, "--resume"}) == 0);

  const StudyResult first = load_result(fs::path(whole) / "result.json");
  const StudyResult second = load_result(fs::path(parts) / "result.json");
  // 2 sizes of 2 rates: the selection seed, and 2 seeds as trained, in 2 bits and in 8.
  REQUIRE(first.cells.size() == 2 * 2 * (1 + 2 * 3));
  REQUIRE(second.cells.size() == first.cells.size());
  for (size_t i = 0; i < first.cells.size(); ++i) {
    const Cell& a = first.cells[i];
    const Cell& b = second.cells[i];
    CAPTURE(a.cell);
    REQUIRE(a.cell == b.cell);
    REQUIRE(a.selected == b.selected);
    REQUIRE(a.validation_loss == b.validation_loss);
    REQUIRE(a.validation_only == (a.seed == 1000));
    // A model is trained once, however often its weights are rounded.
    REQUIRE((a.flops > 0) == (a.variant == "joint"));
    REQUIRE(a.flops == b.flops);
    REQUIRE(a.steps == (a.validation_only ? 20 : 80));
    REQUIRE(a.arms.size() == (a.validation_only ? 0u : 3u));
    REQUIRE(a.faithfulness == b.faithfulness);
    for (size_t arm = 0; arm < a.arms.size(); ++arm) {
      REQUIRE(a.arms[arm].n == 30);
      REQUIRE(a.arms[arm].exact_match == b.arms[arm].exact_match);
      REQUIRE(a.arms[arm].loss_per_token == b.arms[arm].loss_per_token);
    }
  }
  for (const int32_t width : {4, 8}) {
    int64_t chosen = 0;
    for (const Cell& cell : first.cells) chosen += cell.n_embd == width && cell.selected ? 1 : 0;
    REQUIRE(chosen == 1 + 2 * 3);  // one learning rate of the two, in every seed
  }
  // Rounded weights are asked again: 8 bits change the loss a little, 2 bits more.
  for (const Cell& trained : first.cells) {
    if (trained.variant != "joint" || trained.validation_only) continue;
    CAPTURE(trained.cell);
    std::map<std::string, double> change;
    for (const Cell& cell : first.cells) {
      if (cell.n_embd != trained.n_embd || cell.seed != trained.seed || cell.variant == "joint" ||
          cell.learning_rate != trained.learning_rate) {
        continue;
      }
      REQUIRE(cell.selected == trained.selected);
      REQUIRE(cell.train_seconds == 0);
      change[cell.variant] = std::abs(*cell.validation_loss - *trained.validation_loss);
    }
    REQUIRE(change.size() == 2);
    REQUIRE(change.at("int8") > 0);
    REQUIRE(change.at("int8") < 0.01);
    REQUIRE(change.at("int2") > change.at("int8"));
  }
  for (const std::string& directory : {whole, parts}) {
    const fs::path run = directory;
    const auto samples = load_samples(run / "samples.jsonl");
    REQUIRE(samples.size() == 8 * 3 * 30 * 4);
    // With the steps given the last symbol alone is asked, after the same prompt and right chain.
    std::map<std::pair<std::string, int64_t>, const SampleLine*> chains;
    int64_t given = 0;
    for (const SampleLine& line : samples) {
      if (line.arm == "cot") chains[{line.cell, line.index}] = &line;
      if (line.arm != kGivenArm) continue;
      const SampleLine& chain = *chains.at({line.cell, line.index});
      REQUIRE(line.prompt + " " + line.target == chain.prompt + " " + chain.target);
      REQUIRE(line.target.find(' ') == std::string::npos);
      REQUIRE(*line.nll <= *chain.nll + 1e-4);  // a part of the loss of the whole chain
      ++given;
    }
    REQUIRE(given == 8 * 3 * 30);
    REQUIRE(disagreements(load_result(run / "result.json"), samples).empty());
    REQUIRE(load_metrics(run / "metrics.jsonl").size() == 8 * 8 + 4 * 2);
    for (const char* file : {"config.toml", "env.json", "report.html"}) {
      REQUIRE(fs::file_size(run / file) > 0);
    }
    REQUIRE_FALSE(fs::exists(run / "cells.json"));
  }
  // Claims stood in the configuration before the run; two seeds demonstrate.
  const std::string declared = tests::slurp(fs::path(whole) / "config.toml");
  REQUIRE(declared.find("claims = [\"scored\", \"learned\"]") != std::string::npos);
  REQUIRE(declared.find("learned: Every model is right in a share of at least 0.5") != std::string::npos);
  REQUIRE(first.claims.size() == 2);
  REQUIRE(first.claims[0].verdict == Verdict::kPass);
  for (const Claim& claim : first.claims) {
    REQUIRE(claim.seeds == 2);
    REQUIRE(claim.demonstration);
    REQUIRE(claim.confidence >= 0.95);
  }

  // The plan says beforehand what was then trained, in packs of two.
  engine::Device device = tests::open_test_device();
  const StudyPlan plan = plan_study(bind(kTinyStudy, study), device);
  REQUIRE(plan.packs.size() == 6);
  REQUIRE(plan.cells() == 12);
  double flops = 0;
  std::vector<Cell> trained;
  std::copy_if(first.cells.begin(), first.cells.end(), std::back_inserter(trained),
               [](const Cell& cell) { return cell.variant == "joint"; });
  REQUIRE(trained.size() == 12);
  for (size_t i = 0; i < trained.size(); ++i) {
    const PackPlan& pack = plan.packs[i / 2];
    flops += trained[i].flops;
    REQUIRE(pack.cost.parameters == trained[i].parameters);
    REQUIRE(pack.steps == trained[i].steps);
    REQUIRE(pack.selecting == trained[i].validation_only);
    REQUIRE(pack.cost.bytes > 0);
    REQUIRE(pack.expected_seconds > 0);
    if (i % 2 == 0) REQUIRE(pack.cell == trained[i].cell);
  }
  REQUIRE(std::abs(plan.flops() - flops) < 1e-9 * flops);
  const std::string table = plan_text(plan, device.info());
  REQUIRE(table.find("12 models in 6 packs") != std::string::npos);
  REQUIRE(std::count(table.begin(), table.end(), '\n') == 9);

  // Three steps of each size, by the study's own kernels.
  const std::vector<ModelTry> tries = try_study(bind(kTinyStudy, study), device);
  REQUIRE(tries.size() == 2);
  for (const ModelTry& one : tries) {
    REQUIRE(one.losses.size() == kTrySteps);
    REQUIRE(one.bytes > 0);
    for (const double loss : one.losses) REQUIRE((loss > 0 && loss < 20));
  }
  REQUIRE(tries[0].parameters < tries[1].parameters);
  REQUIRE(try_text(tries).find("2 models took 3 steps") != std::string::npos);

  // A finished run is left alone, resumes to itself, and refuses other settings.
  const std::string before = tests::slurp(fs::path(whole) / "samples.jsonl");
  REQUIRE(run_tiny(study, {"--out", whole}) == 1);
  REQUIRE(run_tiny(study, {"--out", whole, "--resume", "--steps=81"}) == 1);
  REQUIRE(run_tiny(study, {"--out", whole, "--resume", "--claims=scored"}) == 1);
  REQUIRE(run_tiny(study, {"--out", whole, "--resume"}) == 0);
  REQUIRE(tests::slurp(fs::path(whole) / "samples.jsonl") == before);
}

TEST_CASE("study: wrong command lines end with a status and leave no directory") {
  const tests::Folder scratch;
  const fs::path out = scratch / "run";
  TinyKeys study;
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--out", out.string()});
    return run_tiny(study, words);
  };
  REQUIRE(run({"plan"}) == 0);
  REQUIRE(run({"plan", "--steps=0"}) == 1);
  REQUIRE(run({"plan", "--no-timing"}) == 0);
  REQUIRE(run({"try", "--steps=0"}) == 1);
  REQUIRE(run({"plam"}) == 2);
  REQUIRE(run({"work"}) == 1);
  REQUIRE(run({"collect"}) == 1);
  REQUIRE(run({"--shards=0"}) == 2);
  REQUIRE(run({"--scale", "quik"}) == 2);
  REQUIRE(run({"--scale"}) != 0);
  REQUIRE(run({"--step=4"}) != 0);
  REQUIRE(run({"--steps=four"}) != 0);
  REQUIRE(run({"--steps=0"}) != 0);
  REQUIRE(run({"--seeds", "1,1"}) != 0);
  REQUIRE(run({"--claims=scord"}) != 0);
  REQUIRE(run({"--claims=scored,scored"}) != 0);
  REQUIRE(run({"--error_rate=0"}) != 0);
  REQUIRE(run({"--seeds", "1000"}) != 0);
  REQUIRE(run({"--config", (scratch / "none.toml").string()}) != 0);
  REQUIRE(run({"--device", "no such device"}) != 0);
  REQUIRE_FALSE(fs::exists(out));
}

TEST_CASE("study: packs that are worked off one by one, in any order, give the files of the plain run") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const tests::Folder scratch;
  const std::string whole = (scratch / "whole").string(), shards = (scratch / "shards").string();
  TinyKeys study;
  const std::vector<std::string> keys = {"--follow_ups=true", "--widths=4"};
  const auto run = [&](std::vector<std::string> words) {
    const bool plain = words.empty();
    if (plain || words[0] == "shard") words.insert(words.end(), keys.begin(), keys.end());
    words.insert(words.end(), {"--out", plain ? whole : shards});
    return run_tiny(study, words);
  };
  REQUIRE(run({}) == 0);
  REQUIRE(run({"shard", "--no-timing"}) == 0);
  // The last pack waits for those that choose its rate, and has them run.
  const SweepDirectory directory = SweepDirectory::open(shards);
  REQUIRE(directory.study().name == "tiny");
  REQUIRE(directory.packs().size() == 5);  // one that chooses, two of the size, a control, a budget
  REQUIRE(directory.packs().back().waits_for.size() == 1);
  REQUIRE(run({"collect"}) == 1);
  REQUIRE(run({"work", "--index=4"}) == 0);
  size_t finished = 0;
  for (const SweepPack& pack : directory.packs()) finished += directory.result(pack) ? 1 : 0;
  REQUIRE(finished == 2);
  REQUIRE(run({"work"}) == 0);
  REQUIRE(run({"collect"}) == 0);
  CHECK(tests::slurp(fs::path(shards) / "samples.jsonl") == tests::slurp(fs::path(whole) / "samples.jsonl"));
  // All but when a line was written.
  const auto metrics = [&](const std::string& folder) {
    return std::regex_replace(tests::slurp(fs::path(folder) / "metrics.jsonl"), std::regex(",\"time\":[0-9.e+]+"), "");
  };
  CHECK(metrics(shards) == metrics(whole));
  const StudyResult plain = load_result(fs::path(whole) / "result.json");
  const StudyResult collected = load_result(fs::path(shards) / "result.json");
  REQUIRE(collected.cells.size() == plain.cells.size());
  CHECK(sweep_table_csv(collected) == sweep_table_csv(plain));
  for (size_t i = 0; i < plain.cells.size(); ++i) CHECK(collected.cells[i].selected == plain.cells[i].selected);
  REQUIRE(collected.claims.size() == plain.claims.size());
  for (size_t i = 0; i < plain.claims.size(); ++i) {
    CHECK(collected.claims[i].verdict == plain.claims[i].verdict);
    CHECK(collected.claims[i].evidence == plain.claims[i].evidence);
  }
  // Follow-ups have the learning rate that was chosen.
  double rate = 0;
  for (const Cell& cell : plain.cells)
    if (cell.variant == "joint" && cell.selected) rate = cell.learning_rate;
  for (const char* variant : {"control", "joint, 0.5 of the steps"}) {
    const Cells own = cells("", variant).of(plain);
    REQUIRE(own.size() == 2);
    for (const Cell* cell : own) CHECK((cell->learning_rate == rate && cell->steps == 40));
  }
}

// What the README of experiments shows, as who follows it meets it.
TEST_CASE("the study of the README plans, trains, judges and draws", "[study]") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const tests::Folder folder;
  const std::string program = (fs::path(SURTSEY_BUILD_ROOT) / "tests" / "sums").string();
  INFO("build tests/sums before this test");
  REQUIRE(fs::exists(program));
  const tests::Outcome plan = tests::run_program(folder, program, "plan --no-timing");
  CHECK(plan.out.find("sum_of_8-cot-d16") != std::string::npos);
  const tests::Outcome run = tests::run_program(
      folder, program,
      fmt::format("--out {} --widths=8 --lengths=2,3 --steps=20 --batch_size=16 --test_items=50 --seeds=0",
                  (folder / "run").string()));
  CAPTURE(run.err);
  REQUIRE(run.status == 0);
  const StudyResult result = load_result(folder / "run" / "result.json");
  CHECK(result.cells.size() == 2);
  REQUIRE(result.claims.size() == 1);
  CHECK(result.claims[0].statement ==
        "The largest size sums 2, 3 digits with exact match of at least 0.95 in every seed.");
  REQUIRE(result.figures.size() == 1);
  CHECK(result.figures[0].series[0].points.size() == 2);
}

// One learning rate is far too high: the run ends, names that model, and judges the other.
TEST_CASE("a study with a model that diverged ends with its report, and judges the others", "[study][diverged]") {
  {
    const engine::Device device = tests::open_test_device();
  }
  struct Keys : StudyKeys {
    Keys()
        : StudyKeys({.widths = {{8}},
                     .n_layer = {1},
                     .learning_rates = {{.16, 1e15}},
                     .steps = {80},
                     .batch_size = {16},
                     .seeds = {{1}},
                     .test_items = {30}}) {}
    TinyTask task;
  };
  const StudyOf<Keys> of = {
      .head = {"lost", "A lost model", "Is it told?"},
      .parts = {.experiments =
                    [](const Keys& k, Experiments& list) {
                      list.add("", "grid", &k.task, 8).choose_rate = false;  // both rates count
                    },
                .claims =
                    [](const Keys&) {
                      return std::vector<ClaimRow>{{"every", "Every model has scores.",
                                                    every_seed(cells("", "grid"), is(exact_match("cot"), at_least(0)))},
                                                   {"some", "Some are right at times.",
                                                    every_seed(cells("", "grid").where(exact_match("cot"), 0),
                                                               is(exact_match("cot"), at_least(0)))}};
                    },
                .figures =
                    [](const Keys&, const StudyResult& result) {
                      Curves curves("Scores", "Of each rate.", {"rate"}, {"exact match"});
                      curves.add("models", cells("", "grid").of(result), &Cell::learning_rate, exact_match("cot"));
                      return std::vector<Figure>{curves.figure()};
                    }}};
  const tests::Folder folder;
  const std::string out = (folder / "run").string();
  std::vector<std::string> words = {"lost", "--out", out, "--validation_items=20"};
  const auto run = [&] {
    Keys keys;
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    return run_study(static_cast<int>(argv.size()), argv.data(), bind(of, keys));
  };
  REQUIRE(run() == 0);
  words.push_back("--resume");  // what is read again from a file has diverged too
  REQUIRE(run() == 0);
  const StudyResult result = load_result(fs::path(out) / "result.json");
  REQUIRE(result.cells.size() == 2);
  CHECK_FALSE(diverged(result.cells[0]));
  CHECK(diverged(result.cells[1]));
  REQUIRE(result.claims.size() == 2);
  CHECK(result.claims[0].verdict == Verdict::kInconclusive);
  CHECK(result.claims[0].evidence.find("diverged") != std::string::npos);
  CHECK(result.claims[1].verdict == Verdict::kPass);
  CHECK(std::ranges::any_of(result.caveats, [&](const std::string& one) {
    return one.starts_with("1 of 2 models diverged") && one.find(result.cells[1].cell) != std::string::npos;
  }));
  REQUIRE(result.figures.size() == 1);
  CHECK(result.figures[0].series[0].points.size() == 1);
  CHECK(fs::exists(fs::path(out) / "report.html"));
}
