// The test layer (tests/layer/) in this process or in another: smaller devices, faults on demand.
#pragma once

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace surtsey::tests {

// Devices that are opened while one of these lives go through the layer. `settings` is explained in
// tests/layer/settings.h; `more` are further variables of the environment.
class Layered {
 public:
  using Variables = std::vector<std::pair<std::string, std::string>>;
  explicit Layered(const std::string& settings, Variables more = {}) : variables_(std::move(more)) {
    const Variables own = {{"VK_ADD_LAYER_PATH", SURTSEY_LAYER_FOLDER},
                           {"VK_INSTANCE_LAYERS", "VK_LAYER_SURTSEY_test"},
                           {"SURTSEY_LAYER", settings}};
    variables_.insert(variables_.begin(), own.begin(), own.end());
    for (const auto& [name, value] : variables_) setenv(name.c_str(), value.c_str(), 1);
  }
  ~Layered() {
    for (const auto& [name, value] : variables_) unsetenv(name.c_str());
  }
  Layered(const Layered&) = delete;
  Layered& operator=(const Layered&) = delete;

 private:
  Variables variables_;
};

// GPU-assisted validation: kernels check their own accesses against the buffers that there are. The
// layer stands above validation, which cannot follow timeline semaphores in this mode.
inline const Layered::Variables kGpuAssisted = {
    {"VK_INSTANCE_LAYERS", "VK_LAYER_SURTSEY_test:VK_LAYER_KHRONOS_validation"},
    {"VK_LAYER_ENABLES",
     "VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT:"
     "VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_RESERVE_BINDING_SLOT_EXT"},
    // Layers from 1.4 on stop after ten messages of a kind, and without safe mode they report an overrun and carry it out.
    {"VK_KHRONOS_VALIDATION_ENABLE_MESSAGE_LIMIT", "false"},
    {"VK_KHRONOS_VALIDATION_GPUAV_SAFE_MODE", "true"}};

// The same for a command of a shell; to stand before it.
inline std::string layered_command(const std::string& settings) {
  return std::string("VK_ADD_LAYER_PATH='") + SURTSEY_LAYER_FOLDER +
         "' VK_INSTANCE_LAYERS=VK_LAYER_SURTSEY_test SURTSEY_LAYER='" + settings + "' ";
}

}  // namespace surtsey::tests
