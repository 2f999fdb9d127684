#include "tests/layer/limits.h"

#include <algorithm>

namespace surtsey::layer {
namespace {

constexpr uint32_t kMiB = 1u << 20;

template <typename T>
void lower(T& value, T most) {
  value = std::min(value, most);
}

void lower_limits(const Settings& settings, VkPhysicalDeviceLimits& limits) {
  if (settings.limits.empty()) return;
  const bool mobile = settings.limits == "mobile";
  lower(limits.maxComputeSharedMemorySize, mobile ? 32768u : 16384u);
  const uint32_t invocations = mobile ? 256 : 128;
  lower(limits.maxComputeWorkGroupInvocations, invocations);
  for (uint32_t& size : limits.maxComputeWorkGroupSize) lower(size, invocations);
  lower(limits.maxPushConstantsSize, 128u);
  lower(limits.maxStorageBufferRange, 128 * kMiB);
  const uint32_t buffers = settings.limits == "minimum" ? 4 : 8;
  lower(limits.maxPerStageDescriptorStorageBuffers, buffers);
  lower(limits.maxDescriptorSetStorageBuffers, buffers);
  const uint32_t groups = settings.limits == "discrete" ? 7 : 65535;
  for (uint32_t& count : limits.maxComputeWorkGroupCount) lower(count, groups);
  limits.minStorageBufferOffsetAlignment = mobile ? 64 : 256;
  limits.nonCoherentAtomSize = std::max<VkDeviceSize>(limits.nonCoherentAtomSize, 256);
}

void lower_type(const Settings& settings, VkPhysicalDeviceType& type) {
  if (settings.limits == "mobile") type = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
  if (settings.limits == "discrete") type = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
}

VkDeviceSize max_allocation(const Settings& settings) {
  if (settings.max_allocation != 0) return settings.max_allocation;
  if (settings.limits.empty()) return ~VkDeviceSize(0);
  return settings.limits == "discrete" ? kMiB : 1024 * VkDeviceSize(kMiB);
}

}  // namespace

void lower_properties(const Settings& settings, VkPhysicalDeviceProperties& properties) {
  lower_limits(settings, properties.limits);
  lower_type(settings, properties.deviceType);
  if (settings.vulkan12 != 0) lower(properties.apiVersion, VK_MAKE_API_VERSION(0, 1, 2, 300));
}

void lower_properties(const Settings& settings, VkPhysicalDeviceProperties2& properties) {
  lower_properties(settings, properties.properties);
  for (auto* next = static_cast<VkBaseOutStructure*>(properties.pNext); next; next = next->pNext) {
    switch (next->sType) {
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES: {
        auto* p = reinterpret_cast<VkPhysicalDeviceVulkan11Properties*>(next);
        lower(p->maxMemoryAllocationSize, max_allocation(settings));
        if (settings.limits == "minimum") p->subgroupSupportedOperations = VK_SUBGROUP_FEATURE_BASIC_BIT;
        break;
      }
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES: {
        auto* p = reinterpret_cast<VkPhysicalDeviceMaintenance3Properties*>(next);
        lower(p->maxMemoryAllocationSize, max_allocation(settings));
        break;
      }
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES: {
        auto* p = reinterpret_cast<VkPhysicalDeviceSubgroupProperties*>(next);
        if (settings.limits == "minimum") p->supportedOperations = VK_SUBGROUP_FEATURE_BASIC_BIT;
        break;
      }
      default:
        break;
    }
  }
}

void lower_features(const Settings& settings, VkPhysicalDeviceFeatures2& features) {
  if (settings.limits.empty()) return;
  const bool minimum = settings.limits == "minimum", discrete = settings.limits == "discrete";
  for (auto* next = static_cast<VkBaseOutStructure*>(features.pNext); next; next = next->pNext) {
    switch (next->sType) {
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES:
        if (!discrete) reinterpret_cast<VkPhysicalDeviceVulkan11Features*>(next)->storageBuffer16BitAccess = 0;
        break;
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES: {
        auto* f = reinterpret_cast<VkPhysicalDeviceVulkan12Features*>(next);
        if (!discrete) f->shaderFloat16 = 0;
        if (minimum) f->bufferDeviceAddress = f->scalarBlockLayout = 0;
        break;
      }
      case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES: {
        auto* f = reinterpret_cast<VkPhysicalDeviceVulkan13Features*>(next);
        if (!discrete) f->subgroupSizeControl = f->computeFullSubgroups = 0;
        break;
      }
      default:
        break;
    }
  }
}

bool splits_memory(const Settings& settings) { return settings.limits == "discrete"; }

void split_memory(VkPhysicalDeviceMemoryProperties& memory) {
  if (memory.memoryTypeCount != 1 || memory.memoryHeapCount != 1) return;
  memory.memoryHeapCount = memory.memoryTypeCount = 2;
  memory.memoryHeaps[0].flags = VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;
  memory.memoryHeaps[1] = {memory.memoryHeaps[0].size, 0};
  memory.memoryTypes[1] = {
      memory.memoryTypes[0].propertyFlags & ~VkMemoryPropertyFlags(VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT), 1};
  memory.memoryTypes[0] = {VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0};
}

void split_budget(VkPhysicalDeviceMemoryBudgetPropertiesEXT& budget) {
  budget.heapBudget[1] = budget.heapBudget[0];
  budget.heapUsage[1] = budget.heapUsage[0];
}

uint32_t split_type_bits(uint32_t type_bits) { return type_bits & 1 ? type_bits | 2 : type_bits; }

}  // namespace surtsey::layer
