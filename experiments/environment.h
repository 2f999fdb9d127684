// What env.json of a run says: device, host, versions, commit and command line.
#pragma once

#include "engine/device.h"
#include "experiments/record.h"

namespace surtsey::experiments {

Environment describe_environment(const engine::DeviceInfo& device, const std::vector<std::string>& command);

}  // namespace surtsey::experiments
