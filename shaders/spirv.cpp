#include "shaders/spirv.h"

#include "graph/debug.h"
#include "graph/error.h"
#include "shaders/cache_file.h"
#include "shaders/cooperative_spirv.h"
#include "shaders/parallel.h"

#include <shaderc/shaderc.hpp>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <sstream>
#include <unordered_map>

namespace surtsey::shaders {
namespace {

constexpr uint32_t kSpirvMagic = 0x07230203;
constexpr const char* kOptions = "compute;vulkan1.3;spirv1.5;performance";

constexpr CacheKind kSpirvFile{.magic = 0x53565253, .format = 2, .max_payload = 64u << 20};  // "SRVS"

uint64_t cache_key(const std::string& glsl) {
  unsigned version = 0, revision = 0;
  shaderc_get_spv_version(&version, &revision);
  std::string what = fmt::format("{};{};{}.{};", SURTSEY_SHADERC_VERSION, kOptions, version, revision);
  return hash64(glsl, hash64(what));
}

std::string numbered_lines(const std::string& glsl, int around) {
  std::istringstream in(glsl);
  std::string line, result;
  for (int number = 1; std::getline(in, line); ++number) {
    if (around > 0 && std::abs(number - around) > 6) continue;
    result += fmt::format("{} {:4} | {}\n", number == around ? '>' : ' ', number, line);
  }
  return result;
}

// Messages look like `name:12: error: ...`.
int line_of(const std::string& message, const std::string& name) {
  size_t at = message.find(name + ":");
  return at == std::string::npos ? 0 : std::atoi(message.c_str() + at + name.size() + 1);
}

shaderc::CompileOptions compile_options() {
  shaderc::CompileOptions options;
  options.SetTargetEnvironment(shaderc_target_env_vulkan, shaderc_env_version_vulkan_1_3);
  // 1.6 would write workgroup sizes as LocalSizeId, which needs maintenance4.
  options.SetTargetSpirv(shaderc_spirv_version_1_5);
  options.SetOptimizationLevel(shaderc_optimization_level_performance);
  return options;
}

Spirv compile_one(const Shader& shader) {
  shaderc::Compiler compiler;
  const shaderc::CompileOptions options = compile_options();
  auto result = compiler.CompileGlslToSpv(shader.glsl, shaderc_compute_shader, shader.name.c_str(), options);
  if (result.GetCompilationStatus() != shaderc_compilation_status_success) {
    std::string message = result.GetErrorMessage();
    throw InternalError(fmt::format("internal error: kernel {} does not compile:\n{}{}", shader.name, message,
                                    numbered_lines(shader.glsl, line_of(message, shader.name))));
  }
  if (debug_level() >= 6) {
    auto text = compiler.CompileGlslToSpvAssembly(shader.glsl, shaderc_compute_shader, shader.name.c_str(), options);
    fmt::print(stderr, "{}\n", std::string(text.begin(), text.end()));
  }
  return with_khr_cooperative_matrices(Spirv(result.begin(), result.end()));
}

CacheState load(const std::string& path, uint64_t key, Spirv& spirv) {
  std::vector<std::byte> payload;
  CacheState state = load_cache_file(path, kSpirvFile, std::as_bytes(std::span(&key, 1)), payload);
  if (state != CacheState::good) return state;
  if (payload.size() < 20 || payload.size() % 4 != 0) return CacheState::corrupt;
  spirv.resize(payload.size() / 4);
  std::memcpy(spirv.data(), payload.data(), payload.size());
  return spirv[0] == kSpirvMagic ? CacheState::good : CacheState::corrupt;
}

bool store(const std::string& path, uint64_t key, const Spirv& spirv) {
  return store_cache_file(path, kSpirvFile, std::as_bytes(std::span(&key, 1)), std::as_bytes(std::span(spirv)));
}

}  // namespace

std::string spirv_text(const Shader& shader) {
  shaderc::CompileOptions options = compile_options();
  options.SetGenerateDebugInfo();
  const auto result =
      shaderc::Compiler().CompileGlslToSpvAssembly(shader.glsl, shaderc_compute_shader, shader.name.c_str(), options);
  ensure(result.GetCompilationStatus() == shaderc_compilation_status_success, "kernel {}: {}", shader.name,
         result.GetErrorMessage());
  std::string text(result.begin(), result.end());
  // OpSource repeats the whole GLSL as a string.
  const size_t source = text.find("OpSource GLSL"), quote = text.find(" \"", source);
  if (source == std::string::npos || quote == std::string::npos) return text;
  size_t end = quote + 2;
  while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
  return text.erase(quote, std::min(end + 1, text.size()) - quote);
}

std::string default_cache_directory() {
  if (std::string set = environment("SURTSEY_CACHE"); !set.empty()) return set;
  if (std::string base = environment("XDG_CACHE_HOME"); !base.empty()) return base + "/surtsey";
  if (std::string home = environment("HOME"); !home.empty()) return home + "/.cache/surtsey";
  return {};
}

std::string cache_file(const std::string& directory, const std::string& glsl) {
  return fmt::format("{}/{:016x}.spv", directory, cache_key(glsl));
}

std::vector<Spirv> compile_spirv(std::span<const Shader> shaders, const std::string& cache_directory,
                                 SpirvStatistics* statistics) {
  auto start = std::chrono::steady_clock::now();
  SpirvStatistics counted;
  std::unordered_map<std::string_view, size_t> first_with_text;
  std::vector<size_t> unique, source(shaders.size());
  for (size_t i = 0; i < shaders.size(); ++i) {
    auto [found, added] = first_with_text.try_emplace(shaders[i].glsl, i);
    source[i] = found->second;
    if (added)
      unique.push_back(i);
    else
      ++counted.duplicates;
  }

  std::error_code error;
  if (!cache_directory.empty()) std::filesystem::create_directories(cache_directory, error);
  std::vector<Spirv> result(shaders.size());
  counted.cached.resize(shaders.size());
  std::mutex mutex;
  bool unwritable = false;
  parallel_for(unique.size(), [&](size_t u) {
    const Shader& shader = shaders[unique[u]];
    Spirv& spirv = result[unique[u]];
    if (debug_level() >= 4) fmt::print(stderr, "{}:\n{}\n", shader.name, numbered_lines(shader.glsl, 0));
    CacheState loaded = CacheState::absent;
    uint64_t key = cache_key(shader.glsl);
    std::string path = cache_file(cache_directory, shader.glsl);
    if (!cache_directory.empty()) loaded = load(path, key, spirv);
    bool stored = true;
    if (loaded != CacheState::good) {
      spirv = compile_one(shader);
      if (!cache_directory.empty()) stored = store(path, key, spirv);
    }
    dump(shader.name + ".comp", shader.glsl);
    dump(shader.name + ".spv", {reinterpret_cast<const char*>(spirv.data()), spirv.size() * 4});
    std::scoped_lock lock(mutex);
    counted.cached[unique[u]] = loaded == CacheState::good;
    counted.from_cache += loaded == CacheState::good;
    counted.compiled += loaded != CacheState::good;
    counted.corrupt += loaded == CacheState::corrupt;
    unwritable |= !stored;
  });
  for (size_t i = 0; i < shaders.size(); ++i) {
    if (source[i] == i) continue;
    result[i] = result[source[i]];
    counted.cached[i] = counted.cached[source[i]];
  }
  if (unwritable)
    fmt::print(stderr, "shader cache: {} cannot be written; shaders will be compiled again next time\n",
               cache_directory);
  counted.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  if (statistics) *statistics = counted;
  return result;
}

}  // namespace surtsey::shaders
