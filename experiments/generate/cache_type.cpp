#include "experiments/generate/cache_type.h"

#include "experiments/models/hub/stored_weights.h"

namespace surtsey::experiments {

graph::Storage cache_storage(std::string_view name, const ModelConfig& config, const graph::Target& target) {
  const std::optional<StoredType> type = stored_type(name);
  check(type == StoredType::f32 || type == StoredType::f16 || type == StoredType::q8_0,
        "cache_type is f32, f16 or q8_0, not '{}'", name);
  if (type == StoredType::f32) return hub::storage_of(*type);
  check(target.f16_storage, "cache_type {}: {} stores no numbers of 16 bits; f32 is what it keeps keys and values in",
        name, target.name);
  const int64_t block = block_size(*type), width = config.head_width();
  check(width % block == 0,
        "cache_type {} keeps heads in groups of {} numbers, and this model's are {} wide: f16 or f32", name, block,
        width);
  return hub::storage_of(*type);
}

}  // namespace surtsey::experiments
