#include "engine/tuned_tiles.h"

#include "engine/context.h"
#include "shaders/reduce_tile.h"
#include "shaders/tile_cache.h"

#include <set>

namespace surtsey::engine {
namespace {

// Once a process and file.
void say_once(const std::string& path, const std::string& what) {
  static std::mutex mutex;
  static std::set<std::string> said;
  std::scoped_lock lock(mutex);
  if (said.insert(path + what).second) fmt::print(stderr, "tuning: {} {}\n", path, what);
}

}  // namespace

std::string tile_identity(const DeviceInfo& info) {
  return fmt::format("{}\n{}\n{}", info.name, info.uuid, info.driver);
}

graph::Target with_tuned_tiles(graph::Target target, const Device& device, const std::string& directory) {
  if (target.tiles || target.reduce_tiles || directory.empty() || !device.context().tuning) return target;
  const std::string who = tile_identity(device.info());
  const std::string path = shaders::tile_cache_file(directory, who, target);
  shaders::MeasuredTiles tiles;
  const shaders::CacheState state = shaders::load_tiles(directory, who, target, tiles);
  if (state == shaders::CacheState::corrupt)
    say_once(path,
             "is damaged or was measured with other kernels: all get their defaults until "
             "`surtsey tune` makes it anew");
  if (state != shaders::CacheState::good) return target;
  size_t reordered = 0;
  for (const auto& [shape, tile] : tiles.reductions)
    reordered += !shaders::same_order(tile, shaders::default_reduce_tile(shape, target));
  if (reordered > 0)
    say_once(path, fmt::format("has {} reductions that add up in another order than by default: "
                               "results differ in their last bits",
                               reordered));
  target.tiles = std::make_shared<graph::MatmulTiles>(std::move(tiles.products));
  target.reduce_tiles = std::make_shared<graph::ReduceTiles>(std::move(tiles.reductions));
  return target;
}

}  // namespace surtsey::engine
