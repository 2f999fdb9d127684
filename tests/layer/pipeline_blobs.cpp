#include "tests/layer/pipeline_blobs.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace surtsey::layer {
namespace {

constexpr size_t kHeaderBytes = sizeof(VkPipelineCacheHeaderVersionOne);
constexpr size_t kBlobBytes = 512;

// A blob is a function of its key, so damage shows.
std::string blob_of(uint64_t key) {
  std::string blob(kBlobBytes, '\0');
  std::memcpy(blob.data(), &key, sizeof key);
  for (size_t i = sizeof key; i < blob.size(); ++i) {
    key = key * 6364136223846793005u + 1442695040888963407u;
    blob[i] = char(key >> 56);
  }
  return blob;
}

}  // namespace

void PipelineBlobs::add_module(VkShaderModule module, const uint32_t* code, size_t bytes) {
  const std::string_view text(reinterpret_cast<const char*>(code), bytes);
  std::scoped_lock lock(mutex_);
  modules_[module] = std::hash<std::string_view>()(text);
}

void PipelineBlobs::create(VkPipelineCache cache, const void* data, size_t bytes) {
  std::scoped_lock lock(mutex_);
  auto& blobs = caches_[cache];
  std::string_view rest(static_cast<const char*>(data), data ? bytes : 0);
  if (rest.empty()) return;
  bool good = rest.size() >= kHeaderBytes;
  if (good) rest.remove_prefix(kHeaderBytes);
  while (good && !rest.empty()) {
    good = rest.size() >= kBlobBytes;
    if (!good) break;
    uint64_t key = 0;
    std::memcpy(&key, rest.data(), sizeof key);
    good = rest.substr(0, kBlobBytes) == blob_of(key);
    blobs[key] = rest.substr(0, kBlobBytes);
    rest.remove_prefix(kBlobBytes);
  }
  if (good) return;
  std::fprintf(stderr, "test layer: damaged pipeline cache data reached the driver\n");
  std::abort();
}

void PipelineBlobs::add_pipeline(VkPipelineCache cache, VkShaderModule module) {
  std::scoped_lock lock(mutex_);
  const auto found = caches_.find(cache);
  if (found == caches_.end()) return;
  const uint64_t key = modules_[module];
  if (!found->second.try_emplace(key, blob_of(key)).second) ++hits_;
}

std::string PipelineBlobs::data(VkPipelineCache cache) const {
  std::scoped_lock lock(mutex_);
  VkPipelineCacheHeaderVersionOne header{};
  header.headerSize = kHeaderBytes;
  header.headerVersion = VK_PIPELINE_CACHE_HEADER_VERSION_ONE;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  const auto found = caches_.find(cache);
  if (found == caches_.end()) return bytes;
  for (const auto& [key, blob] : found->second) bytes += blob;
  return bytes;
}

}  // namespace surtsey::layer
