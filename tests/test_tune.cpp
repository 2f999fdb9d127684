// Tiles of products: every one gives the bits of the default; what is measured is checked, kept, and used by later sessions.
#include "engine/tuned_tiles.h"
#include "experiments/tune.h"
#include "graph/compile.h"
#include "shaders/emit.h"
#include "shaders/matmul_tile.h"
#include "shaders/tile_cache.h"
#include "tests/device_suite.h"
#include "tests/folder.h"
#include "tests/support_device.h"

#include <algorithm>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;
using experiments::TunedProduct;

namespace {

MatmulShape shape_on(const Target& target, int64_t m, int64_t n, int64_t k) { return {.variant = target.matmul_variant(), .m = m, .n = n, .k = k}; }

// The same tile choice, by its place in the list of candidates, for every product of a program.
Target with_candidates(Target target, const Program& program, size_t candidate) {
  auto tiles = std::make_shared<MatmulTiles>();
  for (const auto& [shape, kernels] : experiments::planned_products(compile(program, target), target)) {
    const auto list = shaders::tile_candidates(shape, target);
    (*tiles)[shape] = list[candidate % list.size()];
  }
  target.tiles = std::move(tiles);
  return target;
}

}  // namespace

TEST_CASE("tiles as text are read back, and nothing else is", "[graph]") {
  const MatmulTiles tiles = {
      {{.variant = MatmulVariant::lane_broadcast, .batch = 3, .m = 5, .n = 7, .k = 9, .a_transposed = true}, {.rows = 5, .columns = 2, .depth = 4, .lanes_along_m = true}},
      {{.variant = MatmulVariant::shared_tile, .m = 64, .n = 64, .k = 64, .b_transposed = true}, {.rows = 64, .columns = 64, .depth = 16, .own = 4}}};
  CHECK(parse_matmul_tiles(print(tiles)) == tiles);
  CHECK(parse_matmul_tiles("").empty());
  const std::string line = "shared_tile nn 1x2x3x4 rows 1 columns 1 depth 1 own 1 along n";
  CHECK(parse_matmul_tiles(line).size() == 1);
  for (const std::string& wrong : {line + " ", line.substr(1), line.substr(0, line.size() - 2), "automatic" + line.substr(11), line.substr(0, 12) + "nx" + line.substr(14)})
    CHECK_THROWS_AS(parse_matmul_tiles(wrong), UserError);
}

TEST_CASE("candidates fit their target, and the first is what is used without a choice", "[shaders]") {
  for (const char* preset : target_preset_names()) {
    Target target = target_preset(preset);
    for (const auto& [m, n, k] : {std::tuple{1, 1, 1}, std::tuple{17, 9, 33}, std::tuple{512, 512, 512}, std::tuple{2048, 32, 128}, std::tuple{3, 4000, 8}}) {
      INFO(preset << " " << m << "x" << n << "x" << k);
      const MatmulShape shape = shape_on(target, m, n, k);
      const std::vector<MatmulTile> list = shaders::tile_candidates(shape, target);
      target.tiles = nullptr;
      CHECK(shaders::choose_tile(shape, target) == list.front());
      for (const MatmulTile& tile : list) {
        CHECK(std::count(list.begin(), list.end(), tile) == 1);
        target.tiles = std::make_shared<MatmulTiles>(MatmulTiles{{shape, tile}});
        CHECK(shaders::choose_tile(shape, target) == tile);
      }
      // What does not fit is not used, wherever it came from.
      for (const MatmulTile& tile : {MatmulTile{.rows = 4096}, MatmulTile{.columns = 1 << 20}, MatmulTile{.depth = 0}, MatmulTile{.rows = 31, .columns = 31, .own = 7}}) {
        target.tiles = std::make_shared<MatmulTiles>(MatmulTiles{{shape, tile}});
        CHECK(shaders::choose_tile(shape, target) == list.front());
      }
    }
  }
}

// Odd sides, a batch, an epilogue that reads an operand of the product's size, sums beside the product.
TEST_CASE("products in every tile, to the same bits", "[device][ops][tune]") {
  SURTSEY_NEED_DEVICE();
  Program program{std::make_shared<Graph>(), {}};
  State state;
  const auto operand = [&](const char* name, Shape shape) {
    const Value x = program.graph->parameter(name, {DType::f32, std::move(shape)});
    state[name] = HostTensor::random(x.type(), -1, 1, uint32_t(state.size()));
    state[name].round_to_storage();
    return x;
  };
  const Value a = operand("a", {2, 37, 19}), b = operand("b", {2, 19, 70}), residual = operand("residual", {2, 37, 70});
  program.outputs = {{"fused", abs(matmul(a, b)) + residual}, {"sums", sum(b, {1}, false)}};
  State scratch = state;
  const auto reference = interpret(program, scratch);
  for (const MatmulVariant variant : {MatmulVariant::shared_tile, MatmulVariant::lane_broadcast}) {
    Target target = device.target();
    if (variant == MatmulVariant::lane_broadcast && !target.can_broadcast()) continue;
    target.matmul = variant;
    size_t most = 0;
    for (const auto& [shape, kernels] : experiments::planned_products(compile(program, target), target))
      most = std::max(most, shaders::tile_candidates(shape, target).size());
    REQUIRE(most > 3);
    std::map<std::string, HostTensor> defaults;
    // A CPU's driver takes long to compile shared tiles, which are not its own variant: two of them there.
    if (variant == MatmulVariant::shared_tile && target.cpu) most = 2;
    for (size_t candidate = 0; candidate < most; ++candidate) {
      const auto results = run_on_device(device, with_candidates(target, program, candidate), program, state);
      if (candidate == 0) defaults = results;
      for (const auto& [name, expected] : reference) {
        INFO(name << ", " << graph::name(variant) << ", candidate " << candidate);
        CHECK(compare(results.at(name), expected, {2e-5, 1e-5}) == "");
        CHECK(results.at(name).values == defaults.at(name).values);
      }
    }
  }
}

TEST_CASE("a wrong candidate is rejected, however fast it is", "[device][tune]") {
  SURTSEY_NEED_DEVICE();
  Target target = device.target();
  target.matmul = MatmulVariant::automatic;
  const MatmulShape shape = shape_on(target, 32, 16, 40);
  constexpr size_t kIdle = 1, kSubtle = 2, kBroken = 3;
  const auto plant = [&](size_t candidate, shaders::Shader& shader) {
    const auto replace = [&](const std::string& what, const std::string& with) {
      const size_t at = shader.glsl.find(what);
      REQUIRE(at != std::string::npos);
      shader.glsl.replace(at, what.size(), with);
    };
    if (candidate == kIdle) replace("void main() {", "void main() { return;");
    if (candidate == kSubtle) replace("float c0_0 = 0.0;", "float c0_0 = 1e-7;");  // within what sums in double allow
    if (candidate == kBroken) replace("void main() {", "void main() { no_such_function();");
  };
  const TunedProduct tuned = experiments::tune_product(device, target, shape, {.rounds = 3, .sample_ns = 1e5, .alter = plant});
  REQUIRE(tuned.trials.size() > kBroken + 1);
  for (size_t i = 0; i < tuned.trials.size(); ++i) {
    INFO(i << " " << tuned.trials[i].rejected);
    const bool planted = i == kIdle || i == kSubtle || i == kBroken;
    CHECK(tuned.trials[i].rejected.empty() == !planted);
    CHECK((tuned.trials[i].median_ns > 0) == !planted);
  }
  CHECK(tuned.trials[kIdle].rejected.starts_with("element [0, 0, 0] is 0, not "));
  CHECK(tuned.trials[kSubtle].rejected.ends_with("has other bits than with the default tile"));
  CHECK(tuned.trials[kBroken].rejected.find("no_such_function") != std::string::npos);
  CHECK(tuned.trials[tuned.best].rejected.empty());
  // Where the default itself is wrong there is nothing to compare with.
  CHECK_THROWS_AS(experiments::tune_product(device, target, shape, {.rounds = 1, .alter = [&](size_t, shaders::Shader& shader) {
                    shader.glsl.replace(shader.glsl.find("void main() {"), 13, "void main() { return;");
                  }}),
                  InternalError);
}

TEST_CASE("sessions use the tiles that were kept for their device, unless they are switched off", "[device][tune]") {
  SURTSEY_NEED_DEVICE();
  const Folder folder;
  const std::string cache = folder.path().string();
  const MatmulShape shape = shape_on(device.target(), 96, 64, 96);
  const MatmulTile tile = shaders::tile_candidates(shape, device.target()).at(1);
  REQUIRE(shaders::store_tiles(cache, engine::tile_identity(device.info()), device.target(), {{shape, tile}}));
  const auto text = [&](engine::Device& with, const std::string& directory, std::shared_ptr<const MatmulTiles> own) {
    Target target = with.target();
    target.tiles = std::move(own);
    engine::Session session(with, {.target = target, .cache = directory, .quiet = true});
    session.add_program("product", experiments::product_program(shape));
    return session.shaders("product").at(0).glsl;
  };
  const auto none = std::make_shared<MatmulTiles>();
  const std::string usual = text(device, "", nullptr), tuned = text(device, cache, nullptr);
  CHECK(usual != tuned);
  CHECK(text(device, "", std::make_shared<MatmulTiles>(MatmulTiles{{shape, tile}})) == tuned);
  // A resumed run brings its own choices, which may be none.
  CHECK(text(device, cache, none) == usual);
  engine::Device off = open_test_device({.without = {"tuning"}});
  CHECK(text(off, cache, nullptr) == usual);
  // What is damaged is not used.
  const std::string path = shaders::tile_cache_file(cache, engine::tile_identity(device.info()), device.target());
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  CHECK(text(device, cache, nullptr) == usual);
}
