#include "tests/layer/device.h"

#include "tests/layer/limits.h"
#include "tests/layer/pipeline_blobs.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

namespace surtsey::layer {
namespace {

struct Device {
  Settings settings;
  VkDevice handle = VK_NULL_HANDLE;
  PFN_vkGetDeviceProcAddr next = nullptr;
  std::atomic<uint64_t> allocations = 0, submits = 0, pipelines = 0, maps = 0;
  std::atomic<int64_t> alive = 0;  // memory, buffers and pipelines
  std::atomic<bool> lost = false, fired = false;
  std::atomic<uint64_t> reached = ~uint64_t(0);  // what the timeline shows at most; less: it hangs
  PipelineBlobs blobs;
  std::mutex deadly_mutex;
  std::set<VkShaderModule> deadly;  // modules with 64-bit integers, with die_of_int64
  std::mutex values_mutex;
  std::map<VkSemaphore, uint64_t> values;  // of timeline semaphores, with wait_idle

  // The function below this layer.
  template <typename F>
  F below(const char* name) const {
    return reinterpret_cast<F>(next(handle, name));
  }

  bool turn(std::atomic<uint64_t>& count, uint64_t which) {
    if (++count != which) return false;
    fired = true;
    return true;
  }

  // Called by all that must not happen while work is in flight.
  void must_not_hang(const char* call) const {
    if (reached == ~uint64_t(0)) return;
    std::fprintf(stderr, "test layer: %s, and work is in flight\n", call);
    std::abort();
  }

  // What runs is let finish, so that its objects can be destroyed as on a device that was reset.
  VkResult lose() {
    below<PFN_vkDeviceWaitIdle>("vkDeviceWaitIdle")(handle);
    lost = true;
    return VK_ERROR_DEVICE_LOST;
  }
};

std::mutex devices_mutex;
std::map<void*, std::unique_ptr<Device>> devices;

template <typename Handle>
Device& device_of(Handle handle) {
  std::scoped_lock lock(devices_mutex);
  return *devices.at(owner(handle));
}

VKAPI_ATTR void VKAPI_CALL destroy_device(VkDevice handle, const VkAllocationCallbacks* allocator) {
  if (handle == VK_NULL_HANDLE) return;
  std::unique_ptr<Device> device;
  {
    std::scoped_lock lock(devices_mutex);
    const auto found = devices.find(owner(handle));
    device = std::move(found->second);
    devices.erase(found);
  }
  device->must_not_hang("vkDestroyDevice");
  if (!device->settings.report.empty()) {
    if (std::FILE* file = std::fopen(device->settings.report.c_str(), "a")) {
      std::fprintf(file,
                   "allocations=%llu submits=%llu pipelines=%llu maps=%llu cached=%llu alive=%lld "
                   "fired=%d\n",
                   static_cast<unsigned long long>(device->allocations),
                   static_cast<unsigned long long>(device->submits), static_cast<unsigned long long>(device->pipelines),
                   static_cast<unsigned long long>(device->maps), static_cast<unsigned long long>(device->blobs.hits()),
                   static_cast<long long>(device->alive), int(device->fired));
      std::fclose(file);
    }
  }
  device->below<PFN_vkDestroyDevice>("vkDestroyDevice")(handle, allocator);
}

VKAPI_ATTR VkResult VKAPI_CALL allocate_memory(VkDevice handle, const VkMemoryAllocateInfo* info,
                                               const VkAllocationCallbacks* allocator, VkDeviceMemory* memory) {
  Device& device = device_of(handle);
  if (device.turn(device.allocations, device.settings.fail_allocation)) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  VkMemoryAllocateInfo changed = *info;
  if (splits_memory(device.settings)) changed.memoryTypeIndex = 0;
  const VkResult result = device.below<PFN_vkAllocateMemory>("vkAllocateMemory")(handle, &changed, allocator, memory);
  if (result == VK_SUCCESS) ++device.alive;
  return result;
}

VKAPI_ATTR void VKAPI_CALL free_memory(VkDevice handle, VkDeviceMemory memory, const VkAllocationCallbacks* allocator) {
  Device& device = device_of(handle);
  device.must_not_hang("vkFreeMemory");
  if (memory != VK_NULL_HANDLE) --device.alive;
  device.below<PFN_vkFreeMemory>("vkFreeMemory")(handle, memory, allocator);
}

VKAPI_ATTR VkResult VKAPI_CALL map_memory(VkDevice handle, VkDeviceMemory memory, VkDeviceSize offset,
                                          VkDeviceSize size, VkMemoryMapFlags flags, void** data) {
  Device& device = device_of(handle);
  if (device.turn(device.maps, device.settings.fail_map)) return VK_ERROR_MEMORY_MAP_FAILED;
  return device.below<PFN_vkMapMemory>("vkMapMemory")(handle, memory, offset, size, flags, data);
}

VKAPI_ATTR VkResult VKAPI_CALL create_buffer(VkDevice handle, const VkBufferCreateInfo* info,
                                             const VkAllocationCallbacks* allocator, VkBuffer* buffer) {
  Device& device = device_of(handle);
  const VkResult result = device.below<PFN_vkCreateBuffer>("vkCreateBuffer")(handle, info, allocator, buffer);
  if (result == VK_SUCCESS) ++device.alive;
  return result;
}

VKAPI_ATTR void VKAPI_CALL destroy_buffer(VkDevice handle, VkBuffer buffer, const VkAllocationCallbacks* allocator) {
  Device& device = device_of(handle);
  device.must_not_hang("vkDestroyBuffer");
  if (buffer != VK_NULL_HANDLE) --device.alive;
  device.below<PFN_vkDestroyBuffer>("vkDestroyBuffer")(handle, buffer, allocator);
}

VKAPI_ATTR void VKAPI_CALL buffer_needs(VkDevice handle, VkBuffer buffer, VkMemoryRequirements* needs) {
  Device& device = device_of(handle);
  device.below<PFN_vkGetBufferMemoryRequirements>("vkGetBufferMemoryRequirements")(handle, buffer, needs);
  if (splits_memory(device.settings)) needs->memoryTypeBits = split_type_bits(needs->memoryTypeBits);
}

VKAPI_ATTR void VKAPI_CALL buffer_needs2(VkDevice handle, const VkBufferMemoryRequirementsInfo2* info,
                                         VkMemoryRequirements2* needs) {
  Device& device = device_of(handle);
  device.below<PFN_vkGetBufferMemoryRequirements2>("vkGetBufferMemoryRequirements2")(handle, info, needs);
  if (splits_memory(device.settings))
    needs->memoryRequirements.memoryTypeBits = split_type_bits(needs->memoryRequirements.memoryTypeBits);
}

// The name of a function as a parameter of a template.
struct FunctionName {
  template <size_t N>
  constexpr FunctionName(const char (&name)[N]) {
    static_assert(N <= sizeof text);
    std::copy_n(name, N, text);
  }
  char text[32] = {};
};

template <FunctionName kName, typename Handle>
VKAPI_ATTR void VKAPI_CALL destroy(VkDevice handle, Handle object, const VkAllocationCallbacks* allocator) {
  const Device& device = device_of(handle);
  device.must_not_hang(kName.text);
  using Function = void(VKAPI_PTR*)(VkDevice, Handle, const VkAllocationCallbacks*);
  device.below<Function>(kName.text)(handle, object, allocator);
}

VKAPI_ATTR void VKAPI_CALL free_commands(VkDevice handle, VkCommandPool pool, uint32_t count,
                                         const VkCommandBuffer* commands) {
  const Device& device = device_of(handle);
  device.must_not_hang("vkFreeCommandBuffers");
  device.below<PFN_vkFreeCommandBuffers>("vkFreeCommandBuffers")(handle, pool, count, commands);
}

VKAPI_ATTR VkResult VKAPI_CALL free_sets(VkDevice handle, VkDescriptorPool pool, uint32_t count,
                                         const VkDescriptorSet* sets) {
  const Device& device = device_of(handle);
  device.must_not_hang("vkFreeDescriptorSets");
  return device.below<PFN_vkFreeDescriptorSets>("vkFreeDescriptorSets")(handle, pool, count, sets);
}

// What comes of a submission; `below` hands it to the driver.
template <typename F>
VkResult submit(Device& device, F&& below) {
  if (device.lost) return VK_ERROR_DEVICE_LOST;
  const uint64_t count = ++device.submits;
  if (count == device.settings.lose_submit) {
    device.fired = true;
    return device.lose();
  }
  if (count == device.settings.lose_wait) {
    device.fired = true;
    device.lose();
    return VK_SUCCESS;
  }
  return below();
}

// A submission that has completed when it returns; no semaphore reaches the layers below.
VkResult submit_and_wait(Device& device, VkQueue queue, uint32_t count, const VkSubmitInfo2* infos, VkFence fence) {
  std::vector<VkSubmitInfo2> plain(infos, infos + count);
  for (VkSubmitInfo2& info : plain) info.signalSemaphoreInfoCount = info.waitSemaphoreInfoCount = 0;
  VkResult result = device.below<PFN_vkQueueSubmit2>("vkQueueSubmit2")(queue, count, plain.data(), fence);
  if (result == VK_SUCCESS) result = device.below<PFN_vkQueueWaitIdle>("vkQueueWaitIdle")(queue);
  if (result != VK_SUCCESS) return result;
  std::scoped_lock lock(device.values_mutex);
  for (uint32_t i = 0; i < count; ++i)
    for (uint32_t s = 0; s < infos[i].signalSemaphoreInfoCount; ++s)
      device.values[infos[i].pSignalSemaphoreInfos[s].semaphore] = infos[i].pSignalSemaphoreInfos[s].value;
  return VK_SUCCESS;
}

VKAPI_ATTR VkResult VKAPI_CALL queue_submit(VkQueue queue, uint32_t count, const VkSubmitInfo* infos, VkFence fence) {
  Device& device = device_of(queue);
  return submit(device, [&] { return device.below<PFN_vkQueueSubmit>("vkQueueSubmit")(queue, count, infos, fence); });
}

VKAPI_ATTR VkResult VKAPI_CALL queue_submit2(VkQueue queue, uint32_t count, const VkSubmitInfo2* infos, VkFence fence) {
  Device& device = device_of(queue);
  return submit(device, [&] {
    if (device.submits == device.settings.hang_submit) {
      device.fired = true;
      device.reached = infos[0].pSignalSemaphoreInfos[0].value - 1;
    }
    if (device.settings.wait_idle != 0) return submit_and_wait(device, queue, count, infos, fence);
    return device.below<PFN_vkQueueSubmit2>("vkQueueSubmit2")(queue, count, infos, fence);
  });
}

VKAPI_ATTR VkResult VKAPI_CALL wait_semaphores(VkDevice handle, const VkSemaphoreWaitInfo* info, uint64_t timeout) {
  Device& device = device_of(handle);
  if (device.lost) return VK_ERROR_DEVICE_LOST;
  if (info->pValues[0] > device.reached) return VK_TIMEOUT;
  if (device.settings.wait_idle != 0) {
    std::scoped_lock lock(device.values_mutex);
    for (uint32_t i = 0; i < info->semaphoreCount; ++i)
      if (device.values[info->pSemaphores[i]] < info->pValues[i]) return VK_TIMEOUT;
    return VK_SUCCESS;
  }
  return device.below<PFN_vkWaitSemaphores>("vkWaitSemaphores")(handle, info, timeout);
}

VKAPI_ATTR VkResult VKAPI_CALL semaphore_value(VkDevice handle, VkSemaphore semaphore, uint64_t* value) {
  Device& device = device_of(handle);
  if (device.lost) return VK_ERROR_DEVICE_LOST;
  if (device.settings.wait_idle != 0) {
    std::scoped_lock lock(device.values_mutex);
    *value = device.values[semaphore];
    return VK_SUCCESS;
  }
  const VkResult result =
      device.below<PFN_vkGetSemaphoreCounterValue>("vkGetSemaphoreCounterValue")(handle, semaphore, value);
  *value = std::min<uint64_t>(*value, device.reached);
  return result;
}

VKAPI_ATTR VkResult VKAPI_CALL device_wait_idle(VkDevice handle) {
  Device& device = device_of(handle);
  if (device.lost) return VK_ERROR_DEVICE_LOST;
  device.must_not_hang("vkDeviceWaitIdle");
  return device.below<PFN_vkDeviceWaitIdle>("vkDeviceWaitIdle")(handle);
}

VKAPI_ATTR VkResult VKAPI_CALL queue_wait_idle(VkQueue queue) {
  Device& device = device_of(queue);
  if (device.lost) return VK_ERROR_DEVICE_LOST;
  device.must_not_hang("vkQueueWaitIdle");
  return device.below<PFN_vkQueueWaitIdle>("vkQueueWaitIdle")(queue);
}

VKAPI_ATTR VkResult VKAPI_CALL query_results(VkDevice handle, VkQueryPool pool, uint32_t first, uint32_t count,
                                             size_t size, void* data, VkDeviceSize stride, VkQueryResultFlags flags) {
  Device& device = device_of(handle);
  if (device.lost) return VK_ERROR_DEVICE_LOST;
  device.must_not_hang("vkGetQueryPoolResults");
  return device.below<PFN_vkGetQueryPoolResults>("vkGetQueryPoolResults")(handle, pool, first, count, size, data,
                                                                          stride, flags);
}

// Whether a SPIR-V module declares the capability Int64; capabilities come first.
bool has_int64(const uint32_t* code, size_t words) {
  constexpr uint32_t kCapability = 17, kInt64 = 11;
  for (size_t at = 5; at + 1 < words && (code[at] & 0xffff) == kCapability; at += code[at] >> 16)
    if (code[at + 1] == kInt64) return true;
  return false;
}

VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice handle, const VkShaderModuleCreateInfo* info,
                                             const VkAllocationCallbacks* allocator, VkShaderModule* module) {
  Device& device = device_of(handle);
  const VkResult result =
      device.below<PFN_vkCreateShaderModule>("vkCreateShaderModule")(handle, info, allocator, module);
  if (result == VK_SUCCESS) device.blobs.add_module(*module, info->pCode, info->codeSize);
  const bool deadly = device.settings.die_of_pipelines != 0 ||
                      (device.settings.die_of_int64 != 0 && has_int64(info->pCode, info->codeSize / 4));
  if (result == VK_SUCCESS) {
    std::scoped_lock lock(device.deadly_mutex);
    device.deadly.erase(*module);  // drivers give the handles of destroyed modules again
    if (deadly) device.deadly.insert(*module);
  }
  return result;
}

VKAPI_ATTR VkResult VKAPI_CALL create_pipelines(VkDevice handle, VkPipelineCache cache, uint32_t count,
                                                const VkComputePipelineCreateInfo* infos,
                                                const VkAllocationCallbacks* allocator, VkPipeline* pipelines) {
  Device& device = device_of(handle);
  for (uint32_t i = 0; i < count; ++i) {
    if (device.turn(device.pipelines, device.settings.fail_pipeline)) {
      std::fill(pipelines, pipelines + count, VkPipeline(VK_NULL_HANDLE));
      return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    std::scoped_lock lock(device.deadly_mutex);
    if (!device.deadly.contains(infos[i].stage.module)) continue;
    std::fprintf(stderr, "test layer: a driver that does not survive this pipeline\n");
    std::abort();
  }
  const VkResult result = device.below<PFN_vkCreateComputePipelines>("vkCreateComputePipelines")(
      handle, cache, count, infos, allocator, pipelines);
  if (result == VK_SUCCESS) {
    device.alive += count;
    for (uint32_t i = 0; i < count; ++i) device.blobs.add_pipeline(cache, infos[i].stage.module);
  }
  return result;
}

VKAPI_ATTR void VKAPI_CALL destroy_pipeline(VkDevice handle, VkPipeline pipeline,
                                            const VkAllocationCallbacks* allocator) {
  Device& device = device_of(handle);
  device.must_not_hang("vkDestroyPipeline");
  if (pipeline != VK_NULL_HANDLE) --device.alive;
  device.below<PFN_vkDestroyPipeline>("vkDestroyPipeline")(handle, pipeline, allocator);
}

VKAPI_ATTR VkResult VKAPI_CALL create_cache(VkDevice handle, const VkPipelineCacheCreateInfo* info,
                                            const VkAllocationCallbacks* allocator, VkPipelineCache* cache) {
  Device& device = device_of(handle);
  VkPipelineCacheCreateInfo empty = *info;
  if (device.settings.pipeline_cache != 0) {
    empty.initialDataSize = 0;
    empty.pInitialData = nullptr;
  }
  const VkResult result =
      device.below<PFN_vkCreatePipelineCache>("vkCreatePipelineCache")(handle, &empty, allocator, cache);
  if (result == VK_SUCCESS && device.settings.pipeline_cache != 0)
    device.blobs.create(*cache, info->pInitialData, info->initialDataSize);
  return result;
}

VKAPI_ATTR VkResult VKAPI_CALL cache_data(VkDevice handle, VkPipelineCache cache, size_t* size, void* data) {
  Device& device = device_of(handle);
  if (device.settings.pipeline_cache == 0)
    return device.below<PFN_vkGetPipelineCacheData>("vkGetPipelineCacheData")(handle, cache, size, data);
  const std::string bytes = device.blobs.data(cache);
  if (data == nullptr) {
    *size = bytes.size();
    return VK_SUCCESS;
  }
  const bool whole = *size >= bytes.size() && device.settings.grow_cache == 0;
  *size = std::min(*size, bytes.size());
  std::memcpy(data, bytes.data(), *size);
  return whole ? VK_SUCCESS : VK_INCOMPLETE;
}

}  // namespace

void add_device(VkDevice handle, PFN_vkGetDeviceProcAddr next, const Settings& settings) {
  auto device = std::make_unique<Device>();
  device->settings = settings;
  device->handle = handle;
  device->next = next;
  std::scoped_lock lock(devices_mutex);
  devices[owner(handle)] = std::move(device);
}

PFN_vkVoidFunction device_function(const char* name) {
  const struct {
    const char* name;
    PFN_vkVoidFunction function;
  } functions[] = {
#define SURTSEY_LAYER_ROW(name, function) {name, reinterpret_cast<PFN_vkVoidFunction>(function)}
      SURTSEY_LAYER_ROW("vkGetDeviceProcAddr", get_device_function),
      SURTSEY_LAYER_ROW("vkDestroyDevice", destroy_device),
      SURTSEY_LAYER_ROW("vkAllocateMemory", allocate_memory),
      SURTSEY_LAYER_ROW("vkFreeMemory", free_memory),
      SURTSEY_LAYER_ROW("vkMapMemory", map_memory),
      SURTSEY_LAYER_ROW("vkCreateBuffer", create_buffer),
      SURTSEY_LAYER_ROW("vkDestroyBuffer", destroy_buffer),
      SURTSEY_LAYER_ROW("vkGetBufferMemoryRequirements", buffer_needs),
      SURTSEY_LAYER_ROW("vkGetBufferMemoryRequirements2", buffer_needs2),
      SURTSEY_LAYER_ROW("vkQueueSubmit", queue_submit),
      SURTSEY_LAYER_ROW("vkQueueSubmit2", queue_submit2),
      SURTSEY_LAYER_ROW("vkWaitSemaphores", wait_semaphores),
      SURTSEY_LAYER_ROW("vkGetSemaphoreCounterValue", semaphore_value),
      SURTSEY_LAYER_ROW("vkDeviceWaitIdle", device_wait_idle),
      SURTSEY_LAYER_ROW("vkQueueWaitIdle", queue_wait_idle),
      SURTSEY_LAYER_ROW("vkGetQueryPoolResults", query_results),
      SURTSEY_LAYER_ROW("vkCreateShaderModule", create_module),
      SURTSEY_LAYER_ROW("vkCreateComputePipelines", create_pipelines),
      SURTSEY_LAYER_ROW("vkDestroyPipeline", destroy_pipeline),
      SURTSEY_LAYER_ROW("vkFreeCommandBuffers", free_commands),
      SURTSEY_LAYER_ROW("vkFreeDescriptorSets", free_sets),
      SURTSEY_LAYER_ROW("vkDestroyCommandPool", (destroy<"vkDestroyCommandPool", VkCommandPool>)),
      SURTSEY_LAYER_ROW("vkDestroyDescriptorPool", (destroy<"vkDestroyDescriptorPool", VkDescriptorPool>)),
      SURTSEY_LAYER_ROW("vkDestroyQueryPool", (destroy<"vkDestroyQueryPool", VkQueryPool>)),
      SURTSEY_LAYER_ROW("vkDestroySemaphore", (destroy<"vkDestroySemaphore", VkSemaphore>)),
      SURTSEY_LAYER_ROW("vkCreatePipelineCache", create_cache),
      SURTSEY_LAYER_ROW("vkGetPipelineCacheData", cache_data),
#undef SURTSEY_LAYER_ROW
  };
  for (const auto& row : functions)
    if (std::strcmp(row.name, name) == 0) return row.function;
  return nullptr;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_function(VkDevice device, const char* name) {
  if (PFN_vkVoidFunction function = device_function(name)) return function;
  return device_of(device).next(device, name);
}

}  // namespace surtsey::layer
