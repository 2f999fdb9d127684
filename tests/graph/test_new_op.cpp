// A new elementwise op costs one row, an enumerator and a builder line: the README's example is added that way, to
// copies of the four files it touches, compiled against the library as it is, and put through the interpreter, the
// gradient check, the text form, fusion and GLSL.
#include "experiments/base/file.h"
#include "shaders/spirv.h"
#include "tests/support/folder.h"

#include <fmt/format.h>
#include <catch2/catch_test_macros.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

using namespace surtsey;
using experiments::read_file;
namespace fs = std::filesystem;

namespace {

// Puts `added` behind the one place where `anchor` stands.
std::string insert_after(std::string text, const std::string& anchor, const std::string& added) {
  const size_t at = text.find(anchor);
  INFO("looking for: " << anchor);
  REQUIRE(at != std::string::npos);
  return text.insert(at + anchor.size(), added);
}

// The row that the README shows.
std::string documented_row() {
  const std::string readme = read_file(fs::path(SURTSEY_SOURCE_ROOT) / "README.md");
  const size_t begin = readme.find("{.op = Op::softsign");
  REQUIRE(begin != std::string::npos);
  return readme.substr(begin, readme.find("```", begin) - begin);
}

// What follows from the row. Prints the GLSL of the kernel that the op is fused into; a failed expectation is the exit
// status.
constexpr const char* kProgram = R"cpp(
#include "graph/autodiff.h"
#include "graph/compile.h"
#include "graph/interpret.h"
#include "graph/text.h"
#include "graph/verify.h"
#include "shaders/emit.h"

#include <cmath>
#include <cstdio>

  using namespace surtsey;
  using namespace surtsey::graph;

  int main() {
    const OpDef* row = find_op("softsign");
    if (row == nullptr || row->op != Op::softsign || row->samples.empty()) return 10;
    const Type type{DType::f32, {3, 5}};
    Program program{std::make_shared<Graph>(), {}};
    const Value x = program.graph->parameter("x", type), c = program.graph->parameter("c", type);
    const Value y = softsign(x * 0.7) * c;
    const Value loss = sum(y, {0, 1}, false);
    const Value gradient = differentiate(loss, std::span(&x, 1))[0];
    program.outputs = {{"y", y}, {"loss", loss}, {"gradient", gradient}};
    verify(*program.graph);

    State state{{"x", HostTensor::random(type, -4, 4, 1)}, {"c", HostTensor::random(type, 0.5, 1.5, 2)}};
    const auto results = interpret(program, state);
    for (size_t i = 0; i < 15; ++i) {
      const double v = 0.7 * state["x"].values[i];
      if (std::abs(results.at("y").values[i] - v / (1 + std::abs(v)) * state["c"].values[i]) > 1e-7) return 11;
      const double step = 1e-5;
      State up = state, down = state;
      up["x"].values[i] += step;
      down["x"].values[i] -= step;
      const double numeric =
          (interpret(program, up).at("loss").values[0] - interpret(program, down).at("loss").values[0]) / (2 * step);
      if (std::abs(numeric - results.at("gradient").values[i]) > 1e-6) return 12;
    }
    if (print(parse(print(program))) != print(program)) return 13;
    try {
      softsign(iota(*program.graph, {DType::u32, {3}}, 0));
      return 14;
    } catch (const UserError&) {
    }

    program.outputs.resize(1);
    const Target target = target_preset("lavapipe");
    const Plan plan = compile(program, target);
    if (plan.dispatches.size() != 1) return 15;
    std::fputs(shaders::emit(plan, target)[0].glsl.c_str(), stdout);
  }
)cpp";

}  // namespace

TEST_CASE("a new elementwise op is one row, an enumerator and a builder line", "[newop]") {
  const fs::path root = SURTSEY_SOURCE_ROOT, build = SURTSEY_BUILD_ROOT;
  const std::string compiler = SURTSEY_COMPILER;
  const fs::path graph_library = build / "graph/libgraph.a", shader_library = build / "shaders/libshaders.a";
  if (std::system((compiler + " --version > /dev/null 2>&1").c_str()) != 0) {
    fmt::print(stderr, "SKIPPED: the compiler of the build ({}) is not here\n", compiler);
    SKIP("no compiler");
  }
  if (!fs::exists(graph_library) || !fs::exists(shader_library)) {
    fmt::print(stderr, "SKIPPED: the libraries of the build are not in {}\n", build.string());
    SKIP("no libraries");
  }
  if (!SURTSEY_FMT_LINKS) {
    fmt::print(stderr, "SKIPPED: fmt is a subproject of the build, -lfmt does not find it\n");
    SKIP("fmt is not installed");
  }
  const tests::Folder scratch;
  const fs::path graph = scratch / "graph";
  // The enumerator comes last here, so that the numbers in the library stay what they are; in the tree it stands with
  // its family.
  std::string header = read_file(root / "graph/op.h");
  const size_t last = header.find("  count_\n");
  REQUIRE(last != std::string::npos);
  tests::write(graph / "op.h", header.insert(last, "  softsign,\n"));
  tests::write(graph / "ops/elementwise.cpp", insert_after(read_file(root / "graph/ops/elementwise.cpp"),
                                                           "std::vector<OpDef> rows = {\n", documented_row()));
  tests::write(graph / "graph.h",
               insert_after(read_file(root / "graph/graph.h"), "Value erf(Value x);\n", "Value softsign(Value x);\n"));
  tests::write(graph / "builders.cpp", insert_after(read_file(root / "graph/builders.cpp"),
                                                    "Value erf(Value x) { return unary(Op::erf, x); }\n",
                                                    "Value softsign(Value x) { return unary(Op::softsign, x); }\n"));
  tests::write(graph / "op.cpp", read_file(root / "graph/op.cpp"));  // counts the enumerators
  tests::write(scratch / "main.cpp", kProgram);

  const std::string here = scratch.path().string();
  // A unit of the library may hold more than what is asked of it: what stands here comes first, and the shader compiler
  // is linked though nothing calls it.
  const std::string command = fmt::format(
      "{0} -std=c++20 -O0 -I'{1}' -I'{2}' -o '{1}/main' '{1}/main.cpp' '{1}/graph/op.cpp' '{1}/graph/builders.cpp' "
      "'{1}/graph/ops/elementwise.cpp' '{3}' '{4}' "
      "-Wl,--allow-multiple-definition $(pkg-config --libs shaderc_combined; pkg-config --libs --silence-errors spirv) "
      "-lfmt > '{1}/log' 2>&1",
      compiler, here, root.string(), shader_library.string(), graph_library.string());
  const int compiled = std::system(command.c_str());
  INFO(command << "\n" << (compiled == 0 ? "" : read_file(scratch / "log")));
  REQUIRE(compiled == 0);
  REQUIRE(std::system(fmt::format("'{0}/main' > '{0}/glsl'", here).c_str()) == 0);

  shaders::Shader shader;
  shader.name = "softsign";
  shader.glsl = read_file(scratch / "glsl");
  CHECK(shader.glsl.find("1.0 + abs(") != std::string::npos);
  CHECK(shaders::compile_spirv(std::span(&shader, 1), "").at(0).size() > 100);
}
