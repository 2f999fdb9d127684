// The self-test: passes on the device at hand, and says what is wrong with a kernel that was
// planted.
#include "experiments/kernels/selftest.h"
#include "tests/support/support_device.h"

#include <catch2/matchers/catch_matchers_string.hpp>

namespace surtsey::tests {
namespace {

using namespace experiments;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("the self-test passes in the device's own variant", "[device][lane][selftest]") {
  engine::Device device = open_test_device();
  std::vector<std::string> stages;
  SelftestOptions options{.quick = true, .ops = {"tanh", "matmul", "sum"}};
  options.progress = [&](const SelftestReport& report) { stages.push_back(report.under_way); };
  const SelftestReport report = run_selftest(device, options);
  INFO(selftest_page(report));
  CHECK(report.passed());
  REQUIRE(report.variants.size() == 1);
  CHECK(report.variants[0].ops.size() == 3);
  for (const OpResult& op : report.variants[0].ops) {
    CHECK(op.outputs > 1);
    CHECK(op.share <= 1);
    CHECK_FALSE(op.worst.empty());
  }
  CHECK(report.variants[0].losses.size() == report.reference_losses.size());
  CHECK(report.reference_losses.size() == 10);
  CHECK(stages.size() == 5);
  CHECK_THROWS_AS(run_selftest(device, {.ops = {"no_such_op"}}), UserError);
  CHECK(stages.back().empty());
  const std::string page = selftest_page(report);
  for (const std::string& text : {std::string("# surtsey selftest: passed"), device.info().name, device.info().driver,
                                  std::string("| tanh |"), std::string("## Training")})
    CHECK_THAT(page, ContainsSubstring(text));
}

TEST_CASE("the self-test runs every variant", "[device][selftest]") {
  engine::Device device = open_test_device();
  const SelftestReport report = run_selftest(device, {.training = false, .ops = {"add", "exp"}});
  CHECK(report.passed());
  CHECK(report.variants.size() == variants(device).size());
  bool address = false, descriptor = false;
  for (const VariantResult& variant : report.variants) {
    CHECK(variant.ops.size() == 2);
    address |= variant.target.addressing == graph::Addressing::address;
    descriptor |= variant.target.addressing == graph::Addressing::descriptor;
  }
  CHECK(descriptor);
  CHECK(address == device.target().buffer_address);
}

void replace_all(std::string& text, const std::string& what, const std::string& with) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
}

TEST_CASE("the self-test fails, readably, when a kernel is wrong", "[device][selftest]") {
  engine::Device device = open_test_device();
  SelftestOptions options{.quick = true, .ops = {"add", "exp", "sqrt"}};
  options.alter = [](std::vector<shaders::Shader>& shaders) {
    for (shaders::Shader& shader : shaders) replace_all(shader.glsl, "exp(", "1.001 * exp(");
  };
  const SelftestReport report = run_selftest(device, options);
  CHECK_FALSE(report.passed());
  const VariantResult& variant = report.variants.at(0);
  for (const OpResult& op : variant.ops) {
    CAPTURE(op.op, op.worst);
    CHECK((op.share > 1) == (op.op == "exp"));
  }
  bool plain = false, training = false;
  for (const std::string& failure : variant.failures) {
    plain |= failure.find("default: exp f32[7], plain: element ") == 0;
    training |= failure.find("default: training: loss of step ") == 0;
    const bool readable =
        failure.find(" instead of ") != std::string::npos || failure.find("parameters after") != std::string::npos;
    CHECK(readable);
  }
  CHECK(plain);
  CHECK(training);
  for (const std::string& text : {selftest_page(report), selftest_summary(report)})
    CHECK_THAT(text, ContainsSubstring("FAILED, ") && ContainsSubstring("exp f32[7], plain"));
}

TEST_CASE("the self-test goes on after a kernel that does not compile", "[device][selftest]") {
  engine::Device device = open_test_device();
  SelftestOptions options{.quick = true, .training = false, .ops = {"add", "exp", "sqrt"}};
  options.alter = [](std::vector<shaders::Shader>& shaders) {
    for (shaders::Shader& shader : shaders) replace_all(shader.glsl, "exp(", "no_such_function(");
  };
  const SelftestReport report = run_selftest(device, options);
  CHECK(report.failures() == 1);
  CHECK(report.variants.at(0).ops.size() == 2);
  CHECK_THAT(selftest_page(report), ContainsSubstring("- default: exp: ") && ContainsSubstring("no_such_function"));
}

TEST_CASE("a self-test that was cut short says where", "[selftest]") {
  SelftestReport report;
  report.device.name = "a card";
  report.under_way = "tanh, variant default";
  CHECK_FALSE(report.passed());
  CHECK_THAT(selftest_page(report), ContainsSubstring("NOT FINISHED, at tanh, variant default"));
  report.under_way.clear();
  report.stopped = "vkQueueSubmit2 failed with ErrorDeviceLost";
  CHECK_FALSE(report.passed());
  CHECK_THAT(selftest_summary(report), ContainsSubstring("stopped: vkQueueSubmit2"));
}

}  // namespace
}  // namespace surtsey::tests
