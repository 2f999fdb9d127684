#include "experiments/base/file.h"
#include "experiments/commands/bench.h"
#include "experiments/commands/disassemble.h"
#include "experiments/commands/requested_step.h"
#include "graph/compile.h"
#include "graph/text.h"
#include "shaders/emit.h"

#include <algorithm>
#include <filesystem>
#include <set>

namespace surtsey::experiments::commands {
namespace {

using graph::BufferKind;
using graph::Plan;

// Everything that the compiler made of the program.
struct Compiled {
  Plan plan;
  std::vector<shaders::Shader> shaders;
  std::vector<std::pair<std::string, std::string>> passes;  // name, what it left behind
};

class Inspection {
 public:
  explicit Inspection(const InspectOptions& options) : options_(options) {
    shown_.insert(options.show.begin(), options.show.end());
    if (shown_.empty()) shown_ = {"summary", "kernels", "memory"};
    if (shown_.erase("all")) shown_.insert(kInspectViews.begin(), kInspectViews.end());
    for (const std::string& view : shown_) {
      const bool known = std::find(kInspectViews.begin(), kInspectViews.end(), view) != kInspectViews.end();
      check(known, "--show has no '{}'; there are {}, all", view, fmt::join(kInspectViews, ", "));
    }
    if (options.out.empty()) return;
    std::error_code error;
    std::filesystem::create_directories(options.out, error);
    check(std::filesystem::is_directory(options.out), "--out: {} cannot be made a folder", options.out);
  }

  bool shows(const char* view) const { return shown_.contains(view); }

  void view(const std::string& file, const std::string& title, const std::string& text) const {
    if (options_.out.empty()) {
      fmt::print("==== {} ====\n{}\n", title, text);
      return;
    }
    write(file, text);
  }

  // What is not to be read by people goes into a folder only.
  void keep(const std::string& file, std::string_view bytes) const {
    if (!options_.out.empty()) write(file, bytes);
  }

 private:
  void write(const std::string& file, std::string_view bytes) const {
    const std::filesystem::path path = std::filesystem::path(options_.out) / file;
    write_file_atomic(path, bytes);
    fmt::print("{}\n", path.string());
  }

  const InspectOptions& options_;
  std::set<std::string> shown_;
};

graph::Target resolve_target(const InspectOptions& options, graph::DType storage) {
  graph::Target target;
  if (!options.target.empty()) {
    target = graph::target_preset(options.target);
  } else {
    const bool f16 =
        storage == graph::DType::f16 || matmul_variant(options.variant) == graph::MatmulVariant::cooperative;
    target = engine::Device::open({.select = options.device, .f16 = f16}).target();
  }
  target.matmul = matmul_variant(options.variant);
  target.fusion = target.fusion && !options.no_fusion;
  if (options.addressing.empty()) return target;
  check(options.addressing == "address" || options.addressing == "descriptor",
        "--addressing is address or descriptor, not '{}'", options.addressing);
  const bool address = options.addressing == "address";
  check(!address || target.buffer_address, "target {} has no buffer addresses", target.name);
  target.addressing = address ? graph::Addressing::address : graph::Addressing::descriptor;
  return target;
}

std::string megabytes(uint64_t bytes) { return fmt::format("{:.3f} MB", double(bytes) / 1e6); }

std::string summary(const Compiled& c, const Model& model, const graph::Target& target, uint32_t nodes_before) {
  uint64_t state = 0, transient = 0;
  for (const graph::Buffer& buffer : c.plan.buffers) {
    (buffer.kind == BufferKind::transient ? transient : state) += buffer.bytes;
  }
  std::set<std::string> texts;
  for (const shaders::Shader& shader : c.shaders) texts.insert(shader.glsl);
  const std::vector<std::string> hazards = graph::uncovered_hazards(c.plan);
  std::string text = fmt::format("target       {}, {} mode, matmul {}\n", target.name,
                                 target.addressing == graph::Addressing::address ? "address" : "descriptor",
                                 graph::name(target.matmul_variant()));
  text += fmt::format("parameters   {}\n", model.parameter_count());
  text += fmt::format("nodes        {} built, {} after the passes\n", nodes_before, c.plan.program.graph->size());
  text += fmt::format("dispatches   {}, {} barriers ({})\n", c.plan.dispatches.size(), c.plan.barriers.size(),
                      hazards.empty() ? "every hazard is covered" : "HAZARDS ARE UNCOVERED");
  for (const std::string& hazard : hazards) text += "             " + hazard + "\n";
  text += fmt::format("shaders      {} different\n", texts.size());
  text += fmt::format("a run        {:.3f} MFLOP, of them {:.3f} in matmuls; {} read and written\n",
                      double(c.plan.flops) / 1e6, double(c.plan.matmul_flops) / 1e6, megabytes(c.plan.bytes));
  text += fmt::format("memory       {} state and outputs, {} transient ({} without reuse)\n", megabytes(state),
                      megabytes(c.plan.transient_bytes), megabytes(transient));
  return text;
}

std::string kernels(const Compiled& c) {
  std::string text =
      "   # kernel                                           archetype space"
      "              grid x local     MFLOP        kB  in out scope\n";
  for (size_t d = 0; d < c.plan.dispatches.size(); ++d) {
    const graph::Dispatch& dispatch = c.plan.dispatches[d];
    const graph::Kernel& kernel = c.plan.kernels[dispatch.kernel];
    const shaders::Shader& shader = c.shaders[dispatch.kernel];
    text += fmt::format("{:4} {:48} {:9} {:18} {:>6} x {:4} {:9.3f} {:9.1f} {:3} {:3} {}\n", d, kernel.name,
                        graph::name(kernel.archetype), graph::to_string(kernel.space), shader.workgroups,
                        shader.local_size, double(kernel.flops) / 1e6, double(kernel.bytes) / 1e3, kernel.inputs.size(),
                        kernel.outputs.size(), dispatch.scope);
  }
  return text;
}

std::string memory(const Plan& plan) {
  std::string text;
  const std::vector<std::pair<int64_t, int64_t>> alive = graph::lifetimes(plan);
  for (const BufferKind kind : {BufferKind::state, BufferKind::output, BufferKind::transient}) {
    std::vector<size_t> order;
    uint64_t bytes = 0;
    for (size_t b = 0; b < plan.buffers.size(); ++b) {
      if (plan.buffers[b].kind != kind) continue;
      order.push_back(b);
      bytes += plan.buffers[b].bytes;
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return plan.buffers[a].offset < plan.buffers[b].offset; });
    if (kind == BufferKind::transient) {
      text += fmt::format("transient: {} values, {} of bytes in an arena of {}\n", order.size(), megabytes(bytes),
                          megabytes(plan.transient_bytes));
    } else {
      text += fmt::format("{}: {}\n", kind == BufferKind::state ? "state" : "outputs", megabytes(bytes));
    }
    for (const size_t b : order) {
      const graph::Buffer& buffer = plan.buffers[b];
      const std::string place = kind == BufferKind::transient
                                    ? fmt::format("[{}, {})", buffer.offset, buffer.offset + buffer.bytes)
                                    : fmt::format("{} bytes", buffer.bytes);
      text += fmt::format("  {:4} {:26} {:22} dispatches {}..{}  {}\n", b, place, graph::to_string(buffer.type),
                          alive[b].first, alive[b].second, buffer.name);
    }
  }
  return text;
}

void show_shaders(const Inspection& inspection, const Compiled& c, const std::string& filter) {
  std::set<std::string> seen;
  std::vector<shaders::Shader> chosen;
  for (const shaders::Shader& shader : c.shaders) {
    const bool fits = filter.empty() || shader.name.find(filter) != std::string::npos;
    if (fits && seen.insert(shader.glsl).second) chosen.push_back(shader);
  }
  check(!chosen.empty(), "--kernel: no kernel's name contains '{}'", filter);
  std::vector<shaders::Spirv> spirv;
  if (inspection.shows("spirv")) {
    spirv = shaders::compile_spirv(chosen, shaders::default_cache_directory());
  }
  for (size_t i = 0; i < chosen.size(); ++i) {
    const shaders::Shader& shader = chosen[i];
    const std::string file = fmt::format("{:03}_{}", i, shader.name);
    if (inspection.shows("glsl")) inspection.view(file + ".comp", shader.name, shader.glsl);
    if (!inspection.shows("spirv")) continue;
    inspection.keep(file + ".spv", {reinterpret_cast<const char*>(spirv[i].data()), spirv[i].size() * 4});
    inspection.view(file + ".spvasm", fmt::format("{}: {} words of SPIR-V", shader.name, spirv[i].size()),
                    disassemble(spirv[i]));
  }
}

}  // namespace

void inspect(const InspectOptions& options) {
  const Inspection inspection(options);
  RequestedStep step = requested_step(options.program, options.members, options.config, options.keys);
  const Model& model = step.model;
  const graph::Program& program = step.program;
  const graph::Target target = resolve_target(options, step.train.dtype);

  Compiled compiled;
  graph::CompileOptions& compile = step.compile;
  if (inspection.shows("passes")) {
    compile.observe = [&](const char* pass, const std::string& text) {
      compiled.passes.emplace_back(pass, text.empty() ? "(nothing changed)\n" : text);
    };
  }
  compiled.plan = graph::compile(program, target, compile);
  compiled.shaders = shaders::emit(compiled.plan, target);

  if (inspection.shows("summary")) {
    inspection.view("summary.txt", options.program, summary(compiled, model, target, program.graph->size()));
  }
  if (inspection.shows("graph")) inspection.view("graph.txt", "graph", graph::print(program));
  for (size_t i = 0; i < compiled.passes.size(); ++i) {
    const auto& [pass, text] = compiled.passes[i];
    inspection.view(fmt::format("pass_{}_{}.txt", i + 1, pass), "after " + pass, text);
  }
  if (inspection.shows("plan")) {
    inspection.view("plan.txt", "plan", graph::print(compiled.plan));
  }
  if (inspection.shows("kernels")) {
    inspection.view("kernels.txt", "kernels", kernels(compiled));
  }
  if (inspection.shows("memory")) {
    inspection.view("memory.txt", "memory", memory(compiled.plan));
  }
  if (inspection.shows("glsl") || inspection.shows("spirv")) {
    show_shaders(inspection, compiled, options.kernel);
  }
}

}  // namespace surtsey::experiments::commands
