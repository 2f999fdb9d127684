// Compiling for a GPU that is not here. Some drivers pretend to have one when an environment
// variable names its family: such a null device compiles kernels to the GPU's own code and tells
// what became of them, and runs nothing. It lives in a child process, as a driver that is asked for
// something it does not know ends its process.
#pragma once

#include "engine/device.h"
#include "engine/driver_statistics.h"
#include "shaders/shader.h"

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::engine {

// In the child.
class OfflineDevice {
 public:
  virtual ~OfflineDevice() = default;
  // Limits and features are the null device's; it is never usable.
  virtual const DeviceInfo& info() const = 0;
  // One per shader, in order; equal shaders are compiled once. `cache` is the folder of SPIR-V, or
  // empty.
  virtual std::vector<DriverStatistics> compile(std::span<const shaders::Shader> shaders, const std::string& cache) = 0;
};

// `device` is VENDOR:FAMILY, as amd:navi21. Runs `work` in a child process that has opened this
// device and returns what it returned. What the child writes to stderr is shown when it fails, or
// with SURTSEY_DEBUG.
//
// UserError: no such vendor, no driver for it on this machine, a family that the driver does not
// know (with those that it does). DeviceError: the driver ended the child; names the kernels that
// were being compiled. UserError and DeviceError of `work` arrive as they are, with their message.
std::string with_offline_device(const std::string& device, const std::function<std::string(OfflineDevice&)>& work);

// The families of a vendor that the driver on this machine knows, by trying each: VENDOR:FAMILY.
std::vector<std::string> offline_devices(const std::string& vendor);

}  // namespace surtsey::engine
