// GLSL to SPIR-V at run time, with a cache on disk.
//
// A cache file (cache_file.h) is named after a 64-bit hash of the GLSL, the options and the
// compiler's version. One that fails verification is compiled again and replaced.
#pragma once

#include "shaders/shader.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace surtsey::shaders {

using Spirv = std::vector<uint32_t>;

struct SpirvStatistics {
  uint32_t from_cache = 0;
  uint32_t compiled = 0;
  uint32_t corrupt = 0;     // cache files that failed verification, counted in `compiled` too
  uint32_t duplicates = 0;  // shaders whose text another one of the call has
  double milliseconds = 0;
  std::vector<bool> cached;  // one per shader: its text was in the cache
};

// SURTSEY_CACHE, or $XDG_CACHE_HOME/surtsey, or ~/.cache/surtsey; empty (no cache) when none is
// set.
std::string default_cache_directory();

// The file that holds the SPIR-V of this text in that directory.
std::string cache_file(const std::string& directory, const std::string& glsl);

// One SPIR-V module per shader, compiled on all cores. InternalError with the GLSL around the line
// that the compiler complains about. An unwritable directory costs a line on stderr and nothing
// else.
std::vector<Spirv> compile_spirv(std::span<const Shader> shaders, const std::string& cache_directory,
                                 SpirvStatistics* statistics = nullptr);

// The module of a shader as text, compiled again with the lines of its GLSL: an OpLine stands before
// what comes from another line. Otherwise its instructions are those of compile_spirv().
std::string spirv_text(const Shader& shader);

}  // namespace surtsey::shaders
