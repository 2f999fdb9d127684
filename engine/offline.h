// Compiling for a GPU that is not here. Some drivers pretend to have one when an environment
// variable names its family (a null device), others believe that there is one when a library stands
// in for the kernel's driver (Mesa's drm-shim): kernels become the GPU's own code, the driver tells
// what became of them, and nothing runs. The device lives in a process of its own, as a driver that
// is asked for something it does not know ends its process.
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

class OfflineDevice {
 public:
  virtual ~OfflineDevice() = default;
  // Limits and features are the pretended device's; a null device is not usable.
  virtual const DeviceInfo& info() const = 0;
  // One per shader, in order; equal shaders are compiled once. `cache` is the folder of SPIR-V, or
  // empty.
  virtual std::vector<DriverStatistics> compile(std::span<const shaders::Shader> shaders, const std::string& cache) = 0;
};

// `device` is VENDOR:FAMILY, as amd:navi21 or nvidia:ampere. Returns what `work` returned. With a null
// device it runs in the child that has opened it, with a shim in this process. What the driver
// writes to stderr is shown when it fails, or with SURTSEY_DEBUG.
//
// UserError: no such vendor, no driver for it on this machine, a family that the driver cannot
// pretend to have (with what it said, and those that it can). DeviceError: the driver ended the
// process; names the kernels that were being compiled. UserError and DeviceError of `work` arrive as they are, with
// their message.
std::string with_offline_device(const std::string& device, const std::function<std::string(OfflineDevice&)>& work);

// The families of a vendor that the driver on this machine knows, by trying each: VENDOR:FAMILY.
std::vector<std::string> offline_devices(const std::string& vendor);

// What this machine can do for each vendor: its devices, or why there are none.
struct OfflineVendor {
  std::string name;
  std::vector<std::string> devices;
  std::string why_not;
};
std::vector<OfflineVendor> offline_vendors();

}  // namespace surtsey::engine
