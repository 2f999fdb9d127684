#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "experiments/base/interrupt.h"
#include "experiments/commands/study_program.h"
#include "experiments/commands/sweep.h"
#include "experiments/sweeps/sweep_directory.h"
#include "experiments/sweeps/workers.h"
#include "graph/error.h"

namespace surtsey::experiments::commands {
namespace {

// One process a device; the locks of the packs divide the work.
void run_on_devices(const SweepRunOptions& options) {
  std::vector<std::vector<std::string>> workers;
  for (const std::string& device : options.devices)
    workers.push_back(
        {"sweep", "run", options.directory, options.only_failed ? "--only-failed" : "--all", "--device", device});
  run_workers(workers);
}

// The packs of a study are run by its own program.
[[noreturn]] void run_by_study(const SweepDirectory& directory, const SweepRunOptions& options) {
  std::vector<std::string> words = {"work", "--out", options.directory};
  if (options.index >= 0) words.push_back(fmt::format("--index={}", options.index));
  if (options.only_failed) words.push_back("--only-failed");
  if (!options.devices.empty()) words.insert(words.end(), {"--device", options.devices.front()});
  run_study_program(directory.study().name, std::move(words));
}

// All packs of a sweep have one dtype.
engine::Device open_device(const std::string& select, const SweepPack& pack) {
  return engine::Device::open(
      {.select = select, .f16 = pack.spec->value("dtype", "") == graph::name(graph::DType::f16)});
}

void run_one(SweepDirectory& directory, const SweepPack& pack, const SweepRunOptions& options) {
  if (directory.result(pack)) {
    fmt::print(stderr, "pack {} is finished already\n", pack.index);
    return;
  }
  const std::optional<FolderLock> lock = directory.lock(pack);
  check(lock.has_value(), "pack {} is being run by another process", pack.index);
  const std::string device = options.devices.empty() ? "" : options.devices.front();
  engine::Device opened = open_device(device, pack);
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
    if (!device) device.emplace(open_device(select, pack));
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
  check(options.index < 0 || options.devices.size() <= 1, "--index runs one pack on one device");
  if (!directory.study().name.empty() && options.devices.size() <= 1) run_by_study(directory, options);
  if (options.index >= 0) {
    run_one(directory, directory.pack(options.index), options);
  } else if (options.devices.size() > 1) {
    run_on_devices(options);
  } else {
    run_all(directory, options);
  }
}

}  // namespace surtsey::experiments::commands
