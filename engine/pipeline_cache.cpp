#include "engine/pipeline_cache.h"

#include "graph/debug.h"
#include "shaders/cache_file.h"

#include <algorithm>
#include <filesystem>

namespace surtsey::engine {
namespace {

constexpr shaders::CacheKind kPipelinesFile{
    .magic = 0x50565253, .format = 1, .max_payload = PipelineCache::kMaxBytes};  // "SRVP"

// What a driver writes when it has nothing to keep: VkPipelineCacheHeaderVersionOne.
constexpr size_t kEmptyBytes = sizeof(VkPipelineCacheHeaderVersionOne);

struct Identity {
  uint32_t vendor = 0, device = 0, driver_version = 0;
  std::array<uint8_t, VK_UUID_SIZE> uuid{};
};
static_assert(sizeof(Identity) == 28);

Identity identity_of(const Capabilities& capabilities) {
  const vk::PhysicalDeviceProperties& properties = capabilities.properties;
  Identity identity{properties.vendorID, properties.deviceID, properties.driverVersion};
  std::copy_n(properties.pipelineCacheUUID.begin(), VK_UUID_SIZE, identity.uuid.begin());
  return identity;
}

// What the driver keeps in the cache; nothing when it does not give all of it. Asked at most twice, as another thread
// may add to a cache in between: NVK can answer a size and then need more than that, for ever, which is what
// vulkan.hpp's getData() waits out.
std::vector<uint8_t> contents(const Context& context, const vk::raii::PipelineCache& cache) {
  const auto get = context.device.getDispatcher()->vkGetPipelineCacheData;
  for (int attempt = 0; attempt < 2; ++attempt) {
    size_t bytes = 0;
    if (get(*context.device, *cache, &bytes, nullptr) != VK_SUCCESS) return {};
    std::vector<uint8_t> data(bytes);
    const VkResult result = get(*context.device, *cache, &bytes, data.data());
    data.resize(std::min(bytes, data.size()));
    if (result == VK_SUCCESS) return data;
    if (result != VK_INCOMPLETE) return {};
  }
  if (debug_level() >= 1)
    fmt::print(stderr, "pipeline cache: the driver needs more than it says, twice; nothing is kept this time\n");
  return {};
}

}  // namespace

PipelineCache::PipelineCache(Context& context, const std::string& directory) : context_(context) {
  if (directory.empty() || !context.pipeline_cache) return;
  const Identity identity = identity_of(context.capabilities);
  path_ = fmt::format("{}/pipelines-{:016x}.bin", directory, shaders::hash64(std::as_bytes(std::span(&identity, 1))));
  read();
}

void PipelineCache::read() {
  const Identity identity = identity_of(context_.capabilities);
  std::vector<std::byte> payload;
  const shaders::CacheState state =
      shaders::load_cache_file(path_, kPipelinesFile, std::as_bytes(std::span(&identity, 1)), payload);
  if (state == shaders::CacheState::corrupt) {
    std::error_code error;
    std::filesystem::remove(path_, error);
    fmt::print(stderr, "pipeline cache: {} is damaged or too long; it is made anew\n", path_);
  }
  const auto create = [&] {
    vk::PipelineCacheCreateInfo info{.initialDataSize = payload.size(), .pInitialData = payload.data()};
    try {
      handle_ = vk::raii::PipelineCache(context_.device, info);
    } catch (const vk::SystemError& failure) {
      if (debug_level() >= 1) fmt::print(stderr, "pipeline cache: {}\n", failure.what());
    }
  };
  create();
  if (!*handle_ && !payload.empty()) {
    payload.clear();
    create();
  }
  saved_bytes_ = payload.size();
}

void PipelineCache::save() {
  if (!*handle_) return;
  const std::vector<uint8_t> data = contents(context_, handle_);
  if (data.size() <= std::max(kEmptyBytes, saved_bytes_)) return;
  saved_bytes_ = data.size();
  const Identity identity = identity_of(context_.capabilities);
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), error);
  if (shaders::store_cache_file(path_, kPipelinesFile, std::as_bytes(std::span(&identity, 1)),
                                std::as_bytes(std::span(data))))
    return;
  if (data.size() > kMaxBytes) std::filesystem::remove(path_, error);
  if (debug_level() >= 1) fmt::print(stderr, "pipeline cache: {} is not kept ({} bytes)\n", path_, data.size());
}

}  // namespace surtsey::engine
