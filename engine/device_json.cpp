#include "engine/context.h"

#include <nlohmann/json.hpp>

#include <cmath>

namespace surtsey::engine {

std::string device_details(const Capabilities& c) {
  const vk::PhysicalDeviceProperties& p = c.properties;
  const vk::PhysicalDeviceLimits& limits = p.limits;
  nlohmann::ordered_json heaps = nlohmann::ordered_json::array();
  for (uint32_t i = 0; i < c.memory.memoryHeapCount; ++i)
    heaps.push_back({{"bytes", c.memory.memoryHeaps[i].size},
                     {"device_local", bool(c.memory.memoryHeaps[i].flags & vk::MemoryHeapFlagBits::eDeviceLocal)}});
  std::string cache_uuid;
  for (const uint8_t byte : p.pipelineCacheUUID) cache_uuid += fmt::format("{:02x}", byte);
  const nlohmann::ordered_json details = {
      {"vendor_id", p.vendorID},
      {"device_id", p.deviceID},
      {"driver_version", p.driverVersion},
      {"pipeline_cache_uuid", cache_uuid},
      {"heaps", heaps},
      {"memory_types", c.memory.memoryTypeCount},
      {"subgroup_size", c.subgroup.subgroupSize},
      {"min_subgroup_size", c.subgroup_size.minSubgroupSize},
      {"max_subgroup_size", c.subgroup_size.maxSubgroupSize},
      {"subgroup_operations", vk::to_string(c.subgroup.supportedOperations)},
      {"timestamp_bits", c.timestamp_bits},
      // JSON has no infinity, which is what drivers without a clock report.
      {"timestamp_period_ns", std::isfinite(limits.timestampPeriod) ? nlohmann::ordered_json(limits.timestampPeriod)
                                                                    : nlohmann::ordered_json()},
      {"non_coherent_atom_size", limits.nonCoherentAtomSize},
      {"max_memory_allocations", limits.maxMemoryAllocationCount},
      {"extensions", c.extensions},
  };
  // Names of drivers are not always UTF-8.
  return details.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string to_json(std::span<const DeviceInfo> devices) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const DeviceInfo& device : devices) {
    const graph::Target& target = device.target;
    const auto details =
        device.details.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json::parse(device.details);
    list.push_back({{"index", device.index},
                    {"name", device.name},
                    {"uuid", device.uuid},
                    {"type", name(device.type)},
                    {"driver", device.driver},
                    {"vulkan", device.api},
                    {"memory_bytes", device.memory_bytes},
                    {"usable", device.usable},
                    {"reason", device.reason},
                    {"features", device.features},
                    {"off", device.off},
                    {"quirks", device.quirks},
                    {"addressing", target.addressing == graph::Addressing::address ? "address" : "descriptor"},
                    {"threads", target.threads},
                    {"subgroup_size", target.subgroup_size},
                    {"max_workgroup_invocations", target.max_workgroup_invocations},
                    {"max_workgroups", target.max_workgroups},
                    {"shared_memory_bytes", target.shared_memory_bytes},
                    {"push_constant_bytes", target.push_constant_bytes},
                    {"max_storage_buffers", target.max_storage_buffers},
                    {"storage_offset_alignment", target.storage_offset_alignment},
                    {"max_allocation", target.max_allocation},
                    {"max_storage_range", target.max_storage_range},
                    {"details", details}});
  }
  return list.dump(2);
}

}  // namespace surtsey::engine
