#include "engine/instance.h"

#include "engine/quirks.h"
#include "engine/standard_descriptors.h"
#include "graph/debug.h"

#include <cstring>

namespace surtsey::engine {
namespace {

constexpr const char* kValidationLayer = "VK_LAYER_KHRONOS_validation";
constexpr const char* kWhatToInstall =
    "no Vulkan driver was found. Install one: on Debian or Ubuntu `apt-get install "
    "mesa-vulkan-drivers` (it brings lavapipe, which "
    "runs on the CPU), or the driver of the GPU's vendor. If one is installed, see whether "
    "VK_DRIVER_FILES or VK_ICD_FILENAMES hides it";

VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                          const VkDebugUtilsMessengerCallbackDataEXT* data, void* log) {
  const std::string id = data->pMessageIdName ? data->pMessageIdName : "";
  if (about_the_layer(id, data->pMessage)) return VK_FALSE;
  std::vector<std::string> objects;
  for (uint32_t i = 0; i < data->objectCount; ++i)
    if (data->pObjects[i].pObjectName) objects.push_back(data->pObjects[i].pObjectName);
  const std::string message = whole_message(id, data->pMessage, objects);
  static_cast<MessageLog*>(log)->add(message);
  if (debug_level() >= 1) fmt::print(stderr, "validation: {}\n", message);
  return VK_FALSE;
}

bool has_layer(const vk::raii::Context& loader, const char* name) {
  for (const vk::LayerProperties& layer : loader.enumerateInstanceLayerProperties())
    if (std::strcmp(layer.layerName.data(), name) == 0) return true;
  return false;
}

bool has_extension(const vk::raii::Context& loader, const char* name) {
  for (const vk::ExtensionProperties& one : loader.enumerateInstanceExtensionProperties())
    if (std::strcmp(one.extensionName.data(), name) == 0) return true;
  return false;
}

vk::raii::Context load() {
  try {
    return vk::raii::Context();
  } catch (const std::exception& error) {
    throw DeviceError("loading libvulkan", error.what(), "", "", kWhatToInstall);
  }
}

}  // namespace

bool about_the_layer(std::string_view id, std::string_view text) {
  // Its settings, limits that it lowers for its own use, kernels that it found slow to check; and what it leaves out
  // on a device without 64-bit integers, for which layers of 1.3.239 have no id of its own.
  constexpr std::string_view kIds[] = {"VALIDATION-SETTINGS", "WARNING-", "GPUAV-Compile-time-"};
  for (const std::string_view prefix : kIds)
    if (id.starts_with(prefix)) return true;
  return text.find("No buffer device address checking will be attempted") != std::string_view::npos;
}

std::string whole_message(const std::string& id, const std::string& text, const std::vector<std::string>& objects) {
  std::string message = id.empty() || text.find(id) != std::string::npos ? text : fmt::format("{}: {}", id, text);
  for (const std::string& name : objects)
    if (message.find(fmt::format("[{}]", name)) == std::string::npos) message += fmt::format(" [{}]", name);
  return message;
}

void MessageLog::add(std::string message) {
  std::scoped_lock lock(mutex_);
  messages_.push_back(std::move(message));
}

std::vector<std::string> MessageLog::all() const {
  std::scoped_lock lock(mutex_);
  return messages_;
}

void MessageLog::clear() {
  std::scoped_lock lock(mutex_);
  messages_.clear();
}

Instance create_instance(Validation validation) {
  open_standard_descriptors();
  const bool validated = validation != Validation::off;
  apply_process_quirks(validated);
  Instance result{.loader = load(), .validation = validation};
  vk::ApplicationInfo application{
      .pApplicationName = "surtsey", .pEngineName = "surtsey", .apiVersion = VK_API_VERSION_1_3};
  vk::InstanceCreateInfo info{.pApplicationInfo = &application};
  const char* extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
  using Enable = vk::ValidationFeatureEnableEXT;
  const std::vector<Enable> enable = {Enable::eSynchronizationValidation};
  vk::ValidationFeaturesEXT features;
  features.setEnabledValidationFeatures(enable);
  // Type eValidation only: the loader reports every driver that it cannot load as a general
  // message.
  // C's structure: the type of the callback in vulkan.hpp is another one since headers of 1.4.304.
  vk::DebugUtilsMessengerCreateInfoEXT messenger;
  messenger = VkDebugUtilsMessengerCreateInfoEXT{.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
                                                 .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                                                                    VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
                                                 .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
                                                 .pfnUserCallback = on_message,
                                                 .pUserData = result.messages.get()};
  std::vector<const char*> extensions;
  if (validated || has_extension(result.loader, extension)) extensions.push_back(extension);
  // Devices over another API (MoltenVK) are listed only to those who ask for them.
  if (has_extension(result.loader, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME)) {
    extensions.push_back(VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME);
    info.flags |= vk::InstanceCreateFlagBits::eEnumeratePortabilityKHR;
  }
  info.setPEnabledExtensionNames(extensions);
  if (validated) {
    check(has_layer(result.loader, kValidationLayer),
          "validation was asked for, but the layer {} is not installed (Debian: apt-get install "
          "vulkan-validationlayers)",
          kValidationLayer);
    features.pNext = &messenger;
    info.setPEnabledLayerNames(kValidationLayer).setPNext(&features);
  }
  result.handle =
      vk_check("vkCreateInstance", {}, [&] { return vk::raii::Instance(result.loader, info); }, kWhatToInstall);
  if (validated) result.messenger = vk::raii::DebugUtilsMessengerEXT(result.handle, messenger);
  return result;
}

std::vector<vk::raii::PhysicalDevice> physical_devices(const Instance& instance) {
  try {
    return instance.handle.enumeratePhysicalDevices();
  } catch (const vk::InitializationFailedError&) {
    return {};  // RADV without a GPU, alone on the machine
  } catch (const vk::SystemError& error) {
    throw DeviceError("vkEnumeratePhysicalDevices", vk::to_string(vk::Result(error.code().value())), "", "",
                      kWhatToInstall);
  }
}

}  // namespace surtsey::engine
