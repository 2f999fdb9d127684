// The first time that a driver is met, its risky steps (the first pipelines, the check of cooperative matrices) are
// taken in a child process: a driver that dies of one ends only that. Then the device is opened without what it died
// of, the user is told, and the outcome is kept for this version of the driver.
#pragma once

#include "engine/child.h"
#include "engine/device.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::engine {

struct Trial {
  std::vector<std::string> without;  // optional rows of features.cpp to leave out, and it survives
  std::string told;                  // what happened, in one line; empty when nothing did
};

inline constexpr const char* kFirstKernels = "running its first kernels";
inline constexpr const char* kCheckingMatrices = "checking its cooperative matrices";

// Calls `attempt`, which runs in a child with ever more rows left out, until it survives. An attempt that throws
// survives:
// the error comes again, and with its message, where the device is opened. DeviceError when nothing helps.
Trial survive(const DeviceInfo& info,
              const std::function<ChildResult(const std::vector<std::string>& without)>& attempt);

// What is kept in that folder for this device, its driver's version and the paths that are in use.
std::optional<Trial> kept_trial(const std::string& directory, const DeviceInfo& info);
void keep_trial(const std::string& directory, const DeviceInfo& info, const Trial& trial);
std::string trial_file(const std::string& directory, const DeviceInfo& info);

// A product, a sum of its rows and what is fused to them, compiled and run once; not timed.
void run_first_kernels(Device& device);

}  // namespace surtsey::engine
