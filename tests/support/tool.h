// build/surtsey and other programs as processes: their output and exit status.
#pragma once

#include "tests/support/folder.h"

#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <sys/wait.h>

#include <sstream>
#include <vector>

namespace surtsey::tests {

struct Outcome {
  int status = 0;  // -1 after a signal
  std::string out, err;
};

// `environment` stands before the command: "NAME=value ".
inline Outcome run_program(const Folder& folder, const std::string& program, const std::string& arguments,
                           const std::string& environment = "") {
  const auto out = folder / "stdout", err = folder / "stderr";
  const int raw = std::system(
      fmt::format("{}'{}' {} >'{}' 2>'{}'", environment, program, arguments, out.string(), err.string()).c_str());
  return {WIFEXITED(raw) ? WEXITSTATUS(raw) : -1, slurp(out), slurp(err)};
}

inline Outcome run(const Folder& folder, const std::string& arguments, const std::string& environment = "") {
  return run_program(folder, SURTSEY_TOOL, arguments, environment);
}

// What must be.
inline Outcome must(const Folder& folder, const std::string& arguments) {
  const Outcome outcome = run(folder, arguments);
  CAPTURE(arguments, outcome.err, outcome.out);
  REQUIRE(outcome.status == 0);
  return outcome;
}

// metrics.jsonl, samples, ..
inline std::vector<nlohmann::json> json_lines(const std::filesystem::path& path) {
  std::istringstream stream(slurp(path));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

// What must not be, and words of the message that says so.
inline void check_refused(const Folder& folder, const std::string& arguments, const std::string& expected) {
  const Outcome outcome = run(folder, arguments);
  CAPTURE(arguments, outcome.err);
  CHECK(outcome.status > 0);
  CHECK(outcome.err.find(expected) != std::string::npos);
}

// A text to train on.
inline std::filesystem::path write_text(const Folder& folder) {
  const auto path = folder / "text.txt";
  std::ofstream out(path);
  for (int i = 0; i < 400; ++i) out << i * i << " is the square of " << i << ".\n";
  return path;
}

}  // namespace surtsey::tests
