#include <fmt/format.h>
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
#include "experiments/commands/sweep.h"
#include "experiments/sweeps/sweep_directory.h"
#include "graph/error.h"

namespace surtsey::experiments::commands {
namespace {

// One process a device; the locks of the packs divide the work.
void run_on_devices(const SweepRunOptions& options) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  std::vector<pid_t> workers;
  for (const std::string& device : options.devices) {
    std::vector<std::string> words = {
        self, "sweep", "run", options.directory, options.only_failed ? "--only-failed" : "--all", "--device", device};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t worker = fork();
    check(worker >= 0, "cannot start a process for device '{}': {}", device, std::strerror(errno));
    if (worker == 0) {
      execv(self.c_str(), arguments.data());
      _exit(127);
    }
    workers.push_back(worker);
  }
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
  check(failed == 0, "{} of {} processes failed; see above", failed, options.devices.size());
}

void run_one(SweepDirectory& directory, const SweepPack& pack, const SweepRunOptions& options) {
  if (directory.result(pack)) {
    fmt::print(stderr, "pack {} is finished already\n", pack.index);
    return;
  }
  const std::optional<FolderLock> lock = directory.lock(pack);
  check(lock.has_value(), "pack {} is being run by another process", pack.index);
  const std::string device = options.devices.empty() ? "" : options.devices.front();
  engine::Device opened = engine::Device::open({.select = device});
  directory.run(pack, opened, options.command);
}

// The largest first; those that others hold are left to them.
void run_all(SweepDirectory& directory, const SweepRunOptions& options) {
  const std::string select = options.devices.empty() ? "" : options.devices.front();
  std::optional<engine::Device> device;
  size_t failed = 0;
  for (const SweepPack& pack : directory.packs()) {
    if (interrupted()) throw Interrupted("interrupted between two packs");
    if (directory.result(pack)) continue;
    const bool failed_before = !directory.failure(pack).empty();
    if (options.only_failed && !failed_before) continue;
    const std::optional<FolderLock> lock = directory.lock(pack);
    if (!lock || directory.result(pack)) continue;
    if (!device) device.emplace(engine::Device::open({.select = select}));
    try {
      directory.run(pack, *device, options.command);
    } catch (const UserError& error) {
      ++failed;
      fmt::print(stderr, "pack {} failed: {}\n", pack.index, error.what());
      continue;
    }
    size_t finished = 0;
    for (const SweepPack& other : directory.packs()) finished += directory.result(other) ? 1 : 0;
    const std::optional<double> left = directory.seconds_left();
    fmt::print(stderr, "{} of {} packs are finished{}\n", finished, directory.packs().size(),
               left && *left > 0 ? fmt::format(", about {:.0f} s left on one device", *left) : "");
  }
  check(failed == 0, "{} packs failed; `surtsey sweep status` says why, --only-failed runs them again", failed);
}

}  // namespace

void sweep_run(const SweepRunOptions& options) {
  check((options.index >= 0) + options.all + options.only_failed == 1,
        "say which packs: --index I, --all or --only-failed");
  handle_interrupts();
  SweepDirectory directory = SweepDirectory::open(options.directory);
  if (options.index >= 0) {
    check(options.devices.size() <= 1, "--index runs one pack on one device");
    run_one(directory, directory.pack(options.index), options);
  } else if (options.devices.size() > 1) {
    run_on_devices(options);
  } else {
    run_all(directory, options);
  }
}

}  // namespace surtsey::experiments::commands
