// The file around a kernel declares what its text needs: all of it, and nothing else.
#include "graph/compile.h"
#include "shaders/emit.h"
#include "tests/support/random_program.h"

#include <catch2/catch_test_macros.hpp>

#include <array>

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
