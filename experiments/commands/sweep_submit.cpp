#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "experiments/base/join.h"
#include "experiments/commands/sweep.h"
#include "experiments/results/record.h"
#include "experiments/sweeps/sweep_directory.h"
#include "graph/error.h"

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

// For a shell, whatever the text.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char letter : text) result += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
  return result + "'";
}

// $child is trapped rather than the shell's own end, so that a pack has the time to save. A trap
// ends `wait` early with 128 + 15, so the loop waits again until the tool has ended.
constexpr const char* kScript = R"(#!/usr/bin/env bash
{0}
# One task of the array runs one pack. On SIGTERM the tool saves and ends with status 130; the task
# then asks to be queued again, and goes on from that save. Killed outright, it goes on from its
# last checkpoint when it is submitted again.
child=
trap 'kill -TERM "$child" 2>/dev/null' TERM
{1} sweep run {2} --index "$SLURM_ARRAY_TASK_ID" &
child=$!
status=0
while :; do
  status=0
  wait "$child" || status=$?
  kill -0 "$child" 2>/dev/null || break
done
if [[ $status -eq 130 || $status -eq 143 ]]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}" || true
fi
exit "$status"
)";

}  // namespace

void sweep_submit(const SweepSubmitOptions& options) {
  check(options.slurm, "submit takes --slurm: that is the batch system it knows");
  check(options.most >= 0, "--most is at least 0");
  const SweepDirectory directory = SweepDirectory::open(options.directory);
  std::vector<std::string> indices;
  for (const SweepPack& pack : directory.packs()) {
    if (!directory.result(pack)) indices.push_back(fmt::to_string(pack.index));
  }
  check(!indices.empty(), "every pack of '{}' is finished: there is nothing to submit", directory.path().string());

  const fs::path folder = directory.path() / "slurm";
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "cannot create '{}': {}", folder.string(), error.message());
  std::vector<std::string> lines = {
      fmt::format("--job-name={}", directory.path().filename().string()),
      fmt::format("--array={}{}", join(indices, ","), options.most > 0 ? fmt::format("%{}", options.most) : ""),
      fmt::format("--output={}/%a.log", folder.string()),
      "--open-mode=append",
      "--requeue",
      "--signal=B:TERM@120"};
  if (!options.time.empty()) lines.push_back("--time=" + options.time);
  if (!options.partition.empty()) lines.push_back("--partition=" + options.partition);
  lines.insert(lines.end(), options.extra.begin(), options.extra.end());
  for (std::string& line : lines) {
    check(line.find('\n') == std::string::npos, "a line of sbatch options holds a line break");
    line.insert(0, "#SBATCH ");
  }
  const fs::path script = folder / "job.sh";
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  write_file_atomic(
      script, fmt::format(fmt::runtime(kScript), join(lines, "\n"), quoted(self), quoted(directory.path().string())));
  if (options.dry) {
    fmt::print("{}\n", script.string());
    return;
  }
  std::fflush(stdout);
  const int status = std::system(fmt::format("sbatch {}", quoted(script.string())).c_str());
  check(status == 0, "sbatch did not take {}; --dry writes it only", script.string());
}

}  // namespace surtsey::experiments::commands
