// build/experiments/throughput as a user meets it: what it plans, writes, and measures only once.
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "experiments/results/record.h"
#include "experiments/results/result.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

using namespace surtsey;
using tests::Folder;
using tests::Outcome;

namespace {

namespace fs = std::filesystem;

constexpr const char* kTinyKeys =
    "--models='V9 T8 L1 C8 H2 B2' --members=1,3 --dtypes=f32,f16 --repetitions=2 "
    "--sample_gflop=0.001 ";

Outcome throughput(const Folder& folder, const std::string& arguments) {
  const fs::path program = fs::path(SURTSEY_BUILD_ROOT) / "experiments" / "throughput";
  INFO("build the studies before this test: " << program);
  REQUIRE(fs::exists(program));
  return tests::run_program(folder, program.string(), arguments);
}

std::vector<std::string> file_lines(const fs::path& path) {
  std::vector<std::string> lines;
  std::istringstream text(tests::slurp(path));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("throughput: settings that cannot be are one message") {
  const Folder folder;
  const std::pair<const char*, const char*> cases[] = {{"--models=27k", "none of 27.5k, 104k"},
                                                       {"--models='V9 T8 L1 C8 H2'", "sequences"},
                                                       {"--models='V9 T8 L1 C8 H2 B2 B3'", "sequences"},
                                                       {"--models='V9 T8 L1 C8x H2 B2'", "sequences"},
                                                       {"--models='V9 T8 L1 C9 H2 B2'", "does not divide n_embd 9"},
                                                       {"--members=2,2", "members: 2 is there twice"},
                                                       {"--members=0", "members"},
                                                       {"--dtypes=f64", "f32, bf16, f16"},
                                                       {"--repetitions=0", "repetitions"}};
  for (const auto& [arguments, expected] : cases) {
    const Outcome outcome = throughput(folder, fmt::format("{} --out {}", arguments, (folder / "run").string()));
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.status == 1);
    CHECK(outcome.err.find(expected) != std::string::npos);
    CHECK_FALSE(fs::exists(folder / "run"));
  }
}

TEST_CASE("throughput: an entry a cell, measured once; a copied configuration is the same run") {
  size_t dtypes = 1;
  {
    const engine::Device device = tests::open_test_device();
    if (device.target().f16_storage) dtypes = 2;
  }
  const Folder folder;
  const fs::path out = folder / "run";
  const Outcome plan = throughput(folder, std::string("plan --no-timing ") + kTinyKeys);
  CAPTURE(plan.err);
  REQUIRE(plan.status == 0);
  // Two ensembles of four members together, every type.
  REQUIRE(plan.out.find(fmt::format("{} models in {} packs", 4 * dtypes, 2 * dtypes)) != std::string::npos);

  // All but single models in f32 take more than next to nothing: the plan says what it leaves out, and why.
  const Outcome least = throughput(folder, std::string("plan --no-timing --most_gflop=1e-9 ") + kTinyKeys);
  REQUIRE(least.status == 0);
  CHECK(least.out.find("1 models in 1 packs") != std::string::npos);
  CHECK(least.out.find("left out: V9 T8 L1 C8 H2 B2 f32 x3 (0 GFLOP a step)\n") != std::string::npos);

  const Outcome first = throughput(folder, kTinyKeys + ("--out " + out.string()));
  CAPTURE(first.err);
  REQUIRE(first.status == 0);
  const experiments::StudyResult result = experiments::load_result(out / "result.json");
  REQUIRE(result.benchmark);
  REQUIRE(result.cells.size() == 2 * dtypes);
  std::map<std::string, double> tokens, planned;
  for (const experiments::Cell& cell : result.cells) {
    CAPTURE(cell.cell);
    for (const char* name :
         {"tokens_per_second", "step_ms", "gflops", "percent_of_peak", "planned_mib", "dispatches"}) {
      const experiments::Measure* one = cell.find_measure(name);
      REQUIRE(one != nullptr);
      CHECK(one->mean > 0);
    }
    CHECK(cell.find_measure("tokens_per_second")->n == 2);
    const int64_t a_step = cell.variant.ends_with("x3") ? 48 : 16;  // members of 2 x 8 tokens
    CHECK(cell.tokens == cell.steps * a_step);
    // Both are medians of the same two samples, and a rate is tokens over time.
    CHECK(cell.find_measure("tokens_per_second")->mean * cell.find_measure("step_ms")->mean >=
          0.999e3 * static_cast<double>(a_step));
    planned[cell.variant] = cell.find_measure("planned_mib")->mean;
  }
  CHECK(planned.at("f32 x3") > planned.at("f32 x1"));
  if (dtypes == 2) CHECK(planned.at("f16 x3") < planned.at("f32 x3"));
  const std::vector<std::string> table = file_lines(out / "throughput.csv");
  REQUIRE(table.size() == 1 + 2 * dtypes);
  CHECK(table[0].starts_with("cell,parameters,n_layer,n_embd,variant,"));
  CHECK(table[1].starts_with(result.cells[0].cell + ","));
  // A line a sample.
  CHECK(experiments::load_metrics(out / "metrics.jsonl").size() == 2 * 2 * dtypes);
  const std::string page = tests::slurp(out / "report.html");
  CHECK(page.find("Tokens per second by size") != std::string::npos);
  CHECK(page.find("seed per size") == std::string::npos);

  // As if it had been stopped after the first cell, whose number no second measurement would give.
  experiments::StudyResult stopped = result;
  stopped.cells.resize(1);
  stopped.cells[0].measures[0].mean = 123456789;
  experiments::write_file_atomic(out / "cells.json", experiments::to_json(stopped));
  fs::remove(out / "result.json");
  fs::copy_file(out / "config.toml", folder / "copy.toml");
  const Outcome second =
      throughput(folder, fmt::format("--config {} --resume --out {}", (folder / "copy.toml").string(), out.string()));
  CAPTURE(second.err);
  REQUIRE(second.status == 0);
  const experiments::StudyResult resumed = experiments::load_result(out / "result.json");
  REQUIRE(resumed.cells.size() == 2 * dtypes);
  CHECK(resumed.cells[0].find_measure("tokens_per_second")->mean == 123456789);
  for (size_t i = 1; i < resumed.cells.size(); ++i)
    CHECK(resumed.cells[i].find_measure("tokens_per_second")->mean != 123456789);
  CHECK(experiments::load_metrics(out / "metrics.jsonl").size() == 2 * 2 * dtypes);

  const Outcome tried = throughput(folder, std::string("try ") + kTinyKeys);
  CAPTURE(tried.err);
  REQUIRE(tried.status == 0);
  REQUIRE(tried.out.find("1 models took 3 steps of one sequence") != std::string::npos);
}
