#include "engine/device.h"

#include <nlohmann/json.hpp>

namespace surtsey::engine {

std::string to_json(std::span<const DeviceInfo> devices) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const DeviceInfo& device : devices) {
    const graph::Target& target = device.target;
    list.push_back(
        {{"index", device.index},
         {"name", device.name},
         {"uuid", device.uuid},
         {"type", name(device.type)},
         {"driver", device.driver},
         {"vulkan", device.api},
         {"memory_bytes", device.memory_bytes},
         {"usable", device.usable},
         {"reason", device.reason},
         {"features", device.features},
         {"addressing", target.addressing == graph::Addressing::address ? "address" : "descriptor"},
         {"threads", target.threads},
         {"subgroup_size", target.subgroup_size},
         {"max_workgroup_invocations", target.max_workgroup_invocations},
         {"shared_memory_bytes", target.shared_memory_bytes},
         {"max_allocation", target.max_allocation},
         {"max_storage_range", target.max_storage_range}});
  }
  return list.dump(2);
}

}  // namespace surtsey::engine
