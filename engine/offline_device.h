// The device that an offline driver pretends to have, in the process that has opened it.
#pragma once

#include "engine/child.h"
#include "engine/offline.h"
#include "shaders/spirv.h"

#include <memory>

namespace surtsey::engine {

// An offline device that takes modules: SPIR-V is made by whoever asks.
class ModuleCompiler : public OfflineDevice {
 public:
  std::vector<DriverStatistics> compile(std::span<const shaders::Shader> shaders, const std::string& cache) override {
    return compile_modules(shaders, shaders::compile_spirv(shaders, cache));
  }
  virtual std::vector<DriverStatistics> compile_modules(std::span<const shaders::Shader> shaders,
                                                        std::span<const shaders::Spirv> spirv) = 0;
};

// The first device of the environment's drivers; `progress` hears which kernels are being compiled. `null`: it must be
// one that cannot run.
std::unique_ptr<ModuleCompiler> open_offline_device(Progress& progress, bool null);

}  // namespace surtsey::engine
