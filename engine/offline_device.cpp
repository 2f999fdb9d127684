#include "engine/offline_device.h"

#include "engine/context.h"
#include "engine/pipeline.h"
#include "shaders/parallel.h"

#include <map>
#include <set>

namespace surtsey::engine {
namespace {

// Opens the device and nothing more of it than compiling takes: no queue, no memory.
class CompilingDevice : public ModuleCompiler {
 public:
  CompilingDevice(Progress& progress, bool null) : progress_(progress), context_(create_instance(Validation::off)) {
    std::vector<vk::raii::PhysicalDevice> devices = physical_devices(context_.instance);
    check(!devices.empty(), "the driver offers no device");
    const Capabilities capabilities = query(context_.instance.handle, devices[0]);
    const FeatureSet chosen = choose_features(capabilities, {});
    info_ = describe(0, capabilities, chosen);
    check(!null || !info_.usable, "{} is a device that can run, where one that only compiles was expected", info_.name);
    check(capabilities.properties.apiVersion >= VK_API_VERSION_1_2 && (null || info_.usable), "{} ({}): {}", info_.name,
          info_.driver, info_.reason);
    create_device(context_, std::move(devices[0]), capabilities, chosen, info_);
    check(context_.executable_properties, "{} says nothing of the kernels that it compiles", info_.name);
  }

  const DeviceInfo& info() const override { return info_; }

  std::vector<DriverStatistics> compile_modules(std::span<const shaders::Shader> shaders,
                                                std::span<const shaders::Spirv> spirv) override {
    std::map<std::string, size_t> first;
    std::vector<size_t> different, place;
    for (const shaders::Shader& shader : shaders) {
      const auto [found, added] = first.try_emplace(shader.glsl, different.size());
      if (added) different.push_back(place.size());
      place.push_back(found->second);
    }
    std::vector<DriverStatistics> made(different.size());
    shaders::parallel_for(different.size(), [&](size_t i) {
      const size_t at = different[i];
      mark(shaders[at].name, true);
      PipelineStore store(context_, info_.target, {}, true);
      made[i] = store.get({&shaders[at], 1}, {&spirv[at], 1})[0]->statistics.value();
      mark(shaders[at].name, false);
    });
    std::vector<DriverStatistics> result;
    for (const size_t i : place) result.push_back(made[i]);
    return result;
  }

 private:
  // The kernels that are being compiled, for the parent to name should the driver not survive one.
  void mark(const std::string& kernel, bool begins) {
    std::scoped_lock lock(mutex_);
    if (begins)
      under_way_.insert(kernel);
    else
      under_way_.erase(under_way_.find(kernel));
    std::string names;
    for (const std::string& name : under_way_) names += (names.empty() ? "" : ", ") + name;
    progress_.set(names.empty() ? "" : "compiling " + names);
  }

  Progress& progress_;
  Context context_;
  DeviceInfo info_;
  std::mutex mutex_;
  std::multiset<std::string> under_way_;
};

}  // namespace

std::unique_ptr<ModuleCompiler> open_offline_device(Progress& progress, bool null) {
  return std::make_unique<CompilingDevice>(progress, null);
}

}  // namespace surtsey::engine
