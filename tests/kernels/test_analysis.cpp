// Kernels on GPUs that are not here: the shipped ones do not spill, a planted one is found.
#include "engine/offline.h"
#include "experiments/kernels/analysis.h"
#include "experiments/tasks/chain.h"
#include "experiments/train/train_program.h"
#include "tests/support/support_device.h"

#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>

#include <unistd.h>

namespace surtsey::tests {
namespace {

using namespace experiments;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

const std::vector<std::string> kGenerations = {"amd:polaris10", "amd:vega10", "amd:navi10", "amd:navi21", "amd:navi31"};

graph::Program decoder_step(int64_t vocab, int64_t block, int64_t layers, int64_t width, int64_t heads, int64_t batch) {
  ModelConfig config;
  config.vocab_size = vocab;
  config.block_size = block;
  config.n_layer = layers;
  config.n_embd = width;
  config.n_head = heads;
  TrainConfig train;
  train.batch_size = int32_t(batch);
  return train_step(Model(config), train);
}

// The joint model of the study on chain of thought: an ensemble of 2 seeds and 2 learning rates,
// its data in a ring.
graph::Program chain_of_thought_step() {
  const tasks::ChainTask task({.arms = {"cot", "direct"}});
  TrainConfig config;
  config.optimizer = recipe_optimizer(600);
  config.members = {{0, 0.005}, {0, 0.0025}, {1, 0.005}, {1, 0.0025}};
  config.batch_size = 192;
  config.steps = 600;
  const Model model(recipe_config(2, 32, task.vocab_size(), task.block_size()));
  return train_step(model, config);
}

void check_analyses(const std::vector<DeviceAnalysis>& analyses) {
  REQUIRE(analyses.size() == kGenerations.size());
  for (const char* statistic : {"spills", "scratch_bytes"})
    CHECK(kernels_with(analyses, statistic) == std::vector<std::string>());
  for (const DeviceAnalysis& analysis : analyses) {
    CAPTURE(analysis.device);
    CHECK(analysis.kernels.size() > 10);
    // The only generation of these with matrix units.
    const char* matmul = analysis.device == "amd:navi31" ? "cooperative" : "shared_tile";
    CHECK_THAT(analysis.target, ContainsSubstring(fmt::format("matmul {}, reduce workgroup_per_row", matmul)));
    for (const AnalyzedKernel& kernel : analysis.kernels) {
      CAPTURE(kernel.id);
      CHECK(kernel.statistics.registers.value_or(0) > 0);
      CHECK(kernel.statistics.occupancy.value_or(0) > 0);
      CHECK(kernel.calls > 0);
      CHECK(kernel.scopes.size() > 0);
      CHECK(kernel.places.size() > 0);
      CHECK_THAT(std::string(kernel.statistics.isa()), ContainsSubstring("s_endpgm"));
    }
  }
}

TEST_CASE("kernels of the chain of thought study do not spill on five generations", "[analysis]") {
  tests::need_offline_driver();
  check_analyses(analyze(chain_of_thought_step(), kGenerations, ""));
}

TEST_CASE("kernels of a 10.8M character model do not spill on five generations", "[analysis]") {
  tests::need_offline_driver();
  check_analyses(analyze(decoder_step(65, 256, 6, 384, 6, 8), kGenerations, ""));
}

TEST_CASE("kernels of GPT-2 124M do not spill on five generations", "[analysis]") {
  tests::need_offline_driver();
  check_analyses(analyze(decoder_step(50257, 1024, 12, 768, 12, 2), kGenerations, ""));
}

// Makes kernels whose name begins so load 400 values of which each is needed after all memory that
// they came from was written.
void plant_spills(std::vector<shaders::Shader>& shaders, const std::string& name) {
  for (shaders::Shader& shader : shaders) {
    if (!shader.name.starts_with(name)) continue;
    std::string text = "float sum = 0.0;\n";
    for (int i = 0; i < 400; ++i)
      text += fmt::format("float v{0} = planted[(gl_LocalInvocationID.x + {0}u) & 511u];\n", i);
    text += "barrier();\nfor (uint i = 0u; i < 512u; ++i) planted[i] = float(i);\nbarrier();\n";
    for (int i = 0; i < 400; ++i) text += fmt::format("sum = fma(sum, v{}, v{});\n", 399 - i, (i * 7) % 400);
    text += "tile_a[gl_LocalInvocationID.x] += sum;\n";  // or none of it would be needed
    const size_t main = shader.glsl.find("void main()");
    shader.glsl.insert(shader.glsl.find('{', main) + 1, "\n" + text);
    shader.glsl.insert(main, "shared float planted[512];\n");
  }
}

TEST_CASE("a kernel that spills is found and named", "[analysis]") {
  tests::need_offline_driver();
  const graph::Program program = decoder_step(11, 8, 1, 16, 2, 2);
  const std::vector<std::string> devices = {"amd:vega10", "amd:navi21"};
  const auto analyses =
      analyze(program, devices, "", {}, [](auto& shaders) { plant_spills(shaders, "matmul_nt_16x11x16"); });
  const std::vector<std::string> spilling = kernels_with(analyses, "spills");
  REQUIRE(spilling.size() == devices.size());
  for (size_t i = 0; i < devices.size(); ++i)
    CHECK_THAT(spilling[i], ContainsSubstring(devices[i] + ": matmul_nt_16x11x16") && ContainsSubstring(" spills"));
  CHECK_THROWS_MATCHES(kernels_with(analyses, "colour"), UserError,
                       MessageMatches(ContainsSubstring("registers, spills")));
}

TEST_CASE("an analysis prints, and writes what it knows of each kernel", "[analysis]") {
  tests::need_offline_driver();
  const std::vector<std::string> devices = {"amd:vega10", "amd:navi21", "amd:navi31"};
  const auto analyses = analyze(decoder_step(11, 8, 1, 16, 2, 2), devices, "");
  const size_t kernels = analyses[0].kernels.size();
  const std::string& name = analyses[0].kernels[0].id;
  const auto lines = [](const std::string& text) { return size_t(std::count(text.begin(), text.end(), '\n')); };
  const std::string table = analysis_table(analyses), markdown = analysis_markdown(analyses);
  const std::string csv = analysis_csv(analyses);
  CHECK(lines(table) == 1 + 3 * kernels + 1 + 3);
  CHECK(lines(markdown) == 2 + 3 * kernels + 1 + 3);
  CHECK(lines(csv) == 1 + 3 * kernels);
  for (const std::string& text : {table, markdown, csv}) {
    CHECK_THAT(text, ContainsSubstring(name) && ContainsSubstring("amd:navi31") && ContainsSubstring("blocks.0."));
  }
  const auto json = nlohmann::json::parse(analysis_json(analyses));
  REQUIRE(json.size() == 3);
  const auto& first = json[1]["kernels"][0];
  CHECK(first["driver"]["statistics"]["registers"] == *analyses[1].kernels[0].statistics.registers);
  CHECK(first["driver"]["raw"].size() == analyses[1].kernels[0].statistics.raw.size());
  CHECK_FALSE(first["scopes"].empty());

  const std::string page = analysis_page(analyses, "a <small> decoder");
  CHECK_THAT(page, ContainsSubstring("a &lt;small> decoder") && !ContainsSubstring("http"));
  for (const std::string& device : devices) CHECK_THAT(page, ContainsSubstring("ISA of " + device));

  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / fmt::format("surtsey-isa-{}", getpid());
  CHECK(write_isa(analyses, folder.string()) == 3 * kernels);
  for (const char* device : {"amd-vega10", "amd-navi21", "amd-navi31"}) {
    std::ifstream file(folder / device / (name + ".s"));
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    CHECK_THAT(text, ContainsSubstring("s_endpgm") && ContainsSubstring("; VGPRs: ") &&
                         ContainsSubstring("; scopes ") && ContainsSubstring(".cpp:"));
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace surtsey::tests
