#include "experiments/models/hub/hash.h"

#include "shaders/cache_file.h"

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

namespace surtsey::experiments::hub {

uint64_t hash_of(const Source& source) {
  uint64_t hash = shaders::hash64(config_json(source.config()).dump());
  for (const TensorInfo& info : source.tensors()) {
    const Stored stored = source.read_stored(info.name);
    hash = shaders::hash64(fmt::format("{} {} {}", info.name, int(stored.type), fmt::join(stored.shape, "x")), hash);
    hash = shaders::hash64(stored.bytes, hash);
  }
  return hash;
}

}  // namespace surtsey::experiments::hub
