#include "experiments/profile/ceilings.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/session.h"
#include "experiments/results/record.h"
#include "shaders/cache_file.h"

namespace surtsey::experiments {
namespace {

using nlohmann::json;

constexpr int kCeilingsFormat = 1;           // of the file
constexpr uint64_t kLongEnough = 2'000'000;  // ns that a measured run takes at least
constexpr uint64_t kTooLong = 100'000'000;
constexpr double kBetter = 1.05;
constexpr int kRuns = 5;
constexpr int kEmptyRuns = 50;    // of half a millisecond
constexpr uint32_t kChains = 16;  // independent multiply-adds of a lane
constexpr uint32_t kEmptyDispatches = 128;
constexpr uint32_t kSharedFloats = 2048;  // 8 KiB: every device has it
constexpr uint32_t kMaxRounds = 1u << 24;
constexpr uint64_t kWorkingSets[] = {256 << 10, 2 << 20, 16 << 20, 128 << 20};

constexpr const char* kSource = "source";
constexpr const char* kDestination = "destination";
constexpr const char* kRounds = "rounds";

// One kernel: `body` runs in every lane, with `lane` its number among `lanes` and `rounds` how
// often it is to repeat its work. It sees source, destination (vec4 arrays) and stores what it
// computed.
struct Benchmark {
  std::string name;
  std::string body;
  uint32_t workgroups = 1;
  uint32_t local_size = 1;
  std::string header = {};  // extensions and shared arrays
  uint32_t dispatches = 1;
};

// The kernel's text under the binding contract of shaders/shader.h. Tensors begin where offsets are
// aligned, so `first` is 0 in descriptor mode.
shaders::Shader shader(const Benchmark& benchmark, const graph::Target& target) {
  std::string text = "#version 460\n" + benchmark.header;
  if (target.addressing == graph::Addressing::address) {
    text +=
        "#extension GL_EXT_buffer_reference : require\n"
        "#extension GL_EXT_buffer_reference_uvec2 : require\n"
        "layout(buffer_reference, std430, buffer_reference_align = 16) buffer Vectors { vec4 v[]; "
        "};\n"
        "layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint v[]; };\n"
        "layout(push_constant) uniform Arguments { uvec2 address[14]; uint base; uint reserved; "
        "};\n"
        "#define rounds Words(address[0]).v[0]\n"
        "#define source Vectors(address[1]).v\n"
        "#define destination Vectors(address[2]).v\n";
  } else {
    text +=
        "layout(push_constant) uniform Arguments { uint first[14]; uint base; uint reserved; };\n"
        "layout(set = 0, binding = 0, std430) buffer B0 { uint v[]; } b0;\n"
        "layout(set = 0, binding = 1, std430) buffer B1 { vec4 v[]; } b1;\n"
        "layout(set = 0, binding = 2, std430) buffer B2 { vec4 v[]; } b2;\n"
        "#define rounds b0.v[0]\n#define source b1.v\n#define destination b2.v\n";
  }
  text += fmt::format(
      "layout(local_size_x = {0}) in;\nvoid main() {{\n"
      "  uint lane = (gl_WorkGroupID.x + base) * {0}u + gl_LocalInvocationID.x;\n"
      "  const uint lanes = {1}u;\n{2}}}\n",
      benchmark.local_size, benchmark.workgroups * benchmark.local_size, benchmark.body);
  return {.name = benchmark.name,
          .glsl = text,
          .workgroups = benchmark.workgroups,
          .local_size = benchmark.local_size,
          .bindings = 3};
}

graph::Plan plan(const Benchmark& benchmark, uint64_t array_bytes) {
  graph::Plan plan;
  plan.name = benchmark.name;
  const auto tensor = [&](const char* name, graph::DType dtype, uint64_t bytes) {
    plan.buffers.push_back(
        {.kind = graph::BufferKind::state, .name = name, .type = {dtype, {int64_t(bytes / 4)}}, .bytes = bytes});
  };
  tensor(kRounds, graph::DType::u32, 4);
  tensor(kSource, graph::DType::f32, array_bytes);
  tensor(kDestination, graph::DType::f32, array_bytes);
  graph::Kernel kernel;
  kernel.name = benchmark.name;
  plan.kernels.push_back(kernel);
  for (uint32_t d = 0; d < benchmark.dispatches; ++d) {
    plan.dispatches.push_back({.kernel = 0,
                               .accesses = {{.buffer = 0, .bytes = 4, .read = true},
                                            {.buffer = 1, .bytes = array_bytes, .read = true},
                                            {.buffer = 2, .bytes = array_bytes, .write = true}},
                               .scope = "ceilings"});
    plan.barriers.push_back(d);
  }
  return plan;
}

class Measurement {
 public:
  explicit Measurement(engine::Device& device)
      : target_(device.target()),
        session_(device, {.cache = std::string(), .quiet = true}),
        few_groups_(target_.cpu ? target_.threads * 4 : 1024),
        local_(target_.cpu ? std::max(16u, target_.subgroup_size) : std::min(256u, target_.max_workgroup_invocations)) {
    local_ = std::min(local_, target_.max_workgroup_invocations);
    const uint64_t most = std::min<uint64_t>({kWorkingSets[std::size(kWorkingSets) - 1], device.info().memory_bytes / 8,
                                              target_.max_storage_range * 2, target_.max_allocation * 2});
    for (const uint64_t bytes : kWorkingSets) {
      if (bytes <= most) sizes_.push_back(bytes);
    }
    check(!sizes_.empty(), "{} has too little memory to measure it", device.info().name);
  }

  Ceilings run() {
    add_all();
    session_.allocate();
    const uint64_t array = sizes_.back() / 2;
    session_.write(kSource, std::vector<float>(array / 4, 0.5f));
    Ceilings result;
    const double lanes = double(few_groups_) * local_;
    result.f32_gflops = 2.0 * kChains * lanes * rounds_per_ns("f32");
    if (target_.f16_storage) result.f16_gflops = 2.0 * kChains * lanes * rounds_per_ns("f16");
    for (const uint64_t bytes : sizes_) {
      const double best = std::max(rounds_per_ns(copy_name(bytes, true)), rounds_per_ns(copy_name(bytes, false)));
      result.copies.push_back({bytes, double(bytes) * best});
    }
    result.read_gbs = double(array) * rounds_per_ns("read");
    result.broadcast_gbs = lanes * 16 * 4 * rounds_per_ns("broadcast");
    result.shared_gbs = lanes * 4 * 4 * rounds_per_ns("shared");
    time("empty");
    result.dispatch_us = double(shortest("empty", 1, kEmptyRuns)) / kEmptyDispatches / 1e3;
    return result;
  }

 private:
  static std::string copy_name(uint64_t bytes, bool vectors) {
    return fmt::format("copy_{}_{}", vectors ? "vectors" : "scalars", bytes);
  }

  void add(const Benchmark& benchmark) {
    const uint64_t array = sizes_.back() / 2;
    session_.add_plan(benchmark.name, plan(benchmark, array), {shader(benchmark, target_)});
  }

  void add_multiply_add(const char* name, const char* type, const char* one, const char* header, uint32_t chains) {
    std::string body = fmt::format("  {0} m = {0}(source[lane % 64u].{1}), c = m * m;\n", type, one);
    for (uint32_t i = 0; i < chains; ++i) body += fmt::format("  {0} a{1} = c * {0}({2});\n", type, i, i + 1);
    body += "  const uint n = rounds;\n  for (uint k = 0u; k < n; ++k) {\n   ";
    for (uint32_t i = 0; i < chains; ++i) body += fmt::format(" a{0} = fma(a{0}, m, c);", i);
    body += "\n  }\n";
    for (uint32_t i = 1; i < chains; ++i) body += fmt::format("  a0 += a{};\n", i);
    body += fmt::format("  destination[lane].{} = {}(a0);\n", one, std::string_view(one) == "x" ? "float" : "vec2");
    add({name, body, few_groups_, local_, header});
  }

  // Every workgroup has its share, side by side; lanes of a workgroup are neighbours.
  std::string sweep(uint64_t elements, const std::string& statement) const {
    const uint64_t share = (elements + few_groups_ - 1) / few_groups_;
    return fmt::format(
        "  const uint n = rounds, group = gl_WorkGroupID.x + base;\n"
        "  for (uint k = 0u; k < n; ++k)\n"
        "    for (uint i = group * {0}u + gl_LocalInvocationID.x; i < min(group * {0}u + {0}u, "
        "{1}u);"
        " i += {2}u) {3}\n",
        share, elements, local_, statement);
  }

  void add_all() {
    add_multiply_add("f32", "float", "x", "", kChains);
    if (target_.f16_storage) {
      add_multiply_add("f16", "f16vec2", "xy", "#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require\n",
                       kChains / 2);
    }
    for (const uint64_t bytes : sizes_) {
      add({copy_name(bytes, true), sweep(bytes / 32, "destination[i] = source[i];"), few_groups_, local_});
      add({copy_name(bytes, false), sweep(bytes / 8, "destination[i >> 2][i & 3u] = source[i >> 2][i & 3u];"),
           few_groups_, local_});
    }
    const uint64_t vectors = sizes_.back() / 2 / 16;
    add({"read", "  vec4 s = vec4(0.0);\n" + sweep(vectors, "s += source[i];") + "  destination[lane] = s;\n",
         few_groups_, local_});
    add({"broadcast",
         "  vec4 s = vec4(0.0), t = s, u = s, v = s;\n  const uint n = rounds;\n"
         "  for (uint k = 0u; k < n; ++k) {\n"
         "    uint i = (k * 4u) & 255u;\n    s += source[i]; t += source[i + 1u]; u += source[i + "
         "2u]; "
         "v += source[i + 3u];\n  }\n  destination[lane] = s + t + u + v;\n",
         few_groups_, local_});
    add({"shared",
         fmt::format("  for (uint i = gl_LocalInvocationID.x; i < {0}u; i += {1}u) tile[i] = float(i);\n"
                     "  barrier();\n  vec4 s = vec4(0.0);\n  const uint n = rounds;\n"
                     "  uint i = gl_LocalInvocationID.x;\n  for (uint k = 0u; k < n; ++k) {{\n"
                     "    s += vec4(tile[i & {2}u], tile[(i + {1}u) & {2}u], tile[(i + {1}u * 2u) & "
                     "{2}u], tile[(i + {1}u * 3u) & {2}u]);\n    i += {1}u * 4u;\n  }}\n"
                     "  destination[lane] = s;\n",
                     kSharedFloats, local_, kSharedFloats - 1),
         few_groups_, local_, fmt::format("shared float tile[{}];\n", kSharedFloats)});
    add({"empty", "  if (rounds == 0u) destination[lane] = vec4(0.0);\n", 1, local_, "", kEmptyDispatches});
  }

  uint64_t time(const std::string& name) {
    return std::max<uint64_t>(1, session_.program(name).run_timed(engine::TimingMode::whole).busy_ns);
  }

  // The shortest of several runs, in nanoseconds.
  uint64_t shortest(const std::string& name, uint32_t rounds, int runs = kRuns) {
    session_.write(kRounds, std::vector<uint32_t>{rounds});
    uint64_t best = time(name);
    for (int i = 1; i < runs; ++i) best = std::min(best, time(name));
    return best;
  }

  // Rounds are doubled until a run is long and longer ones are no better: what surrounds the work,
  // and what else the machine does, matters no more.
  double rounds_per_ns(const std::string& name) {
    time(name);  // drivers finish compiling when a kernel first runs
    double best = 0;
    for (uint32_t rounds = 1; rounds < kMaxRounds; rounds *= 2) {
      const uint64_t ns = shortest(name, rounds);
      const double rate = rounds / double(ns);
      const bool better = rate > kBetter * best;
      best = std::max(best, rate);
      if (ns >= kTooLong || (ns >= kLongEnough && !better)) break;
    }
    return best;
  }

  const graph::Target target_;
  engine::Session session_;
  uint32_t few_groups_;
  uint32_t local_;
  std::vector<uint64_t> sizes_;
};

json identity(const engine::DeviceInfo& info) {
  return {{"format", kCeilingsFormat},
          {"device", info.name},
          {"uuid", info.uuid},
          {"driver", info.driver},
          {"threads", info.target.threads},
          {"subgroup", info.target.subgroup_size},
          {"f16", info.target.f16_storage},
          {"addressing", info.target.addressing == graph::Addressing::address ? "address" : "descriptor"}};
}

json to_json(const Ceilings& c) {
  json copies = json::array();
  for (const CopyRate& copy : c.copies) copies.push_back({copy.working_set, copy.gbs});
  return {{"f32_gflops", c.f32_gflops},
          {"f16_gflops", c.f16_gflops},
          {"copies", copies},
          {"read_gbs", c.read_gbs},
          {"broadcast_gbs", c.broadcast_gbs},
          {"shared_gbs", c.shared_gbs},
          {"dispatch_us", c.dispatch_us},
          {"runs", c.runs}};
}

// False when the file is not of this device, or not whole.
bool load(const std::string& path, const engine::DeviceInfo& info, Ceilings& result) {
  std::ifstream file(path);
  const json content = json::parse(file, nullptr, false);
  if (!content.is_object() || content.value("identity", json()) != identity(info)) return false;
  try {
    const json& values = content.at("ceilings");
    Ceilings c;
    for (const auto& [name, field] : {std::pair{"f32_gflops", &c.f32_gflops},
                                      {"read_gbs", &c.read_gbs},
                                      {"broadcast_gbs", &c.broadcast_gbs},
                                      {"shared_gbs", &c.shared_gbs},
                                      {"dispatch_us", &c.dispatch_us}}) {
      *field = values.at(name).get<double>();
      if (!(*field > 0)) return false;
    }
    c.f16_gflops = values.at("f16_gflops").get<double>();
    for (const json& copy : values.at("copies"))
      c.copies.push_back({copy.at(0).get<uint64_t>(), copy.at(1).get<double>()});
    if (c.copies.empty()) return false;
    c.runs = values.value("runs", 1u);
    result = c;
    result.from_cache = true;
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

std::string bytes_text(uint64_t bytes) {
  return bytes < (1 << 20) ? fmt::format("{} KiB", bytes >> 10) : fmt::format("{} MiB", bytes >> 20);
}

}  // namespace

double Ceilings::copy_gbs() const { return copies.back().gbs; }

double Ceilings::copy_gbs(double bytes) const {
  for (const CopyRate& copy : copies) {
    if (bytes <= double(copy.working_set)) return copy.gbs;
  }
  return copy_gbs();
}

std::vector<CeilingLine> describe(const Ceilings& c) {
  std::vector<CeilingLine> lines;
  lines.push_back({"f32 multiply-add", fmt::format("{:.1f} GFLOP/s", c.f32_gflops),
                   fmt::format("{} independent chains of fma a lane, in registers", kChains)});
  if (c.f16_gflops > 0)
    lines.push_back({"f16 multiply-add", fmt::format("{:.1f} GFLOP/s", c.f16_gflops), "the same in packed halves"});
  for (const CopyRate& copy : c.copies)
    lines.push_back({fmt::format("copy, {}", bytes_text(copy.working_set)), fmt::format("{:.1f} GB/s", copy.gbs),
                     "read plus written, lanes side by side, by words or by vectors of four"});
  lines.push_back({"read", fmt::format("{:.1f} GB/s", c.read_gbs),
                   fmt::format("sums over {}", bytes_text(c.copies.back().working_set / 2))});
  lines.push_back({"broadcast", fmt::format("{:.1f} GB/s", c.broadcast_gbs),
                   "all lanes read one address of 4 KiB, counted for every lane"});
  lines.push_back(
      {"shared memory", fmt::format("{:.1f} GB/s", c.shared_gbs), "neighbouring lanes read neighbouring words"});
  lines.push_back({"dispatch", fmt::format("{:.2f} us", c.dispatch_us),
                   fmt::format("{} empty dispatches with barriers between them", kEmptyDispatches)});
  return lines;
}

std::string ceilings_file(const engine::DeviceInfo& info, const std::string& folder) {
  return fmt::format("{}/ceilings-{:016x}.json", folder, shaders::hash64(identity(info).dump()));
}

namespace {

Ceilings measure(engine::Device& device) {
  fmt::print(stderr, "measuring what {} does at best\n", device.info().name);
  return Measurement(device).run();
}

void store(const engine::DeviceInfo& info, const std::string& folder, const Ceilings& ceilings) {
  if (folder.empty()) return;
  try {
    std::filesystem::create_directories(folder);
    write_file_atomic(ceilings_file(info, folder),
                      json{{"identity", identity(info)}, {"ceilings", to_json(ceilings)}}.dump(2));
  } catch (const std::exception& error) {
    fmt::print(stderr, "ceilings are measured again next time: {}\n", error.what());
  }
}

}  // namespace

Ceilings measure_ceilings(engine::Device& device, const std::string& folder, bool again) {
  Ceilings result;
  if (!folder.empty() && !again && load(ceilings_file(device.info(), folder), device.info(), result)) return result;
  result = measure(device);
  store(device.info(), folder, result);
  return result;
}

bool raise_ceilings(engine::Device& device, const std::string& folder, Ceilings& known) {
  if (known.runs >= kMostRuns) return false;
  Ceilings result = measure(device);
  for (double Ceilings::* field : {&Ceilings::f32_gflops, &Ceilings::f16_gflops, &Ceilings::read_gbs,
                                   &Ceilings::broadcast_gbs, &Ceilings::shared_gbs})
    result.*field = std::max(result.*field, known.*field);
  for (CopyRate& copy : result.copies)
    for (const CopyRate& before : known.copies)
      if (before.working_set == copy.working_set) copy.gbs = std::max(copy.gbs, before.gbs);
  result.dispatch_us = std::min(result.dispatch_us, known.dispatch_us);
  result.runs = known.runs + 1;
  known = std::move(result);
  store(device.info(), folder, known);
  return true;
}

}  // namespace surtsey::experiments
