// What studies would train fits the budgets of the quick scale and of the demo, by their own plans.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "tests/support/support_device.h"
#include "tests/support/tool.h"

using namespace surtsey;
using tests::Folder;
using tests::Outcome;

namespace {

namespace fs = std::filesystem;

constexpr double kQuickTera = 9;
constexpr double kDemoTera = 2;

fs::path study_program(const std::string& study) {
  const fs::path program = fs::path(SURTSEY_BUILD_ROOT) / "experiments" / study;
  INFO("build the studies before this test: " << program);
  REQUIRE(fs::exists(program));
  return program;
}

// TFLOP of training as `STUDY plan` says them.
double planned_tera(const Folder& folder, const std::string& study, const std::string& keys) {
  const Outcome plan = tests::run_program(folder, study_program(study).string(), "plan --no-timing " + keys);
  INFO(study << " " << keys << ": " << plan.out << plan.err);
  REQUIRE(plan.status == 0);
  const size_t unit = plan.out.find(" TFLOP of training");
  REQUIRE(unit != std::string::npos);
  const size_t number = plan.out.rfind(' ', unit - 1);
  return std::stod(plan.out.substr(number, unit - number));
}

std::vector<std::string> all_studies() {
  std::vector<std::string> studies;
  for (const auto& file : fs::directory_iterator(fs::path(SURTSEY_SOURCE_ROOT) / "experiments" / "studies")) {
    // Units that a study shares have no program.
    const fs::path program = fs::path(SURTSEY_BUILD_ROOT) / "experiments" / file.path().stem();
    if (file.path().extension() == ".cpp" && fs::exists(program)) {
      studies.push_back(file.path().stem().string());
    }
  }
  std::sort(studies.begin(), studies.end());
  return studies;
}

}  // namespace

TEST_CASE("budget: the quick scale of all studies together") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const Folder folder;
  double sum = 0;
  int trained = 0;
  std::ostringstream said;
  const std::vector<std::string> studies = all_studies();
  // These train nothing at this scale unless they are told what.
  const std::set<std::string> on_request = {"addition_formats", "linear_functions", "metrics_audit", "serial_tasks"};
  REQUIRE(studies.size() >= 18);
  for (const std::string& study : studies) {
    // Its runs need not be there for a plan.
    const double tera = planned_tera(folder, study, study == "metrics_audit" ? "--runs=runs/none" : "");
    INFO(study);
    trained += tera > 0 ? 1 : 0;
    said << study << " " << tera << ", ";
    sum += tera;
  }
  INFO(said.str());
  REQUIRE(trained >= 14);  // some have no quick scale worth a run
  REQUIRE(sum <= kQuickTera);
}

// Those whose plans take a second; scripts/try_scales goes through all.
TEST_CASE("budget: full and paper scales plan more than quick, with and without a measured time") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const Folder folder;
  for (const char* study : {"compression", "grokking", "test_time"}) {
    double before = planned_tera(folder, study, "--scale quick");
    for (const char* scale : {"full", "paper"}) {
      const double tera = planned_tera(folder, study, fmt::format("--scale {}", scale));
      CAPTURE(study, scale, tera, before);
      REQUIRE(tera > before);
      before = tera;
    }
  }
  const Outcome timed = tests::run_program(folder, study_program("grokking").string(), "plan");
  REQUIRE(timed.status == 0);
  REQUIRE(timed.out.find(" of training, measured ") != std::string::npos);
  const Outcome unknown = tests::run_program(folder, study_program("grokking").string(), "plan --scale fll");
  REQUIRE(unknown.status == 2);
}

TEST_CASE("budget: the demo, as it lists its commands") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const Folder folder;
  const Outcome listed =
      tests::run_program(folder, (fs::path(SURTSEY_SOURCE_ROOT) / "scripts" / "demo").string(), "--commands");
  REQUIRE(listed.status == 0);
  std::map<std::string, double> studies;
  std::istringstream lines(listed.out);
  for (std::string line; std::getline(lines, line);) {
    const std::string study = line.substr(0, line.find(' '));
    studies[study] = planned_tera(folder, study, line.substr(study.size()));
  }
  double sum = 0;
  for (const auto& [study, tera] : studies) sum += tera;
  INFO(listed.out);
  REQUIRE(sum <= kDemoTera);
  // Chain of thought, recall by depth, the horizon and unscrambling are trained; rounding and the
  // audit take what is there.
  for (const char* study : {"chain_of_thought", "emergence", "horizon", "recall"}) {
    REQUIRE(studies[study] > 0);
  }
  for (const char* study : {"compression", "metrics_audit"}) {
    REQUIRE(studies.count(study) == 1);
    REQUIRE(studies[study] == 0);
  }
  REQUIRE(listed.out.find("--tasks=unscramble") != std::string::npos);
}
