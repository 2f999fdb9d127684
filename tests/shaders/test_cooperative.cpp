// Cooperative matrices: the words that a module is rewritten in, which products get them, and, with
// their arithmetic emulated, everything around them: tiles, edges, layouts, epilogues, sums.
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <map>

#include "engine/cooperative_check.h"
#include "engine/offline.h"
#include "experiments/kernels/tune.h"
#include "experiments/train/train_session.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "shaders/cooperative_spirv.h"
#include "shaders/emit.h"
#include "shaders/matmul_tile.h"
#include "shaders/spirv.h"
#include "tests/support/device_suite.h"
#include "tests/support/folder.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

Program product(int64_t batch, int64_t m, int64_t n, int64_t k, bool b_transposed = false, DType storage = DType::f16) {
  return experiments::product_program({.batch = batch, .m = m, .n = n, .k = k, .b_transposed = b_transposed}, storage);
}

// Two operands on either side and all products between them: each operand is read twice, so it is
// stored, and in f16. What follows a product and the operands' own sums become part of its kernel.
Program crossed_products(const MatmulShape& s) {
  Program program{std::make_shared<Graph>(), {}};
  Graph& g = *program.graph;
  const auto stored = [&](const char* name, int64_t rows, int64_t columns, bool transposed) {
    const Value x =
        -g.parameter(name, {DType::f32, transposed ? Shape{s.batch, columns, rows} : Shape{s.batch, rows, columns}});
    return transposed ? transpose(x) : x;
  };
  const Value a = stored("a", s.m, s.k, s.a_transposed), c = stored("c", s.m, s.k, s.a_transposed);
  const Value b = stored("b", s.k, s.n, s.b_transposed), d = stored("d", s.k, s.n, s.b_transposed);
  const Value bias = g.parameter("bias", {DType::f32, {s.n}});
  program.outputs.emplace_back("plain", matmul(a, b));
  program.outputs.emplace_back("epilogue", gelu_erf(matmul(a, d) * 0.5 + bias));
  program.outputs.emplace_back("two results", exp(matmul(c, b) * 0.1));
  program.outputs.emplace_back("the other of two", matmul(c, d) - bias);
  program.outputs.emplace_back("rows", sum(a, {2}));
  program.outputs.emplace_back("columns", sum(b, {1}, false));
  return program;
}

State random_state(const Program& program) {
  State state;
  uint32_t seed = 0;
  for (const auto& [name, value] : program.graph->parameters()) {
    state[name] = HostTensor::random(value.type(), -1, 1, ++seed);
    state[name].round_to_storage();
  }
  return state;
}

// Matrices that a device without any computes lane by lane.
Target emulated(Target target, CooperativeMatrix shape = {.m = 16, .n = 16, .k = 16}) {
  shape.emulated = true;
  target.cooperative = shape;
  target.matmul = MatmulVariant::cooperative;
  return target;
}

std::string variant_of(const Program& program, const Target& target) {
  for (const shaders::Shader& shader : shaders::emit(compile(program, target), target))
    if (!shader.variant.empty()) return shader.variant;
  return "none";
}

struct Instruction {
  uint32_t op;
  std::vector<uint32_t> operands;
};

std::vector<Instruction> instructions(const std::vector<uint32_t>& module) {
  std::vector<Instruction> list;
  for (size_t at = 5; at < module.size(); at += module[at] >> 16)
    list.push_back(
        {module[at] & 0xffff,
         {module.begin() + std::ptrdiff_t(at) + 1, module.begin() + std::ptrdiff_t(at + (module[at] >> 16))}});
  return list;
}

constexpr uint32_t kNvFirst = 5357, kNvLast = 5362, kKhrType = 4456, kKhrLoad = 4457, kKhrStore = 4458,
                   kKhrMultiply = 4459, kConstant = 43;

}  // namespace

TEST_CASE("a cooperative kernel says in KHR's words what it was compiled to in NV's", "[cooperative]") {
  const Target target = target_preset("nvidia");
  const Program program = product(1, 64, 64, 64, true);
  const std::vector<shaders::Shader> list = shaders::emit(compile(program, target), target);
  REQUIRE(list.size() == 1);
  REQUIRE(list[0].variant == "cooperative");
  CHECK(list[0].subgroup_size == 32);
  const shaders::Spirv module = shaders::compile_spirv(list, {})[0];
  std::map<uint32_t, uint32_t> constants;
  std::map<uint32_t, std::vector<uint32_t>> types;  // by use: the types
  std::map<uint32_t, uint32_t> type_of;
  std::map<uint32_t, int> count;
  for (const auto& [op, w] : instructions(module)) {
    ++count[op];
    CHECK_FALSE((op >= kNvFirst && op <= kNvLast));
    if (op == kConstant) constants[w[1]] = w[2];
    if (op == kKhrType) {
      REQUIRE(w.size() == 6);
      REQUIRE(constants.count(w[5]) == 1);
      types[constants[w[5]]].push_back(w[0]);
    }
    if (op == kKhrLoad || op == kKhrMultiply) type_of[w[1]] = w[0];
    // Rows side by side in memory or columns, by a constant that stands before.
    if (op == kKhrLoad) CHECK(constants.at(w[3]) <= 1);
    if (op == kKhrStore) CHECK(constants.at(w[2]) == 0);
  }
  for (const uint32_t use : {0, 1, 2}) CHECK(types[use].size() == 1);
  CHECK(count[kKhrLoad] > 0);
  CHECK(count[kKhrMultiply] > 0);
  CHECK(count[kKhrStore] > 0);
  // Sums are accumulators.
  for (const auto& [op, w] : instructions(module))
    if (op == kKhrMultiply) CHECK(w[0] == types[2].at(0));
}

TEST_CASE("modules that are none, or name no use, are told apart", "[cooperative]") {
  const Target target = target_preset("nvidia");
  const shaders::Spirv plain =
      shaders::compile_spirv(shaders::emit(compile(product(1, 8, 8, 8), target), target), {})[0];
  CHECK(shaders::with_khr_cooperative_matrices(plain) == plain);
  // %1 = OpTypeInt 32 0; %2 = OpTypeCooperativeMatrixNV %1 %1 %1 %1: its rows are no such constant.
  const std::vector<uint32_t> nameless = {0x07230203,      0x10500, 0,  8, 0,  //
                                          4u << 16 | 21,   1,       32, 0,     //
                                          6u << 16 | 5358, 2,       1,  1, 1, 1};
  CHECK_THROWS_MATCHES(shaders::with_khr_cooperative_matrices(nameless), InternalError,
                       MessageMatches(ContainsSubstring("names no use")));
  CHECK_THROWS_AS(shaders::with_khr_cooperative_matrices({0x07230203, 0x10500, 0, 8, 0, 0}), InternalError);
}

TEST_CASE("products of f16 operands that fill matrices are cooperative, others are not", "[cooperative]") {
  const Target target = target_preset("nvidia");
  CHECK(variant_of(product(1, 64, 64, 64), target) == "cooperative");
  CHECK(variant_of(product(3, 17, 100, 33), target) == "cooperative");
  CHECK(variant_of(product(1, 64, 64, 64, false, DType::f32), target) == "shared_tile");
  CHECK(variant_of(product(1, 64, 64, 64, false, DType::bf16), target) == "shared_tile");
  CHECK(variant_of(product(1, 64, 8, 64), target) == "shared_tile");
  Target varying = target;
  varying.subgroup_size = 0;
  CHECK(variant_of(product(1, 64, 64, 64), varying) == "shared_tile");
  // What a lane computes on load is not rounded for it.
  Program computed = product(1, 64, 64, 64);
  const auto& inputs = computed.graph->node(computed.outputs[0].second).inputs;
  computed.outputs = {{"c", matmul(gelu_erf(inputs[0]), inputs[1])}};
  const Plan plan = compile(computed, target);
  const auto kernels = shaders::emit(plan, target);
  CHECK((kernels.size() > 1 || kernels[0].variant == "shared_tile"));
  Target forced = target_preset("lavapipe");
  forced.matmul = MatmulVariant::cooperative;
  CHECK_THROWS_MATCHES(
      compile(product(1, 64, 64, 64), forced), UserError,
      MessageMatches(ContainsSubstring("lavapipe") || ContainsSubstring("needs cooperative matrices")));
}

TEST_CASE("cooperative tiles fit the device they are chosen for", "[cooperative]") {
  for (const CooperativeMatrix matrix : {CooperativeMatrix{16, 16, 16}, CooperativeMatrix{8, 16, 16},
                                         CooperativeMatrix{8, 8, 16}, CooperativeMatrix{16, 8, 8}})
    for (const uint32_t subgroup : {8u, 16u, 32u, 64u})
      for (const uint32_t shared : {16384u, 32768u, 65536u}) {
        Target target = target_preset("nvidia");
        target.cooperative = matrix;
        target.subgroup_size = subgroup;
        target.shared_memory_bytes = shared;
        const MatmulShape shape{.variant = MatmulVariant::cooperative, .m = 512, .n = 512, .k = 512};
        INFO(matrix.m << "x" << matrix.n << "x" << matrix.k << " subgroup " << subgroup << " shared " << shared);
        if (variant_of(product(1, 512, 512, 512), target) != "cooperative") continue;
        for (const MatmulTile& tile : shaders::tile_candidates(shape, target)) {
          const int64_t lanes = shaders::tile_lanes(tile, shape.variant, target);
          CHECK(lanes <= target.max_workgroup_invocations);
          CHECK(lanes % subgroup == 0);
          CHECK(tile.rows * tile.depth % lanes == 0);
        }
        CHECK(shaders::tile_candidates(shape, target).size() >= 1);
      }
}

TEST_CASE("cooperative products are right at every edge, in every layout and with what is fused to them",
          "[device][cooperative]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage || device.target().subgroup_size < 4)
    SKIP("the device has no 16-bit storage or no known subgroup size");
  std::vector<Target> targets = {emulated(device.target()), emulated(device.target(), {.m = 8, .n = 16, .k = 16})};
  if (device.target().cooperates()) {
    targets.push_back(device.target());
    targets.back().matmul = MatmulVariant::cooperative;
  }
  for (const MatmulShape& s :
       {MatmulShape{.batch = 1, .m = 64, .n = 64, .k = 64},
        MatmulShape{.batch = 2, .m = 33, .n = 70, .k = 17, .b_transposed = true},
        MatmulShape{.batch = 1, .m = 17, .n = 16, .k = 129, .a_transposed = true},
        MatmulShape{.batch = 3, .m = 40, .n = 24, .k = 16, .a_transposed = true, .b_transposed = true}}) {
    INFO(s.batch << "x" << s.m << "x" << s.n << "x" << s.k << " " << s.a_transposed << s.b_transposed);
    const Program program = crossed_products(s);
    const State state = random_state(program);
    const CompileOptions compile{.storage = DType::f16};
    for (const Target& target : targets) {
      const Plan plan = graph::compile(program, target, compile);
      size_t cooperative = 0;
      for (const shaders::Shader& shader : shaders::emit(plan, target)) cooperative += shader.variant == "cooperative";
      CHECK(cooperative == 4);
      State scratch = state;
      const auto reference = interpret(as_stored(plan), scratch);
      const auto results = run_compiled(device, target, program, state, compile);
      for (const auto& [name, expected] : reference) {
        INFO(name);
        CHECK(compare(results.at(name), expected, {2e-4, 5e-5}) == "");
      }
    }
  }
}

TEST_CASE("a model in f16 trains alike with cooperative matrices and without, each time to the same bits",
          "[.cooperative_model]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage || device.target().subgroup_size < 4)
    SKIP("the device has no 16-bit storage or no known subgroup size");
  experiments::ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 32;
  config.block_size = 16;
  config.vocab_size = 16;
  const experiments::Model model(config);
  experiments::TrainConfig train_config;
  train_config.batch_size = 4;
  train_config.members = {{.seed = 5, .learning_rate = 1e-2}};
  train_config.dtype = DType::f16;
  const Program program = experiments::train_step(model, train_config, 1);  // the same batch at every step
  const auto train = [&](const Target& target, size_t least_cooperative) {
    engine::SessionOptions options{.target = target, .poison = true, .quiet = true};
    engine::Session session(device, options);
    const engine::SessionProgram step = session.add_program("train", program, {.storage = DType::f16});
    size_t cooperative = 0;
    for (const shaders::Shader& shader : step.shaders()) cooperative += shader.variant == "cooperative";
    CHECK(cooperative >= least_cooperative);
    session.allocate();
    experiments::write_uniform_start(session, model, train_config);
    std::vector<float> losses;
    for (int i = 0; i < 4; ++i) {
      step.run(5);
      losses.push_back(step.read_floats("loss")[0]);
    }
    return std::pair(losses, session.read_bytes(kParameters));
  };
  Target plain = device.target();
  plain.matmul = MatmulVariant::shared_tile;
  const auto expected = train(plain, 0), got = train(emulated(device.target()), 8),
             again = train(emulated(device.target()), 8);
  CHECK(got == again);
  for (size_t i = 0; i < expected.first.size(); ++i)
    CHECK(std::abs(got.first[i] - expected.first[i]) <= 0.02f * expected.first[i]);
  CHECK(got.first.back() < 0.9f * got.first.front());
}

TEST_CASE("the check of a device's cooperative matrices finds wrong sums", "[device][cooperative]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage || device.target().subgroup_size < 4)
    SKIP("the device has no 16-bit storage or no known subgroup size");
  const Target target = emulated(device.target());
  CHECK(engine::judge_matrices(device, target, {.compare_speed = false}) == engine::MatrixVerdict());
  const auto planted = [&](const std::string& right, const std::string& wrong) {
    const auto alter = [&](shaders::Shader& shader) {
      const size_t at = shader.glsl.find(right);
      REQUIRE(at != std::string::npos);
      shader.glsl.replace(at, right.size(), wrong);
    };
    const engine::MatrixVerdict verdict =
        engine::judge_matrices(device, target, {.compare_speed = false, .alter = alter});
    CHECK_FALSE(verdict.right);
    return verdict.against;
  };
  CHECK_THAT(
      engine::judge_matrices(device, emulated(device.target(), {.m = 48, .n = 48, .k = 48}), {.compare_speed = false})
          .against,
      ContainsSubstring("no tile of matrices of 48x48x48"));
  // What no compiler takes: the device goes on without.
  CHECK_THAT(planted("void main() {", "no GLSL"), ContainsSubstring("does not compile"));
  // A sum that forgets one of its terms, and one that is kept with the bits that f16 has of it.
  CHECK_THAT(planted("for (uint k = d; k < d + 16u; ++k)", "for (uint k = d + 1u; k < d + 16u; ++k)"),
             ContainsSubstring("instead of"));
  CHECK_THAT(planted("staged[own_staged + e] = total;", "staged[own_staged + e] = floor(total * 512.0 + 0.5) / 512.0;"),
             ContainsSubstring("instead of"));
}

TEST_CASE("the verdict on a device's matrices is kept for its driver's version, and for our kernels", "[cooperative]") {
  const Folder folder;
  const std::string at = folder.path().string(), who = "gpu\nuuid\ndriver 1.0";
  const Target target = target_preset("nvidia");
  CHECK_FALSE(engine::kept_verdict(at, who, target).has_value());
  for (const engine::MatrixVerdict& verdict :
       {engine::MatrixVerdict{}, engine::MatrixVerdict{false, "a product has 3 instead of 4"},
        engine::MatrixVerdict{true, "products take 1.10 times as long with them"}}) {
    engine::keep_verdict(at, who, target, verdict);
    CHECK(engine::kept_verdict(at, who, target) == verdict);
  }
  CHECK_FALSE(engine::kept_verdict(at, who + ".1", target).has_value());
  Target other = target;
  other.cooperative = {.m = 8, .n = 16, .k = 16};
  CHECK_FALSE(engine::kept_verdict(at, who, other).has_value());
  CHECK_FALSE(engine::kept_verdict("", who, target).has_value());

  // Where times are as good as equal the plain kernels stay: one measurement and the next would differ.
  CHECK(engine::slow_products(0.5) == "");
  CHECK_THAT(engine::slow_products(1.0), ContainsSubstring("products take 1.00 times as long"));
  CHECK_THAT(engine::slow_products(1.3), ContainsSubstring("1.30"));
}

TEST_CASE("matrices that are slow are there for whoever asks, wrong ones for nobody", "[cooperative]") {
  const Target target = target_preset("nvidia");
  Target slow = engine::with_verdict(target, {.against = "products take 1.30 times as long with them"});
  CHECK(slow.matmul_variant() == MatmulVariant::shared_tile);
  slow.matmul = MatmulVariant::cooperative;
  CHECK(slow.matmul_variant() == MatmulVariant::cooperative);
  Target wrong = engine::with_verdict(target, {.right = false, .against = "a product has 3 instead of 4"});
  CHECK(wrong.matmul_variant() == MatmulVariant::shared_tile);
  wrong.matmul = MatmulVariant::cooperative;
  CHECK_THROWS_MATCHES(wrong.matmul_variant(), UserError,
                       MessageMatches(ContainsSubstring("not used: a product has 3 instead of 4")));
}

TEST_CASE("matrices are left alone where nothing is stored in f16", "[device][cooperative]") {
  SURTSEY_NEED_DEVICE();
  if (device.target().cooperative.m == 0) SKIP("the device has no matrices");
  const engine::Device plain = engine::Device::open({.f16 = false, .quiet = true});
  CHECK(plain.target().cooperative == CooperativeMatrix{});
  CHECK_THAT(print_paths(plain.info()), ContainsSubstring("cooperative_matrix (nothing is stored in f16)"));
}

TEST_CASE("a device that holds few sums a lane gets tiles that do not spill", "[cooperative]") {
  const MatmulShape shape{.variant = MatmulVariant::cooperative, .m = 2048, .n = 1152, .k = 384};
  Target target = target_preset("nvidia");
  target.cooperative = {.m = 8, .n = 16, .k = 16};
  target.subgroup_size = 16;
  const auto sums = [&](const MatmulTile& tile) {
    return tile.own * tile.own * target.cooperative.m * target.cooperative.n / target.subgroup_size;
  };
  CHECK(sums(shaders::default_tile(shape, target)) == 128);
  for (const uint32_t most : {32u, 8u}) {
    target.cooperative_floats = most;
    const auto list = shaders::tile_candidates(shape, target);
    CHECK(list.size() == 1);
    for (const MatmulTile& tile : list) CHECK(sums(tile) <= most);
  }
  // What has to be loaded one by one would spill there.
  CHECK(variant_of(product(1, 2048, 384, 384), target) == "cooperative");
  CHECK(variant_of(product(1, 2048, 384, 65), target) == "shared_tile");
  target.cooperative_floats = 0;
  CHECK(variant_of(product(1, 2048, 384, 65), target) == "cooperative");
}

TEST_CASE("a GPU with matrix units gets kernels that use them", "[offline][cooperative]") {
  try {
    const std::string found = engine::with_offline_device("amd:navi31", [](engine::OfflineDevice& device) {
      const Target& target = device.info().target;
      if (!target.cooperates()) return std::string("the driver offers no cooperative matrices");
      const Program program = product(1, 512, 512, 512, true);
      const auto list = shaders::emit(compile(program, target), target);
      const engine::DriverStatistics s = device.compile(list, {})[0];
      std::string text =
          fmt::format("{} spills {} scratch {}", list[0].variant, s.spills.value_or(-1), s.scratch_bytes.value_or(-1));
      for (const auto& representation : s.representations)
        if (representation.text.find("v_wmma_f32_16x16x16_f16") != std::string::npos) return text + " wmma";
      return text;
    });
    CHECK(found == "cooperative spills 0 scratch 0 wmma");
  } catch (const UserError& error) {
    SKIP(error.what());
  }
}
