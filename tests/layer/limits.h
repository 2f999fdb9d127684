// Devices that are smaller than the one underneath. A profile lowers limits and takes features
// away, never adds any, so whatever the driver runs is legal for it.
//
//   minimum    what Vulkan promises, and nothing else: 16 KiB of shared memory, 128 invocations,
//              128 bytes of push constants, 128 MiB a storage buffer, 4 storage buffers a stage,
//              offsets of 256, no buffer addresses, no f16, no ballot
//   mobile     an integrated GPU: 32 KiB, 256 invocations, 128 MiB, 8 storage buffers, one subgroup
//              size that cannot be chosen, no f16
//   discrete   a discrete GPU that is short of everything: 16 KiB, 128 invocations, 7 workgroups a
//              dispatch, allocations of 1 MiB, and memory that the host cannot map
#pragma once

#include <vulkan/vulkan.h>

#include "tests/layer/settings.h"

namespace surtsey::layer {

void lower_properties(const Settings& settings, VkPhysicalDeviceProperties& properties);
// The structures of the chain, too.
void lower_properties(const Settings& settings, VkPhysicalDeviceProperties2& properties);
void lower_features(const Settings& settings, VkPhysicalDeviceFeatures2& features);

// With `discrete`, the driver's memory (one type, as CPU drivers have) is shown as two: type 0 is
// the device's own, type 1 the host's. These translate in both directions.
bool splits_memory(const Settings& settings);
void split_memory(VkPhysicalDeviceMemoryProperties& memory);
void split_budget(VkPhysicalDeviceMemoryBudgetPropertiesEXT& budget);
uint32_t split_type_bits(uint32_t type_bits);

}  // namespace surtsey::layer
