// Devices that do what they are told. Some drivers take every submission, say that it ended, and compute nothing (a
// shim without a GPU, a broken driver): whatever is measured or written there is made up.
#pragma once

#include "engine/device.h"

#include <cstdint>

namespace surtsey::experiments {

// NotComputing unless the device's own counter has counted what was handed over.
void check_counted(int64_t handed, uint32_t counted);

// A device for whoever does not train on it (training looks at its counter of steps, train/train.h): it has counted to
// three. Errors of engine::Device::open(); NotComputing.
engine::Device open_computing_device(const engine::DeviceOptions& options);

}  // namespace surtsey::experiments
