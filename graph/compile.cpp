#include "graph/compile.h"

#include "graph/debug.h"
#include "graph/passes/lowering.h"
#include "graph/text.h"
#include "graph/verify.h"

#include <chrono>
#include <set>

namespace surtsey::graph {
namespace {

// Verifies and shows what a pass left behind.
Program stage(const char* pass, const Program& before, Program after, const CompileOptions& options) {
  verify(*after.graph);
  if (options.observe) options.observe(pass, before, after);
  if (debug_level() >= 5 || !environment("SURTSEY_DUMP").empty()) {
    const std::string text = print(after);
    if (text != print(before)) {
      if (debug_level() >= 5) fmt::print(stderr, "---- {} after {}\n{}", options.name, pass, text);
      dump(fmt::format("{}.{}.graph", options.name, pass), text);
    }
  }
  return after;
}

// Tensors of a program that no device could hold are refused before anything is built for them.
void check_sizes(const Program& program, const Target& target) {
  for (uint32_t n = 0; n < program.graph->size(); ++n) {
    const Type& type = program.graph->node(n).types[0];
    check(element_count(type.shape) < int64_t(1) << 32, "[compile] {} has more than 2^32 elements (scope {})",
          to_string(type), program.graph->scope(n).path);
  }
  for (const auto& [name, value] : program.graph->parameters()) {
    const auto bytes = uint64_t(element_count(value.shape()) * storage_bytes(value.dtype()));
    check(bytes <= target.max_allocation,
          "[compile] tensor {} {} needs {} bytes, device {} allows {} in one allocation", name, to_string(value.type()),
          bytes, target.name, target.max_allocation);
  }
}

}  // namespace

Plan compile(const Program& program, const Target& target, const CompileOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  check_sizes(program, target);
  const auto& name = options.name;
  Program p = stage("simplify", program, simplify(program), options);
  p = stage("claim_regions", p, claim_regions(p, target), options);
  p = stage("decompose", p, decompose(p, target), options);
  p = stage("simplify_again", p, simplify(p), options);
  p = stage("join_pads", p, join_pads(p), options);

  Lowering lowering = fuse(p, target);
  lower_precision(lowering, options.storage);
  place_state(lowering);
  place_concats(lowering);
  place_transients(lowering);
  order(lowering);
  Plan plan = build_plan(lowering);
  plan.name = name;
  fit_memory(plan, options.memory, target.max_allocation);
  place_barriers(plan);

  dump(fmt::format("{}.plan", name), print(plan));
  if (debug_level() >= 3) fmt::print(stderr, "{}", print(plan));
  if (debug_level() >= 1) {
    uint64_t unshared = 0;
    for (const Buffer& buffer : plan.buffers) unshared += buffer.kind == BufferKind::transient ? buffer.bytes : 0;
    fmt::print(stderr, "compile {}: {} nodes -> {} kernels, {:.2f} MB -> {:.2f} MB, {} barriers, {:.1f} ms\n", name,
               p.graph->size(), plan.kernels.size(), double(unshared) / 1e6, double(plan.transient_bytes) / 1e6,
               plan.barriers.size(),
               std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return plan;
}

}  // namespace surtsey::graph
