#include "experiments/results/environment.h"

#include "experiments/base/file.h"
#include "experiments/base/json_text.h"
#include "experiments/base/version.h"

#include <sys/utsname.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

Environment describe_environment(const engine::DeviceInfo& device, const std::vector<std::string>& command) {
  Environment environment;
  const bool address = device.target.addressing == graph::Addressing::address;
  environment.device = {{"name", device.name},
                        {"type", engine::name(device.type)},
                        {"driver", device.driver},
                        {"vulkan", device.api},
                        {"uuid", device.uuid},
                        {"memory_bytes", std::to_string(device.memory_bytes)},
                        {"subgroup_size", std::to_string(device.target.subgroup_size)},
                        {"addressing", address ? "address" : "descriptor"}};
  utsname system = {};
  const bool known = uname(&system) == 0;
  environment.host = {{"processor", processor()},
                      {"threads", std::to_string(std::thread::hardware_concurrency())},
                      {"system", known ? fmt::format("{} {}", system.sysname, system.release) : "unknown"},
                      {"machine", known ? system.machine : "unknown"}};
  environment.versions = {{"surtsey", kVersion}, {"compiler", __VERSION__}};
  environment.commit = kCommit;
  environment.command = command;
  return environment;
}

void write_environment(const fs::path& folder, const Environment& environment) {
  const Json json = {{"device", facts_json(environment.device)},
                     {"host", facts_json(environment.host)},
                     {"versions", facts_json(environment.versions)},
                     {"commit", environment.commit},
                     {"command", environment.command}};
  write_file_atomic(folder / "env.json", json_text(json, 2) + "\n");
}

Facts device_facts(const engine::DeviceInfo& info) {
  return {{"name", info.name},
          {"type", engine::name(info.type)},
          {"driver", info.driver},
          {"vulkan", info.api},
          {"memory", fmt::format("{:.1f} GiB", double(info.memory_bytes) / (1 << 30))},
          {"addressing", info.target.addressing == graph::Addressing::address ? "address" : "descriptor"}};
}

}  // namespace surtsey::experiments
