#include "experiments/sweeps/workers.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"
#include "graph/error.h"
#include "graph/platform.h"

namespace surtsey::experiments {
namespace {

pid_t start(const std::string& program, std::vector<std::string> words) {
  words.insert(words.begin(), program);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::fflush(nullptr);
  const pid_t worker = fork();
  check(worker >= 0, "cannot start another process: {}", std::strerror(errno));
  if (worker == 0) {
    execv(program.c_str(), arguments.data());
    _exit(127);
  }
  return worker;
}

}  // namespace

void run_workers(const std::vector<std::vector<std::string>>& arguments) {
  const std::string self = platform::program_path().string();
  std::vector<pid_t> workers;
  for (const auto& words : arguments) workers.push_back(start(self, words));
  bool told = false;
  size_t failed = 0, stopped = 0;
  const auto was_stopped = [](int status) {
    // One that had not come to its first line yet ends by the signal itself: it has nothing to save.
    if (WIFSIGNALED(status)) return interrupted() && (WTERMSIG(status) == SIGUSR1 || WTERMSIG(status) == SIGINT);
    return WIFEXITED(status) && WEXITSTATUS(status) == kInterruptedStatus;
  };
  for (size_t left = workers.size(); left > 0;) {
    if (interrupted() && !told) {
      // Ctrl-C has reached them already, and must not count twice; a signal to this process alone has not.
      for (const pid_t worker : workers) ask_to_stop(worker);
      told = true;
    }
    int status = 0;
    const pid_t ended = waitpid(-1, &status, WNOHANG);
    if (ended <= 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    std::erase(workers, ended);
    --left;
    if (was_stopped(status)) {
      ++stopped;
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      ++failed;
    }
  }
  if (stopped > 0) throw Interrupted("interrupted; every pack that ran is saved");
  check(failed == 0, "{} of {} processes failed; see above", failed, arguments.size());
}

}  // namespace surtsey::experiments
