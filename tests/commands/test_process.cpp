// Programs as processes: descriptors that are closed or full, signals, exit statuses.
#include "experiments/base/exit_status.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

namespace surtsey::tests {
namespace {

namespace fs = std::filesystem;
using namespace surtsey::experiments;

constexpr const char* kTinyModel =
    "--n_layer=1 --n_embd=16 --n_head=2 --block_size=16 --batch_size=4 --eval_iters=1 --log_interval=1";
const std::string kStudy = SURTSEY_BUILD_ROOT "/experiments/chain_of_thought";

// A program that runs beside the test, the first of a process group.
class Running {
 public:
  Running(const Folder& folder, const std::string& command) {
    const std::string line = fmt::format("exec {} >>'{}' 2>>'{}'", command, (folder / "running.out").string(),
                                         (folder / "running.err").string());
    child_ = fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      setpgid(0, 0);
      execl("/bin/bash", "bash", "-c", line.c_str(), nullptr);
      _exit(127);
    }
    setpgid(child_, child_);
  }
  ~Running() {
    if (child_ > 0) kill(-child_, SIGKILL), waitpid(child_, nullptr, 0);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  bool ended() { return child_ <= 0 || waitpid(child_, &status_, WNOHANG) == child_ ? (child_ = 0, true) : false; }
  void signal(int number) const { kill(child_, number); }
  void signal_group(int number) const { kill(-child_, number); }
  // -1 after a signal.
  int wait() {
    if (child_ > 0) waitpid(child_, &status_, 0);
    child_ = 0;
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : -1;
  }
  // Until `file` is there; fails when the program ends before.
  void wait_for(const fs::path& file) {
    for (int i = 0; i < 60'000 && !fs::exists(file); ++i) {
      REQUIRE_FALSE(ended());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    REQUIRE(fs::exists(file));
  }

 private:
  pid_t child_ = 0;
  int status_ = 0;
};

std::string training(const Folder& folder, const std::string& out, const std::string& keys) {
  return fmt::format("'{}' train --data '{}' --out '{}' {} {}", SURTSEY_TOOL, write_text(folder).string(),
                     (folder / out).string(), kTinyModel, keys);
}

TEST_CASE("process: a closed stream is a silent one, never a tensor's memory") {
  (void)open_test_device();
  const Folder folder;
  const std::string weights = "checkpoint/step-00000060/model.safetensors";
  const auto train = [&](const std::string& out, const std::string& streams) {
    const std::string line = fmt::format("{} {}", training(folder, out, "--max_iters=60 --eval_interval=60"), streams);
    const int raw = std::system(line.c_str());
    CAPTURE(line);
    REQUIRE(WIFEXITED(raw));
    CHECK(WEXITSTATUS(raw) == kDoneStatus);
    return slurp(folder / out / weights);
  };
  const std::string open = train("open", ">/dev/null 2>&1");
  REQUIRE_FALSE(open.empty());
  CHECK(train("out", ">&- 2>/dev/null") == open);
  CHECK(train("err", "2>&- >/dev/null") == open);
  CHECK(train("all", "<&- >&- 2>&-") == open);
}

TEST_CASE("process: what stdout does not take is an error of every command") {
  const Folder folder;
  const auto status = [&](const std::string& command) {
    const int raw = std::system(fmt::format("{} >/dev/full 2>'{}'", command, (folder / "err").string()).c_str());
    return WIFEXITED(raw) ? WEXITSTATUS(raw) : -1;
  };
  const std::string tool = SURTSEY_TOOL;
  for (const std::string& command :
       {tool + " ops", tool + " ops --format md", tool + " --help", tool + " --version", tool + " train --help",
        tool + " devices", tool + " inspect --target amd --n_layer=1", kStudy + " --help", kStudy + " --version"}) {
    CAPTURE(command);
    CHECK(status(command) == kErrorStatus);
    CHECK(slurp(folder / "err").find("No space left on device") != std::string::npos);
  }
}

TEST_CASE("process: training goes on where its log cannot be written, and says so at the end") {
  (void)open_test_device();
  const Folder folder;
  const std::string line = training(folder, "run", "--max_iters=20 --eval_interval=10");
  const int raw = std::system(fmt::format("{} >/dev/full 2>'{}'", line, (folder / "err").string()).c_str());
  REQUIRE(WIFEXITED(raw));
  CHECK(WEXITSTATUS(raw) == kErrorStatus);
  CHECK(slurp(folder / "err").find("stdout could not be written: No space left on device") != std::string::npos);
  CHECK(fs::exists(folder / "run" / "checkpoint" / "step-00000020" / "model.safetensors"));

  // A reader that goes away after its first line.
  const std::string read = training(folder, "read", "--max_iters=200 --eval_interval=100");
  const std::string piped = fmt::format("( {} 2>'{}'; echo $? >'{}' ) | head -n 1 >/dev/null", read,
                                        (folder / "err").string(), (folder / "status").string());
  REQUIRE(std::system(piped.c_str()) == 0);
  CHECK(slurp(folder / "status") == fmt::format("{}\n", kErrorStatus));
  CHECK(slurp(folder / "err").find("stdout could not be written: Broken pipe") != std::string::npos);
  CHECK(fs::exists(folder / "read" / "checkpoint" / "step-00000200" / "model.safetensors"));
}

TEST_CASE("process: a wrong command line has a status of its own") {
  const Folder folder;
  const std::string text = write_text(folder).string();
  const std::pair<std::string, const char*> cases[] = {
      {"trian", "did you mean 'train'"},
      {"devices --jsn", "--jsn"},
      {"train --data=" + text + " --learnin_rate=1", "did you mean 'learning_rate'"},
      {"train --data=" + text + " --compile=False", "every model is compiled; leave it out"},
      {"train " + text, "a text to train on is --data="},
  };
  for (const auto& [arguments, expected] : cases) {
    const Outcome outcome = run(folder, arguments);
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.status == kCommandLineStatus);
    CHECK(outcome.err.find(expected) != std::string::npos);
    CHECK(outcome.out.empty());
  }
  // What a key does not take is an error as any other.
  const std::pair<std::string, const char*> values[] = {
      {"--seed=-1", "an integer from 0 to 4294967295"}, {"--learning_rate=inf", "no finite number"},
      {"--weight_decay=nan", "no finite number"},       {"--n_embd=x", "n_embd takes an integer"},
      {"--vocab_size=99999999999", "at most 16777216"}, {"--head_dim=x", "head_dim takes an integer"},
  };
  for (const auto& [key, expected] : values) {
    const Outcome outcome = run(folder, fmt::format("train --data={} {}", text, key));
    CAPTURE(key, outcome.err);
    CHECK(outcome.status == kErrorStatus);
    CHECK(outcome.err.find(expected) != std::string::npos);
  }
  CHECK(run(folder, "bench matmul --m=99999999999").err.find("from 0 to 16777216") != std::string::npos);
  CHECK(run_program(folder, kStudy, "--scale=huge").status == kCommandLineStatus);
  CHECK(run_program(folder, kStudy, "--no_such_key=1 plan").status == kCommandLineStatus);
  CHECK(run_program(folder, kStudy, "--steps").status == kCommandLineStatus);
  const std::string help = run(folder, "--help").out;
  CHECK(help.find(exit_status_help()) != std::string::npos);
}

TEST_CASE("process: a number outside its range is told with its option, and nan is in none") {
  const Folder folder;
  const std::pair<const char*, const char*> cases[] = {
      {"serve m --request_seconds nan", "--request_seconds: takes a number from 1 to 1000000, not 'nan'"},
      {"serve m --request_seconds=inf", "--request_seconds: takes a number from 1 to 1000000, not 'inf'"},
      {"serve m --port=-1", "--port: takes a whole number from 0 to 65535, not '-1'"},
      {"sample --temperature nan", "--temperature: takes a number from 0"},
      {"sample --top_p=-nan", "--top_p: takes a number from"},
      {"classify m --threshold nan", "--threshold: takes a number from"},
      {"sample --seed -1", "--seed: takes a whole number from 0 to 4294967295, not '-1'"},
      {"sample --seed 4294967296", "--seed: takes a whole number from 0 to 4294967295"},
      {"evaluate m --tasks t --seed -1", "--seed: takes a whole number from 0 to 4294967295, not '-1'"},
      {"evaluate m --tasks t --shots=1.5", "--shots: takes a whole number from 0 to 16777216, not '1.5'"},
      {"generate m --prompt a --seed -1", "--seed: takes a whole number from 0 to 18446744073709551615"},
      {"index query i --text a --top 0", "--top: takes a whole number from 1 to 100000"},
      {"bench matmul --m=x", "--m: takes a whole number from 0 to 16777216, not 'x'"},
  };
  for (const auto& [arguments, expected] : cases) {
    const Outcome outcome = run(folder, arguments);
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.status == kCommandLineStatus);
    CHECK(outcome.err.find(expected) != std::string::npos);
  }
}

TEST_CASE("process: --resume takes no word, whatever stands behind it") {
  const Folder folder;
  const std::string data = (folder / "rows.jsonl").string(), out = (folder / "none").string();
  for (const char* command : {"train", "finetune"}) {
    for (const char* form :
         {"{} --resume --data={} --out={}", "{} --resume --data {} --out {}", "{} --data {} --resume --out {}"}) {
      const Outcome outcome = run(folder, fmt::format(fmt::runtime(form), command, data, out));
      CAPTURE(command, form, outcome.err);
      CHECK(outcome.status == kErrorStatus);
      CHECK(outcome.err.find("--resume: there is no run in " + out) != std::string::npos);
    }
  }
}

TEST_CASE("process: a disk that is full at the last save is an error of the run") {
  (void)open_test_device();
  const Folder folder;
  const fs::path disk = folder / "disk";
  fs::create_directories(disk);
  const auto mounted = [&](const std::string& command) {
    const std::string line = fmt::format("mount -t tmpfs -o size=330k tmpfs '{}' && {}", disk.string(), command);
    std::ofstream(folder / "line.sh") << line << "\n";
    const int raw = std::system(fmt::format("unshare -rm sh '{}' >'{}' 2>'{}'", (folder / "line.sh").string(),
                                            (folder / "out").string(), (folder / "err").string())
                                    .c_str());
    return WIFEXITED(raw) ? WEXITSTATUS(raw) : -1;
  };
  if (mounted("true") != 0) SKIP("no file system can be mounted here");
  const std::string line = training(folder, "disk/run", "--n_embd=32 --max_iters=40 --eval_interval=10");
  const int status = mounted(fmt::format("{}; status=$?; ls '{}/run/checkpoint' >'{}'; exit $status", line,
                                         disk.string(), (folder / "saves").string()));
  CAPTURE(slurp(folder / "out"), slurp(folder / "err"), slurp(folder / "saves"));
  CHECK(status == kErrorStatus);
  CHECK(slurp(folder / "err").find("all 40 steps are done, but the last is not saved") != std::string::npos);
  CHECK(slurp(folder / "err").find("No space left on device") != std::string::npos);
  CHECK(slurp(folder / "out").find("done:") == std::string::npos);
  CHECK(slurp(folder / "saves").find("step-00000040") == std::string::npos);
}

TEST_CASE("process: whatever asks a run to stop, it is saved") {
  (void)open_test_device();
  const auto stopped = [](const std::string& name, const auto& ask) {
    CAPTURE(name);
    const Folder folder;
    Running program(folder, training(folder, "run", "--max_iters=1000000 --eval_interval=1000000"));
    program.wait_for(folder / "run" / "metrics.jsonl");
    ask(program);
    CHECK(program.wait() == kInterruptedStatus);
    CAPTURE(slurp(folder / "running.err"));
    CHECK(fs::exists(folder / "run" / "checkpoint" / "latest"));
  };
  stopped("SIGTERM", [](const Running& program) { program.signal(SIGTERM); });
  stopped("SIGHUP", [](const Running& program) { program.signal(SIGHUP); });
  stopped("SIGXCPU", [](const Running& program) { program.signal(SIGXCPU); });
  stopped("SIGUSR1", [](const Running& program) { program.signal(SIGUSR1); });
  // timeout, Slurm and shells' traps signal a process and its group.
  stopped("twice", [](const Running& program) { program.signal(SIGTERM), program.signal_group(SIGTERM); });
  stopped("three ways", [](const Running& program) {
    program.signal_group(SIGINT), program.signal(SIGCONT), program.signal(SIGTERM);
  });
}

TEST_CASE("process: a long evaluation hears that it is to stop") {
  (void)open_test_device();
  const Folder folder;
  Running program(folder, training(folder, "run", "--max_iters=20 --eval_interval=10 --eval_iters=100000"));
  program.wait_for(folder / "run" / "metrics.jsonl");
  const auto asks = [&] { return slurp(folder / "run" / "metrics.jsonl").find("\"step\":10,") != std::string::npos; };
  for (int i = 0; i < 6000 && !asks(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  REQUIRE(asks());
  program.signal(SIGTERM);
  CHECK(program.wait() == kInterruptedStatus);
  CHECK(slurp(folder / "running.err").find("interrupted at step 10 of 20, which is saved") != std::string::npos);
  CHECK(fs::exists(folder / "run" / "checkpoint" / "step-00000010" / "model.safetensors"));
}

TEST_CASE("process: a run under nohup outlives its terminal") {
  (void)open_test_device();
  const Folder folder;
  Running program(folder, "nohup " + training(folder, "run", "--max_iters=1000000 --eval_interval=1000000"));
  program.wait_for(folder / "run" / "metrics.jsonl");
  program.signal_group(SIGHUP);
  const auto lines = [&] {
    const std::string text = slurp(folder / "run" / "metrics.jsonl");
    return std::count(text.begin(), text.end(), '\n');
  };
  const auto before = lines();
  for (int i = 0; i < 20'000 && lines() < before + 20; ++i) {
    REQUIRE_FALSE(program.ended());
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(lines() >= before + 20);
  program.signal(SIGTERM);
  CHECK(program.wait() == kInterruptedStatus);
}

TEST_CASE("process: a limit of file size is an error with a name, not a signal") {
  (void)open_test_device();
  const Folder folder;
  const std::string line = training(folder, "run", "--max_iters=20 --eval_interval=10");
  const int raw =
      std::system(fmt::format("ulimit -f 2; {} >/dev/null 2>'{}'", line, (folder / "err").string()).c_str());
  REQUIRE(WIFEXITED(raw));
  CHECK(WEXITSTATUS(raw) == kErrorStatus);
  CHECK(slurp(folder / "err").find("File too large") != std::string::npos);
}

TEST_CASE("process: Ctrl-C on a sweep over several devices saves every pack that runs") {
  const engine::Device device = open_test_device();
  const Folder folder;
  const std::string sweep = (folder / "sweep").string();
  // Submissions of more than a tenth of a second: the parent hears of Ctrl-C before its workers have stopped.
  REQUIRE(run(folder, fmt::format("sweep plan --out '{}' --no-measure --lengths=8 --modulus=7 --widths=96 --seeds=0,1 "
                                  "--learning_rates=0.1 --steps=100000 --batch_size=256 --ensemble_size=1 "
                                  "--log_interval=16 --checkpoint_interval=0 --test_items=10 --validation_items=8",
                                  sweep))
              .status == 0);
  const std::string index = fmt::to_string(device.info().index);
  Running program(folder, fmt::format("'{}' sweep run '{}' --all --device {},{}", SURTSEY_TOOL, sweep, index, index));
  program.wait_for(fs::path(sweep) / "runs" / "000" / "env.json");
  program.wait_for(fs::path(sweep) / "runs" / "001" / "env.json");
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  program.signal_group(SIGINT);
  CHECK(program.wait() == kInterruptedStatus);
  CAPTURE(slurp(folder / "running.err"));
  const std::string status = run(folder, fmt::format("sweep status '{}'", sweep)).out;
  CAPTURE(status);
  for (const char* pack : {"000", "001"}) {
    CHECK(fs::exists(fs::path(sweep) / "runs" / pack / "checkpoints" / "latest"));
  }
}

// What Slurm may do at preemption: the whole group of the job hears SIGTERM, and the script passes it on once more.
TEST_CASE("process: a job's script and its tool told to stop at once save, and go on from there") {
  (void)open_test_device();
  const Folder folder;
  const std::string sweep = (folder / "sweep").string();
  REQUIRE(run(folder, fmt::format("sweep plan --out '{}' --no-measure --lengths=4 --modulus=5 --widths=16 --seeds=0 "
                                  "--learning_rates=0.1 --steps=100000 --batch_size=64 --log_interval=16 "
                                  "--checkpoint_interval=0 --test_items=10 --validation_items=8",
                                  sweep))
              .status == 0);
  REQUIRE(run(folder, fmt::format("sweep submit '{}' --slurm --dry", sweep)).status == 0);
  // scontrol as a script that writes down what it is asked.
  const fs::path asked = folder / "asked";
  write(folder / "bin" / "scontrol", fmt::format("#!/bin/sh\necho \"$@\" >> '{}'\n", asked.string()));
  fs::permissions(folder / "bin" / "scontrol", fs::perms::owner_all);
  Running program(folder, fmt::format("env PATH='{}':\"$PATH\" SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=0 bash "
                                      "'{}/slurm/job.sh'",
                                      (folder / "bin").string(), sweep));
  program.wait_for(fs::path(sweep) / "runs" / "000" / "env.json");
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  program.signal_group(SIGTERM);
  const int status = program.wait();
  CAPTURE(slurp(folder / "running.err"), slurp(folder / "running.out"));
  CHECK(status == kInterruptedStatus);
  CHECK(slurp(asked) == "requeue 7_0\n");
  CHECK(fs::exists(fs::path(sweep) / "runs" / "000" / "checkpoints" / "latest"));
}

}  // namespace
}  // namespace surtsey::tests
