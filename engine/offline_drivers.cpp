#include "engine/offline_drivers.h"

#include "graph/debug.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace surtsey::engine {
namespace {

namespace fs = std::filesystem;

// Oldest first; which of them a driver knows depends on its version.
constexpr OfflineFamily kAmdFamilies[] = {
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
    {"gfx1103_r1", "phoenix"},
    {"gfx1103_r2"},
    {"gfx1150", "strix1"},
    {"gfx1151"},
    {"gfx1152"},
    {"gfx1153"},
    {"gfx1200"},
    {"gfx1201"},
};
// Generations, and the chip that stands for each.
constexpr OfflineFamily kNvidiaFamilies[] = {{"maxwell", "0x124"},  {"pascal", "0x132"}, {"volta", "0x140"},
                                             {"turing", "0x164"},   {"ampere", "0x172"}, {"ada", "0x192"},
                                             {"blackwell", "0x1b2"}};
constexpr OfflineFamily kAdrenoFamilies[] = {{"618"}, {"630"}, {"660"}, {"730"}, {"740"}, {"750"}, {"830"}};
constexpr OfflineFamily kAppleFamilies[] = {{"m1"}};
constexpr OfflineFamily kIntelFamilies[] = {{"skl"}, {"tgl"}, {"dg2"}, {"mtl"}, {"lnl"}, {"bmg"}};

constexpr const char* kShimPackage = "Debian's mesa-drm-shim";

constexpr OfflineDriver kDrivers[] = {
    {"amd", "radeon_icd", kAmdFamilies, "RADV_FORCE_FAMILY", "libamdgpu_noop_drm_shim.so", "AMDGPU_GPU_ID",
     kShimPackage},
    {"nvidia", "nouveau_icd", kNvidiaFamilies, nullptr, "libnouveau_noop_drm_shim.so", "NOUVEAU_CHIPSET", kShimPackage},
    {"adreno", "freedreno_icd", kAdrenoFamilies, nullptr, "libfreedreno_noop_drm_shim.so", "FD_GPU_ID", kShimPackage},
    {"apple", "asahi_icd", kAppleFamilies, nullptr, "libasahi_noop_drm_shim.so", nullptr, kShimPackage},
    {"intel", "intel_icd", kIntelFamilies, nullptr, "libintel_noop_drm_shim.so", "INTEL_STUB_GPU_PLATFORM",
     "Mesa built with -Dtools=drm-shim,intel", "INTEL_STUB_GPU"},
};

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// Where the driver's library lies, if its manifest says so.
std::string library_folder(const std::string& manifest) {
  const auto json = nlohmann::json::parse(std::ifstream(manifest), nullptr, false);
  if (!json.is_object() || !json.contains("ICD")) return {};
  return fs::path(json["ICD"].value("library_path", "")).parent_path().string();
}

}  // namespace

std::span<const OfflineDriver> offline_drivers() { return kDrivers; }

const OfflineDriver& find_offline_driver(std::string_view vendor) {
  std::string known;
  for (const OfflineDriver& driver : kDrivers) {
    if (vendor == driver.vendor) return driver;
    known += (known.empty() ? "" : ", ") + std::string(driver.vendor);
  }
  throw UserError(
      fmt::format("no driver compiles for GPUs of '{}' that are not here; targets are VENDOR:FAMILY, as "
                  "amd:navi21, and the vendors are: {}",
                  vendor, known));
}

std::string find_manifests(const OfflineDriver& driver) {
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

std::string find_shim(const OfflineDriver& driver, const std::string& manifests) {
  std::vector<fs::path> folders;
  for (const std::string& manifest : split(manifests, ':'))
    if (const std::string folder = library_folder(manifest); !folder.empty()) folders.emplace_back(folder);
  // Another stack's driver goes with its own shim or with none: it may not load here.
  if (folders.empty())
    for (const char* root : {"/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"}) {
      folders.emplace_back(root);
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(root, error))
        if (entry.is_directory(error) && entry.path().filename().string().find("-linux-gnu") != std::string::npos)
          folders.push_back(entry.path());
    }
  for (const fs::path& folder : folders)
    if (fs::exists(folder / driver.shim)) return (folder / driver.shim).string();
  return {};
}

std::string other_name(const OfflineDriver& driver, std::string_view family) {
  for (const OfflineFamily& row : driver.families)
    if (row.other != nullptr && (family == row.name || family == row.other))
      return family == row.name ? row.other : row.name;
  return {};
}

std::string shim_name(const OfflineDriver& driver, const std::string& family) {
  // NVIDIA's generations are words of ours, which the shim knows by chip.
  if (std::string_view(driver.vendor) == "nvidia" && !family.starts_with("0x")) return other_name(driver, family);
  return family;
}

}  // namespace surtsey::engine
