// The verifiers behind the compiler's passes notice what is planted: kernels in the making, and plans.
#include "graph/autodiff.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "graph/passes/lowering.h"
#include "tests/support/tensors.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using tests::f32;

namespace {

// Two layers, their gradients, and an update in place.
Program two_layers() {
  Program program{std::make_shared<Graph>(), {}};
  Graph& g = *program.graph;
  const Value x = g.parameter("x", f32({12, 8}));
  const std::vector<Value> weights = {g.parameter("u", f32({8, 16})), g.parameter("v", f32({16, 8}))};
  const Value hidden = gelu_erf(matmul(x, weights[0]));
  const Value error = softmax(matmul(hidden, weights[1])) - x;
  const Value loss = mean(error * error, {0, 1}, false);
  const std::vector<Value> gradients = differentiate(loss, weights);
  for (size_t i = 0; i < weights.size(); ++i) g.assign(weights[i], weights[i] - 0.1 * gradients[i]);
  program.outputs = {{"loss", loss}};
  return program;
}

Lowering lowered(DType storage = DType::f32) {
  const Target target = target_preset("lavapipe");
  Lowering lowering = fuse(decompose(two_layers(), target), target);
  lower_precision(lowering, storage);
  place_state(lowering);
  place_concats(lowering);
  place_transients(lowering);
  order(lowering);
  return lowering;
}

template <typename Stage>
void check_wrong(const Stage& stage, const std::string& says) {
  CHECK_THROWS_MATCHES(verify(stage), InternalError, MessageMatches(ContainsSubstring(says)));
}

}  // namespace

TEST_CASE("verify: kernels in the making that are wrong", "[passes]") {
  const Lowering good = lowered();
  CHECK_NOTHROW(verify(good));
  CHECK_NOTHROW(verify(lowered(DType::bf16)));
  REQUIRE(good.groups.size() > 4);
  const uint32_t last = good.sequence.back();
  REQUIRE(!good.groups[last].sources.empty());

  Lowering wrong = good;
  wrong.home[good.groups[0].members[0]] = 1;
  check_wrong(wrong, "whose home it is not");

  wrong = good;
  wrong.groups[0].members.pop_back();
  check_wrong(wrong, "does not compute it");

  wrong = good;
  wrong.groups[last].depends[last] = true;
  check_wrong(wrong, "waits for itself");

  // Every wait is needed: without its source a kernel would read what is not written, or the closure has a gap.
  size_t noticed = 0, waits = 0;
  for (uint32_t g = 0; g < good.groups.size(); ++g)
    for (uint32_t source = 0; source < good.groups.size(); ++source) {
      if (!good.groups[g].depends[source]) continue;
      ++waits;
      wrong = good;
      wrong.groups[g].depends[source] = false;
      try {
        verify(wrong);
      } catch (const InternalError&) {
        ++noticed;
      }
    }
  CHECK(waits > good.groups.size());
  CHECK(noticed == waits);

  wrong = good;
  wrong.stores.back().view.offset += 1;
  check_wrong(wrong, "leaves buffer");

  wrong = good;
  std::swap(wrong.sequence.front(), wrong.sequence.back());
  check_wrong(wrong, "runs before its source");

  wrong = good;
  for (auto& [n, view] : good.location)
    if (good.home[n] != kNone && good.program.graph->node(n).op == Op::matmul) wrong.location.erase(n);
  REQUIRE(wrong.location.size() < good.location.size());
  check_wrong(wrong, "has no place");
}

TEST_CASE("verify: plans that are wrong", "[plan]") {
  const Plan good = compile(two_layers(), target_preset("lavapipe"));
  CHECK_NOTHROW(verify(good));
  REQUIRE(good.barriers.size() > 2);

  Plan wrong = good;
  wrong.dispatches[0].accesses.pop_back();
  check_wrong(wrong, "operands and");

  wrong = good;
  std::swap(wrong.dispatches[0].accesses.front(), wrong.dispatches[0].accesses.back());
  check_wrong(wrong, "is not that of its operand");

  wrong = good;
  wrong.dispatches[0].accesses[0].offset += 4;
  check_wrong(wrong, "leaves buffer");

  wrong = good;
  wrong.transient_bytes -= 4;
  check_wrong(wrong, "leaves the arena");

  wrong = good;
  std::swap(wrong.barriers[0], wrong.barriers[1]);
  check_wrong(wrong, "out of order");
}

TEST_CASE("compile shows what every pass left behind, or that it changed nothing", "[passes]") {
  std::vector<std::string> passes;
  size_t changed = 0;
  std::string last;
  CompileOptions options;
  options.observe = [&](const char* pass, const std::string& text) {
    passes.emplace_back(pass);
    changed += !text.empty();
    if (!text.empty()) last = text;
  };
  const Plan plan = compile(two_layers(), target_preset("lavapipe"), options);
  CHECK(passes == std::vector<std::string>{"simplify", "claim_regions", "decompose", "simplify_again", "join_pads",
                                           "fuse", "join_statistics", "lower_precision", "place_state", "place_concats",
                                           "place_transients", "order", "build_plan", "fit_memory", "place_barriers"});
  CHECK(last == print(plan));
  CHECK(changed >= 6);             // fuse, state, transients, order, and all of the plan's
  CHECK(changed < passes.size());  // there is no region, no concat, nothing narrow
}
