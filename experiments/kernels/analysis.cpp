#include "experiments/kernels/analysis.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "engine/offline.h"
#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/results/record.h"
#include "shaders/emit.h"

namespace surtsey::experiments {
namespace {

using Json = nlohmann::ordered_json;

void add_origin(std::vector<std::string>& list, const std::string& text) {
  if (!text.empty()) add_once(list, text);
}

// Where the kernel's nodes came from, the anchor's place first.
void add_origins(AnalyzedKernel& row, const graph::Graph& graph, const graph::Kernel& kernel) {
  std::vector<uint32_t> nodes = graph::origins(kernel);
  if (kernel.anchor) nodes.insert(nodes.begin(), kernel.anchor.node);
  for (const uint32_t node : nodes) {
    const graph::Scope& scope = graph.scope(node);
    add_origin(row.scopes, scope.path);
    if (scope.file.empty()) continue;
    add_origin(row.places, fmt::format("{}:{}", std::filesystem::path(scope.file).filename().string(), scope.line));
  }
}

std::vector<AnalyzedKernel> rows_of(const graph::Plan& plan, const std::vector<shaders::Shader>& shaders,
                                    const std::vector<engine::DriverStatistics>& statistics) {
  std::vector<AnalyzedKernel> rows;
  std::map<std::string, size_t> by_text;
  std::map<std::string, uint32_t> texts_of_name;
  std::vector<size_t> row_of;
  for (size_t k = 0; k < shaders.size(); ++k) {
    const auto [found, added] = by_text.try_emplace(shaders[k].glsl, rows.size());
    row_of.push_back(found->second);
    if (added) {
      AnalyzedKernel& row = rows.emplace_back();
      row.name = shaders[k].name;
      const uint32_t number = ++texts_of_name[row.name];
      row.id = number == 1 ? row.name : fmt::format("{}.{}", row.name, number);
      row.workgroups = shaders[k].workgroups;
      row.local_size = shaders[k].local_size;
      row.glsl = shaders[k].glsl;
      row.statistics = statistics[k];
    }
    add_origins(rows[found->second], *plan.program.graph, plan.kernels[k]);
  }
  for (const graph::Dispatch& dispatch : plan.dispatches) ++rows[row_of[dispatch.kernel]].calls;
  return rows;
}

std::string describe(const graph::Target& target) {
  const bool groups = target.reduce_variant() == graph::ReduceVariant::workgroup_per_row;
  return fmt::format("{} mode, {} KiB shared, {} invocations, matmul {}, reduce {}",
                     target.addressing == graph::Addressing::address ? "address" : "descriptor",
                     target.shared_memory_bytes / 1024, target.max_workgroup_invocations,
                     graph::name(target.matmul_variant()), groups ? "workgroup_per_row" : "lane_per_row");
}

// ---- between the child that compiles and its parent ----

Json to_json(const engine::DriverStatistics& s) {
  Json raw = Json::array(), texts = Json::array();
  for (const auto& line : s.raw) raw.push_back({line.name, line.description, line.value});
  for (const auto& text : s.representations) texts.push_back({text.name, text.description, text.text});
  Json numbers;
  for (const engine::StatisticField& field : engine::statistic_fields())
    if (const auto& value = s.*field.value) numbers[field.name] = *value;
  return {{"subgroup_size", s.subgroup_size}, {"statistics", numbers}, {"raw", raw}, {"representations", texts}};
}

engine::DriverStatistics statistics_from(const Json& json) {
  engine::DriverStatistics s;
  s.subgroup_size = json["subgroup_size"];
  for (const engine::StatisticField& field : engine::statistic_fields())
    if (json["statistics"].contains(field.name)) s.*field.value = json["statistics"][field.name].get<double>();
  for (const Json& line : json["raw"]) s.raw.push_back({line[0], line[1], line[2]});
  for (const Json& text : json["representations"]) s.representations.push_back({text[0], text[1], text[2]});
  return s;
}

Json to_json(const AnalyzedKernel& kernel) {
  return {{"name", kernel.name},
          {"id", kernel.id},
          {"calls", kernel.calls},
          {"scopes", kernel.scopes},
          {"places", kernel.places},
          {"workgroups", kernel.workgroups},
          {"local_size", kernel.local_size},
          {"glsl", kernel.glsl},
          {"driver", to_json(kernel.statistics)}};
}

AnalyzedKernel kernel_from(const Json& json) {
  AnalyzedKernel kernel;
  kernel.name = json["name"];
  kernel.id = json["id"];
  kernel.calls = json["calls"];
  kernel.scopes = json["scopes"].get<std::vector<std::string>>();
  kernel.places = json["places"].get<std::vector<std::string>>();
  kernel.workgroups = json["workgroups"];
  kernel.local_size = json["local_size"];
  kernel.glsl = json["glsl"];
  kernel.statistics = statistics_from(json["driver"]);
  return kernel;
}

Json to_json(const DeviceAnalysis& analysis) {
  Json kernels = Json::array();
  for (const AnalyzedKernel& kernel : analysis.kernels) kernels.push_back(to_json(kernel));
  return {{"device", analysis.device},
          {"gpu", analysis.gpu},
          {"driver", analysis.driver},
          {"target", analysis.target},
          {"kernels", kernels}};
}

DeviceAnalysis analysis_from(const Json& json) {
  DeviceAnalysis analysis{json["device"], json["gpu"], json["driver"], json["target"], {}};
  for (const Json& kernel : json["kernels"]) analysis.kernels.push_back(kernel_from(kernel));
  return analysis;
}

std::string file_name(std::string text) {
  for (char& c : text)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.') c = '-';
  return text;
}

}  // namespace

std::vector<DeviceAnalysis> analyze(const graph::Program& program, const std::vector<std::string>& devices,
                                    const std::string& cache, const graph::CompileOptions& compile,
                                    const std::function<void(std::vector<shaders::Shader>&)>& alter) {
  std::vector<DeviceAnalysis> result;
  for (const std::string& device : devices) {
    const auto start = std::chrono::steady_clock::now();
    const std::string text = engine::with_offline_device(device, [&](engine::OfflineDevice& gpu) {
      const graph::Target& target = gpu.info().target;
      const graph::Plan plan = graph::compile(program, target, compile);
      std::vector<shaders::Shader> shaders = shaders::emit(plan, target);
      if (alter) alter(shaders);
      const DeviceAnalysis analysis{device, gpu.info().name, gpu.info().driver, describe(target),
                                    rows_of(plan, shaders, gpu.compile(shaders, cache))};
      return json_text(to_json(analysis));
    });
    result.push_back(analysis_from(Json::parse(text)));
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    fmt::print(stderr, "{}: {}, {}; {} kernels in {:.1f} s\n", device, result.back().gpu, result.back().target,
               result.back().kernels.size(), taken.count());
  }
  return result;
}

std::vector<std::string> kernels_with(const std::vector<DeviceAnalysis>& analyses, const std::string& statistic) {
  std::vector<std::string> names, result;
  for (const engine::StatisticField& field : engine::statistic_fields()) {
    names.emplace_back(field.name);
    if (statistic != field.name) continue;
    for (const DeviceAnalysis& analysis : analyses)
      for (const AnalyzedKernel& kernel : analysis.kernels)
        if (const double value = (kernel.statistics.*field.value).value_or(0); value > 0)
          result.push_back(fmt::format("{}: {}: {:.0f} {}", analysis.device, kernel.id, value, field.name));
  }
  check(std::find(names.begin(), names.end(), statistic) != names.end(), "there is no statistic '{}'; there are {}",
        statistic, join(names, ", "));
  return result;
}

std::string analysis_json(const std::vector<DeviceAnalysis>& analyses) {
  Json list = Json::array();
  for (const DeviceAnalysis& analysis : analyses) {
    Json one = to_json(analysis);
    for (Json& kernel : one["kernels"]) {
      kernel.erase("glsl");
      kernel["driver"].erase("representations");
    }
    list.push_back(std::move(one));
  }
  return json_text(list, 2);
}

size_t write_isa(const std::vector<DeviceAnalysis>& analyses, const std::string& folder) {
  size_t files = 0;
  for (const DeviceAnalysis& analysis : analyses) {
    const std::filesystem::path root = std::filesystem::path(folder) / file_name(analysis.device);
    std::error_code error;
    std::filesystem::create_directories(root, error);
    check(std::filesystem::is_directory(root), "{} cannot be made a folder", root.string());
    for (const AnalyzedKernel& kernel : analysis.kernels) {
      std::string text =
          fmt::format("; {} on {} ({}), {}\n; scopes {}\n; source {}\n; {} calls of {} x {} lanes\n", kernel.id,
                      analysis.gpu, analysis.device, analysis.driver, join(kernel.scopes, ", "),
                      join(kernel.places, ", "), kernel.calls, kernel.workgroups, kernel.local_size);
      for (const auto& line : kernel.statistics.raw) text += fmt::format("; {}: {}\n", line.name, line.value);
      text += kernel.statistics.isa();
      write_file_atomic(root / (file_name(kernel.id) + ".s"), text);
      ++files;
    }
  }
  return files;
}

}  // namespace surtsey::experiments
