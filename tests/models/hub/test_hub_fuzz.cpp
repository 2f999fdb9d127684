// The short form of tests/fuzz/fuzz_models.cpp, without limits on time and memory.
#include "tests/fuzz/model_files.h"

#include <catch2/catch_test_macros.hpp>

namespace surtsey::tests {
namespace {

TEST_CASE("hub: mutated files are read or refused, and nothing else", "[hub]") {
  int64_t accepted = 0;
  for (const char* kind : kModelFiles) {
    INFO(kind);
    const Folder folder;
    FuzzCount counts;
    REQUIRE_NOTHROW(counts = fuzz_models(kind, 1'000'000, 150, std::string(SURTSEY_SOURCE_ROOT) + "/tests/golden/gguf",
                                         folder, [](uint64_t, const std::function<void()>& work) { work(); }));
    // Mutations that never bite, or always, would test nothing. An index that is strict has none that do not bite.
    CHECK(counts.refused > 30);
    accepted += int64_t(counts.accepted);
  }
  CHECK(accepted > 10);
}

}  // namespace
}  // namespace surtsey::tests
