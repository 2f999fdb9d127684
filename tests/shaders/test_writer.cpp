// The file around a kernel declares what its text needs: all of it, and nothing else.
#include "graph/compile.h"
#include "shaders/emit.h"
#include "tests/support/random_program.h"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <sstream>

using namespace surtsey;
using namespace surtsey::graph;

namespace {

// What stands in main(), and what must then stand before it.
struct Need {
  const char* used;
  const char* declared;
};
constexpr std::array<Need, 7> kNeeds = {{
    {"[[", "GL_EXT_control_flow_attributes"},
    {"packUint2x32(", "GL_EXT_shader_explicit_arithmetic_types_int64"},
    {"coopMat", "GL_NV_cooperative_matrix"},
    {"in_wide", "buffer in_wide "},
    {"out_pairs", "buffer out_pairs "},
    {"surtsey_", "float surtsey_erf(float x)"},
    {"surtsey_bf16(", "uint surtsey_bf16(float x)"},
}};

// gelu(a b) of operands in f16, for matrices; its store rounds to what is stored.
Program product() {
  Program program{std::make_shared<Graph>(), {}};
  const Value a = program.graph->parameter("a", {DType::f16, {64, 64}}),
              b = program.graph->parameter("b", {DType::f16, {64, 64}});
  program.outputs = {{"c", gelu_erf(matmul(cast(a, DType::f32), cast(b, DType::f32)))}};
  return program;
}

}  // namespace

TEST_CASE("a kernel declares what its text needs, and nothing else", "[shaders]") {
  std::array<size_t, kNeeds.size()> met{};
  const auto check_program = [&](const Program& program, const Target& target, DType storage) {
    std::vector<shaders::Shader> shaders;
    try {
      shaders = shaders::emit(compile(program, target, {.storage = storage}), target);
    } catch (const UserError&) {
      return;  // state that swaps places, which random programs ask for now and then
    }
    for (const shaders::Shader& shader : shaders) {
      const size_t main = shader.glsl.find("void main()");
      REQUIRE(main != std::string::npos);
      const std::string before = shader.glsl.substr(0, main), inside = shader.glsl.substr(main);
      for (size_t n = 0; n < kNeeds.size(); ++n) {
        CAPTURE(kNeeds[n].used, shader.glsl);
        const bool used = inside.find(kNeeds[n].used) != std::string::npos;
        CHECK((before.find(kNeeds[n].declared) != std::string::npos) == used);
        met[n] += used;
      }
    }
  };
  Target cooperative = target_preset("nvidia");
  cooperative.cooperative = {16, 16, 16};
  check_program(product(), cooperative, DType::f32);
  for (uint32_t seed = 0; seed < 60; ++seed) {
    const Program program = tests::random_program(seed).program;
    for (const char* preset : {"lavapipe", "nvidia"})
      for (const DType storage : {DType::f32, DType::f16, DType::bf16})
        check_program(program, target_preset(preset), storage);
  }
  for (size_t n = 0; n < kNeeds.size(); ++n) {
    INFO(kNeeds[n].used);
    CHECK(met[n] > 0);
  }
}

TEST_CASE("what lies past the edge of a product's tile is not read", "[shaders]") {
  constexpr int64_t M = 63, N = 53;  // that no tile divides
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const Value a = graph.parameter("a", {DType::f32, {M, 40}}), b = graph.parameter("b", {DType::f32, {40, N}});
  const Value residual = graph.parameter("residual", {DType::f32, {M, N}});
  program.outputs = {{"c", matmul(a, b) + residual}};
  const Target target = target_preset("lavapipe");
  const Plan plan = compile(program, target);
  REQUIRE(plan.kernels.size() == 1);
  const std::vector<KernelOperand>& inputs = plan.kernels[0].inputs;
  const auto found = std::find_if(inputs.begin(), inputs.end(),
                                  [&](const KernelOperand& input) { return input.view.shape == Shape{M, N}; });
  REQUIRE(found != inputs.end());
  const std::string load = fmt::format("b{}.v[", found - inputs.begin());
  // Every load of it stands within a test of its row and one of its column.
  std::istringstream text(shaders::emit(plan, target)[0].glsl);
  std::vector<std::string> open;
  int loads = 0;
  for (std::string line; std::getline(text, line);) {
    if (line.find(load) != std::string::npos) {
      const auto within = [&](int64_t extent) {
        return std::any_of(open.begin(), open.end(), [&](const std::string& header) {
          return header.starts_with("if (") && header.find(fmt::format("< {}u)", extent)) != std::string::npos;
        });
      };
      CAPTURE(line, open);
      CHECK(within(M));
      CHECK(within(N));
      ++loads;
    }
    if (line.ends_with("{")) open.push_back(line);
    if (line == "}" && !open.empty()) open.pop_back();
  }
  CHECK(loads > 0);
}
