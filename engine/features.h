// What a physical device can do, and the table of what of it is used: required or optional, and
// what each sets in graph::Target. Every optional row has an off switch (DeviceOptions::without,
// SURTSEY_WITHOUT).
#pragma once

#include "engine/vulkan.h"
#include "graph/target.h"

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::engine {

// What VK_KHR_cooperative_matrix declares, which headers before 1.3.255 lack.
struct CooperativeMatrixFeatures {
  VkStructureType type = VkStructureType(1000506000);
  void* next = nullptr;
  VkBool32 cooperative_matrix = false;
  VkBool32 robust_buffer_access = false;
};
inline constexpr const char* kCooperativeMatrixExtension = "VK_KHR_cooperative_matrix";

struct Capabilities {
  vk::PhysicalDeviceProperties properties;
  vk::PhysicalDeviceDriverProperties driver;
  vk::PhysicalDeviceSubgroupProperties subgroup;
  vk::PhysicalDeviceSubgroupSizeControlProperties subgroup_size;
  vk::PhysicalDeviceMaintenance3Properties maintenance3;
  vk::PhysicalDeviceMaintenance4Properties maintenance4;
  vk::PhysicalDeviceMemoryProperties memory;
  std::array<uint8_t, VK_UUID_SIZE> uuid{};
  vk::PhysicalDeviceFeatures features;
  vk::PhysicalDeviceVulkan11Features features11;
  vk::PhysicalDeviceVulkan12Features features12;
  vk::PhysicalDeviceVulkan13Features features13;
  vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR executables;
  graph::CooperativeMatrix cooperative;  // the largest of f16 operands and f32 sums; m is 0: none
  std::set<std::string> extensions;
  bool debug_utils = false;            // of the instance
  uint32_t queue_family = UINT32_MAX;  // with compute, without graphics if there is one
  uint32_t timestamp_bits = 0;         // of that family

  bool cpu() const { return properties.deviceType == vk::PhysicalDeviceType::eCpu; }
  // Whether pipelines can be made to use one subgroup size, or there is only one.
  bool fixed_subgroup_size(uint32_t size) const;
  bool requires_subgroup_size() const;  // the size can be asked for in compute pipelines
};

Capabilities query(const vk::raii::Instance& instance, const vk::raii::PhysicalDevice& device);

struct FeatureRow {
  const char* name;
  bool required;
  const char* extension;  // to enable, or null
  const char* why;
  bool (*present)(const Capabilities&);
  void (*enable)(Capabilities&);  // sets what vkCreateDevice is to enable in features, features11
                                  // to 13, executables
  void (*apply)(graph::Target&);
  const char* before_1_3 = nullptr;  // the extension that devices of Vulkan 1.2 have it as
};
std::span<const FeatureRow> feature_table();

struct FeatureSet {
  Capabilities enable;  // only features, features11 to 13 and executables are of interest
  std::vector<const char*> extensions;
  std::vector<std::string> names;  // rows in use
  std::vector<std::string> off;    // optional rows that are not: "name (why)"
  graph::Target target;
  std::string missing;  // why the device cannot run, or empty

  bool in_use(std::string_view row) const;
};

// The limits and the rows of a device as a Target. `without` names optional rows to leave out;
// UserError lists the rows when one does not exist. `missing` says what is required and absent.
FeatureSet choose_features(const Capabilities& capabilities, const std::vector<std::string>& without);

}  // namespace surtsey::engine
