// The Vulkan instance, with the validation layers when they are asked for.
#pragma once

#include "engine/device.h"
#include "engine/vulkan.h"

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::engine {

// Warnings and errors of the validation layers, collected from any thread.
class MessageLog {
 public:
  void add(std::string message);
  std::vector<std::string> all() const;
  void clear();

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> messages_;
};

// Whether a message of that id is the layer's note on itself (its settings, say) and no defect of what it checks.
bool about_the_layer(std::string_view id, std::string_view text);

// The text with the message's id and the names of its objects, which layers from 1.4 on leave out of it.
std::string whole_message(const std::string& id, const std::string& text, const std::vector<std::string>& objects);

struct Instance {
  std::unique_ptr<MessageLog> messages =
      std::make_unique<MessageLog>();  // at a fixed address: the messenger points to it
  vk::raii::Context loader;
  vk::raii::Instance handle = nullptr;
  vk::raii::DebugUtilsMessengerEXT messenger = nullptr;
  Validation validation = Validation::off;
};

// DeviceError when there is no Vulkan loader or no driver (it says what to install); UserError when
// validation is asked for and the layer is not installed. Applies the quirks that come before the
// instance.
Instance create_instance(Validation validation);

// The physical devices; none when the only driver has no device to offer.
std::vector<vk::raii::PhysicalDevice> physical_devices(const Instance& instance);

}  // namespace surtsey::engine
