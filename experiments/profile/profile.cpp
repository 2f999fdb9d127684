#include "experiments/profile/profile.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "experiments/base/join.h"
#include "experiments/statistics/intervals.h"
#include "graph/text.h"

namespace surtsey::experiments {
namespace {

double overhead(const ModeTimes& timed, const ModeTimes& whole) {
  std::vector<double> ratios;
  for (size_t i = 0; i < timed.host.size(); ++i)
    ratios.push_back(double(timed.host[i]) / double(std::max<uint64_t>(1, whole.host[i])) - 1);
  return ratios.empty() ? 0 : median(ratios);
}

// The node's line of the graph's text form, up to its scope.
std::string node_text(const graph::Graph& graph, uint32_t node) {
  std::string text = graph::print_node(graph, node);
  text.resize(std::min(text.find("  @"), text.size()));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string place_of(const graph::Scope& scope) {
  return scope.line == 0 ? "" : fmt::format("{}:{}", scope.file, scope.line);
}

std::vector<OriginNode> origin_nodes(const graph::Kernel& kernel, const graph::Graph& graph) {
  std::vector<OriginNode> result;
  for (const uint32_t n : graph::origins(kernel)) {
    const graph::Scope& scope = graph.scope(n);
    const auto stored = [&](const graph::KernelOperand& output) { return output.value.node == n; };
    const auto contains = [&](const std::vector<uint32_t>& list) {
      return std::binary_search(list.begin(), list.end(), n);
    };
    const char* role = "inlined";
    if (kernel.anchor && kernel.anchor.node == n) {
      role = "anchor";
    } else if (std::any_of(kernel.outputs.begin(), kernel.outputs.end(), stored)) {
      role = "stored";
    } else if (!contains(kernel.inlined)) {
      role = "computed";
    }
    result.push_back({graph::definition(graph.node(n).op).name, node_text(graph, n), scope.path, place_of(scope),
                      graph::name(scope.phase), role});
  }
  return result;
}

// Everything but times.
class ProfileRows {
 public:
  ProfileRows(const graph::Plan& plan, const std::vector<shaders::Shader>& shaders,
              const std::vector<engine::KernelBuild>& builds, std::vector<engine::DriverStatistics> driver, bool texts)
      : plan_(plan),
        graph_(*plan.program.graph),
        shaders_(shaders),
        builds_(builds),
        driver_(std::move(driver)),
        texts_(texts) {
    for (uint32_t d = 0; d < plan.dispatches.size(); ++d) add(d);
  }

  std::vector<KernelRow> rows;

 private:
  void add(uint32_t index) {
    const graph::Dispatch& dispatch = plan_.dispatches[index];
    const graph::Kernel& kernel = plan_.kernels[dispatch.kernel];
    const shaders::Shader& shader = shaders_[dispatch.kernel];
    const auto [found, is_new] = by_text_.try_emplace({dispatch.phase, kernel.name, shader.glsl}, rows.size());
    if (is_new) open(dispatch, kernel, shader);
    KernelRow& row = rows[found->second];
    row.dispatches.push_back(index);
    // The anchor's first.
    if (!dispatch.scope.empty()) add_once(row.scopes, dispatch.scope);
    std::vector<OriginNode> nodes = origin_nodes(kernel, graph_);
    for (const OriginNode& node : nodes)
      if (node.scope == dispatch.scope && !node.place.empty()) add_once(row.places, node.place);
    for (const OriginNode& node : nodes) {
      if (!node.scope.empty()) add_once(row.scopes, node.scope);
      if (!node.place.empty()) add_once(row.places, node.place);
    }
    if (is_new) {
      for (const OriginNode& node : nodes) add_once(row.ops, node.op);
      row.nodes = std::move(nodes);
    }
  }

  void open(const graph::Dispatch& dispatch, const graph::Kernel& kernel, const shaders::Shader& shader) {
    KernelRow& row = rows.emplace_back();
    row.name = kernel.name;
    row.phase = dispatch.phase;
    row.id = fmt::format("{}/{}", graph::name(dispatch.phase), kernel.name);
    if (const int copies = ++ids_[row.id]; copies > 1) row.id += fmt::format("#{}", copies);
    row.archetype = graph::name(kernel.archetype);
    row.variant = shader.variant;
    row.flops = kernel.flops;
    row.matmul_flops = kernel.matmul_flops;
    row.bytes = kernel.bytes;
    row.workgroups = shader.workgroups;
    row.local_size = shader.local_size;
    row.subgroup_size = shader.subgroup_size;
    row.build = builds_[dispatch.kernel];
    if (!driver_.empty()) row.driver = driver_.at(dispatch.kernel);
    if (!texts_) return;
    row.glsl = shader.glsl;
    row.spirv = shaders::spirv_text(shader);
  }

  const graph::Plan& plan_;
  const graph::Graph& graph_;
  const std::vector<shaders::Shader>& shaders_;
  const std::vector<engine::KernelBuild>& builds_;
  const std::vector<engine::DriverStatistics> driver_;  // empty where the driver says nothing
  const bool texts_;
  std::map<std::tuple<graph::Phase, std::string, std::string>, size_t> by_text_;
  std::map<std::string, int> ids_;
};

RowTimes row_times(const KernelRow& row, const std::vector<engine::TimedReplay>& replays, uint64_t timestamp_ns) {
  RowTimes times;
  std::vector<uint64_t> calls;
  for (const engine::TimedReplay& replay : replays) {
    uint64_t total = 0;
    for (const uint32_t d : row.dispatches) {
      const uint64_t ns = replay.dispatches[d].ns();
      calls.push_back(ns - std::min(ns, timestamp_ns));
      total += calls.back();
    }
    times.totals.push_back(total);
  }
  times.total = quantile(times.totals, 0.5);
  times.median = quantile(calls, 0.5);
  times.p95 = quantile(calls, 0.95);
  return times;
}

void judge(KernelRow& row, const Ceilings& ceilings) {
  const double ns = std::max(row.isolated.median, 1.0);
  const auto flops = double(row.flops), bytes = double(row.bytes);
  row.gflops = flops / ns;
  row.gbs = bytes / ns;
  row.intensity = bytes > 0 ? flops / bytes : 0;
  // The least time that each ceiling allows; the longest one binds.
  const double least[] = {flops / ceilings.f32_gflops, bytes / ceilings.copy_gbs(bytes), ceilings.dispatch_us * 1e3};
  const auto longest = std::max_element(std::begin(least), std::end(least));
  row.bound = BoundBy(longest - std::begin(least));
  row.roof = *longest / ns;
}

std::vector<DispatchPlace> dispatch_places(const graph::Plan& plan, const std::vector<KernelRow>& rows) {
  std::vector<DispatchPlace> places(plan.dispatches.size());
  for (uint32_t r = 0; r < rows.size(); ++r)
    for (const uint32_t d : rows[r].dispatches) places[d].row = r;
  for (size_t d = 0; d < places.size(); ++d) places[d].scope = plan.dispatches[d].scope;
  for (const uint32_t barrier : plan.barriers)
    if (barrier < places.size()) places[barrier].barrier = true;
  const auto alive = graph::lifetimes(plan);
  for (size_t b = 0; b < plan.buffers.size(); ++b) {
    if (plan.buffers[b].kind != graph::BufferKind::transient || alive[b].first < 0) continue;
    for (int64_t d = alive[b].first; d <= alive[b].second; ++d) places[size_t(d)].live_bytes += plan.buffers[b].bytes;
  }
  return places;
}

}  // namespace

const char* name(BoundBy bound) {
  constexpr const char* kNames[] = {"compute", "memory", "launch"};
  return kNames[size_t(bound)];
}

void judge(Profile& profile, const Ceilings& ceilings) {
  profile.ceilings = ceilings;
  for (KernelRow& row : profile.rows) judge(row, ceilings);
}

const KernelRow* above_its_roof(const Profile& profile) {
  constexpr double kBeyondNoise = 1.05;
  const KernelRow* highest = nullptr;
  for (const KernelRow& row : profile.rows) {
    if (row.bound == BoundBy::launch || row.roof <= kBeyondNoise) continue;
    if (!highest || row.roof > highest->roof) highest = &row;
  }
  return highest;
}

double quantile(std::vector<uint64_t> samples, double q) {
  ensure(!samples.empty(), "a quantile of nothing");
  std::sort(samples.begin(), samples.end());
  const double at = q * double(samples.size() - 1);
  const auto low = size_t(at);
  const size_t high = std::min(low + 1, samples.size() - 1);
  const double weight = at - double(low);
  return double(samples[low]) * (1 - weight) + double(samples[high]) * weight;
}

bool Profile::has_driver_statistics() const {
  return std::any_of(rows.begin(), rows.end(), [](const KernelRow& row) { return row.driver; });
}

double Profile::grouped_overhead() const { return overhead(grouped, whole); }
double Profile::isolated_overhead() const { return overhead(isolated, whole); }

double Profile::rows_of_step() const {
  std::vector<double> ratios;
  for (size_t i = 0; i < whole.busy.size(); ++i) {
    uint64_t sum = 0;
    for (const KernelRow& row : rows) sum += row.isolated.totals[i];
    ratios.push_back(double(sum) / double(std::max<uint64_t>(1, whole.busy[i])));
  }
  return ratios.empty() ? 0 : median(ratios);
}

Profile profile_program(engine::Session& session, engine::SessionProgram program, const Ceilings& ceilings,
                        const ProfileOptions& options) {
  using engine::TimingMode;
  check(options.steps > 0, "--steps is at least 1");
  const graph::Plan& plan = program.plan();
  check(!plan.dispatches.empty(), "program '{}' has no kernel to profile", program.name());
  Profile profile;
  profile.program = program.name();
  profile.device = session.device().info();
  profile.steps = options.steps;

  std::vector<engine::TimedReplay> grouped, isolated;
  profile.timestamp_ns = program.timestamp_ns();
  for (uint32_t round = 0; round < options.warmup + options.steps; ++round) {
    for (const TimingMode mode : {TimingMode::whole, TimingMode::grouped, TimingMode::isolated}) {
      engine::TimedReplay replay = program.run_timed(mode);
      if (round < options.warmup) continue;
      ModeTimes& times = mode == TimingMode::whole     ? profile.whole
                         : mode == TimingMode::grouped ? profile.grouped
                                                       : profile.isolated;
      times.busy.push_back(replay.busy_ns);
      times.host.push_back(replay.host_ns);
      if (mode == TimingMode::grouped) grouped.push_back(std::move(replay));
      if (mode == TimingMode::isolated) isolated.push_back(std::move(replay));
    }
  }

  profile.rows = std::move(
      ProfileRows(plan, program.shaders(), program.builds(),
                  options.driver_statistics ? program.driver_statistics() : std::vector<engine::DriverStatistics>(),
                  options.texts)
          .rows);
  double isolated_sum = 0, grouped_sum = 0;
  for (KernelRow& row : profile.rows) {
    row.isolated = row_times(row, isolated, profile.timestamp_ns);
    row.grouped = row_times(row, grouped, profile.timestamp_ns);
    isolated_sum += row.isolated.total;
    grouped_sum += row.grouped.total;
  }
  judge(profile, ceilings);
  for (KernelRow& row : profile.rows) {
    row.isolated.share = row.isolated.total / std::max(isolated_sum, 1.0);
    row.grouped.share = row.grouped.total / std::max(grouped_sum, 1.0);
  }
  std::stable_sort(profile.rows.begin(), profile.rows.end(),
                   [](const KernelRow& a, const KernelRow& b) { return a.isolated.total > b.isolated.total; });
  profile.dispatches = dispatch_places(plan, profile.rows);

  profile.flops = plan.flops;
  profile.matmul_flops = plan.matmul_flops;
  profile.bytes = plan.bytes;
  profile.transient_bytes = plan.transient_bytes;
  for (const graph::Buffer& buffer : plan.buffers)
    if (buffer.kind != graph::BufferKind::transient) profile.state_bytes += buffer.bytes;
  profile.barriers = uint32_t(plan.barriers.size());
  const engine::ProgramStatistics& statistics = program.statistics();
  profile.compile_ms = statistics.compile_ms + statistics.emit_ms;
  profile.spirv_ms = statistics.spirv.milliseconds;
  profile.pipeline_ms = statistics.pipeline_ms;
  grouped.resize(std::min(grouped.size(), kKeptReplays));
  isolated.resize(std::min(isolated.size(), kKeptReplays));
  profile.grouped_replays = std::move(grouped);
  profile.isolated_replays = std::move(isolated);
  return profile;
}

}  // namespace surtsey::experiments
