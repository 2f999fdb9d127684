// Caches on disk: what is damaged is found, never believed, and made anew.
#include "tests/support/folder.h"
#include "tests/support/layered.h"
#include "tests/support/support_device.h"

#include "engine/pipeline.h"
#include "shaders/cache_file.h"
#include "shaders/tile_cache.h"

#include <random>

using namespace surtsey;
using namespace surtsey::tests;
namespace fs = std::filesystem;

namespace {

constexpr uint32_t kSeeds = 200;

// Flips one bit, anywhere in the file.
void flip(const fs::path& path, uint32_t seed) {
  std::string content = slurp(path);
  std::mt19937 random(seed);
  const size_t bit = std::uniform_int_distribution<size_t>(0, content.size() * 8 - 1)(random);
  content[bit / 8] = char(content[bit / 8] ^ (1 << bit % 8));
  write(path, content);
}

std::vector<shaders::Shader> hand_shaders(const graph::Target& target) {
  return {hand_shader("one", target, 1, 10, "a0[i] = 1.0;"), hand_shader("two", target, 1, 10, "a0[i] = 2.0;"),
          hand_shader("one_again", target, 1, 10, "a0[i] = 1.0;")};
}

}  // namespace

TEST_CASE("a cache file is believed only when every bit is as it was written", "[shaders]") {
  using namespace shaders;
  const Folder folder;
  const std::string path = (folder / "cache").string();
  const CacheKind kind{.magic = 0x12345678, .format = 3, .max_payload = 1000};
  const std::string identity = "a device and its driver", payload(777, 'p');
  std::vector<std::byte> loaded;
  const auto load = [&](const CacheKind& asked, const std::string& who) {
    loaded.clear();
    return load_cache_file(path, asked, shaders::bytes_of(who), loaded);
  };
  CHECK(load(kind, identity) == CacheState::absent);
  REQUIRE(store_cache_file(path, kind, shaders::bytes_of(identity), shaders::bytes_of(payload)));
  REQUIRE(load(kind, identity) == CacheState::good);
  CHECK(std::ranges::equal(loaded, shaders::bytes_of(payload)));

  const std::string whole = slurp(path);
  for (uint32_t seed = 0; seed < kSeeds; ++seed) {
    flip(path, seed);
    INFO(seed);
    CHECK(load(kind, identity) == CacheState::corrupt);
    CHECK(loaded.empty());
    write(path, whole);
  }
  for (size_t length = 0; length < whole.size(); length += 13) {
    write(path, whole.substr(0, length));
    CHECK(load(kind, identity) == CacheState::corrupt);
  }
  write(path, whole + "x");
  CHECK(load(kind, identity) == CacheState::corrupt);
  write(path, whole);
  CHECK(load(kind, "another device and driver") == CacheState::corrupt);
  CHECK(load(kind, identity.substr(1)) == CacheState::corrupt);
  CHECK(load({.magic = 1, .format = 3, .max_payload = 1000}, identity) == CacheState::corrupt);
  CHECK(load({.magic = 0x12345678, .format = 4, .max_payload = 1000}, identity) == CacheState::corrupt);
  CHECK(load({.magic = 0x12345678, .format = 3, .max_payload = 776}, identity) == CacheState::corrupt);
  CHECK(load(kind, identity) == CacheState::good);

  // Empty is a payload, too much is none; nothing half written stays behind.
  CHECK(store_cache_file(path, kind, {}, {}));
  CHECK(load(kind, "") == CacheState::good);
  CHECK_FALSE(store_cache_file(path, kind, {}, shaders::bytes_of(std::string(1001, 'x'))));
  CHECK_FALSE(store_cache_file("/proc/no/such/folder", kind, {}, {}));
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
}

TEST_CASE("a SPIR-V cache file with a flipped bit is detected and replaced", "[shaders]") {
  graph::Target target = graph::Target{};
  target.addressing = graph::Addressing::descriptor;
  const std::vector<shaders::Shader> list = hand_shaders(target);
  const Folder folder;
  shaders::SpirvStatistics statistics;
  const auto compile = [&] { return shaders::compile_spirv(list, folder.path().string(), &statistics); };
  const std::vector<shaders::Spirv> fresh = compile();
  CHECK(statistics.compiled == 2);
  CHECK(statistics.duplicates == 1);
  CHECK(fresh[2] == fresh[0]);
  CHECK(fresh[1] != fresh[0]);
  CHECK(compile() == fresh);
  CHECK(statistics.from_cache == 2);

  const fs::path path = shaders::cache_file(folder.path().string(), list[0].glsl);
  const std::string whole = slurp(path);
  for (uint32_t seed = 0; seed < kSeeds; ++seed) {
    flip(path, seed);
    INFO(seed);
    REQUIRE(compile() == fresh);
    CHECK(statistics.corrupt == 1);
    CHECK(slurp(path) == whole);
  }
  for (const size_t length : {whole.size() - 4, size_t(0)}) {
    fs::resize_file(path, length);
    CHECK(compile() == fresh);
    CHECK(statistics.corrupt == 1);
    CHECK(slurp(path) == whole);
  }
  CHECK(compile() == fresh);
  CHECK(statistics.from_cache == 2);
  for (const auto& entry : fs::directory_iterator(folder.path())) CHECK(entry.path().extension() == ".spv");
  // A folder that cannot be made costs nothing but time.
  CHECK(shaders::compile_spirv(list, "/proc/no/such/folder", &statistics) == fresh);
  CHECK(statistics.compiled == 2);
}

TEST_CASE("a file of measured tiles with a flipped bit is detected and replaced", "[shaders]") {
  using namespace shaders;
  const Folder folder;
  const std::string directory = (folder / "cache").string(), who = "a device\nand its driver";
  const graph::Target target = graph::target_preset("lavapipe");
  const MeasuredTiles tiles = {
      .products =
          {{{.variant = graph::MatmulVariant::lane_broadcast, .m = 64, .n = 48, .k = 32},
            {.rows = 8, .columns = 4, .depth = 2, .lanes_along_m = true}},
           {{.variant = graph::MatmulVariant::shared_tile, .batch = 3, .m = 7, .n = 9, .k = 5, .b_transposed = true},
            {.rows = 16, .columns = 16, .depth = 16, .own = 2}}},
      .reductions = {{{.variant = graph::ReduceVariant::workgroup_per_row, .rows = 12, .columns = 40, .kernel = 77},
                      {.lanes = 8, .local = 64}}}};
  const auto load = [&](const graph::Target& asked, const std::string& device) {
    MeasuredTiles loaded = {.products = {{{.m = 1}, {}}}};
    const CacheState state = load_tiles(directory, device, asked, loaded);
    CHECK((state == CacheState::good ? loaded == tiles : loaded.size() == 1));
    return state;
  };
  CHECK(load(target, who) == CacheState::absent);
  REQUIRE(store_tiles(directory, who, target, tiles));
  REQUIRE(load(target, who) == CacheState::good);
  const fs::path path = tile_cache_file(directory, who, target);
  const std::string whole = slurp(path);
  for (uint32_t seed = 0; seed < kSeeds; ++seed) {
    flip(path, seed);
    INFO(seed);
    CHECK(load(target, who) == CacheState::corrupt);
    REQUIRE(store_tiles(directory, who, target, tiles));
    CHECK(slurp(path) == whole);
  }
  // Another driver has another file. Kernels written otherwise (here for other lanes) do not believe this one.
  CHECK(load(target, who + " 2") == CacheState::absent);
  graph::Target wider = target;
  wider.subgroup_size = 16;
  CHECK(load(wider, who) == CacheState::corrupt);
  CHECK_FALSE(store_tiles("/proc/no/such/folder", who, target, tiles));
}

TEST_CASE("a driver whose pipeline cache never fits what it said is asked twice, not for ever", "[engine][device]") {
  const Folder folder;
  const std::string cache = (folder / "cache").string();
  const Layered growing("pipeline_cache=1,grow_cache=1");
  const engine::Device device = open_test_device();
  const std::vector<shaders::Shader> list = hand_shaders(device.target());
  engine::PipelineStore(device.context(), device.target(), cache).get(list, shaders::compile_spirv(list, ""));
  CHECK_FALSE(fs::exists(cache));
}

// CPU drivers keep nothing in VkPipelineCache; the test layer does, and ends the process when
// damaged data reaches it.
TEST_CASE("a pipeline cache file with a flipped bit is detected and replaced", "[engine][device]") {
  const Folder folder;
  const std::string report = (folder / "report").string();
  const std::string cache = (folder / "cache").string();
  const Layered layered("pipeline_cache=1,report=" + report);
  fs::path path;
  std::string whole;
  {
    const engine::Device device = open_test_device();
    const std::vector<shaders::Shader> list = hand_shaders(device.target());
    const std::vector<shaders::Spirv> spirv = shaders::compile_spirv(list, "");
    const auto start = [&] { engine::PipelineStore(device.context(), device.target(), cache).get(list, spirv); };
    start();
    path = engine::PipelineCache(device.context(), cache).path();
    REQUIRE(fs::is_regular_file(path));
    whole = slurp(path);
    for (uint32_t seed = 0; seed < kSeeds; ++seed) {
      flip(path, seed);
      INFO(seed);
      start();
      CHECK(slurp(path) == whole);
    }
    fs::resize_file(path, engine::PipelineCache::kMaxBytes + 1000);  // a sparse file
    start();
    CHECK(slurp(path) == whole);
    CHECK(std::distance(fs::directory_iterator(cache), fs::directory_iterator()) == 1);

    // Nothing is written without a folder, nor without the feature.
    engine::PipelineStore(device.context(), device.target(), "").get(list, spirv);
    const engine::Device plain = open_test_device({.without = {"pipeline_cache"}});
    const std::string none = (folder / "none").string();
    engine::PipelineStore(plain.context(), plain.target(), none).get(list, spirv);
    CHECK_FALSE(fs::exists(none));
    // Where nothing can be written it costs nothing but time.
    engine::PipelineStore(device.context(), device.target(), "/proc/no/such").get(list, spirv);
  }
  CHECK(slurp(report).find(" alive=0 ") != std::string::npos);
  fs::remove(report);
  {
    // The next process begins with what is there, and leaves it alone.
    const engine::Device device = open_test_device();
    const std::vector<shaders::Shader> list = hand_shaders(device.target());
    engine::PipelineStore(device.context(), device.target(), cache).get(list, shaders::compile_spirv(list, ""));
    CHECK(slurp(path) == whole);
  }
  CHECK(slurp(report).find(" cached=2 ") != std::string::npos);
}
