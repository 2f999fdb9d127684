// scripts/lanes: a lane is ended by silence, not by the clock.
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>

namespace surtsey::tests {
namespace {

// Runs the lane's two halves of a program that behaves as `body` says; `$results` is the file that it reports to.
Outcome run_lane_of(const Folder& folder, const std::string& body) {
  std::filesystem::create_directories(folder / "build/tests");
  const auto program = folder / "build/tests/surtsey_tests";
  std::ofstream(program)
      << "#!/bin/bash\nfor argument; do case $argument in xml::out=*) results=${argument#xml::out=};; esac; done\n"
      << body;
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  const auto script = folder / "lane";
  std::ofstream(script) << "set -euo pipefail\nbuild='" << (folder / "build").string() << "'\nlauncher=()\n. '"
                        << SURTSEY_SOURCE_ROOT << "/scripts/lanes'\nrun_tests '' A=b\n"
                        << "echo \"$lane_passed passed, $lane_failed failed: $lane_reason\"\n";
  return run_program(folder, "/bin/bash", fmt::format("'{}'", script.string()), "SURTSEY_LANE_SILENCE=2 ");
}

// One that has ended may wait for somebody to ask how.
bool is_running(pid_t process) {
  const std::string status = slurp(fmt::format("/proc/{}/stat", process));
  const size_t name = status.rfind(')');
  return name != std::string::npos && status[name + 2] != 'Z';
}

constexpr const char* kTotals =
    "echo '<OverallResultsCases successes=\"3\" failures=\"0\" expectedFailures=\"0\" "
    "skips=\"0\"/>' >>\"$results\"\n";

TEST_CASE("a lane that goes on slowly is not ended, one that is silent is", "[lanes]") {
  const Folder folder;
  // Longer than the silence that ends a lane, and never silent for so long.
  const Outcome slow = run_lane_of(
      folder, fmt::format("for i in 1 2 3 4 5 6; do echo test >>\"$results\"; sleep .7; done\n{}", kTotals));
  INFO(slow.err);
  CHECK(slow.out.ends_with("6 passed, 0 failed: \n"));

  // What it started ends with it.
  const Outcome hung = run_lane_of(folder, fmt::format("echo test >>\"$results\"\nsleep 1000 &\necho $! >>'{}'\nwait\n",
                                                       (folder / "children").string()));
  CHECK(
      hung.out.find("0 passed, 1 failed: the test program crashed or hung (status 124; 124: no test ended for 2 s)") !=
      std::string::npos);
  std::ifstream children(folder / "children");
  int count = 0;
  for (pid_t child; children >> child; ++count) CHECK_FALSE(is_running(child));
  CHECK(count == 2);

  const Outcome crashed = run_lane_of(folder, "exit 3\n");
  CHECK(crashed.out.find("0 passed, 1 failed: the test program crashed or hung (status 3") != std::string::npos);
}

}  // namespace
}  // namespace surtsey::tests
