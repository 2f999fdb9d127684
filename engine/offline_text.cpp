#include "engine/offline_text.h"

#include <algorithm>
#include <sstream>
#include <type_traits>

namespace surtsey::engine {
namespace {

// Each visits the fields of its structure by name, for writing and for reading alike.
template <typename T, typename V>
void visit_target(T& t, V&& visit) {
  visit("name", t.name);
  visit("cpu", t.cpu);
  visit("threads", t.threads);
  visit("subgroup_size", t.subgroup_size);
  visit("max_workgroup_invocations", t.max_workgroup_invocations);
  visit("max_workgroups", t.max_workgroups);
  visit("shared_memory_bytes", t.shared_memory_bytes);
  visit("push_constant_bytes", t.push_constant_bytes);
  visit("max_storage_buffers", t.max_storage_buffers);
  visit("storage_offset_alignment", t.storage_offset_alignment);
  visit("max_storage_range", t.max_storage_range);
  visit("max_allocation", t.max_allocation);
  visit("buffer_address", t.buffer_address);
  visit("subgroup_ballot", t.subgroup_ballot);
  visit("f16_storage", t.f16_storage);
  visit("int64_words", t.int64_words);
  visit("cooperative_m", t.cooperative.m);
  visit("cooperative_n", t.cooperative.n);
  visit("cooperative_k", t.cooperative.k);
  visit("cooperative_emulated", t.cooperative.emulated);
  visit("cooperative_floats", t.cooperative_floats);
  visit("cooperative_off", t.cooperative_off);
  visit("addressing", t.addressing);
  visit("matmul", t.matmul);
  visit("reduce", t.reduce);
  visit("attention", t.attention);
  visit("scatter", t.scatter);
  visit("fusion", t.fusion);
}

template <typename T, typename V>
void visit_info(T& i, V&& visit) {
  visit("index", i.index);
  visit("name", i.name);
  visit("uuid", i.uuid);
  visit("type", i.type);
  visit("driver", i.driver);
  visit("api", i.api);
  visit("memory_bytes", i.memory_bytes);
  visit("usable", i.usable);
  visit("reason", i.reason);
  visit("features", i.features);
  visit("off", i.off);
  visit("quirks", i.quirks);
  visit("preference", i.preference);
  visit("details", i.details);
}

template <typename T, typename V>
void visit_shader(T& s, V&& visit) {
  visit("name", s.name);
  visit("glsl", s.glsl);
  visit("workgroups", s.workgroups);
  visit("local_size", s.local_size);
  visit("bindings", s.bindings);
  visit("subgroup_size", s.subgroup_size);
  visit("variant", s.variant);
}

struct Write {
  nlohmann::json& json;
  template <typename T>
  void operator()(const char* name, const T& value) const {
    if constexpr (std::is_enum_v<T>)
      json[name] = int(value);
    else
      json[name] = value;
  }
};

struct Read {
  const nlohmann::json& json;
  template <typename T>
  void operator()(const char* name, T& value) const {
    if constexpr (std::is_enum_v<T>)
      value = T(json.at(name).get<int>());
    else
      json.at(name).get_to(value);
  }
};

}  // namespace

nlohmann::json to_text(const DeviceInfo& info) {
  nlohmann::json json, target;
  visit_info(info, Write{json});
  visit_target(info.target, Write{target});
  json["target"] = target;
  return json;
}

DeviceInfo info_from_text(const nlohmann::json& text) {
  DeviceInfo info;
  visit_info(info, Read{text});
  visit_target(info.target, Read{text.at("target")});
  return info;
}

nlohmann::json to_text(std::span<const shaders::Shader> shaders) {
  nlohmann::json list = nlohmann::json::array();
  for (const shaders::Shader& shader : shaders) visit_shader(shader, Write{list.emplace_back()});
  return list;
}

std::vector<shaders::Shader> shaders_from_text(const nlohmann::json& text) {
  std::vector<shaders::Shader> list;
  for (const nlohmann::json& one : text) visit_shader(list.emplace_back(), Read{one});
  return list;
}

nlohmann::json to_text(const DriverStatistics& statistics) {
  nlohmann::json json = {{"subgroup_size", statistics.subgroup_size},
                         {"raw", nlohmann::json::array()},
                         {"texts", nlohmann::json::array()}};
  for (const StatisticField& field : statistic_fields())
    if (const std::optional<double>& value = statistics.*field.value) json[field.name] = *value;
  for (const DriverStatistic& one : statistics.raw) json["raw"].push_back({one.name, one.description, one.value});
  // Drivers' texts are not always UTF-8; CBOR takes any bytes.
  for (const Representation& one : statistics.representations) {
    const std::vector<uint8_t> bytes(one.text.begin(), one.text.end());
    json["texts"].push_back({one.name, one.description, nlohmann::json::binary(bytes)});
  }
  return json;
}

DriverStatistics statistics_from_text(const nlohmann::json& text) {
  DriverStatistics statistics;
  text.at("subgroup_size").get_to(statistics.subgroup_size);
  for (const StatisticField& field : statistic_fields())
    if (text.contains(field.name)) statistics.*field.value = text[field.name].get<double>();
  for (const nlohmann::json& one : text.at("raw"))
    statistics.raw.push_back({one[0].get<std::string>(), one[1].get<std::string>(), one[2].get<double>()});
  for (const nlohmann::json& one : text.at("texts")) {
    const auto& bytes = one[2].get_binary();
    statistics.representations.push_back(
        {one[0].get<std::string>(), one[1].get<std::string>(), std::string(bytes.begin(), bytes.end())});
  }
  return statistics;
}

std::string file_content(std::FILE* file) {
  std::string text;
  char piece[65536];
  std::rewind(file);
  for (size_t n = 0; (n = std::fread(piece, 1, sizeof piece, file)) > 0;) text.append(piece, n);
  return text;
}

std::string last_lines(const std::string& text, size_t count) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) lines.push_back(line);
  std::string result;
  for (size_t i = lines.size() - std::min(count, lines.size()); i < lines.size(); ++i)
    result += (result.empty() ? "" : "; ") + lines[i];
  return result.empty() ? "it said nothing" : "it said: " + result;
}

}  // namespace surtsey::engine
