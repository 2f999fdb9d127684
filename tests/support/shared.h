// What stands beside the repository and not in it: ../shared, with goldens of reference implementations.
#pragma once

#include <catch2/catch_test_macros.hpp>

#include <filesystem>
#include <string>

namespace surtsey::tests {

// Skips the test, and says so, where it is not there.
inline std::filesystem::path shared_folder(const std::string& name) {
  const std::filesystem::path folder = std::filesystem::path(SURTSEY_SOURCE_ROOT).parent_path() / "shared" / name;
  if (!std::filesystem::exists(folder)) SKIP("there is no " << folder.string());
  return folder;
}

}  // namespace surtsey::tests
