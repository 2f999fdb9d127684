// Vulkan, as this folder uses it: RAII handles, designated initialisers, functions loaded at run
// time, so that a machine without a Vulkan loader gets a message and not a linker's complaint. No
// header that other folders include may include this one.
#pragma once

#define VULKAN_HPP_NO_CONSTRUCTORS
#define VULKAN_HPP_DISPATCH_LOADER_DYNAMIC 1
#include <vulkan/vulkan_raii.hpp>

#include "engine/error.h"

#include <string>
#include <utility>

namespace surtsey::engine {

// Who answers for a failed call; empty before a device is chosen.
struct DriverName {
  std::string device;
  std::string driver;
};

// Runs `call`; a Vulkan error becomes a DeviceError that names the call, the device and its driver.
template <typename F>
decltype(auto) vk_check(const char* what, const DriverName& who, F&& call, const std::string& detail = {}) {
  try {
    return std::forward<F>(call)();
  } catch (const vk::SystemError& error) {
    auto result = static_cast<vk::Result>(error.code().value());
    throw DeviceError(what, vk::to_string(result), who.device, who.driver, detail);
  }
}

}  // namespace surtsey::engine
