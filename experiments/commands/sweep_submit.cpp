#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "experiments/base/exit_status.h"
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

// For sbatch, which splits a line of options at blanks that are not quoted, ends it at a '#' that is not, and takes a
// backslash before a quote or another one.
std::string quoted_option(const std::string& name, const std::string& value) {
  const bool plain = std::all_of(value.begin(), value.end(), [](char letter) {
    return std::isalnum(static_cast<unsigned char>(letter)) ||
           std::string_view("-_./:,@%+").find(letter) != std::string_view::npos;
  });
  if (plain) return fmt::format("--{}={}", name, value);
  std::string result = "--" + name + "=\"";
  for (const char letter : value) {
    if (letter == '\\' || letter == '"') result += '\\';
    result += letter;
  }
  return result + '"';
}

// An option as its user gave it. A shell has taken the quotes off the value, so what is not plain gets them back; a
// value that brings its own is left as it is, and so is an option in two words.
std::string given_option(const std::string& text) {
  const size_t equals = text.find('=');
  if (!text.starts_with("--") || equals == std::string::npos || text.find_first_of(" \t") < equals) return text;
  const std::string value = text.substr(equals + 1);
  const bool has_quotes =
      value.size() > 1 && value.front() == value.back() && (value.front() == '"' || value.front() == '\'');
  return has_quotes ? text : quoted_option(text.substr(2, equals - 2), value);
}

// For a file name in which sbatch replaces %a and the like.
std::string without_patterns(const std::string& path) {
  std::string result;
  for (const char letter : path) result += letter == '%' ? std::string("%%") : std::string(1, letter);
  return result;
}

// Signals are passed on rather than ending the shell, so that a pack has the time to save: SIGTERM of the end of the
// time, what --signal says, SIGHUP of a terminal or a node that goes. One that is ignored from the start, as by nohup,
// cannot be trapped and stays so. Slurm may signal the tool as well; SIGUSR1 asks it to stop however often it was asked
// before. A trap ends `wait` early, so the loop waits again until the tool has ended. A tool that was asked before it
// could hear ends of the signal itself.
constexpr const char* kScript = R"SH(#!/usr/bin/env bash
{0}
# One task of the array runs one pack. Told to stop, the tool saves and ends with status {4}; the task then asks to be
# queued again, and goes on from that save. Killed outright, it goes on from its last checkpoint when it is submitted
# again.
child=
told=
heard=
stop() {{
  told=1 heard=1
  [[ -z $child ]] || kill -USR1 "$child" 2>/dev/null
}}
trap stop TERM HUP INT USR1 USR2 XCPU
{1} sweep run {2} --index "$((SLURM_ARRAY_TASK_ID + {3}))" &
child=$!
[[ -z $told ]] || kill -USR1 "$child" 2>/dev/null
status=0
while :; do
  heard=
  status=0
  wait "$child" || status=$?
  [[ -n $heard ]] || break
done
case $status in
  {4} | 129 | 138 | 140 | 143 | 152) scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}" || true ;;
esac
exit "$status"
)SH";

// Slurm's MaxArraySize is 1001 unless a site raises it, and an index is below it: longer sweeps are several arrays.
constexpr int64_t kMostTasks = 1000;

// The script of the packs from `first` on; returns its path.
fs::path write_script(const SweepDirectory& directory, const SweepSubmitOptions& options, int64_t first,
                      const std::vector<std::string>& tasks) {
  const std::string folder = (directory.path() / "slurm").string();
  const std::string before = first > 0 ? fmt::format("{}+", first) : "";  // of the number in the log's name
  std::vector<std::string> lines = {
      quoted_option("job-name", directory.path().filename().string()),
      fmt::format("--array={}{}", join(tasks, ","), options.most > 0 ? fmt::format("%{}", options.most) : ""),
      quoted_option("output", fmt::format("{}/{}%a.log", without_patterns(folder), before)),
      "--open-mode=append",
      "--requeue",
      "--signal=B:TERM@120"};
  if (!options.time.empty()) lines.push_back(quoted_option("time", options.time));
  if (!options.partition.empty()) lines.push_back(quoted_option("partition", options.partition));
  for (const std::string& option : options.extra) lines.push_back(given_option(option));
  for (std::string& line : lines) {
    check(line.find('\n') == std::string::npos, "sbatch takes no option with a line break: {}", line);
    line.insert(0, "#SBATCH ");
  }
  const fs::path script = fs::path(folder) / (first > 0 ? fmt::format("job-{}.sh", first) : "job.sh");
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  write_file_atomic(script, fmt::format(fmt::runtime(kScript), join(lines, "\n"), quoted(self),
                                        quoted(directory.path().string()), first, kInterruptedStatus));
  return script;
}

}  // namespace

void sweep_submit(const SweepSubmitOptions& options) {
  check(options.slurm, "submit takes --slurm: that is the batch system it knows");
  check(options.most >= 0, "--most is at least 0");
  const SweepDirectory directory = SweepDirectory::open(options.directory);
  std::map<int64_t, std::vector<std::string>> arrays;  // by the first pack: tasks, counted from there
  for (const SweepPack& pack : directory.packs()) {
    if (directory.result(pack)) continue;
    arrays[pack.index / kMostTasks * kMostTasks].push_back(fmt::to_string(pack.index % kMostTasks));
  }
  check(!arrays.empty(), "every pack of '{}' is finished: there is nothing to submit", directory.path().string());
  // A backslash switches off what sbatch replaces in the name of a log.
  check(directory.path().string().find('\\') == std::string::npos,
        "'{}': sbatch names no logs in a folder with a backslash; rename it", directory.path().string());

  const fs::path folder = directory.path() / "slurm";
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "cannot create '{}': {}", folder.string(), error.message());
  std::vector<fs::path> scripts;
  for (const auto& [first, tasks] : arrays) scripts.push_back(write_script(directory, options, first, tasks));
  for (const fs::path& script : scripts) {
    if (options.dry) {
      fmt::print("{}\n", script.string());
      continue;
    }
    std::fflush(stdout);
    const int status = std::system(fmt::format("sbatch {}", quoted(script.string())).c_str());
    check(status == 0, "sbatch did not take {}; --dry writes it only", script.string());
  }
}

}  // namespace surtsey::experiments::commands
