// What `surtsey tune` measured for a device, for the compilations of a session.
#pragma once

#include "engine/device.h"

#include <string>

namespace surtsey::engine {

// Device, driver and version in words, as shaders/tile_cache.h takes them.
std::string tile_identity(const DeviceInfo& info);

// The target with the tiles of the cache in that directory. As it is where it has tiles already (a
// resumed run brings its own, which may be none), where the directory is empty, where the device
// was opened without the row `tuning`, and where there is no file that can be believed: one line on
// stderr then, if there is one. One line, too, where the file changes bits: a reduction that adds up
// in another order than by default.
graph::Target with_tuned_tiles(graph::Target target, const Device& device, const std::string& directory);

}  // namespace surtsey::engine
