// What a device or its driver did wrong. The only exception that running a recorded program throws.
#pragma once

#include "graph/error.h"

#include <string>
#include <utility>

namespace surtsey::engine {

class DeviceError : public std::runtime_error {
 public:
  // `detail` says what was under way and what to do; it ends the message. Without a device the
  // message names none, and without a call it is `detail` alone.
  DeviceError(std::string call, std::string result, std::string device, std::string driver,
              const std::string& detail = {})
      : std::runtime_error(message(call, result, device, driver, detail)),
        call_(std::move(call)),
        result_(std::move(result)),
        device_(std::move(device)),
        driver_(std::move(driver)) {}

  // The same error with a sentence more: what the caller knows and the engine does not.
  DeviceError with(const std::string& note) const {
    DeviceError longer(*this);
    static_cast<std::runtime_error&>(longer) = std::runtime_error(fmt::format("{}. {}", what(), note));
    return longer;
  }

  const std::string& call() const { return call_; }      // vkAllocateMemory
  const std::string& result() const { return result_; }  // ErrorOutOfDeviceMemory
  const std::string& device() const { return device_; }
  const std::string& driver() const { return driver_; }
  bool lost() const { return result_ == "ErrorDeviceLost"; }

 private:
  static std::string message(const std::string& call, const std::string& result, const std::string& device,
                             const std::string& driver, const std::string& detail) {
    if (call.empty()) return detail;
    std::string text = fmt::format("{} failed with {}", call, result);
    if (!device.empty()) text += fmt::format(" on {} ({})", device, driver);
    return detail.empty() ? text : text + ": " + detail;
  }

  std::string call_, result_, device_, driver_;
};

}  // namespace surtsey::engine
