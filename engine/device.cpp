#include "engine/device.h"

#include "engine/context.h"
#include "engine/cooperative_check.h"
#include "engine/quirks.h"
#include "engine/trial.h"
#include "graph/debug.h"
#include "shaders/spirv.h"

#include <sys/resource.h>

#include <algorithm>
#include <cctype>
#include <sstream>

namespace surtsey::engine {
namespace {

constexpr const char* kMatrices = "cooperative_matrix";

DeviceType type_of(vk::PhysicalDeviceType type) {
  switch (type) {
    case vk::PhysicalDeviceType::eDiscreteGpu:
      return DeviceType::discrete;
    case vk::PhysicalDeviceType::eIntegratedGpu:
      return DeviceType::integrated;
    case vk::PhysicalDeviceType::eVirtualGpu:
      return DeviceType::virtual_gpu;
    case vk::PhysicalDeviceType::eCpu:
      return DeviceType::cpu;
    default:
      return DeviceType::other;
  }
}

// In the driver's words; the bare number of its version where it has none (before Vulkan 1.2).
std::string driver_of(const Capabilities& c) {
  const std::string name = fmt::format("{} {}", c.driver.driverName.data(), c.driver.driverInfo.data());
  const uint32_t version = c.properties.driverVersion;
  return name != " " ? name
                     : fmt::format("driver {}.{}.{}", VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version),
                                   VK_API_VERSION_PATCH(version));
}

}  // namespace

DeviceInfo describe(uint32_t index, const Capabilities& c, const FeatureSet& chosen) {
  DeviceInfo info;
  info.index = index;
  info.name = c.properties.deviceName.data();
  for (uint8_t byte : c.uuid) info.uuid += fmt::format("{:02x}", byte);
  info.type = type_of(c.properties.deviceType);
  info.driver = driver_of(c);
  uint32_t api = c.properties.apiVersion;
  info.api = fmt::format("{}.{}.{}", VK_API_VERSION_MAJOR(api), VK_API_VERSION_MINOR(api), VK_API_VERSION_PATCH(api));
  for (uint32_t i = 0; i < c.memory.memoryHeapCount; ++i)
    if (c.memory.memoryHeaps[i].flags & vk::MemoryHeapFlagBits::eDeviceLocal)
      info.memory_bytes = std::max<uint64_t>(info.memory_bytes, c.memory.memoryHeaps[i].size);
  info.usable = chosen.missing.empty();
  info.reason = chosen.missing;
  info.features = chosen.names;
  info.off = chosen.off;
  info.quirks = quirks_in_use(c);
  info.details = device_details(c);
  info.target = chosen.target;
  info.preference = quirk_effects(c).preference;
  return info;
}

namespace {

std::string lower(std::string text) {
  for (char& c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool better(const DeviceInfo& a, const DeviceInfo& b) {
  if (a.usable != b.usable) return a.usable;
  if (a.type != b.type) return a.type < b.type;
  return a.preference > b.preference;
}

std::string one_line_each(std::span<const DeviceInfo> devices) {
  std::string text;
  for (const DeviceInfo& device : devices) text += fmt::format("\n  {}", print(device));
  return text;
}

// The rows to do without: of the caller, and of SURTSEY_WITHOUT, a list with commas.
std::vector<std::string> switched_off(std::vector<std::string> without) {
  std::istringstream names(environment("SURTSEY_WITHOUT"));
  for (std::string name; std::getline(names, name, ',');)
    if (!name.empty()) without.push_back(name);
  return without;
}

void apply_addressing(DeviceInfo& info, const std::optional<graph::Addressing>& wanted) {
  graph::Addressing addressing = info.target.addressing;
  if (wanted) {
    addressing = *wanted;
  } else if (std::string text = environment("SURTSEY_ADDRESSING"); !text.empty()) {
    check(text == "address" || text == "descriptor", "SURTSEY_ADDRESSING is '{}'; it can be address or descriptor",
          text);
    addressing = text == "address" ? graph::Addressing::address : graph::Addressing::descriptor;
  }
  check(addressing == graph::Addressing::descriptor || info.target.buffer_address,
        "{} has no buffer addresses; use descriptor mode", info.name);
  info.target.addressing = addressing;
}

Validation wanted_validation() {
  const std::string text = environment("SURTSEY_VALIDATION");
  if (text.empty() || text == "0") return Validation::off;
  check(text == "1", "SURTSEY_VALIDATION is '{}'; it can be 0 or 1", text);
  return Validation::synchronization;
}

}  // namespace

void create_device(Context& context, vk::raii::PhysicalDevice physical, const Capabilities& capabilities,
                   const FeatureSet& chosen, const DeviceInfo& info) {
  context.physical = std::move(physical);
  context.capabilities = capabilities;
  context.who = {info.name, info.driver};
  context.memory_budget = chosen.in_use("memory_budget");
  context.subgroup_size_control = chosen.in_use("subgroup_size_control") && capabilities.requires_subgroup_size();
  context.buffer_address = chosen.in_use("buffer_address");
  context.executable_properties = chosen.in_use("executable_properties");
  context.pipeline_cache = chosen.in_use("pipeline_cache");
  context.tuning = chosen.in_use("tuning");
  context.creation_feedback = capabilities.properties.apiVersion >= VK_API_VERSION_1_3 ||
                              capabilities.extensions.contains(VK_EXT_PIPELINE_CREATION_FEEDBACK_EXTENSION_NAME);
  context.debug_labels = chosen.in_use("debug_labels");
  float priority = 1;
  vk::DeviceQueueCreateInfo queue{
      .queueFamilyIndex = context.capabilities.queue_family, .queueCount = 1, .pQueuePriorities = &priority};
  const vk::PhysicalDeviceVulkan13Features& features13 = chosen.enable.features13;
  vk::StructureChain features{
      vk::PhysicalDeviceFeatures2{.features = chosen.enable.features},
      chosen.enable.features11,
      chosen.enable.features12,
      features13,
      chosen.enable.executables,
      vk::PhysicalDeviceSynchronization2Features{.synchronization2 = features13.synchronization2},
      vk::PhysicalDeviceSubgroupSizeControlFeatures{.subgroupSizeControl = features13.subgroupSizeControl,
                                                    .computeFullSubgroups = features13.computeFullSubgroups}};
  const bool core = capabilities.properties.apiVersion >= VK_API_VERSION_1_3;
  if (!chosen.in_use("executable_properties"))
    features.unlink<vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR>();
  if (!core) features.unlink<vk::PhysicalDeviceVulkan13Features>();
  if (core) features.unlink<vk::PhysicalDeviceSynchronization2Features>();
  if (core || !chosen.in_use("subgroup_size_control")) features.unlink<vk::PhysicalDeviceSubgroupSizeControlFeatures>();
  CooperativeMatrixFeatures cooperative{.next = features.get<vk::PhysicalDeviceFeatures2>().pNext,
                                        .cooperative_matrix = true};
  if (chosen.in_use(kMatrices)) features.get<vk::PhysicalDeviceFeatures2>().pNext = &cooperative;
  vk::DeviceCreateInfo create{
      .pNext = &features.get<vk::PhysicalDeviceFeatures2>(), .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue};
  create.setPEnabledExtensionNames(chosen.extensions);
  context.device = vk_check("vkCreateDevice", context.who, [&] { return vk::raii::Device(context.physical, create); });
}

namespace {

void open_queue(Context& context) {
  uint32_t family = context.capabilities.queue_family;
  context.queue = vk::raii::Queue(context.device, family, 0);
  context.pool = vk_check("vkCreateCommandPool", context.who, [&] {
    return vk::raii::CommandPool(context.device, vk::CommandPoolCreateInfo{.queueFamilyIndex = family});
  });
  vk::SemaphoreTypeCreateInfo type{.semaphoreType = vk::SemaphoreType::eTimeline, .initialValue = 0};
  context.timeline = vk_check("vkCreateSemaphore", context.who, [&] {
    return vk::raii::Semaphore(context.device, vk::SemaphoreCreateInfo{.pNext = &type});
  });
}

}  // namespace

const char* name(DeviceType type) {
  constexpr const char* kNames[] = {"discrete", "integrated", "virtual", "cpu", "other"};
  return kNames[size_t(type)];
}

std::string print(const DeviceInfo& info) {
  if (!info.usable)
    return fmt::format("{} = {} | {} | {} | cannot run: {}", info.index, info.name, name(info.type), info.driver,
                       info.reason);
  const graph::Target& target = info.target;
  return fmt::format("{} = {} | {}{} | {} | Vulkan {} | {:.1f} GiB | {} mode | {} | shared {} KiB{}", info.index,
                     info.name, name(info.type), target.cpu ? fmt::format(", {} threads", target.threads) : "",
                     info.driver, info.api, double(info.memory_bytes) / double(1u << 30),
                     target.addressing == graph::Addressing::address ? "address" : "descriptor",
                     target.subgroup_size ? fmt::format("subgroup {}", target.subgroup_size) : "no subgroups",
                     target.shared_memory_bytes / 1024, target.f16_storage ? " | f16 storage" : "");
}

std::string print_paths(const DeviceInfo& info) {
  std::string text;
  for (const std::string& name : info.features) text += (text.empty() ? "" : ", ") + name;
  for (size_t i = 0; i < info.off.size(); ++i) text += (i == 0 ? " | without " : ", ") + info.off[i];
  return text;
}

const DeviceInfo& choose_device(std::span<const DeviceInfo> devices, const std::string& select, std::string& why) {
  if (devices.empty())
    throw DeviceError("", "", "", "",
                      "the Vulkan drivers that are installed offer no device. On a machine without a GPU, "
                      "`apt-get install "
                      "mesa-vulkan-drivers` brings lavapipe, which runs on the CPU");
  const DeviceInfo* best = nullptr;
  if (select.empty()) {
    for (const DeviceInfo& device : devices)
      if (!best || better(device, *best)) best = &device;
    if (!best->usable)
      throw DeviceError("", "", "", "", "no device can run programs; what was found:" + one_line_each(devices));
    size_t usable = size_t(std::count_if(devices.begin(), devices.end(), [](const DeviceInfo& d) { return d.usable; }));
    why = usable == 1 ? "the only one that can run"
                      : fmt::format("the best of {} (discrete before integrated before virtual before cpu)", usable);
    return *best;
  }
  std::string wanted = lower(select);
  std::string uuid = wanted;
  std::erase(uuid, '-');
  bool index =
      std::all_of(wanted.begin(), wanted.end(), [](unsigned char c) { return std::isdigit(c); }) && wanted.size() < 6;
  for (const DeviceInfo& device : devices) {
    bool matches = index ? device.index == uint32_t(std::stoul(wanted))
                         : device.uuid == uuid || lower(device.name).find(wanted) != std::string::npos ||
                               lower(device.driver).find(wanted) != std::string::npos;
    if (matches && (!best || better(device, *best))) best = &device;
  }
  // The list names types too, and "--device=cpu" is what one writes elsewhere.
  const auto is_of_type = [&](const DeviceInfo& device) {
    return wanted == name(device.type) || (wanted == "gpu" && device.type != DeviceType::cpu);
  };
  if (best == nullptr) {
    for (const DeviceInfo& device : devices)
      if (is_of_type(device) && (!best || better(device, *best))) best = &device;
  }
  check(best != nullptr, "no device has the name, the type or the UUID '{}'; there are:{}", select,
        one_line_each(devices));
  check(best->usable, "the device '{}' cannot run: {}. There are:{}", best->name, best->reason, one_line_each(devices));
  why = fmt::format("asked for as '{}'", select);
  return *best;
}

std::vector<DeviceInfo> list_devices() {
  Instance instance = create_instance(Validation::off);
  std::vector<DeviceInfo> result;
  for (const vk::raii::PhysicalDevice& device : physical_devices(instance)) {
    Capabilities capabilities = query(instance.handle, device);
    result.push_back(describe(uint32_t(result.size()), capabilities, choose_features(capabilities, switched_off({}))));
  }
  return result;
}

namespace {

// The loader with all its devices, and the one that was chosen.
struct Choice {
  std::unique_ptr<Context> context;
  std::vector<vk::raii::PhysicalDevice> physical;
  std::vector<Capabilities> capabilities;
  std::vector<FeatureSet> features;
  DeviceInfo info;
  std::string why;
};

// Says why a row is off that was switched off here and not by the user.
void explain_row(std::vector<std::string>& off, const std::string& row, const char* why) {
  for (std::string& each : off)
    if (each == row + " (switched off)") each = fmt::format("{} ({})", row, why);
}

FeatureSet wanted_features(const Capabilities& capabilities, const DeviceOptions& options,
                           std::vector<std::string> without) {
  FeatureSet features = choose_features(capabilities, without);
  if (options.f16 || !features.in_use(kMatrices)) return features;
  without.push_back(kMatrices);
  features = choose_features(capabilities, without);
  explain_row(features.off, kMatrices, "nothing is stored in f16");
  return features;
}

Choice choose(const DeviceOptions& options, Validation validation, const std::vector<std::string>& without) {
  Choice choice{.context = std::make_unique<Context>(create_instance(validation))};
  choice.physical = physical_devices(choice.context->instance);
  std::vector<DeviceInfo> infos;
  for (const vk::raii::PhysicalDevice& device : choice.physical) {
    choice.capabilities.push_back(query(choice.context->instance.handle, device));
    choice.features.push_back(wanted_features(choice.capabilities.back(), options, without));
    infos.push_back(describe(uint32_t(infos.size()), choice.capabilities.back(), choice.features.back()));
  }
  choice.info =
      choose_device(infos, options.select.empty() ? environment("SURTSEY_DEVICE") : options.select, choice.why);
  apply_addressing(choice.info, options.addressing);
  return choice;
}

// Of a child that tries a device out (trial.h), else null.
Progress* trying = nullptr;

ChildResult try_out(DeviceOptions options, const std::vector<std::string>& without) {
  return run_in_child({}, [&](Progress& progress) {
    trying = &progress;
    options.quiet = true;
    options.validation = Validation::off;
    options.without = without;
    // Left alone at the end, as is all that the driver has made.
    (void)new Device(Device::open(options));
    return std::string();
  });
}

// The rows that this version of the driver is known not to survive, or is found not to. On a machine with no folder to
// keep that in, nothing is tried out.
Trial tried(Choice& choice, const DeviceOptions& options, const std::vector<std::string>& without) {
  const std::string directory = shaders::default_cache_directory();
  const DeviceInfo info = choice.info;
  if (directory.empty()) return {};
  if (const auto kept = kept_trial(directory, info)) return *kept;
  // No driver is loaded while the process is forked: the child would inherit locks of threads that it does not have.
  choice = {};
  const Trial trial = survive(info, [&](std::vector<std::string> more) {
    more.insert(more.end(), without.begin(), without.end());
    return try_out(options, more);
  });
  keep_trial(directory, info, trial);
  if (!trial.told.empty()) fmt::print(stderr, "device: {} ({})\n", trial.told, trial_file(directory, info));
  return trial;
}

}  // namespace

// A CPU driver keeps device memory in files of memory, and dies of a signal where it cannot make one as large.
void check_file_limit(const DeviceInfo& info) {
  constexpr rlim_t kLeast = 1 << 20;
  rlimit limit = {};
  if (info.type != DeviceType::cpu || getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur >= kLeast) return;
  throw DeviceError("", "", "", "",
                    fmt::format("File too large: this process may write files of {} bytes at most (ulimit -f), and the "
                                "driver of {} keeps its memory in files: at least {} bytes are needed",
                                limit.rlim_cur, info.name, kLeast));
}

Device Device::open(const DeviceOptions& options) {
  const Validation validation = options.validation ? *options.validation : wanted_validation();
  std::vector<std::string> without = switched_off(options.without);
  Choice choice = choose(options, validation, without);
  check_file_limit(choice.info);
  if (trying == nullptr) {
    const Trial trial = tried(choice, options, without);
    without.insert(without.end(), trial.without.begin(), trial.without.end());
    if (!choice.context || !trial.without.empty()) choice = choose(options, validation, without);
    for (const std::string& row : trial.without)
      explain_row(choice.info.off, row, "this version of the driver dies of it");
  }
  DeviceInfo& info = choice.info;
  std::unique_ptr<Context>& context = choice.context;
  create_device(*context, std::move(choice.physical[info.index]), choice.capabilities[info.index],
                choice.features[info.index], info);
  context->unified = !options.staging && (info.type == DeviceType::cpu || info.type == DeviceType::integrated);
  open_queue(*context);
  choice.physical.clear();
  Device device(std::move(info), std::move(context));
  if (trying != nullptr) {
    trying->set(kFirstKernels);
    run_first_kernels(device);
    trying->set(kCheckingMatrices);
  }
  device.check_cooperative();
  if (!options.quiet) {
    const DeviceInfo& opened = device.info_;
    for (const std::string& quirk : opened.quirks) fmt::print(stderr, "quirk: {}\n", quirk);
    fmt::print(stderr, "device: {} | {}{}\n", print(opened), choice.why,
               validation != Validation::off ? " | validation on" : "");
    fmt::print(stderr, "paths: {}\n", print_paths(opened));
  }
  return device;
}

void Device::check_cooperative() {
  // No kernel for a CPU would use the answer, and Mesa 26's lavapipe takes up to 37 s to give it.
  if (info_.target.cpu || !info_.target.cooperates()) return;
  // What is timed under validation says nothing of runs without it.
  const MatrixVerdict verdict =
      kept_or_judged(*this, info_.target, validation() ? "" : shaders::default_cache_directory());
  info_.target = with_verdict(info_.target, verdict);
  if (verdict.against.empty()) return;
  std::erase(info_.features, kMatrices);
  info_.off.push_back(fmt::format("{} ({})", kMatrices, verdict.against));
}

Device::Device(DeviceInfo info, std::unique_ptr<Context> context)
    : info_(std::move(info)), context_(std::move(context)) {}
Device::~Device() = default;
Device::Device(Device&&) noexcept = default;
Device& Device::operator=(Device&&) noexcept = default;

std::vector<std::string> Device::validation_messages() const { return context_->instance.messages->all(); }
void Device::clear_validation_messages() { context_->instance.messages->clear(); }
bool Device::validation() const { return context_->instance.validation != Validation::off; }

}  // namespace surtsey::engine
