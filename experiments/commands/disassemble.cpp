#include "experiments/commands/disassemble.h"

#include "graph/error.h"

#include <cstdio>
#include <filesystem>
#include <memory>

#include <unistd.h>

namespace surtsey::experiments::commands {

std::string disassemble(const shaders::Spirv& spirv) {
  const std::string path = (std::filesystem::temp_directory_path() / fmt::format("surtsey.{}.spv", getpid())).string();
  const auto remove = [&](std::FILE* file) {
    std::fclose(file);
    std::filesystem::remove(path);
  };
  const std::unique_ptr<std::FILE, decltype(remove)> input(std::fopen(path.c_str(), "wb"), remove);
  check(input != nullptr, "{} cannot be written", path);
  std::fwrite(spirv.data(), 4, spirv.size(), input.get());
  check(std::fflush(input.get()) == 0, "{} cannot be written", path);

  std::FILE* program = popen(fmt::format("spirv-dis --no-color '{}'", path).c_str(), "r");
  check(program != nullptr, "spirv-dis cannot be started");
  std::string text;
  char piece[4096];
  for (size_t n = 0; (n = std::fread(piece, 1, sizeof piece, program)) > 0;) text.append(piece, n);
  check(pclose(program) == 0, "spirv-dis failed or is not installed (Debian: apt-get install spirv-tools)");
  return text;
}

}  // namespace surtsey::experiments::commands
