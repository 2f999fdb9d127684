#include "graph/debug.h"

#include "graph/error.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace surtsey {

namespace {

constexpr EnvironmentVariable kVariables[] = {
    {"SURTSEY_DEBUG",
     "1 a line per compile, 2 a line per dispatch, 3 kernels and bindings, 4 GLSL, 5 what each pass "
     "left behind where it changed something, 6 SPIR-V text"},
    {"SURTSEY_DUMP", "a folder; every artefact is written there: graphs, plans, GLSL, SPIR-V"},
    {"SURTSEY_DEVICE", "index, name or UUID of the device to use"},
    {"SURTSEY_WITHOUT",
     "optional paths to do without, with commas: `surtsey devices` lists them (f16_storage, "
     "subgroup_ballot, fusion, ..)"},
    {"SURTSEY_ADDRESSING", "address | descriptor: how kernels reach tensors"},
    {"SURTSEY_VALIDATION", "1: core and synchronization validation"},
    {"SURTSEY_CACHE", "folder of the SPIR-V cache (default: $XDG_CACHE_HOME/surtsey or ~/.cache/surtsey)"},
};

// Of the system, the loader and drivers; not switches of ours.
constexpr const char* kSystemVariables[] = {"HOME",
                                            "XDG_CACHE_HOME",
                                            "XDG_DATA_DIRS",
                                            "VK_DRIVER_FILES",
                                            "VK_ICD_FILENAMES",
                                            "LP_NATIVE_VECTOR_WIDTH",
                                            "VK_KHRONOS_VALIDATION_SYNCVAL_SHADER_ACCESSES_HEURISTIC"};

}  // namespace

std::span<const EnvironmentVariable> environment_variables() { return kVariables; }

std::string environment(std::string_view name) {
  const auto matches = [&](std::string_view candidate) { return candidate == name; };
  ensure(std::any_of(std::begin(kVariables), std::end(kVariables),
                     [&](const EnvironmentVariable& row) { return matches(row.name); }) ||
             std::any_of(std::begin(kSystemVariables), std::end(kSystemVariables), matches),
         "environment variable {} is not in the table of debug.cpp", name);
  const char* value = std::getenv(std::string(name).c_str());
  return value ? value : "";
}

int debug_level() {
  const std::string text = environment("SURTSEY_DEBUG");
  if (text.empty()) return 0;
  int level = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), level);
  check(error == std::errc() && end == text.data() + text.size() && level >= 0,
        "SURTSEY_DEBUG must be a number from 0 to 6, not '{}'", text);
  return level;
}

void dump(std::string_view name, std::string_view content) {
  const std::string folder = environment("SURTSEY_DUMP");
  if (folder.empty()) return;
  const std::filesystem::path path = std::filesystem::path(folder) / name;
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  std::ofstream file(path, std::ios::binary);
  file << content;
  check(file.good(), "SURTSEY_DUMP: cannot write {}", path.string());
}

}  // namespace surtsey
