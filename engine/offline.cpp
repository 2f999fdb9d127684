#include "engine/offline.h"

#include "engine/child.h"
#include "engine/offline_device.h"
#include "engine/offline_drivers.h"
#include "engine/offline_remote.h"
#include "engine/offline_text.h"
#include "graph/debug.h"

namespace surtsey::engine {
namespace {

using Variables = std::vector<std::pair<std::string, std::string>>;
using OfflineWork = std::function<std::string(OfflineDevice&)>;

struct Request {
  const OfflineDriver* driver = nullptr;
  std::string manifests, family;
};

std::string manifests_of(const OfflineDriver& driver) {
  std::string manifests = find_manifests(driver);
  check(!manifests.empty(),
        "the driver that compiles for {} is not installed: there is no {}*.json among the Vulkan drivers (on Debian or "
        "Ubuntu "
        "`apt-get install mesa-vulkan-drivers`), or VK_DRIVER_FILES hides it",
        driver.vendor, driver.manifest);
  return manifests;
}

Request parse(const std::string& device) {
  const size_t colon = device.find(':');
  Request request;
  request.driver = &find_offline_driver(device.substr(0, colon));
  check(colon != std::string::npos && colon + 1 < device.size(),
        "'{}' names no GPU family; targets are VENDOR:FAMILY, as amd:navi21", device);
  request.family = device.substr(colon + 1);
  request.manifests = manifests_of(*request.driver);
  return request;
}

// The driver alone, whatever the user's settings of the loader.
Variables driver_alone(const Request& request) {
  return {{"VK_DRIVER_FILES", request.manifests},
          {"VK_ICD_FILENAMES", request.manifests},
          {"VK_ADD_DRIVER_FILES", ""},
          {"VK_LOADER_DRIVERS_SELECT", ""},
          {"VK_LOADER_DRIVERS_DISABLE", ""}};
}

constexpr const char* kOpening = "opening";

ChildResult try_null(const Request& request, const std::string& family, const OfflineWork& work) {
  Variables variables = driver_alone(request);
  variables.emplace_back(request.driver->null_variable, family);
  return run_in_child(variables, [&](Progress& progress) {
    progress.set(kOpening);
    // Left alone at the end: a null device is not for waiting.
    OfflineDevice* device = open_offline_device(progress, true).release();
    progress.set("");
    return work(*device);
  });
}

std::unique_ptr<OfflineDevice> open_shim(const Request& request, const std::string& shim, const std::string& family) {
  Variables variables = driver_alone(request);
  if (request.driver->shim_variable != nullptr)
    variables.emplace_back(request.driver->shim_variable, shim_name(*request.driver, family));
  if (request.driver->shim_switch != nullptr) variables.emplace_back(request.driver->shim_switch, "1");
  variables.emplace_back("LD_PRELOAD", shim);
  return open_remote_device(fmt::format("{}:{}", request.driver->vendor, family), variables);
}

// The device by its shim, under either name of the family; null, and `why`, where it cannot be had.
std::unique_ptr<OfflineDevice> find_by_shim(const Request& request, std::string& why) {
  const std::string shim = find_shim(*request.driver, request.manifests);
  if (shim.empty()) {
    why = fmt::format("{} is not installed ({} has it)", request.driver->shim, request.driver->shim_package);
    return nullptr;
  }
  // NVIDIA's second names are what the first ones become.
  std::vector<std::string> names = {request.family};
  if (const std::string other = other_name(*request.driver, request.family);
      !other.empty() && shim_name(*request.driver, request.family) == request.family)
    names.push_back(other);
  for (const std::string& name : names) {
    try {
      return open_shim(request, shim, name);
    } catch (const std::exception& error) {
      if (why.empty()) why = error.what();
    }
  }
  return nullptr;
}

// Whether the null device never opened.
bool failed_to_open(const ChildResult& result) { return !result.finished && result.progress == kOpening; }

std::string work_with_null(const std::string& device, const ChildResult& result) {
  if (result.finished) return result.output;
  if (!result.death.empty())
    throw DeviceError("", "", "", "",
                      fmt::format("{}: the driver ended with {}{}; {}", device, result.death,
                                  result.progress.empty() ? "" : ", " + result.progress, last_lines(result.errors, 3)));
  const std::string message = fmt::format("{}: {}", device, result.output);
  if (result.user_error) throw UserError(message);
  throw DeviceError("", "", "", "", message);
}

// A driver's own words say more than what the loader makes of them.
std::string what_it_said(const ChildResult& result) {
  if (result.death.empty() && result.errors.empty()) return result.output;
  return (result.death.empty() ? "" : "it ended with " + result.death + "; ") + last_lines(result.errors, 2);
}

[[noreturn]] void refuse(const Request& request, const std::string& device, const std::string& null_why,
                         const std::string& shim_why) {
  std::string known;
  for (const std::string& name : offline_devices(request.driver->vendor)) known += (known.empty() ? "" : ", ") + name;
  std::string why;
  if (!null_why.empty()) why += fmt::format("as a null device: {}; ", null_why);
  why += fmt::format("by a shim: {}", shim_why);
  throw UserError(fmt::format("the driver on this machine cannot pretend to have {} ({}). {}", device, why,
                              known.empty() ? "It knows no other either" : "It knows: " + known));
}

std::string work_with_shim(const std::string& device, OfflineDevice& opened, const OfflineWork& work) {
  try {
    return work(opened);
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: {}", device, error.what()));
  }
}

}  // namespace

std::vector<std::string> offline_devices(const std::string& vendor) {
  const OfflineDriver& driver = find_offline_driver(vendor);
  const Request request{&driver, manifests_of(driver), ""};
  const std::string shim = find_shim(driver, request.manifests);
  const auto opens = [&](const std::string& family) {
    if (driver.null_variable != nullptr &&
        try_null(request, family, [](OfflineDevice&) { return std::string(); }).finished)
      return true;
    if (shim.empty()) return false;
    try {
      open_shim(request, shim, family);
      return true;
    } catch (const std::exception&) {
      return false;
    }
  };
  std::vector<std::string> result;
  for (const OfflineFamily& row : driver.families) {
    const bool two_names = row.other != nullptr && shim_name(driver, row.name) == row.name;
    if (opens(row.name))
      result.push_back(fmt::format("{}:{}", vendor, row.name));
    else if (two_names && opens(row.other))
      result.push_back(fmt::format("{}:{}", vendor, row.other));
  }
  return result;
}

std::vector<OfflineVendor> offline_vendors() {
  std::vector<OfflineVendor> result;
  for (const OfflineDriver& driver : offline_drivers()) {
    OfflineVendor& vendor = result.emplace_back();
    vendor.name = driver.vendor;
    const std::string manifests = find_manifests(driver), shim = manifests.empty() ? "" : find_shim(driver, manifests);
    if (manifests.empty())
      vendor.why_not =
          fmt::format("no {}*.json among the Vulkan drivers: Debian's mesa-vulkan-drivers has it", driver.manifest);
    else if (vendor.devices = offline_devices(driver.vendor); vendor.devices.empty())
      vendor.why_not = shim.empty() ? fmt::format("{} is not installed: {} has it", driver.shim, driver.shim_package)
                                    : "no family that we know opens with " + shim;
  }
  return result;
}

std::string with_offline_device(const std::string& device, const OfflineWork& work) {
  const Request request = parse(device);
  std::string null_why, shim_why;
  if (request.driver->null_variable != nullptr) {
    ChildResult result = try_null(request, request.family, work);
    if (const std::string other = other_name(*request.driver, request.family);
        failed_to_open(result) && !other.empty()) {
      const ChildResult again = try_null(request, other, work);
      if (!failed_to_open(again)) result = again;
    }
    if (debug_level() > 0) fmt::print(stderr, "{}", result.errors);
    if (!failed_to_open(result)) return work_with_null(device, result);
    null_why = what_it_said(result);
  }
  const std::unique_ptr<OfflineDevice> opened = find_by_shim(request, shim_why);
  if (!opened) refuse(request, device, null_why, shim_why);
  return work_with_shim(device, *opened, work);
}

}  // namespace surtsey::engine
