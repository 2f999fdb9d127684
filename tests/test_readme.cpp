// The README shows what is built: its example is a file that compiles.
#include <catch2/catch_test_macros.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace {

std::string source_text(const std::string& path) {
  std::ifstream file(std::string(SURTSEY_SOURCE_ROOT) + "/" + path);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("the README's example is experiments/example.cpp", "[style]") {
  const std::string readme = source_text("README.md"), example = source_text("experiments/example.cpp");
  CHECK(readme.find("```cpp\n" + example + "```") != std::string::npos);
}

TEST_CASE("the study that the README of experiments shows is one", "[style]") {
  const std::string readme = source_text("experiments/README.md"), study = source_text("tests/study/sums.cpp");
  CHECK(readme.find("```cpp\n" + study + "```") != std::string::npos);
}

TEST_CASE("every folder and script that the README names exists", "[style]") {
  const std::string readme = source_text("README.md");
  for (const char* path :
       {"scripts/demo", "scripts/test", "graph", "shaders", "engine", "experiments", "tests", "engine/quirks.cpp",
        "graph/ops/elementwise.cpp", "experiments/studies", "experiments/tasks", "experiments/demo.png", "LICENSE"}) {
    INFO(path);
    CHECK(readme.find(path) != std::string::npos);
    CHECK(std::filesystem::exists(std::string(SURTSEY_SOURCE_ROOT) + "/" + path));
  }
}
