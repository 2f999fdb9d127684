// The device's side of the test layer: calls that count, and fail when their turn has come.
#pragma once

#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#include "tests/layer/settings.h"

namespace surtsey::layer {

// Loader and driver share a dispatch table per instance and per device; it stands where a handle
// points, and tells whose object that is.
template <typename Handle>
void* owner(Handle handle) {
  return *reinterpret_cast<void**>(handle);
}

void add_device(VkDevice device, PFN_vkGetDeviceProcAddr next, const Settings& settings);

// What this layer puts in the place of a device's function, or null.
PFN_vkVoidFunction device_function(const char* name);

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_function(VkDevice device, const char* name);

}  // namespace surtsey::layer
