// Compiled pipelines, kept on disk from one process to the next. Many drivers do so themselves; on
// those that do not, start-up is mostly compilation.
#pragma once

#include "engine/context.h"

#include <string>

namespace surtsey::engine {

// One file per device and driver, named after both; shaders/cache_file.h verifies it before the
// driver sees it, as flipped bits crash some. The vendor, the device, the version of the driver and
// its pipelineCacheUUID are the file's identity. A cache that fails costs time and nothing else.
class PipelineCache {
 public:
  static constexpr uint64_t kMaxBytes = 256u << 20;

  // An empty directory, or a device opened without the feature `pipeline_cache`: nothing is read or
  // written, and handle() is null.
  PipelineCache(Context& context, const std::string& directory);

  const vk::raii::PipelineCache& handle() const { return handle_; }

  // Writes what has been compiled since the last time. A cache that has outgrown kMaxBytes is
  // removed instead, and begins anew with the next process.
  void save();

  // Empty when nothing is kept.
  const std::string& path() const { return path_; }

 private:
  void read();
  Context& context_;
  std::string path_;
  vk::raii::PipelineCache handle_ = nullptr;
  size_t saved_bytes_ = 0;
};

}  // namespace surtsey::engine
