// An offline device in a process of its own, which is this program started anew: what stands in for the kernel's driver
// has to be preloaded, and that is possible only where a program begins.
#pragma once

#include "engine/offline.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace surtsey::engine {

// A process with these variables (removed where the value is empty) that has opened the device. UserError and
// DeviceError, with what the driver said, when it cannot, or ends its process.
std::unique_ptr<OfflineDevice> open_remote_device(const std::string& name,
                                                  const std::vector<std::pair<std::string, std::string>>& environment);

}  // namespace surtsey::engine
