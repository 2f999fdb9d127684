// Pipelines: one per different shader.
#pragma once

#include "engine/driver_statistics.h"
#include "engine/pipeline_cache.h"
#include "graph/target.h"
#include "shaders/spirv.h"

#include <memory>
#include <optional>
#include <unordered_map>

namespace surtsey::engine {

struct Pipeline {
  vk::raii::DescriptorSetLayout descriptors = nullptr;  // descriptor mode only
  vk::raii::PipelineLayout layout = nullptr;
  vk::raii::Pipeline handle = nullptr;
  uint32_t bindings = 0;
  double create_ms = 0;                        // that the driver took
  bool from_cache = false;                     // as the driver says
  std::optional<DriverStatistics> statistics;  // with `capture`, where the driver gives them
};

// Keeps the pipelines of a session, so that programs that share a kernel share its pipeline.
class PipelineStore {
 public:
  // `cache` is the folder of the pipeline cache, empty for none. `capture` keeps the driver's
  // statistics and texts of each kernel; drivers then compile past their caches.
  PipelineStore(Context& context, const graph::Target& target, const std::string& cache, bool capture = false)
      : context_(context),
        target_(target),
        capture_(capture && context.executable_properties),
        cache_(context, cache) {}

  // One pipeline per shader, created on all cores; each module is reflected and must agree with its
  // Shader. `made` says of each shader whether it is the first one with its pipeline.
  std::vector<std::shared_ptr<const Pipeline>> get(std::span<const shaders::Shader> shaders,
                                                   std::span<const shaders::Spirv> spirv,
                                                   std::vector<bool>* made = nullptr);

 private:
  std::shared_ptr<const Pipeline> create(const shaders::Shader& shader, const shaders::Spirv& spirv);
  Context& context_;
  const graph::Target target_;
  const bool capture_;
  PipelineCache cache_;
  std::unordered_map<std::string, std::shared_ptr<const Pipeline>> store_;  // by text, bindings and subgroup size
};

}  // namespace surtsey::engine
