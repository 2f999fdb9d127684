// Choosing a device and opening it. No Vulkan header: this is what the other folders see.
#pragma once

#include "engine/error.h"
#include "graph/target.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace surtsey::engine {

struct Context;

enum class DeviceType : uint8_t { discrete, integrated, virtual_gpu, cpu, other };
const char* name(DeviceType type);

struct DeviceInfo {
  uint32_t index = 0;  // in the order of the Vulkan loader
  std::string name;
  std::string uuid;  // 32 hexadecimal digits
  DeviceType type = DeviceType::other;
  std::string driver;         // name and version, in the driver's words
  std::string api;            // 1.3.305
  uint64_t memory_bytes = 0;  // the largest device-local heap
  bool usable = false;
  std::string reason;                 // why it cannot run, when it cannot
  std::vector<std::string> features;  // rows of features.cpp in use
  std::vector<std::string> off;       // optional rows that are not: "f16_storage (switched off)"
  std::vector<std::string> quirks;    // that change how it runs kernels, with their reasons
  graph::Target target;
  int preference = 0;   // among devices of one type
  std::string details;  // a JSON object: identity, heaps, limits, extensions
};

// One line: `0 = llvmpipe (LLVM 15.0.6, 512 bits) | cpu, 2 threads | ...`.
std::string print(const DeviceInfo& info);
// One line: the optional paths that are in use, and those that are not and why.
std::string print_paths(const DeviceInfo& info);
std::string to_json(std::span<const DeviceInfo> devices);

// All devices of all drivers. DeviceError when there is no Vulkan driver at all.
std::vector<DeviceInfo> list_devices();

// What the validation layers look at: core rules and hazards between dispatches.
enum class Validation : uint8_t { off, synchronization };

struct DeviceOptions {
  std::string select;                    // index, part of the name or the driver, or UUID; empty: SURTSEY_DEVICE,
                                         // else the best one
  std::optional<Validation> validation;  // unset: SURTSEY_VALIDATION
  std::optional<graph::Addressing> addressing;  // unset: SURTSEY_ADDRESSING, else by address where the device can
  std::vector<std::string> without;             // optional rows of features.cpp to do without, besides those
                                                // of SURTSEY_WITHOUT
  bool f16 = true;       // whether anything is to be stored in f16: else cooperative matrices, which multiply nothing
                         // else, are neither checked nor used
  bool staging = false;  // copies go through a staging buffer even where memory can be mapped (tests)
  bool quiet = false;    // no line on stderr
};

// Discrete before integrated before virtual before CPU; lavapipe before SwiftShader. Never a device
// that cannot run. `why` becomes the reason in words. UserError when `select` fits no device, or
// one that cannot run; DeviceError when there is none to choose.
const DeviceInfo& choose_device(std::span<const DeviceInfo> devices, const std::string& select, std::string& why);

class Device {
 public:
  // Prints two lines to stderr: what was chosen and why; the optional paths in use.
  static Device open(const DeviceOptions& options = {});
  ~Device();
  Device(Device&&) noexcept;
  Device& operator=(Device&&) noexcept;

  const DeviceInfo& info() const { return info_; }
  const graph::Target& target() const { return info_.target; }

  // What the validation layers said so far; always empty without validation.
  std::vector<std::string> validation_messages() const;
  void clear_validation_messages();
  bool validation() const;

  Context& context() const { return *context_; }  // for this folder

 private:
  Device(DeviceInfo info, std::unique_ptr<Context> context);
  void check_cooperative();  // as cooperative_check.h has it
  DeviceInfo info_;
  std::unique_ptr<Context> context_;
};

}  // namespace surtsey::engine
