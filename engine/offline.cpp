#include "engine/offline.h"

#include "engine/child.h"
#include "engine/context.h"
#include "engine/pipeline.h"
#include "graph/debug.h"
#include "shaders/parallel.h"
#include "shaders/spirv.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

namespace surtsey::engine {
namespace {

namespace fs = std::filesystem;

struct Family {
  const char* name;
  const char* other = nullptr;  // as other versions of the driver call it
};

// Oldest first; which of them a driver knows depends on its version.
constexpr Family kAmdFamilies[] = {
    {"tahiti"},
    {"pitcairn"},
    {"verde"},
    {"oland"},
    {"hainan"},
    {"bonaire"},
    {"kaveri"},
    {"kabini"},
    {"hawaii"},
    {"tonga"},
    {"iceland"},
    {"carrizo"},
    {"fiji"},
    {"stoney"},
    {"polaris10"},
    {"polaris11"},
    {"polaris12"},
    {"vegam"},
    {"vega10"},
    {"vega12"},
    {"vega20"},
    {"raven"},
    {"raven2"},
    {"renoir"},
    {"navi10"},
    {"navi12"},
    {"navi14"},
    {"navi21"},
    {"navi22"},
    {"navi23"},
    {"navi24"},
    {"vangogh"},
    {"rembrandt"},
    {"raphael_mendocino"},
    {"navi31", "gfx1100"},
    {"navi32", "gfx1101"},
    {"navi33", "gfx1102"},
    {"gfx1103_r1"},
    {"gfx1103_r2"},
    {"gfx1150"},
    {"gfx1151"},
    {"gfx1152"},
    {"gfx1153"},
    {"gfx1200"},
    {"gfx1201"},
};

// Drivers that make a null device: what names its family, and how their manifests begin.
struct Driver {
  const char* vendor;
  const char* manifest;
  const char* variable;
  std::span<const Family> families;
  const char* install;
};
constexpr Driver kDrivers[] = {
    {"amd", "radeon_icd", "RADV_FORCE_FAMILY", kAmdFamilies,
     "on Debian or Ubuntu `apt-get install mesa-vulkan-drivers`"},
};

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// The driver's manifests, one for each architecture, as the loader takes them; where the user says
// which drivers there are, only among those.
std::string find_manifests(const Driver& driver) {
  std::vector<fs::path> files;
  std::string named = environment("VK_DRIVER_FILES");
  if (named.empty()) named = environment("VK_ICD_FILENAMES");
  if (!named.empty()) {
    for (const std::string& file : split(named, ':')) files.emplace_back(file);
  } else {
    std::vector<std::string> roots = {"/etc", "/usr/local/etc"};
    std::string shared = environment("XDG_DATA_DIRS");
    if (shared.empty()) shared = "/usr/local/share:/usr/share";
    for (const std::string& root : split(shared, ':')) roots.push_back(root);
    for (const std::string& root : roots) {
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(root + "/vulkan/icd.d", error)) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::string found;
  for (const fs::path& file : files)
    if (file.filename().string().starts_with(driver.manifest) && fs::exists(file))
      found += (found.empty() ? "" : ":") + file.string();
  return found;
}

struct Request {
  const Driver* driver = nullptr;
  std::string manifests, family;
};

const Driver& find_driver(const std::string& vendor) {
  std::string known;
  for (const Driver& driver : kDrivers) {
    if (vendor == driver.vendor) return driver;
    known += (known.empty() ? "" : ", ") + std::string(driver.vendor);
  }
  throw UserError(
      fmt::format("no driver compiles for GPUs of '{}' that are not here; targets are VENDOR:FAMILY, as "
                  "amd:navi21, and the vendors are: {}",
                  vendor, known));
}

std::string manifests_of(const Driver& driver) {
  std::string manifests = find_manifests(driver);
  check(!manifests.empty(),
        "the driver that compiles for {} is not installed: there is no {}*.json among the Vulkan "
        "drivers ({}), or VK_DRIVER_FILES hides it",
        driver.vendor, driver.manifest, driver.install);
  return manifests;
}

Request parse(const std::string& device) {
  const size_t colon = device.find(':');
  Request request;
  request.driver = &find_driver(device.substr(0, colon));
  check(colon != std::string::npos && colon + 1 < device.size(),
        "'{}' names no GPU family; targets are VENDOR:FAMILY, as amd:navi21", device);
  request.family = device.substr(colon + 1);
  request.manifests = manifests_of(*request.driver);
  return request;
}

// Opens the null device and nothing more of it than compiling takes: no queue, no memory.
class NullDevice : public OfflineDevice {
 public:
  explicit NullDevice(Progress& progress) : progress_(progress), context_(create_instance(Validation::off)) {
    std::vector<vk::raii::PhysicalDevice> devices = physical_devices(context_.instance);
    check(!devices.empty(), "the driver offers no device");
    const Capabilities capabilities = query(context_.instance.handle, devices[0]);
    const FeatureSet chosen = choose_features(capabilities, {});
    info_ = describe(0, capabilities, chosen);
    check(!info_.usable, "{} is a device that can run, where one that only compiles was expected", info_.name);
    check(capabilities.properties.apiVersion >= VK_API_VERSION_1_3, "{}: {}", info_.name, info_.reason);
    create_device(context_, std::move(devices[0]), capabilities, chosen, info_);
    check(context_.executable_properties, "{} says nothing of the kernels that it compiles", info_.name);
  }

  const DeviceInfo& info() const override { return info_; }

  std::vector<DriverStatistics> compile(std::span<const shaders::Shader> shaders, const std::string& cache) override {
    const std::vector<shaders::Spirv> spirv = shaders::compile_spirv(shaders, cache);
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

constexpr const char* kOpening = "opening";

ChildResult try_family(const Request& request, const std::string& family,
                       const std::function<std::string(OfflineDevice&)>& work) {
  return run_in_child({{request.driver->variable, family},
                       {"VK_DRIVER_FILES", request.manifests},
                       {"VK_ICD_FILENAMES", request.manifests},
                       {"VK_ADD_DRIVER_FILES", ""},
                       {"VK_LOADER_DRIVERS_SELECT", ""},
                       {"VK_LOADER_DRIVERS_DISABLE", ""}},
                      [&](Progress& progress) {
                        progress.set(kOpening);
                        // Left alone at the end: a null device is not for waiting.
                        auto* device = new NullDevice(progress);
                        progress.set("");
                        return work(*device);
                      });
}

bool opens(const Request& request, const std::string& family) {
  return try_family(request, family, [](OfflineDevice&) { return std::string(); }).finished;
}

std::string other_name(const Driver& driver, const std::string& family) {
  for (const Family& row : driver.families)
    if (row.other != nullptr && (family == row.name || family == row.other))
      return family == row.name ? row.other : row.name;
  return {};
}

std::string last_lines(const std::string& text, size_t count) {
  const std::vector<std::string> lines = split(text, '\n');
  std::string result;
  for (size_t i = lines.size() - std::min(count, lines.size()); i < lines.size(); ++i)
    result += (result.empty() ? "" : "; ") + lines[i];
  return result.empty() ? "it said nothing" : "it said: " + result;
}

}  // namespace

std::vector<std::string> offline_devices(const std::string& vendor) {
  const Driver& driver = find_driver(vendor);
  const Request request{&driver, manifests_of(driver), ""};
  std::vector<std::string> result;
  for (const Family& row : driver.families) {
    if (opens(request, row.name))
      result.push_back(fmt::format("{}:{}", vendor, row.name));
    else if (row.other != nullptr && opens(request, row.other))
      result.push_back(fmt::format("{}:{}", vendor, row.other));
  }
  return result;
}

std::string with_offline_device(const std::string& device, const std::function<std::string(OfflineDevice&)>& work) {
  const Request request = parse(device);
  ChildResult result = try_family(request, request.family, work);
  const auto opened = [&] { return result.progress != kOpening; };
  if (const std::string other = other_name(*request.driver, request.family);
      !opened() && !result.death.empty() && !other.empty())
    result = try_family(request, other, work);
  if (debug_level() > 0) fmt::print(stderr, "{}", result.errors);
  if (result.finished) return result.output;
  if (!opened() && !result.death.empty()) {
    std::string known;
    for (const std::string& name : offline_devices(request.driver->vendor)) known += (known.empty() ? "" : ", ") + name;
    check(!known.empty(), "{}: the driver ends with {} for every family; {}", device, result.death,
          last_lines(result.errors, 2));
    throw UserError(fmt::format("the driver on this machine does not know {} ({}; {}). It knows: {}", device,
                                result.death, last_lines(result.errors, 1), known));
  }
  if (!result.death.empty())
    throw DeviceError("", "", "", "",
                      fmt::format("{}: the driver ended with {}{}; {}", device, result.death,
                                  result.progress.empty() ? "" : ", " + result.progress, last_lines(result.errors, 3)));
  const std::string message = fmt::format("{}: {}", device, result.output);
  if (result.user_error) throw UserError(message);
  throw DeviceError("", "", "", "", message);
}

}  // namespace surtsey::engine
