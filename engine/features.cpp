#include "engine/features.h"

#include "engine/quirks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <thread>

namespace surtsey::engine {
namespace {

void nothing(graph::Target&) {}
void nothing_to_enable(Capabilities&) {}

constexpr FeatureRow kFeatures[] = {
    {"synchronization2", true, nullptr, "barriers and submissions",
     [](const Capabilities& c) { return bool(c.features13.synchronization2); },
     [](Capabilities& c) { c.features13.synchronization2 = true; }, nothing, VK_KHR_SYNCHRONIZATION_2_EXTENSION_NAME},
    {"timeline_semaphore", true, nullptr, "tickets of submissions",
     [](const Capabilities& c) { return bool(c.features12.timelineSemaphore); },
     [](Capabilities& c) { c.features12.timelineSemaphore = true; }, nothing},
    {"buffer_address", false, nullptr, "kernels reach tensors by address, 1.5 to 1.9 times faster on CPU devices",
     [](const Capabilities& c) { return bool(c.features12.bufferDeviceAddress); },
     [](Capabilities& c) { c.features12.bufferDeviceAddress = true; },
     [](graph::Target& t) { t.buffer_address = true; }},
    {"scalar_layout", false, nullptr, "tightly packed blocks",
     [](const Capabilities& c) { return bool(c.features12.scalarBlockLayout); },
     [](Capabilities& c) { c.features12.scalarBlockLayout = true; }, nothing},
    {"subgroup_size_control", false, nullptr, "the subgroup size that a kernel was written for",
     [](const Capabilities& c) { return c.features13.subgroupSizeControl && c.features13.computeFullSubgroups; },
     [](Capabilities& c) { c.features13.subgroupSizeControl = c.features13.computeFullSubgroups = true; }, nothing,
     VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME},
    {"subgroup_ballot", false, nullptr, "broadcast between lanes",
     [](const Capabilities& c) {
       return (c.subgroup.supportedStages & vk::ShaderStageFlagBits::eCompute) &&
              (c.subgroup.supportedOperations & vk::SubgroupFeatureFlagBits::eBallot);
     },
     nothing_to_enable, [](graph::Target& t) { t.subgroup_ballot = true; }},
    {"f16_storage", false, nullptr, "f16 and bf16 activations in half the bytes; arithmetic stays f32",
     [](const Capabilities& c) { return bool(c.features11.storageBuffer16BitAccess); },
     [](Capabilities& c) { c.features11.storageBuffer16BitAccess = true; },
     [](graph::Target& t) { t.f16_storage = true; }},
    {"cooperative_matrix", false, kCooperativeMatrixExtension,
     "f16 products by the device's matrix units, where they are right and faster",
     [](const Capabilities& c) {
       return c.cooperative.m != 0 && c.features12.shaderFloat16 && c.features12.vulkanMemoryModel &&
              c.features11.storageBuffer16BitAccess;
     },
     [](Capabilities& c) { c.features12.shaderFloat16 = c.features12.vulkanMemoryModel = true; }, nothing},
    {"int64_words", false, nullptr, "two neighbouring floats stored as one word, on CPU devices",
     [](const Capabilities& c) { return bool(c.features.shaderInt64); },
     [](Capabilities& c) { c.features.shaderInt64 = true; }, [](graph::Target& t) { t.int64_words = true; }},
    {"memory_budget", false, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME, "what other processes leave of a heap",
     [](const Capabilities& c) { return c.extensions.contains(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME); },
     nothing_to_enable, nothing},
    {"fusion", false, nullptr, "kernels compute more than one node of the graph",
     [](const Capabilities&) { return true; }, nothing_to_enable, [](graph::Target& t) { t.fusion = true; }},
    {"executable_properties", false, VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME,
     "what the driver's compiler says of a kernel: registers, spills, occupancy, ISA",
     [](const Capabilities& c) { return bool(c.executables.pipelineExecutableInfo); },
     [](Capabilities& c) { c.executables.pipelineExecutableInfo = true; }, nothing},
    {"debug_labels", false, nullptr, "names and labels in graphics debuggers and vendors' profilers",
     [](const Capabilities& c) { return c.debug_utils; }, nothing_to_enable, nothing},
    {"pipeline_cache", false, nullptr, "compiled kernels are kept on disk", [](const Capabilities&) { return true; },
     nothing_to_enable, nothing},
    {"tuning", false, nullptr, "products and reductions are cut as `surtsey tune` measured here",
     [](const Capabilities&) { return true; }, nothing_to_enable, nothing},
};

// VK_KHR_PORTABILITY_SUBSET_EXTENSION_NAME, which headers define among provisional extensions only.
constexpr const char* kPortabilitySubset = "VK_KHR_portability_subset";

// VkCooperativeMatrixPropertiesKHR, and the values of its enumerations that matter here.
struct CooperativeMatrixProperties {
  VkStructureType type = VkStructureType(1000506001);
  void* next = nullptr;
  uint32_t m = 0, n = 0, k = 0;
  uint32_t a_type = 0, b_type = 0, c_type = 0, result_type = 0;
  VkBool32 saturating = false;
  uint32_t scope = 0;
};
constexpr uint32_t kFloat16 = 0, kFloat32 = 1, kSubgroupScope = 3;

graph::CooperativeMatrix largest_cooperative(const vk::raii::Instance& instance,
                                             const vk::raii::PhysicalDevice& device) {
  CooperativeMatrixFeatures features;
  VkPhysicalDeviceFeatures2 chain{
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &features, .features = {}};
  device.getDispatcher()->vkGetPhysicalDeviceFeatures2(*device, &chain);
  if (!features.cooperative_matrix) return {};
  using Query = VkResult(VKAPI_PTR*)(VkPhysicalDevice, uint32_t*, CooperativeMatrixProperties*);
  const auto query = reinterpret_cast<Query>(instance.getProcAddr("vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR"));
  uint32_t count = 0;
  if (!query || query(*device, &count, nullptr) != VK_SUCCESS) return {};
  std::vector<CooperativeMatrixProperties> list(count);
  if (query(*device, &count, list.data()) < 0) return {};
  graph::CooperativeMatrix best;
  for (const CooperativeMatrixProperties& p : list) {
    const bool fits = p.a_type == kFloat16 && p.b_type == kFloat16 && p.c_type == kFloat32 &&
                      p.result_type == kFloat32 && p.scope == kSubgroupScope && !p.saturating;
    if (fits && p.m * p.n * p.k > best.m * best.n * best.k) best = {.m = p.m, .n = p.n, .k = p.k};
  }
  return best;
}

uint32_t estimated_processors(const Capabilities& capabilities) {
  switch (capabilities.properties.deviceType) {
    case vk::PhysicalDeviceType::eCpu:
      return std::max(1u, std::thread::hardware_concurrency());
    case vk::PhysicalDeviceType::eDiscreteGpu:
      return 64;
    default:
      return 16;
  }
}

std::string why_it_cannot_run(const Capabilities& c) {
  uint32_t version = c.properties.apiVersion;
  if (version < VK_API_VERSION_1_2)
    return fmt::format("it has Vulkan {}.{}, 1.2 is required", VK_API_VERSION_MAJOR(version),
                       VK_API_VERSION_MINOR(version));
  if (c.queue_family == UINT32_MAX) return "it has no compute queue";
  if (c.memory.memoryTypeCount == 0) return "it has no memory: a driver that only compiles";
  if (!std::isfinite(c.properties.limits.timestampPeriod)) return "its clock is not one: a driver that only compiles";
  return {};
}

}  // namespace

bool Capabilities::requires_subgroup_size() const {
  return features13.subgroupSizeControl &&
         (subgroup_size.requiredSubgroupSizeStages & vk::ShaderStageFlagBits::eCompute);
}

bool Capabilities::fixed_subgroup_size(uint32_t size) const {
  if (subgroup_size.minSubgroupSize == size && subgroup_size.maxSubgroupSize == size) return true;
  return requires_subgroup_size() && size >= subgroup_size.minSubgroupSize && size <= subgroup_size.maxSubgroupSize;
}

namespace {

// What Vulkan 1.3 made part of itself: on devices of 1.2 each of it is an extension, with a structure of its own.
void query_1_3(const vk::raii::PhysicalDevice& device, Capabilities& result) {
  using Features = vk::PhysicalDeviceFeatures2;
  using Properties = vk::PhysicalDeviceProperties2;
  using Sizes = vk::PhysicalDeviceSubgroupSizeControlProperties;
  using SizeFeatures = vk::PhysicalDeviceSubgroupSizeControlFeatures;
  const bool core = result.properties.apiVersion >= VK_API_VERSION_1_3;
  const bool sizes = core || result.extensions.contains(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
  if (sizes) result.subgroup_size = device.getProperties2<Properties, Sizes>().get<Sizes>();
  if (core) {
    using Maintenance = vk::PhysicalDeviceMaintenance4Properties;
    result.maintenance4 = device.getProperties2<Properties, Maintenance>().get<Maintenance>();
    using Features13 = vk::PhysicalDeviceVulkan13Features;
    result.features13 = device.getFeatures2<Features, Features13>().get<Features13>();
    return;
  }
  if (result.extensions.contains(VK_KHR_SYNCHRONIZATION_2_EXTENSION_NAME)) {
    using Synchronization = vk::PhysicalDeviceSynchronization2Features;
    result.features13.synchronization2 =
        device.getFeatures2<Features, Synchronization>().get<Synchronization>().synchronization2;
  }
  if (!sizes) return;
  const auto features = device.getFeatures2<Features, SizeFeatures>().get<SizeFeatures>();
  result.features13.subgroupSizeControl = features.subgroupSizeControl;
  result.features13.computeFullSubgroups = features.computeFullSubgroups;
}

}  // namespace

Capabilities query(const vk::raii::Instance& instance, const vk::raii::PhysicalDevice& device) {
  Capabilities result;
  result.properties = device.getProperties();
  for (const vk::ExtensionProperties& extension : device.enumerateDeviceExtensionProperties())
    result.extensions.insert(extension.extensionName.data());
  result.debug_utils = device.getDispatcher()->vkCreateDebugUtilsMessengerEXT != nullptr;
  result.memory = device.getMemoryProperties();
  const uint32_t version = result.properties.apiVersion;
  const auto has = [&](const char* extension) { return result.extensions.contains(extension); };
  // Of a device that is refused, too: the driver is what one wants to know then.
  if (version >= VK_API_VERSION_1_2 || (version >= VK_API_VERSION_1_1 && has(VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME)))
    result.driver = device.getProperties2<vk::PhysicalDeviceProperties2, vk::PhysicalDeviceDriverProperties>()
                        .get<vk::PhysicalDeviceDriverProperties>();
  if (version < VK_API_VERSION_1_2) return result;  // the structures below would not be filled
  auto properties =
      device.getProperties2<vk::PhysicalDeviceProperties2, vk::PhysicalDeviceIDProperties,
                            vk::PhysicalDeviceSubgroupProperties, vk::PhysicalDeviceMaintenance3Properties>();
  std::copy_n(properties.get<vk::PhysicalDeviceIDProperties>().deviceUUID.begin(), VK_UUID_SIZE, result.uuid.begin());
  result.subgroup = properties.get<vk::PhysicalDeviceSubgroupProperties>();
  result.maintenance3 = properties.get<vk::PhysicalDeviceMaintenance3Properties>();
  auto features = device.getFeatures2<vk::PhysicalDeviceFeatures2, vk::PhysicalDeviceVulkan11Features,
                                      vk::PhysicalDeviceVulkan12Features>();
  result.features = features.get<vk::PhysicalDeviceFeatures2>().features;
  result.features11 = features.get<vk::PhysicalDeviceVulkan11Features>();
  result.features12 = features.get<vk::PhysicalDeviceVulkan12Features>();
  query_1_3(device, result);
  if (result.extensions.contains(VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME))
    result.executables =
        device.getFeatures2<vk::PhysicalDeviceFeatures2, vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR>()
            .get<vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR>();
  if (result.extensions.contains(kCooperativeMatrixExtension))
    result.cooperative = largest_cooperative(instance, device);
  auto families = device.getQueueFamilyProperties();
  for (uint32_t i = 0; i < families.size(); ++i) {
    bool graphics = bool(families[i].queueFlags & vk::QueueFlagBits::eGraphics);
    if (!(families[i].queueFlags & vk::QueueFlagBits::eCompute) || families[i].queueCount == 0) continue;
    if (result.queue_family != UINT32_MAX && graphics) continue;
    result.queue_family = i;
    result.timestamp_bits = families[i].timestampValidBits;
    if (!graphics) break;
  }
  return result;
}

bool FeatureSet::in_use(std::string_view row) const {
  return std::find(names.begin(), names.end(), row) != names.end();
}

std::span<const FeatureRow> feature_table() { return kFeatures; }

FeatureSet choose_features(const Capabilities& c, const std::vector<std::string>& without) {
  for (const std::string& name : without) {
    std::string optional;
    bool known = false;
    for (const FeatureRow& row : kFeatures) {
      if (row.required) continue;
      known |= row.name == name;
      optional += fmt::format("{}{}", optional.empty() ? "" : ", ", row.name);
    }
    check(known, "there is no optional feature '{}'; there are: {}", name, optional);
  }

  FeatureSet result;
  const vk::PhysicalDeviceLimits& limits = c.properties.limits;
  graph::Target& target = result.target;
  target.name = c.properties.deviceName.data();
  target.cpu = c.cpu();
  target.threads = estimated_processors(c);
  target.max_workgroup_invocations = std::min(limits.maxComputeWorkGroupInvocations, limits.maxComputeWorkGroupSize[0]);
  target.max_workgroups = limits.maxComputeWorkGroupCount[0];
  target.shared_memory_bytes = limits.maxComputeSharedMemorySize;
  target.push_constant_bytes = limits.maxPushConstantsSize;
  target.max_storage_buffers =
      std::min(limits.maxPerStageDescriptorStorageBuffers, limits.maxDescriptorSetStorageBuffers);
  target.storage_offset_alignment = std::max<uint32_t>(4, uint32_t(limits.minStorageBufferOffsetAlignment));
  target.max_storage_range = limits.maxStorageBufferRange;
  target.max_allocation = c.maintenance3.maxMemoryAllocationSize;
  if (c.maintenance4.maxBufferSize != 0)
    target.max_allocation = std::min(target.max_allocation, c.maintenance4.maxBufferSize);
  // Blocks begin and end where anything can be placed.
  target.max_allocation &= ~uint64_t(4095);

  target.fusion = false;  // a row, as all that can be switched off

  result.missing = why_it_cannot_run(c);
  const std::vector<WithoutRow> defects = rows_without(c);
  for (const FeatureRow& row : kFeatures) {
    if (std::find(without.begin(), without.end(), row.name) != without.end()) {
      result.off.push_back(fmt::format("{} (switched off)", row.name));
      continue;
    }
    const auto defect =
        std::find_if(defects.begin(), defects.end(), [&](const WithoutRow& one) { return one.row == row.name; });
    if (defect != defects.end()) {
      result.off.push_back(fmt::format("{} ({})", row.name, defect->quirk));
      continue;
    }
    if (!row.present(c)) {
      if (!row.required)
        result.off.push_back(fmt::format("{} (the device lacks it)", row.name));
      else if (result.missing.empty())
        result.missing = fmt::format("it lacks {} ({})", row.name, row.why);
      continue;
    }
    row.enable(result.enable);
    row.apply(target);
    if (row.extension) result.extensions.push_back(row.extension);
    if (row.before_1_3 && c.properties.apiVersion < VK_API_VERSION_1_3) result.extensions.push_back(row.before_1_3);
    result.names.push_back(row.name);
  }
  // A device that has it is to be asked for it: it says that Vulkan is complete but for a list of exceptions, none of
  // which concerns compute shaders over storage buffers.
  if (c.extensions.contains(kPortabilitySubset)) result.extensions.push_back(kPortabilitySubset);
  if (c.properties.apiVersion < VK_API_VERSION_1_3 &&
      c.extensions.contains(VK_EXT_PIPELINE_CREATION_FEEDBACK_EXTENSION_NAME))
    result.extensions.push_back(VK_EXT_PIPELINE_CREATION_FEEDBACK_EXTENSION_NAME);
  if (target.subgroup_ballot) {
    uint32_t size = preferred_subgroup_size(c);
    bool controlled = result.enable.features13.subgroupSizeControl && c.requires_subgroup_size();
    bool only_one = c.subgroup_size.minSubgroupSize == size && c.subgroup_size.maxSubgroupSize == size;
    target.subgroup_size = controlled || only_one ? size : 0;
  }
  if (result.in_use("cooperative_matrix")) target.cooperative = c.cooperative;
  target.cooperative_floats = quirk_effects(c).cooperative_floats;
  target.addressing = target.buffer_address ? graph::Addressing::address : graph::Addressing::descriptor;
  return result;
}

}  // namespace surtsey::engine
