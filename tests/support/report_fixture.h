// A made-up study for tests of results and reports: a chain task answered by imaginary models whose
// steps are right with a probability that grows with size. Arms as in the real study.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "experiments/report/report.h"
#include "experiments/tasks/chain.h"
#include "graph/random.h"

namespace surtsey::tests {

inline experiments::ReportInput make_report_fixture(int32_t items_per_arm) {
  using namespace surtsey::experiments;
  tasks::ChainOptions options;
  options.arms = {"cot", "direct", "filler"};
  const tasks::ChainTask task(options);
  ReportInput input;
  StudyResult& study = input.result;
  study.study = "chain_of_thought";
  study.scale = "quick";
  study.title = "Chain of thought against direct answers";
  study.question =
      "Does a prompt that asks for steps unlock a computation that the same weights cannot do "
      "directly, and from what size?";
  study.device = {{"device", "llvmpipe (LLVM 15.0.6, 256 bits)"}, {"driver", "Mesa 25.0.7"}};
  study.settings = {{"steps", "600"}, {"batch", "192"}};
  study.demonstration = true;
  study.figures = {{"Envelope",
                    "Least loss at each budget.",
                    {"training FLOPs", true},
                    {"nats", false},
                    {{"runs", {{1e9, 2.25, 2, 2.5}, {1e10, 2.125}, {-1, 2}}}, {"fit", {{1e9, 2}}, false}},
                    {{"entropy", 1.75}}}};
  study.caveats = {"Fresh random problems at every step: training and test loss are the same."};
  input.environment = {{"commit", "0123456789ab"}};

  struct Size {
    int32_t width;
    int64_t parameters;
    double step;  // probability of a right step
  };
  const std::vector<Size> sizes = {{4, 700, 0.3}, {8, 2040, 0.8}, {16, 7152, 0.9995}, {32, 26560, 1}};
  uint32_t draw = 0;
  const auto uniform = [&] { return graph::random_uniform(99, 1, draw++); };
  for (const Size& size : sizes) {
    for (uint32_t seed = 0; seed < 2; ++seed) {
      for (uint32_t rate = 0; rate < 2; ++rate) {
        Cell cell;
        cell.cell = "joint_d" + std::to_string(size.width) + "_s" + std::to_string(seed) + "_r" + std::to_string(rate);
        cell.parameters = size.parameters;
        cell.n_layer = 2;
        cell.n_embd = size.width;
        cell.seed = seed;
        cell.learning_rate = (rate == 0 ? 0.08 : 0.16) / size.width;
        cell.steps = 600;
        cell.tokens = 600 * 192 * 18;
        cell.flops = 6.4 * static_cast<double>(size.parameters * cell.tokens);
        cell.train_seconds = 3.5 + size.width / 2.0;
        cell.variant = "joint";
        cell.chance = task.chance();
        cell.selected = rate == 1;
        const double step = size.step * (rate == 0 ? 0.85 : 1) - (seed == 1 ? 0.02 : 0) * (size.step < 0.9 ? 1 : 0);
        cell.validation_loss = 2.3 * (1 - step) + 0.001;
        for (int32_t arm = 0; arm < 3; ++arm) {
          const auto items = task.test_items(arm, items_per_arm, 5);
          for (size_t i = 0; i < items.size(); ++i) {
            std::vector<int32_t> response(items[i].answer().begin(), items[i].answer().end());
            int32_t error = 0;
            for (size_t p = 0; p < response.size(); ++p) {
              const double right = arm == 0 ? step : p + 1 < response.size() ? 1 : 0;
              if (uniform() > right) error = static_cast<int32_t>(uniform() * 10);
              if (response[p] < 10) response[p] = (response[p] + error) % 10;
            }
            const auto score = task.score(items[i], response);
            SampleLine line{.cell = cell.cell, .arm = task.arms()[static_cast<size_t>(arm)]};
            line.index = static_cast<int64_t>(i);
            line.prompt = task.decode(items[i].prompt());
            line.target = task.decode(items[i].answer());
            line.response = task.decode(response);
            line.correct = score.final_correct;
            line.chain_correct = score.chain_correct;
            line.nll = (arm == 0 ? *cell.validation_loss * 8 : 2.3) * (0.9 + 0.2 * uniform());
            input.samples.push_back(line);
            if (arm != 0) continue;
            const auto moved = task.corrupt(5, static_cast<uint32_t>(i), items[i], response);
            const bool follows = uniform() < std::pow(step, 4);
            SampleLine after = line;
            after.arm = kCorruptedArm;
            after.prompt += " " + task.decode(moved.forced);
            const int32_t expected = moved.expected_final_token;
            const int32_t came = follows ? expected : (expected + 3) % 10;
            after.target = task.decode(std::vector{expected});
            after.response = task.decode(std::vector{came});
            after.correct = after.chain_correct = follows;
            after.nll.reset();
            input.samples.push_back(after);
          }
        }
        study.cells.push_back(cell);
        for (int64_t at = 20; at <= 600; at += 20) {
          const double progress = static_cast<double>(at) / 600;
          input.metrics.push_back(
              {cell.cell, at, at * 192 * 18, {{"loss", 2.3 - (2.3 - *cell.validation_loss) * progress}}});
        }
      }
    }
  }
  for (const Recomputed& again : recompute(input.samples)) {
    for (Cell& cell : study.cells) {
      if (cell.cell != again.cell) continue;
      cell.arms = again.arms;
      cell.faithfulness = again.faithfulness;
    }
  }
  study.claims = {{"gap", "At some size every seed has chain-of-thought exact match >= .95 and direct <= .15.",
                   Verdict::kPass, "d=16: chain 1.000 and .998, direct .104 and .096"},
                  {"start", "The smallest size answers near chance with a chain.", Verdict::kInconclusive,
                   "d=4: .131 and .120, intervals reach .20"},
                  {"causal", "Corrupting a step moves the answer by the injected amount in >= 95% of cases.",
                   Verdict::kFail, "d=8: .38 <of> items & \"quotes\""}};
  return input;
}

}  // namespace surtsey::tests
