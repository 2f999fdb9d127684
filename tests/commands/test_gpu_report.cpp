// scripts/gpu_report in its short form: what whoever is lent a GPU runs first has to work there the first time.
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>

#include <nlohmann/json.hpp>

namespace surtsey::tests {
namespace {

nlohmann::json record(const Folder& folder, const std::string& step) {
  return nlohmann::json::parse(slurp(folder / ("report/" + step + ".json")));
}

TEST_CASE("gpu_report measures everything once, on one page, and goes on where it was stopped", "[gpu_report]") {
  open_test_device();
  const Folder folder;
  const std::string script = SURTSEY_SOURCE_ROOT "/scripts/gpu_report";
  const std::string arguments =
      fmt::format("'{}' --short --no-build --build '{}'", (folder / "report").string(), SURTSEY_BUILD_ROOT);

  // No time for anything: nothing is lost, and nothing is called done.
  const Outcome hurried = run_program(folder, script, arguments + " --minutes 0.1");
  CHECK(hurried.status == 0);
  CHECK(record(folder, "ensembles").at("state") == "not reached");

  const Outcome whole = run_program(folder, script, arguments + " --minutes 60");
  INFO(whole.err);
  REQUIRE(whole.status == 0);
  const std::string page = slurp(folder / "report/report.html");
  for (const char* step : {"selftest", "profile", "matmul_f32_128", "throughput", "ensembles"}) {
    CHECK(record(folder, step).at("state") == "passed");
    CHECK(page.find(fmt::format("<td>{}</td><td class=\"passed\">", step)) != std::string::npos);
  }
  CHECK(page.find("profile/profile.html") != std::string::npos);

  // A step that passed is not run again.
  const Outcome again = run_program(folder, script, arguments + " --minutes 60");
  CHECK(again.status == 0);
  CHECK(again.err.find("gpu_report: selftest:") == std::string::npos);
}

}  // namespace
}  // namespace surtsey::tests
