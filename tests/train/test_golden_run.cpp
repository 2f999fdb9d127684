// A run that commit ef8ca29 began goes on to the bits to which ef8ca29 took it.
//
// tests/golden/ef8ca29/run is what `surtsey train` of that commit left of 20 steps after the first 10 (dropout 0.1, one
// layer of width 8), end/ what it saved after the last. The bits are lavapipe's, of Mesa 25.0.7 with LLVM 15, the same
// with vectors of 128, 256 and 512 bits; elsewhere the numbers are close.
#include "experiments/formats/safetensors.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

namespace surtsey::tests {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDriver = "llvmpipe Mesa 25.0.7";

TEST_CASE("a run of ef8ca29 resumes to the same bits", "[golden]") {
  const engine::Device device = open_test_device();
  const Folder folder;
  const fs::path golden = fs::path(SURTSEY_SOURCE_ROOT) / "tests/golden/ef8ca29";
  const fs::path run_folder = folder / "run", last = run_folder / "checkpoint/step-00000020";
  fs::copy(golden / "run", run_folder, fs::copy_options::recursive);
  const Outcome outcome = run(folder, fmt::format("train --resume --out '{}' --data '{}'", run_folder.string(),
                                                  (golden / "text.txt").string()));
  CAPTURE(outcome.out, outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK(outcome.out.find("resumed at step 10") != std::string::npos);
  const bool same_driver = device.info().driver.find(kDriver) != std::string::npos;
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    CAPTURE(file, device.info().driver);
    REQUIRE(fs::exists(last / file));
    if (same_driver) CHECK(slurp(last / file) == slurp(golden / "end" / file));
    const auto expected = experiments::read_safetensors((golden / "end" / file).string()).tensors;
    const auto found = experiments::read_safetensors((last / file).string()).tensors;
    REQUIRE(found.size() == expected.size());
    for (const auto& [name, tensor] : expected) {
      CAPTURE(name);
      REQUIRE(found.at(name).type == tensor.type);
      for (size_t i = 0; i < tensor.values.size(); ++i)
        REQUIRE(found.at(name).values[i] == Catch::Approx(tensor.values[i]).epsilon(1e-3).margin(1e-5));
    }
  }
  // The losses that ef8ca29 printed.
  for (const char* line : {"15/20 | loss 3.1328", "20/20 | loss 3.1147", "20/20 | val loss 3.1386"})
    CHECK(outcome.out.find(line) != std::string::npos);
}

}  // namespace
}  // namespace surtsey::tests
