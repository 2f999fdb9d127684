// Choices for products and reductions: those that keep the order of sums give the bits of the default; what is measured
// is checked, kept, and used by later sessions for the kernels it was measured with.
#include "engine/tuned_tiles.h"
#include "experiments/commands/requested_step.h"
#include "experiments/kernels/kernel_alone.h"
#include "experiments/kernels/tune.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "shaders/emit.h"
#include "shaders/matmul_tile.h"
#include "shaders/reduce_tile.h"
#include "shaders/tile_cache.h"
#include "tests/support/device_suite.h"
#include "tests/support/folder.h"
#include "tests/support/support_device.h"

#include <algorithm>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;
using experiments::ChoiceShape;
using experiments::PlannedKernel;
using experiments::TunedKernel;

namespace {

MatmulShape shape_on(const Target& target, int64_t m, int64_t n, int64_t k) {
  return {.variant = target.matmul_variant(), .m = m, .n = n, .k = k};
}

ReduceShape rows_on(const Target& target, int64_t rows, int64_t columns) {
  return {.variant = target.reduce_variant(), .rows = rows, .columns = columns};
}

// The same choice, by its place in the list of candidates, for every kernel of a program.
Target with_candidates(Target target, const Program& program, size_t candidate) {
  MatmulTiles products;
  ReduceTiles reductions;
  for (const PlannedKernel& one : experiments::planned_kernels(compile(program, target), target)) {
    const auto list = experiments::candidates(one.shape, target);
    const experiments::Choice& choice = list[candidate % list.size()];
    if (const auto* shape = std::get_if<MatmulShape>(&one.shape)) products[*shape] = std::get<MatmulTile>(choice);
    if (const auto* shape = std::get_if<ReduceShape>(&one.shape)) reductions[*shape] = std::get<ReduceTile>(choice);
  }
  target.tiles = std::make_shared<MatmulTiles>(std::move(products));
  target.reduce_tiles = std::make_shared<ReduceTiles>(std::move(reductions));
  return target;
}

size_t most_candidates(const Target& target, const Program& program) {
  size_t most = 0;
  for (const PlannedKernel& one : experiments::planned_kernels(compile(program, target), target))
    most = std::max(most, experiments::candidates(one.shape, target).size());
  return most;
}

struct Drawn {
  Program program{std::make_shared<Graph>(), {}};
  State state;
  Value operand(const char* name, Shape shape) {
    const Value x = program.graph->parameter(name, {DType::f32, std::move(shape)});
    state[name] = HostTensor::random(x.type(), -1, 1, uint32_t(state.size()));
    state[name].round_to_storage();
    return x;
  }
};

void replace(shaders::Shader& shader, const std::string& what, const std::string& with) {
  const size_t at = shader.glsl.find(what);
  INFO(shader.glsl);
  REQUIRE(at != std::string::npos);
  shader.glsl.replace(at, what.size(), with);
}

TunedKernel tune_only(engine::Device& device, const Target& target, const Program& program,
                      const experiments::TuneOptions& options) {
  const Plan plan = compile(program, target);
  const std::vector<PlannedKernel> kernels = experiments::planned_kernels(plan, target);
  REQUIRE(kernels.size() == 1);
  return experiments::tune_kernel(device, target, plan, kernels[0], options);
}

}  // namespace

TEST_CASE("tiles as text are read back, and nothing else is", "[graph]") {
  const MatmulTiles tiles = {
      {{.variant = MatmulVariant::lane_broadcast, .batch = 3, .m = 5, .n = 7, .k = 9, .a_transposed = true},
       {.rows = 5, .columns = 2, .depth = 4, .lanes_along_m = true}},
      {{.variant = MatmulVariant::shared_tile, .m = 64, .n = 64, .k = 64, .b_transposed = true},
       {.rows = 64, .columns = 64, .depth = 16, .own = 4}},
      {{.variant = MatmulVariant::shared_tile,
        .m = 64,
        .n = 64,
        .k = 64,
        .b_transposed = true,
        .kernel = 0xfedcba9876543210},
       {.rows = 32, .columns = 64, .depth = 16, .own = 4}}};
  CHECK(parse_matmul_tiles(print(tiles)) == tiles);
  CHECK(parse_matmul_tiles("").empty());
  const std::string line = "shared_tile nn 1x2x3x4 rows 1 columns 1 depth 1 own 1 along n";
  CHECK(parse_matmul_tiles(line).size() == 1);
  for (const std::string& wrong :
       {line + " ", line.substr(1), line.substr(0, line.size() - 2), "automatic" + line.substr(11),
        line.substr(0, 12) + "nx" + line.substr(14), line + " kernel", line + " kernel 12",
        line + " kernel 0000000000000000", line + " colonel 0123456789abcdef"})
    CHECK_THROWS_AS(parse_matmul_tiles(wrong), UserError);

  const ReduceTiles reductions = {
      {{.variant = ReduceVariant::lane_per_row, .rows = 7, .columns = 48, .kernel = 3}, {.local = 16, .unroll = 4}},
      {{.variant = ReduceVariant::workgroup_per_row, .rows = 9, .columns = 5}, {.lanes = 4, .local = 64}}};
  CHECK(parse_reduce_tiles(print(reductions)) == reductions);
  CHECK(parse_reduce_tiles("").empty());
  const std::string row = "lane_per_row 3x4 lanes 1 local 8 unroll 4";
  CHECK(parse_reduce_tiles(row).size() == 1);
  for (const std::string& wrong : {row + " ", row.substr(1), row.substr(0, row.size() - 1),
                                   "automatic" + row.substr(12), row + " kernel 12", line})
    CHECK_THROWS_AS(parse_reduce_tiles(wrong), UserError);
}

TEST_CASE("candidates fit their target, and the first is what is used without a choice", "[shaders]") {
  for (const char* preset : target_preset_names()) {
    Target target = target_preset(preset);
    for (const auto& [m, n, k] : {std::tuple{1, 1, 1}, std::tuple{17, 9, 33}, std::tuple{512, 512, 512},
                                  std::tuple{2048, 32, 128}, std::tuple{3, 4000, 8}}) {
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
      for (const MatmulTile& tile : {MatmulTile{.rows = 4096}, MatmulTile{.columns = 1 << 20}, MatmulTile{.depth = 0},
                                     MatmulTile{.rows = 31, .columns = 31, .own = 7}}) {
        target.tiles = std::make_shared<MatmulTiles>(MatmulTiles{{shape, tile}});
        CHECK(shaders::choose_tile(shape, target) == list.front());
      }
    }
  }
}

TEST_CASE("choices for reductions fit their target, and the first is what is used without one", "[shaders]") {
  for (const char* preset : target_preset_names()) {
    Target target = target_preset(preset);
    for (const auto& [rows, columns] :
         {std::pair{1, 1}, std::pair{1, 4000}, std::pair{2048, 32}, std::pair{33, 48}, std::pair{5, 33}}) {
      INFO(preset << " " << rows << "x" << columns);
      const ReduceShape shape = rows_on(target, rows, columns);
      const std::vector<ReduceTile> list = shaders::reduce_candidates(shape, target);
      target.reduce_tiles = nullptr;
      CHECK(shaders::choose_reduce_tile(shape, target) == list.front());
      for (const ReduceTile& tile : list) {
        CHECK(std::count(list.begin(), list.end(), tile) == 1);
        target.reduce_tiles = std::make_shared<ReduceTiles>(ReduceTiles{{shape, tile}});
        CHECK(shaders::choose_reduce_tile(shape, target) == tile);
      }
      for (const ReduceTile& tile :
           {ReduceTile{.lanes = 0}, ReduceTile{.lanes = 3, .local = 3}, ReduceTile{.local = 1 << 20},
            ReduceTile{.unroll = 7}, ReduceTile{.lanes = 64, .local = 32}}) {
        target.reduce_tiles = std::make_shared<ReduceTiles>(ReduceTiles{{shape, tile}});
        CHECK(shaders::choose_reduce_tile(shape, target) == list.front());
      }
    }
  }
}

// Softmax and an argmax of rows that are written out, of rows that are not, and of columns; a tail of rows.
TEST_CASE("reductions in every choice, to the same bits where the order is the same", "[device][ops][tune]") {
  SURTSEY_NEED_DEVICE();
  Drawn drawn;
  const Value wide = drawn.operand("wide", {19, 48}), narrow = drawn.operand("narrow", {37, 6});
  drawn.program.outputs = {
      {"softmax", softmax(wide)}, {"largest", argmax(narrow * narrow, 1)}, {"columns", sum(exp(wide), {0}, false)}};
  State scratch = drawn.state;
  const auto reference = interpret(drawn.program, scratch);
  for (const ReduceVariant variant : {ReduceVariant::lane_per_row, ReduceVariant::workgroup_per_row}) {
    Target target = device.target();
    target.reduce = variant;
    const size_t most = most_candidates(target, drawn.program);
    REQUIRE(most > 5);
    std::map<std::string, HostTensor> defaults;
    for (size_t candidate = 0; candidate < most; ++candidate) {
      const auto results =
          run_on_device(device, with_candidates(target, drawn.program, candidate), drawn.program, drawn.state);
      if (candidate == 0) defaults = results;
      for (const auto& [name, expected] : reference) {
        INFO(name << ", " << graph::name(variant) << ", candidate " << candidate);
        CHECK(compare(results.at(name), expected, {2e-5, 1e-5}) == "");
        if (variant == ReduceVariant::lane_per_row) CHECK(results.at(name).values == defaults.at(name).values);
      }
    }
  }
}

// Odd sides, a batch, an epilogue that reads an operand of the product's size, sums beside the product.
TEST_CASE("products in every tile, to the same bits", "[device][ops][tune]") {
  SURTSEY_NEED_DEVICE();
  Drawn drawn;
  const Value a = drawn.operand("a", {2, 37, 19}), b = drawn.operand("b", {2, 19, 70}),
              residual = drawn.operand("residual", {2, 37, 70});
  const Program& program = drawn.program;
  drawn.program.outputs = {{"fused", abs(matmul(a, b)) + residual}, {"sums", sum(b, {1}, false)}};
  State scratch = drawn.state;
  const auto reference = interpret(program, scratch);
  for (const MatmulVariant variant : {MatmulVariant::shared_tile, MatmulVariant::lane_broadcast}) {
    Target target = device.target();
    if (variant == MatmulVariant::lane_broadcast && !target.can_broadcast()) continue;
    target.matmul = variant;
    size_t most = most_candidates(target, program);
    REQUIRE(most > 3);
    std::map<std::string, HostTensor> defaults;
    // A CPU's driver takes long to compile shared tiles, which are not its own variant: two of them there.
    if (variant == MatmulVariant::shared_tile && target.cpu) most = 2;
    for (size_t candidate = 0; candidate < most; ++candidate) {
      const auto results = run_on_device(device, with_candidates(target, program, candidate), program, drawn.state);
      if (candidate == 0) defaults = results;
      for (const auto& [name, expected] : reference) {
        INFO(name << ", " << graph::name(variant) << ", candidate " << candidate);
        CHECK(compare(results.at(name), expected, {2e-5, 1e-5}) == "");
        CHECK(results.at(name).values == defaults.at(name).values);
      }
    }
  }
}

// A plain product, one with operands computed on load and an epilogue, and a reduction in several stages.
TEST_CASE("a wrong candidate is rejected, however fast it is", "[device][tune]") {
  SURTSEY_NEED_DEVICE();
  Target target = device.target();
  target.matmul = MatmulVariant::automatic;
  target.reduce = ReduceVariant::automatic;
  const bool broadcast = target.matmul_variant() == MatmulVariant::lane_broadcast;
  Drawn fused, rows;
  const Value a = fused.operand("a", {32, 40}), b = fused.operand("b", {40, 16}), bias = fused.operand("bias", {16});
  fused.program.outputs = {{"c", gelu_erf(matmul(a * 0.5, b) + bias)}};
  rows.program.outputs = {{"softmax", softmax(rows.operand("x", {40, 48})) * 2.0}};
  const struct {
    const char* name;
    Program program;
    std::string subtle, with;  // within what sums in double allow
  } cases[] = {
      {"plain", experiments::product_program(shape_on(target, 32, 16, 40)), "float c0_0 = 0.0;", "float c0_0 = 1e-6;"},
      {"fused", fused.program, "float c0_0 = 0.0;", "float c0_0 = 1e-6;"},
      {"rows", rows.program, " = 0.0;", " = 1e-6;"}};
  for (const auto& c : cases) {
    INFO(c.name << (broadcast ? ", lane_broadcast" : ", shared_tile"));
    constexpr size_t kIdle = 1, kSubtle = 2, kBroken = 3;
    const auto plant = [&](size_t candidate, shaders::Shader& shader) {
      if (candidate == kIdle) replace(shader, "void main() {", "void main() { return;");
      if (candidate == kSubtle) replace(shader, c.subtle, c.with);
      if (candidate == kBroken) replace(shader, "void main() {", "void main() { no_such_function();");
    };
    const TunedKernel tuned = tune_only(device, target, c.program, {.rounds = 3, .sample_ns = 1e5, .alter = plant});
    REQUIRE(tuned.trials.size() > kBroken + 1);
    for (size_t i = 0; i < tuned.trials.size(); ++i) {
      INFO(i << " " << tuned.trials[i].rejected);
      const bool planted = i == kIdle || i == kSubtle || i == kBroken;
      CHECK(tuned.trials[i].rejected.empty() == !planted);
      CHECK((tuned.trials[i].median_ns > 0) == !planted);
    }
    CHECK(tuned.trials[kIdle].rejected.starts_with("element 0 of output 0 is 0, not "));
    CHECK(tuned.trials[kSubtle].rejected.ends_with("has other bits than by default"));
    CHECK(tuned.trials[kBroken].rejected.find("no_such_function") != std::string::npos);
    CHECK(tuned.trials[tuned.best].rejected.empty());
    // Where the default itself is wrong there is nothing to compare with.
    CHECK_THROWS_AS(tune_only(device, target, c.program,
                              {.rounds = 1,
                               .alter =
                                   [&](size_t, shaders::Shader& shader) {
                                     replace(shader, "void main() {", "void main() { return;");
                                   }}),
                    InternalError);
    // Too much for the interpreter: the bits of the default are what is left to check with.
    const TunedKernel unseen =
        tune_only(device, target, c.program, {.rounds = 1, .sample_ns = 1e5, .most_interpreted = 0, .alter = plant});
    CHECK(unseen.trials[kIdle].rejected.ends_with("has other bits than by default"));
    CHECK(unseen.trials[0].rejected.empty());
  }
}

// In another order bits may differ and sums in double decide: more than rounding is still wrong.
TEST_CASE("a reduction that adds up in another order is held against the interpreter", "[device][tune]") {
  SURTSEY_NEED_DEVICE();
  Target target = device.target();
  target.reduce = ReduceVariant::workgroup_per_row;
  Drawn rows;
  rows.program.outputs = {{"sum", sum(rows.operand("x", {9, 48}) * 3.0, {1}, false)}};
  const Plan plan = compile(rows.program, target);
  const std::vector<PlannedKernel> kernels = experiments::planned_kernels(plan, target);
  REQUIRE(kernels.size() == 1);
  const auto list = experiments::candidates(kernels[0].shape, target);
  std::vector<size_t> reordered;
  for (size_t i = 0; i < list.size(); ++i)
    if (!shaders::same_order(std::get<ReduceTile>(list[i]), std::get<ReduceTile>(list[0]))) reordered.push_back(i);
  REQUIRE(reordered.size() >= 2);
  const auto plant = [&](size_t candidate, shaders::Shader& shader) {
    if (candidate == reordered[0]) replace(shader, " = 0.0;", " = 0.01;");
  };
  const TunedKernel tuned =
      experiments::tune_kernel(device, target, plan, kernels[0], {.rounds = 1, .sample_ns = 1e5, .alter = plant});
  for (size_t i = 0; i < tuned.trials.size(); ++i) {
    INFO(i << " " << tuned.trials[i].rejected);
    CHECK(tuned.trials[i].rejected.empty() == (i != reordered[0]));
  }
  CHECK(tuned.trials[reordered[0]].rejected.starts_with("element 0 of output 0 is "));
  const TunedKernel unseen = experiments::tune_kernel(device, target, plan, kernels[0],
                                                      {.rounds = 1, .sample_ns = 1e5, .most_interpreted = 0});
  for (const size_t i : reordered) CHECK(unseen.trials[i].rejected.starts_with("adds up in another order"));
}

// What a candidate is measured with is what the plan has; an operand that begins at an odd word is loaded otherwise.
TEST_CASE("a kernel alone has the text that it has in its plan", "[shaders]") {
  const auto same = [](const Plan& plan, const Target& target) {
    const std::vector<PlannedKernel> kernels = experiments::planned_kernels(plan, target);
    for (const PlannedKernel& one : kernels) {
      const experiments::KernelAlone alone(plan, one.kernel);
      INFO(target.name << " " << alone.kernel().name);
      CHECK(shaders::kernel_hashes(alone.plan(), target).at(0) ==
            std::visit([](const auto& shape) { return shape.kernel; }, one.shape));
    }
    return kernels;
  };
  Program aligned{std::make_shared<Graph>(), {}}, odd{std::make_shared<Graph>(), {}};
  const auto product = [](Program& program, int64_t first) {
    const Value flat = program.graph->parameter("flat", {DType::f32, {64 * 64 + 1}}),
                b = program.graph->parameter("b", {DType::f32, {64, 64}});
    program.outputs = {{"c", matmul(reshape(slice(flat, {first}, {first + 64 * 64}), {64, 64}), b)}};
  };
  product(aligned, 0);
  product(odd, 1);
  for (const char* preset : {"lavapipe", "nvidia", "minimal"}) {
    const Target target = target_preset(preset);
    const auto step = experiments::commands::requested_step(
        "train", 1, "",
        {"--n_layer=1", "--n_embd=12", "--n_head=3", "--block_size=9", "--vocab_size=7", "--batch_size=5"});
    CHECK(same(compile(step.program, target, step.compile), target).size() > 10);
    const auto whole = same(compile(aligned, target), target), shifted = same(compile(odd, target), target);
    REQUIRE((whole.size() == 1 && shifted.size() == 1));
    if (target.name == "nvidia")
      CHECK(std::get<MatmulShape>(whole[0].shape).kernel != std::get<MatmulShape>(shifted[0].shape).kernel);
  }
}

// A choice is of the kernel that it was measured with: the same shape with something else fused in keeps its default.
TEST_CASE("a choice of one kernel applies to no other of its shape", "[shaders]") {
  for (const char* preset : {"lavapipe", "nvidia"}) {
    const Target target = target_preset(preset);
    Program program{std::make_shared<Graph>(), {}};
    Graph& g = *program.graph;
    const Value a = g.parameter("a", {DType::f32, {96, 64}}), b = g.parameter("b", {DType::f32, {64, 96}}),
                c = g.parameter("c", {DType::f32, {64, 96}});
    const Value d = g.parameter("d", {DType::f32, {96, 64}});
    program.outputs = {{"one", tanh(matmul(a, b))},
                       {"other", abs(matmul(a, c))},
                       {"rows", sum(exp(a), {1}, false)},
                       {"other_rows", sum(abs(d), {1}, false)}};
    const Plan plan = compile(program, target);
    const std::vector<PlannedKernel> planned = experiments::planned_kernels(plan, target);
    const std::vector<shaders::Shader> usual = shaders::emit(plan, target);
    size_t products = 0, reductions = 0;
    for (const PlannedKernel& one : planned) {
      (std::holds_alternative<MatmulShape>(one.shape) ? products : reductions) += 1;
      const auto list = experiments::candidates(one.shape, target);
      for (size_t candidate = 1; candidate < list.size(); ++candidate) {
        const std::vector<shaders::Shader> chosen =
            shaders::emit(plan, experiments::with_choice(target, one.shape, list[candidate]));
        for (size_t k = 0; k < chosen.size(); ++k) {
          INFO(preset << ", kernel " << k << " " << chosen[k].name << ", choice " << candidate << " of " << one.kernel);
          CHECK((chosen[k].glsl != usual[k].glsl || chosen[k].local_size != usual[k].local_size ||
                 chosen[k].workgroups != usual[k].workgroups) == (k == one.kernel));
        }
      }
    }
    CHECK(products == 2);
    CHECK(reductions == 2);
    // One of any kernel of the shape still applies to all of it.
    auto shape = std::get<MatmulShape>(std::find_if(planned.begin(), planned.end(), [](const auto& one) {
                                         return std::holds_alternative<MatmulShape>(one.shape);
                                       })->shape);
    const experiments::Choice choice = experiments::candidates(shape, target).at(1);
    shape.kernel = 0;
    const std::vector<shaders::Shader> all = shaders::emit(plan, experiments::with_choice(target, shape, choice));
    size_t changed = 0;
    for (size_t k = 0; k < all.size(); ++k) changed += all[k].glsl != usual[k].glsl;
    CHECK(changed == 2);
  }
}

TEST_CASE("sessions use the tiles that were kept for their device, unless they are switched off", "[device][tune]") {
  SURTSEY_NEED_DEVICE();
  const Folder folder;
  const std::string cache = folder.path().string();
  const MatmulShape shape = shape_on(device.target(), 96, 64, 96);
  const MatmulTile tile = shaders::tile_candidates(shape, device.target()).at(1);
  REQUIRE(shaders::store_tiles(cache, engine::tile_identity(device.info()), device.target(),
                               {.products = {{shape, tile}}}));
  const auto text = [&](engine::Device& with, const std::string& directory, std::shared_ptr<const MatmulTiles> own) {
    Target target = with.target();
    target.tiles = std::move(own);
    engine::Session session(with, {.target = target, .cache = directory, .quiet = true});
    return session.add_program("product", experiments::product_program(shape)).shaders().at(0).glsl;
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
