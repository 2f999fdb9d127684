// What other programs read: profile.json, CSV, Chrome's trace format and speedscope's.
#include <nlohmann/json.hpp>

#include <map>

#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/profile/profile.h"

namespace surtsey::experiments {
namespace {

using nlohmann::ordered_json;

constexpr int kProfileFormat = 1;  // of profile.json

ordered_json times_json(const RowTimes& times) {
  return {{"total_ns", times.total},
          {"median_ns", times.median},
          {"p95_ns", times.p95},
          {"share", times.share},
          {"totals_ns", times.totals}};
}

ordered_json mode_json(const ModeTimes& times) {
  return {{"busy_median_ns", quantile(times.busy, 0.5)},
          {"host_median_ns", quantile(times.host, 0.5)},
          {"busy_ns", times.busy},
          {"host_ns", times.host}};
}

// Normalised, then the driver's own list, then what it disassembled.
ordered_json driver_json(const std::optional<engine::DriverStatistics>& driver) {
  if (!driver) return nullptr;
  ordered_json result = {{"subgroup_size", driver->subgroup_size}};
  for (const engine::StatisticField& field : engine::statistic_fields()) {
    const std::optional<double>& value = (*driver).*field.value;
    result[field.name] = value ? ordered_json(*value) : ordered_json();
  }
  result["raw"] = ordered_json::array();
  for (const engine::DriverStatistic& one : driver->raw)
    result["raw"].push_back({{"name", one.name}, {"description", one.description}, {"value", one.value}});
  result["isa"] = std::string(driver->isa());
  return result;
}

ordered_json row_json(const KernelRow& row) {
  ordered_json nodes = ordered_json::array();
  for (const OriginNode& node : row.nodes)
    nodes.push_back({{"op", node.op},
                     {"text", node.text},
                     {"scope", node.scope},
                     {"place", node.place},
                     {"phase", node.phase},
                     {"role", node.role}});
  return {{"id", row.id},
          {"kernel", row.name},
          {"phase", graph::name(row.phase)},
          {"archetype", row.archetype},
          {"variant", row.variant},
          {"scopes", row.scopes},
          {"places", row.places},
          {"ops", row.ops},
          {"calls", row.calls()},
          {"dispatches", row.dispatches},
          {"isolated", times_json(row.isolated)},
          {"grouped", times_json(row.grouped)},
          {"flops", row.flops},
          {"matmul_flops", row.matmul_flops},
          {"bytes", row.bytes},
          {"gflops_per_second", row.gflops},
          {"gigabytes_per_second", row.gbs},
          {"intensity", row.intensity},
          {"bound", name(row.bound)},
          {"roof", row.roof},
          {"workgroups", row.workgroups},
          {"workgroup_size", row.local_size},
          {"subgroup_size", row.subgroup_size},
          {"shared_bytes", row.build.shared_bytes},
          {"spirv_bytes", row.build.spirv_bytes},
          {"spirv_cached", row.build.spirv_cached},
          {"pipeline_ms", row.build.pipeline_ms},
          {"pipeline_cached", row.build.pipeline_cached},
          {"pipeline_shared", row.build.shared},
          {"driver", driver_json(row.driver)},
          {"nodes", nodes}};
}

ordered_json ceilings_json(const Ceilings& c) {
  ordered_json copies = ordered_json::array();
  for (const CopyRate& copy : c.copies)
    copies.push_back({{"working_set_bytes", copy.working_set}, {"gigabytes_per_second", copy.gbs}});
  return {{"f32_gflops", c.f32_gflops},   {"f16_gflops", c.f16_gflops},       {"copy", copies},
          {"read_gbs", c.read_gbs},       {"broadcast_gbs", c.broadcast_gbs}, {"shared_gbs", c.shared_gbs},
          {"dispatch_us", c.dispatch_us}, {"from_cache", c.from_cache}};
}

ordered_json device_json(const engine::DeviceInfo& device) {
  return {{"name", device.name},        {"uuid", device.uuid},  {"type", engine::name(device.type)},
          {"driver", device.driver},    {"vulkan", device.api}, {"memory_bytes", device.memory_bytes},
          {"features", device.features}};
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

// ---- Chrome's trace ----

// Slices and counters of one mode. Times are microseconds with three decimals: whole nanoseconds.
class Lane {
 public:
  Lane(const Profile& profile, int process, std::string& events)
      : profile_(profile), process_(process), events_(events) {}

  void name(const std::string& mode) {
    meta("process_name", 0, mode);
    meta("thread_name", 1, "queue");
  }

  void replay(const engine::TimedReplay& replay, size_t number) {
    const std::vector<engine::Interval>& at = replay.dispatches;
    slice("step", fmt::format("replay {}", number), at.front().begin_ns, at.back().end_ns, {});
    for (size_t d = 0; d < at.size();) {
      // Dispatches of one phase side by side are a slice of their own.
      size_t end = d;
      while (end < at.size() && phase(end) == phase(d)) ++end;
      slice("phase", graph::name(phase(d)), at[d].begin_ns, at[end - 1].end_ns, {});
      for (; d < end; ++d) dispatch(d, at[d]);
    }
    counter("GFLOP/s", at.back().end_ns, 0);
  }

 private:
  graph::Phase phase(size_t d) const { return profile_.rows[profile_.dispatches[d].row].phase; }

  void dispatch(size_t d, const engine::Interval& at) {
    const DispatchPlace& place = profile_.dispatches[d];
    const KernelRow& row = profile_.rows[place.row];
    slice(graph::name(row.phase), row.name, at.begin_ns, at.end_ns,
          {{"scope", place.scope},
           {"dispatch", d},
           {"flops", row.flops},
           {"bytes", row.bytes},
           {"barrier_before", place.barrier}});
    const double mib = double(profile_.state_bytes + place.live_bytes) / (1 << 20);
    counter("memory MiB", at.begin_ns, mib);
    counter("GFLOP/s", at.begin_ns, double(row.flops) / double(std::max<uint64_t>(1, at.ns())));
  }

  static std::string microseconds(uint64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }

  void add(const std::string& event) { events_ += (events_.empty() ? "\n" : ",\n") + event; }

  void meta(const char* what, int thread, const std::string& name) {
    add(fmt::format(R"({{"ph":"M","pid":{},"tid":{},"name":"{}","args":{{"name":{}}}}})", process_, thread, what,
                    json_text(ordered_json(name))));
  }

  void slice(const char* category, const std::string& name, uint64_t begin, uint64_t end,
             const ordered_json& arguments) {
    add(fmt::format(R"({{"ph":"X","pid":{},"tid":1,"cat":"{}","name":{},"ts":{},"dur":{},"args":{}}})", process_,
                    category, json_text(ordered_json(name)), microseconds(begin), microseconds(end - begin),
                    arguments.is_null() ? "{}" : json_text(arguments)));
  }

  void counter(const char* name, uint64_t at, double value) {
    add(fmt::format(R"({{"ph":"C","pid":{},"tid":1,"name":"{}","ts":{},"args":{{"value":{:.6g}}}}})", process_, name,
                    microseconds(at), value));
  }

  const Profile& profile_;
  const int process_;
  std::string& events_;
};

}  // namespace

std::string profile_json(const Profile& profile) {
  ordered_json facts = ordered_json::object();
  for (const auto& [key, value] : profile.facts) facts[key] = value;
  ordered_json rows = ordered_json::array();
  for (const KernelRow& row : profile.rows) rows.push_back(row_json(row));
  const ordered_json page = {{"format", kProfileFormat},
                             {"subject", profile.subject},
                             {"program", profile.program},
                             {"facts", facts},
                             {"device", device_json(profile.device)},
                             {"ceilings", ceilings_json(profile.ceilings)},
                             {"steps", profile.steps},
                             {"timestamp_ns", profile.timestamp_ns},
                             {"flops", profile.flops},
                             {"matmul_flops", profile.matmul_flops},
                             {"bytes", profile.bytes},
                             {"state_bytes", profile.state_bytes},
                             {"transient_bytes", profile.transient_bytes},
                             {"dispatches", profile.dispatches.size()},
                             {"barriers", profile.barriers},
                             {"compile_ms", profile.compile_ms},
                             {"spirv_ms", profile.spirv_ms},
                             {"pipeline_ms", profile.pipeline_ms},
                             {"whole", mode_json(profile.whole)},
                             {"grouped", mode_json(profile.grouped)},
                             {"isolated", mode_json(profile.isolated)},
                             {"grouped_overhead", profile.grouped_overhead()},
                             {"isolated_overhead", profile.isolated_overhead()},
                             {"rows_of_step", profile.rows_of_step()},
                             {"rows", rows}};
  return json_text(page, 1) + "\n";
}

std::string profile_csv(const Profile& profile) {
  std::string text;
  bool head = true;
  for (const KernelRow& row : profile.rows) {
    const ordered_json fields = row_json(row);
    std::vector<std::string> names, cells;
    for (const auto& [key, value] : fields.items()) {
      if (key == "nodes" || key == "dispatches" || value.is_null()) continue;
      if (value.is_object()) {
        for (const auto& [inner, number] : value.items()) {
          if (number.is_array() || inner == "isa") continue;
          names.push_back(key + "_" + inner);
          cells.push_back(number.dump());
        }
        continue;
      }
      names.push_back(key);
      if (value.is_array()) {
        cells.push_back(csv_cell(join(value.get<std::vector<std::string>>(), " ")));
      } else {
        cells.push_back(value.is_string() ? csv_cell(value.get<std::string>()) : value.dump());
      }
    }
    if (head) text += join(names, ",") + "\n";
    head = false;
    text += join(cells, ",") + "\n";
  }
  return text;
}

std::string profile_trace(const Profile& profile) {
  std::string events;
  const auto mode = [&](int process, const std::string& name, const std::vector<engine::TimedReplay>& replays) {
    Lane lane(profile, process, events);
    lane.name(name);
    for (size_t i = 0; i < replays.size(); ++i) lane.replay(replays[i], i);
  };
  mode(1, "grouped: the recording as it is", profile.grouped_replays);
  mode(2, "isolated: a barrier around every dispatch", profile.isolated_replays);
  const ordered_json about = {
      {"subject", profile.subject}, {"device", profile.device.name}, {"driver", profile.device.driver}};
  return fmt::format("{{\"displayTimeUnit\":\"ns\",\"otherData\":{},\"traceEvents\":[{}\n]}}\n", json_text(about),
                     events);
}

std::string profile_speedscope(const Profile& profile) {
  ordered_json frames = ordered_json::array();
  std::map<std::string, size_t> known;
  const auto frame = [&](const std::string& name) {
    const auto [found, is_new] = known.try_emplace(name, frames.size());
    if (is_new) frames.push_back({{"name", name}});
    return found->second;
  };
  ordered_json profiles = ordered_json::array();
  const auto mode = [&](const char* name, const std::vector<engine::TimedReplay>& replays) {
    ordered_json samples = ordered_json::array(), weights = ordered_json::array();
    uint64_t total = 0;
    for (const engine::TimedReplay& replay : replays) {
      for (size_t d = 0; d < replay.dispatches.size(); ++d) {
        const DispatchPlace& place = profile.dispatches[d];
        const KernelRow& row = profile.rows[place.row];
        ordered_json stack = ordered_json::array({frame(graph::name(row.phase))});
        for (size_t end = 0; !place.scope.empty() && end != std::string::npos;) {
          end = place.scope.find('.', end + 1);
          stack.push_back(frame(place.scope.substr(0, end)));
        }
        stack.push_back(frame(row.name));
        samples.push_back(stack);
        weights.push_back(replay.dispatches[d].ns());
        total += replay.dispatches[d].ns();
      }
    }
    profiles.push_back({{"type", "sampled"},
                        {"name", fmt::format("{}, {} replays", name, replays.size())},
                        {"unit", "nanoseconds"},
                        {"startValue", 0},
                        {"endValue", total},
                        {"samples", samples},
                        {"weights", weights}});
  };
  mode("grouped", profile.grouped_replays);
  mode("isolated", profile.isolated_replays);
  const ordered_json page = {{"$schema", "https://www.speedscope.app/file-format-schema.json"},
                             {"name", profile.subject},
                             {"exporter", "surtsey"},
                             {"activeProfileIndex", 1},
                             {"shared", {{"frames", frames}}},
                             {"profiles", profiles}};
  return json_text(page) + "\n";
}

}  // namespace surtsey::experiments
