// The test layer (tests/layer/) in this process or in another: smaller devices, faults on demand.
#pragma once

#include <cstdlib>
#include <string>

namespace surtsey::tests {

// Devices that are opened while one of these lives go through the layer. `settings` is explained in
// tests/layer/settings.h.
class Layered {
 public:
  explicit Layered(const std::string& settings) {
    setenv("VK_ADD_LAYER_PATH", SURTSEY_LAYER_FOLDER, 1);
    setenv("VK_INSTANCE_LAYERS", "VK_LAYER_SURTSEY_test", 1);
    setenv("SURTSEY_LAYER", settings.c_str(), 1);
  }
  ~Layered() {
    for (const char* name : {"VK_ADD_LAYER_PATH", "VK_INSTANCE_LAYERS", "SURTSEY_LAYER"})
      unsetenv(name);
  }
  Layered(const Layered&) = delete;
  Layered& operator=(const Layered&) = delete;
};

// The same for a command of a shell; to stand before it.
inline std::string layered_command(const std::string& settings) {
  return std::string("VK_ADD_LAYER_PATH='") + SURTSEY_LAYER_FOLDER +
         "' VK_INSTANCE_LAYERS=VK_LAYER_SURTSEY_test SURTSEY_LAYER='" + settings + "' ";
}

}  // namespace surtsey::tests
