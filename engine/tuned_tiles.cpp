#include "engine/tuned_tiles.h"

#include "engine/context.h"
#include "shaders/tile_cache.h"

#include <set>

namespace surtsey::engine {
namespace {

void complain_once(const std::string& path) {
  static std::mutex mutex;
  static std::set<std::string> said;
  std::scoped_lock lock(mutex);
  if (said.insert(path).second) {
    fmt::print(stderr,
               "tuning: {} is damaged or was measured with other kernels: products get their "
               "default tiles until `surtsey tune` makes it anew\n",
               path);
  }
}

}  // namespace

std::string tile_identity(const DeviceInfo& info) {
  return fmt::format("{}\n{}\n{}", info.name, info.uuid, info.driver);
}

graph::Target with_tuned_tiles(graph::Target target, const Device& device,
                               const std::string& directory) {
  if (target.tiles || directory.empty() || !device.context().tuning) return target;
  const std::string who = tile_identity(device.info());
  graph::MatmulTiles tiles;
  const shaders::CacheState state = shaders::load_tiles(directory, who, target, tiles);
  if (state == shaders::CacheState::corrupt)
    complain_once(shaders::tile_cache_file(directory, who, target));
  if (state == shaders::CacheState::good)
    target.tiles = std::make_shared<graph::MatmulTiles>(std::move(tiles));
  return target;
}

}  // namespace surtsey::engine
