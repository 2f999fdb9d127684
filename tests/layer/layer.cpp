// VK_LAYER_SURTSEY_test: devices that are smaller than the one underneath, and faults on demand.
// settings.h says how it is asked; tests/README.md says how it is loaded.
#include "tests/layer/device.h"
#include "tests/layer/limits.h"

#include <cstring>
#include <map>
#include <mutex>

namespace surtsey::layer {
namespace {

// The functions below this layer, taken at creation: later the loader answers with the top of the
// chain.
struct Instance {
  Settings settings;
  VkInstance handle = VK_NULL_HANDLE;
  PFN_vkGetInstanceProcAddr next = nullptr;
  PFN_vkDestroyInstance destroy = nullptr;
  PFN_vkGetPhysicalDeviceProperties properties = nullptr;
  PFN_vkGetPhysicalDeviceProperties2 properties2 = nullptr;
  PFN_vkGetPhysicalDeviceFeatures2 features2 = nullptr;
  PFN_vkGetPhysicalDeviceQueueFamilyProperties families = nullptr;
  PFN_vkGetPhysicalDeviceMemoryProperties memory = nullptr;
  PFN_vkGetPhysicalDeviceMemoryProperties2 memory2 = nullptr;

  void load() {
    get(destroy, "vkDestroyInstance");
    get(properties, "vkGetPhysicalDeviceProperties");
    get(properties2, "vkGetPhysicalDeviceProperties2");
    get(features2, "vkGetPhysicalDeviceFeatures2");
    get(families, "vkGetPhysicalDeviceQueueFamilyProperties");
    get(memory, "vkGetPhysicalDeviceMemoryProperties");
    get(memory2, "vkGetPhysicalDeviceMemoryProperties2");
  }

 private:
  template <typename F>
  void get(F& function, const char* name) {
    function = reinterpret_cast<F>(next(handle, name));
  }
};

std::mutex instances_mutex;
std::map<void*, Instance> instances;

template <typename Handle>
Instance instance_of(Handle handle) {
  std::scoped_lock lock(instances_mutex);
  return instances.at(owner(handle));
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance_function(VkInstance instance, const char* name);

// The loader's link to the next layer in a chain of creation structures.
template <typename Link>
Link* find_link(const void* chain, VkStructureType type) {
  for (auto* next = static_cast<const VkBaseInStructure*>(chain); next; next = next->pNext) {
    auto* link = const_cast<Link*>(reinterpret_cast<const Link*>(next));
    if (next->sType == type && link->function == VK_LAYER_LINK_INFO) return link;
  }
  return nullptr;
}

VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo* info, const VkAllocationCallbacks* allocator,
                                               VkInstance* handle) {
  Instance instance;
  auto* link = find_link<VkLayerInstanceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
  if (link == nullptr || !read_settings(instance.settings)) return VK_ERROR_INITIALIZATION_FAILED;
  instance.next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  const auto create = reinterpret_cast<PFN_vkCreateInstance>(instance.next(VK_NULL_HANDLE, "vkCreateInstance"));
  const VkResult result = create(info, allocator, handle);
  if (result != VK_SUCCESS) return result;
  instance.handle = *handle;
  instance.load();
  std::scoped_lock lock(instances_mutex);
  instances[owner(*handle)] = instance;
  return VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance handle, const VkAllocationCallbacks* allocator) {
  if (handle == VK_NULL_HANDLE) return;
  const Instance instance = instance_of(handle);
  {
    std::scoped_lock lock(instances_mutex);
    instances.erase(owner(handle));
  }
  instance.destroy(handle, allocator);
}

VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo* info,
                                             const VkAllocationCallbacks* allocator, VkDevice* handle) {
  const Instance instance = instance_of(physical);
  auto* link = find_link<VkLayerDeviceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
  if (link == nullptr) return VK_ERROR_INITIALIZATION_FAILED;
  const PFN_vkGetInstanceProcAddr next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  const PFN_vkGetDeviceProcAddr next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  const auto create = reinterpret_cast<PFN_vkCreateDevice>(next_instance(instance.handle, "vkCreateDevice"));
  const VkResult result = create(physical, info, allocator, handle);
  if (result == VK_SUCCESS) add_device(*handle, next_device, instance.settings);
  return result;
}

VKAPI_ATTR void VKAPI_CALL properties(VkPhysicalDevice physical, VkPhysicalDeviceProperties* properties) {
  const Instance instance = instance_of(physical);
  instance.properties(physical, properties);
  lower_properties(instance.settings, *properties);
}

VKAPI_ATTR void VKAPI_CALL properties2(VkPhysicalDevice physical, VkPhysicalDeviceProperties2* properties) {
  const Instance instance = instance_of(physical);
  instance.properties2(physical, properties);
  lower_properties(instance.settings, *properties);
}

VKAPI_ATTR void VKAPI_CALL features2(VkPhysicalDevice physical, VkPhysicalDeviceFeatures2* features) {
  const Instance instance = instance_of(physical);
  instance.features2(physical, features);
  lower_features(instance.settings, *features);
}

VKAPI_ATTR void VKAPI_CALL families(VkPhysicalDevice physical, uint32_t* count, VkQueueFamilyProperties* families) {
  const Instance instance = instance_of(physical);
  instance.families(physical, count, families);
  if (families == nullptr || instance.settings.no_timestamps == 0) return;
  for (uint32_t i = 0; i < *count; ++i) families[i].timestampValidBits = 0;
}

VKAPI_ATTR void VKAPI_CALL memory(VkPhysicalDevice physical, VkPhysicalDeviceMemoryProperties* memory) {
  const Instance instance = instance_of(physical);
  instance.memory(physical, memory);
  if (splits_memory(instance.settings)) split_memory(*memory);
}

VKAPI_ATTR void VKAPI_CALL memory2(VkPhysicalDevice physical, VkPhysicalDeviceMemoryProperties2* memory) {
  const Instance instance = instance_of(physical);
  instance.memory2(physical, memory);
  if (!splits_memory(instance.settings)) return;
  split_memory(memory->memoryProperties);
  for (auto* next = static_cast<VkBaseOutStructure*>(memory->pNext); next; next = next->pNext)
    if (next->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT)
      split_budget(*reinterpret_cast<VkPhysicalDeviceMemoryBudgetPropertiesEXT*>(next));
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance_function(VkInstance instance, const char* name) {
  const struct {
    const char* name;
    PFN_vkVoidFunction function;
  } functions[] = {
#define SURTSEY_LAYER_ROW(name, function) {name, reinterpret_cast<PFN_vkVoidFunction>(function)}
      SURTSEY_LAYER_ROW("vkGetInstanceProcAddr", get_instance_function),
      SURTSEY_LAYER_ROW("vkCreateInstance", create_instance),
      SURTSEY_LAYER_ROW("vkDestroyInstance", destroy_instance),
      SURTSEY_LAYER_ROW("vkCreateDevice", create_device),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceProperties", properties),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceProperties2", properties2),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceProperties2KHR", properties2),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceFeatures2", features2),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceFeatures2KHR", features2),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceQueueFamilyProperties", families),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceMemoryProperties", memory),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceMemoryProperties2", memory2),
      SURTSEY_LAYER_ROW("vkGetPhysicalDeviceMemoryProperties2KHR", memory2),
#undef SURTSEY_LAYER_ROW
  };
  for (const auto& row : functions)
    if (std::strcmp(row.name, name) == 0) return row.function;
  if (PFN_vkVoidFunction function = device_function(name)) return function;
  return instance == VK_NULL_HANDLE ? nullptr : instance_of(instance).next(instance, name);
}

}  // namespace
}  // namespace surtsey::layer

// The one symbol that the loader looks for. Newer headers of Vulkan have no macro that exports it.
extern "C" __attribute__((visibility("default"))) VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface* interface) {
  if (interface->loaderLayerInterfaceVersion < CURRENT_LOADER_LAYER_INTERFACE_VERSION)
    return VK_ERROR_INITIALIZATION_FAILED;
  interface->loaderLayerInterfaceVersion = CURRENT_LOADER_LAYER_INTERFACE_VERSION;
  interface->pfnGetInstanceProcAddr = surtsey::layer::get_instance_function;
  interface->pfnGetDeviceProcAddr = surtsey::layer::get_device_function;
  interface->pfnGetPhysicalDeviceProcAddr = nullptr;
  return VK_SUCCESS;
}
