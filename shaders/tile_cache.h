// Measured tiles on disk: what `surtsey tune` found, and later compilations for the same device use.
//
// One file (cache_file.h) per device, driver and way of addressing. Its identity also has a hash of the GLSL that
// products and reductions get: a version that writes other kernels does not believe what was measured with the old
// ones.
#pragma once

#include "graph/target.h"
#include "shaders/cache_file.h"

#include <string>

namespace surtsey::shaders {

// The file in that directory; `device` is the device and its driver, in words.
std::string tile_cache_file(const std::string& directory, const std::string& device, const graph::Target& target);

struct MeasuredTiles {
  graph::MatmulTiles products;
  graph::ReduceTiles reductions;
  bool operator==(const MeasuredTiles&) const = default;
  size_t size() const { return products.size() + reductions.size(); }
};

// Fills `tiles` where the state is good, else leaves it alone. What is damaged, or of other kernels, stays on disk
// until it is stored again.
CacheState load_tiles(const std::string& directory, const std::string& device, const graph::Target& target,
                      MeasuredTiles& tiles);

// Makes the directory if need be and replaces the file. False when it cannot be written.
bool store_tiles(const std::string& directory, const std::string& device, const graph::Target& target,
                 const MeasuredTiles& tiles);

}  // namespace surtsey::shaders
