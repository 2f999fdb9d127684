// The op suite on the device: every row of the op table on every sample, as it stands, fused into its surroundings and differentiated, in
// every variant that the device can run, against the double interpreter.
#include "tests/device_suite.h"
#include "graph/op.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::tests;

namespace {

void run_suite(engine::Device& device, const Variant& variant) {
  for (const OpDef& row : op_table()) {
    if (row.samples.empty()) continue;
    const auto [program, state, cases] = experiments::op_suite(row);
    State scratch = state;
    const auto reference = interpret(program, scratch);
    std::map<std::string, HostTensor> results;
    INFO(variant.name << " " << row.name);
    REQUIRE_NOTHROW(results = run_on_device(device, variant.target, program, state));
    for (const auto& [name, expected] : reference) {
      INFO(cases.at(name).text);
      CHECK(compare(results.at(name), expected, cases.at(name).tolerance) == "");
    }
  }
}

}  // namespace

TEST_CASE("every op on every sample on the device", "[device][lane][ops]") {
  SURTSEY_NEED_DEVICE();
  run_suite(device, variants(device).front());
}

TEST_CASE("every op in every other variant", "[device][ops]") {
  SURTSEY_NEED_DEVICE();
  const auto list = variants(device);
  for (size_t i = 1; i < list.size(); ++i)
    DYNAMIC_SECTION(list[i].name) { run_suite(device, list[i]); }
}
