#include "graph/compile.h"

#include "graph/debug.h"
#include "graph/passes/lowering.h"
#include "graph/text.h"
#include "graph/verify.h"

#include <chrono>
#include <type_traits>

namespace surtsey::graph {
namespace {

void verify(const Program& program) { verify(*program.graph); }

// Runs passes; what each left behind is verified, and shown where that is asked for.
class Passes {
 public:
  Passes(const CompileOptions& options, const Program& program)
      : options_(options), dumps_(debug_level() >= 5 || !environment("SURTSEY_DUMP").empty()) {
    if (is_shown()) text_ = print(program);
  }

  // Runs a pass on a Program, a Lowering or a Plan.
  template <typename Stage, typename Pass, typename... Arguments>
  void run(const char* name, Pass pass, Stage& stage, const Arguments&... arguments) {
    if constexpr (std::is_same_v<Stage, Program>) {
      stage = pass(stage, arguments...);
    } else {
      pass(stage, arguments...);
    }
    left(name, stage);
  }

  template <typename Stage>
  void left(const char* name, const Stage& stage) {
    verify(stage);
    if (is_shown()) show(name, print(stage));
  }

 private:
  bool is_shown() const { return dumps_ || options_.observe; }

  void show(const char* name, const std::string& text) {
    const bool changed = text != text_;
    text_ = text;
    if (options_.observe) options_.observe(name, changed ? text : "");
    if (!changed || !dumps_) return;
    if (debug_level() >= 5) fmt::print(stderr, "---- {} after {}\n{}", options_.name, name, text);
    dump(fmt::format("{}.{}.txt", options_.name, name), text);
  }

  const CompileOptions& options_;
  const bool dumps_;
  std::string text_;  // of the pass before
};

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
  Passes passes(options, program);
  Program p = program;
  passes.run("simplify", simplify, p);
  passes.run("claim_regions", claim_regions, p, target);
  passes.run("decompose", decompose, p, target);
  passes.run("simplify_again", simplify, p);
  passes.run("join_pads", join_pads, p);

  Lowering lowering = fuse(p, target);
  passes.left("fuse", lowering);
  passes.run("join_statistics", join_statistics, lowering);
  passes.run("lower_precision", lower_precision, lowering, options.storage);
  passes.run("place_state", place_state, lowering);
  passes.run("place_concats", place_concats, lowering);
  passes.run("place_transients", place_transients, lowering);
  passes.run("order", order, lowering);

  Plan plan = build_plan(lowering);
  plan.name = options.name;
  passes.left("build_plan", plan);
  passes.run("fit_memory", fit_memory, plan, options.memory, target.max_allocation);
  if (target.addressing == Addressing::descriptor) plan.bound_alignment = target.storage_offset_alignment;
  passes.run("place_barriers", place_barriers, plan);
  const std::vector<std::string> hazards = uncovered_hazards(plan);
  ensure(hazards.empty(), "plan {}: {}", options.name, hazards.empty() ? "" : hazards.front());

  dump(fmt::format("{}.plan", options.name), print(plan));
  if (debug_level() >= 3) fmt::print(stderr, "{}", print(plan));
  if (debug_level() >= 1) {
    uint64_t unshared = 0;
    for (const Buffer& buffer : plan.buffers) unshared += buffer.kind == BufferKind::transient ? buffer.bytes : 0;
    fmt::print(stderr, "compile {}: {} nodes -> {} kernels, {:.2f} MB -> {:.2f} MB, {} barriers, {:.1f} ms\n",
               options.name, p.graph->size(), plan.kernels.size(), double(unshared) / 1e6,
               double(plan.transient_bytes) / 1e6, plan.barriers.size(),
               std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return plan;
}

}  // namespace surtsey::graph
