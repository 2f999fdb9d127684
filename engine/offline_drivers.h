// The drivers that compile for GPUs that are not here, and how each is made to believe that one is.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::engine {

struct OfflineFamily {
  const char* name;
  const char* other = nullptr;  // as other versions of the driver, or its shim, call it
};

struct OfflineDriver {
  const char* vendor;
  const char* manifest;  // how the names of its manifests begin
  std::span<const OfflineFamily> families;
  // A null device of the family that this variable names; null where the driver makes none.
  const char* null_variable;
  // Mesa's fake kernel driver (Debian: mesa-drm-shim), preloaded, and the variable that names its GPU; without one, it
  // has only one GPU.
  const char* shim;
  const char* shim_variable;
  const char* shim_package;           // what has it
  const char* shim_switch = nullptr;  // a variable that has to be 1 besides
};
std::span<const OfflineDriver> offline_drivers();

// UserError lists the vendors when this is none.
const OfflineDriver& find_offline_driver(std::string_view vendor);

// The driver's manifests, one for each architecture, as the loader takes them; where the user says which drivers there
// are, only among those. Empty when there is none.
std::string find_manifests(const OfflineDriver& driver);

// The shim's library: beside the driver's own, or where distributions put libraries. Empty when it is not installed.
std::string find_shim(const OfflineDriver& driver, const std::string& manifests);

// The other name of a family, or empty.
std::string other_name(const OfflineDriver& driver, std::string_view family);
// What the shim's variable is set to for a family.
std::string shim_name(const OfflineDriver& driver, const std::string& family);

}  // namespace surtsey::engine
