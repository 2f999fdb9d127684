// What env.json of a run says: device, host, versions, commit and command line.
#pragma once

#include "engine/device.h"
#include "experiments/results/record.h"

namespace surtsey::experiments {

Environment describe_environment(const engine::DeviceInfo& device, const std::vector<std::string>& command);

// Replaces FOLDER/env.json.
void write_environment(const std::filesystem::path& folder, const Environment& environment);

// Name, driver, type and limits of a device for result.json.
Facts device_facts(const engine::DeviceInfo& info);

}  // namespace surtsey::experiments
