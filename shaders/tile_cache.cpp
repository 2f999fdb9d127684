#include "shaders/tile_cache.h"

#include "graph/compile.h"
#include "graph/error.h"
#include "shaders/emit.h"

#include <filesystem>

namespace surtsey::shaders {

using namespace graph;

namespace {

constexpr CacheKind kTilesFile{.magic = 0x54565253, .format = 2, .max_payload = 4u << 20};  // "SRVT"

// Stands between the two tables.
constexpr std::string_view kReductions = "reductions\n";

// The texts of two products and two reductions, large enough for several tiles of any kind, with default tiles.
uint64_t hash_of_kernels(Target target) {
  target.tiles = nullptr;
  target.reduce_tiles = nullptr;
  Program program{std::make_shared<Graph>(), {}};
  const Value a = program.graph->parameter("a", {DType::f32, {130, 70}}),
              b = program.graph->parameter("b", {DType::f32, {70, 140}});
  program.outputs = {{"product", matmul(a, b)},
                     {"transposed", matmul(transpose(b), transpose(a)) * 2.0},
                     {"rows", sum(exp(a), {1}, false)},
                     {"columns", argmax(b, 0)}};
  uint64_t hash = 0;
  for (const Shader& shader : emit(compile(program, target), target)) hash = hash64(shader.glsl, hash);
  return hash;
}

std::string identity_of(const std::string& device, const Target& target) {
  return fmt::format("{}\n{:016x}", device, hash_of_kernels(target));
}

}  // namespace

std::string tile_cache_file(const std::string& directory, const std::string& device, const Target& target) {
  const std::string what =
      fmt::format("{}\n{}", device, target.addressing == Addressing::address ? "address" : "descriptor");
  return fmt::format("{}/tiles-{:016x}.bin", directory, hash64(what));
}

CacheState load_tiles(const std::string& directory, const std::string& device, const Target& target,
                      MeasuredTiles& tiles) {
  const std::string path = tile_cache_file(directory, device, target);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return CacheState::absent;
  std::vector<std::byte> payload;
  const CacheState state = load_cache_file(path, kTilesFile, bytes_of(identity_of(device, target)), payload);
  if (state != CacheState::good) return state;
  try {
    const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
    const size_t at = text.find(kReductions);
    if (at == std::string_view::npos) return CacheState::corrupt;
    tiles = {parse_matmul_tiles(text.substr(0, at)), parse_reduce_tiles(text.substr(at + kReductions.size()))};
  } catch (const UserError&) {
    return CacheState::corrupt;
  }
  return CacheState::good;
}

bool store_tiles(const std::string& directory, const std::string& device, const Target& target,
                 const MeasuredTiles& tiles) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const std::string text = print(tiles.products) + std::string(kReductions) + print(tiles.reductions);
  return store_cache_file(tile_cache_file(directory, device, target), kTilesFile, bytes_of(identity_of(device, target)),
                          bytes_of(text));
}

}  // namespace surtsey::shaders
