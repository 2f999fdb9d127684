// A driver's side of VkPipelineCache, for CPU drivers that keep nothing there: every pipeline
// leaves a blob, and a blob that was damaged ends the process, as with drivers that trust what they
// are given.
#pragma once

#include <vulkan/vulkan.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

namespace surtsey::layer {

class PipelineBlobs {
 public:
  void add_module(VkShaderModule module, const uint32_t* code, size_t bytes);
  void create(VkPipelineCache cache, const void* data, size_t bytes);
  void add_pipeline(VkPipelineCache cache, VkShaderModule module);
  std::string data(VkPipelineCache cache) const;
  uint64_t hits() const { return hits_; }  // pipelines that were in their cache already

 private:
  mutable std::mutex mutex_;
  std::map<VkShaderModule, uint64_t> modules_;                         // to a hash of the code
  std::map<VkPipelineCache, std::map<uint64_t, std::string>> caches_;  // blobs by that hash
  uint64_t hits_ = 0;
};

}  // namespace surtsey::layer
