#include "engine/driver_statistics.h"

#include "engine/context.h"
#include "engine/pipeline.h"

#include <algorithm>

namespace surtsey::engine {
namespace {

using Field = std::optional<double> DriverStatistics::*;

struct StatisticName {
  const char* driver;  // part of driverName
  const char* name;    // of the statistic, as this driver spells it
  Field field;
  double scale = 1;  // to our unit
};

// Rows of one driver and field add up: RADV counts spilled scalar and vector registers apart. A
// driver that renamed a statistic has a row for each spelling.
constexpr StatisticName kNames[] = {
    {"radv", "VGPRs", &DriverStatistics::registers},
    {"radv", "Spilled VGPRs", &DriverStatistics::spills},
    {"radv", "Spilled SGPRs", &DriverStatistics::spills},
    {"radv", "Scratch size", &DriverStatistics::scratch_bytes},
    {"radv", "LDS size", &DriverStatistics::shared_bytes},
    {"radv", "Code size", &DriverStatistics::code_bytes},
    {"radv", "Instructions", &DriverStatistics::instructions},
    {"radv", "Subgroups per SIMD", &DriverStatistics::occupancy},
    {"radv", "Latency", &DriverStatistics::latency},

    {"AMD", "numUsedVgprs", &DriverStatistics::registers},
    {"AMD", "scratchMemUsageInBytes", &DriverStatistics::scratch_bytes},
    {"AMD", "ldsUsageSizeInBytes", &DriverStatistics::shared_bytes},

    {"NVIDIA", "Register Count", &DriverStatistics::registers},
    {"NVIDIA", "Stack Size", &DriverStatistics::scratch_bytes},
    {"NVIDIA", "Binary Size", &DriverStatistics::code_bytes},

    {"NVK", "Number of GPRs", &DriverStatistics::registers},
    // "Spills to reg" are moves between register files (predicates, uniforms): no memory is touched.
    {"NVK", "Spills to memory", &DriverStatistics::spills},
    {"NVK", "SLM size", &DriverStatistics::scratch_bytes},
    {"NVK", "Code size", &DriverStatistics::code_bytes},
    {"NVK", "Instruction count", &DriverStatistics::instructions},
    {"NVK", "Max warps/SM", &DriverStatistics::occupancy},
    {"NVK", "Static cycle count", &DriverStatistics::latency},

    {"Intel", "Max live registers", &DriverStatistics::registers},
    {"Intel", "Spill Count", &DriverStatistics::spills},
    {"Intel", "Spills", &DriverStatistics::spills},
    {"Intel", "Scratch Memory Size", &DriverStatistics::scratch_bytes},
    {"Intel", "Workgroup Memory Size", &DriverStatistics::shared_bytes},
    {"Intel", "Code size", &DriverStatistics::code_bytes},
    {"Intel", "Instruction Count", &DriverStatistics::instructions},
    {"Intel", "Instructions", &DriverStatistics::instructions},
    {"Intel", "Cycle Count", &DriverStatistics::latency},
    {"Intel", "Cycles", &DriverStatistics::latency},

    // STP and LDP store to and load from private memory; code is counted in words of 4 bytes.
    {"turnip", "Registers used", &DriverStatistics::registers},
    {"turnip", "STP Count", &DriverStatistics::spills},
    {"turnip", "Code size", &DriverStatistics::code_bytes, 4},
    {"turnip", "Instruction Count", &DriverStatistics::instructions},
    {"turnip", "Max Waves Per Core", &DriverStatistics::occupancy},
    // What it issues and what it waits for: the nearest to a time that this driver says.
    {"turnip", "Instruction Count", &DriverStatistics::latency},
    {"turnip", "Estimated cycles stalled on SS", &DriverStatistics::latency},
    {"turnip", "Estimated cycles stalled on SY", &DriverStatistics::latency},

    // Registers are counted in halves of 16 bits; a core has so many threads in flight, of which 32 are a subgroup.
    {"Honeykrisp", "GPRs", &DriverStatistics::registers, 0.5},
    {"Honeykrisp", "Spills", &DriverStatistics::spills},
    {"Honeykrisp", "Scratch", &DriverStatistics::scratch_bytes},
    {"Honeykrisp", "Code size", &DriverStatistics::code_bytes},
    {"Honeykrisp", "Instructions", &DriverStatistics::instructions},
    {"Honeykrisp", "Threads", &DriverStatistics::occupancy, 1.0 / 32},
    {"Honeykrisp", "ALU", &DriverStatistics::latency},
};

constexpr StatisticField kFields[] = {
    {"registers", &DriverStatistics::registers},         {"spills", &DriverStatistics::spills},
    {"scratch_bytes", &DriverStatistics::scratch_bytes}, {"shared_bytes", &DriverStatistics::shared_bytes},
    {"code_bytes", &DriverStatistics::code_bytes},       {"instructions", &DriverStatistics::instructions},
    {"occupancy", &DriverStatistics::occupancy},         {"latency", &DriverStatistics::latency},
};

double value_of(const vk::PipelineExecutableStatisticKHR& statistic) {
  switch (statistic.format) {
    case vk::PipelineExecutableStatisticFormatKHR::eBool32:
      return statistic.value.b32 ? 1 : 0;
    case vk::PipelineExecutableStatisticFormatKHR::eInt64:
      return double(statistic.value.i64);
    case vk::PipelineExecutableStatisticFormatKHR::eUint64:
      return double(statistic.value.u64);
    default:
      return statistic.value.f64;
  }
}

// Asked for three times: how many there are, how long, the texts. By the plain function, as newer versions of
// vulkan.hpp have no other. A driver that fails to answer has none.
std::vector<Representation> representations(const vk::raii::Device& device,
                                            const vk::PipelineExecutableInfoKHR& executable) {
  const VkPipelineExecutableInfoKHR& info = executable;
  uint32_t count = 0;
  const auto ask = [&](vk::PipelineExecutableInternalRepresentationKHR* list) {
    return device.getDispatcher()->vkGetPipelineExecutableInternalRepresentationsKHR(
        *device, &info, &count, reinterpret_cast<VkPipelineExecutableInternalRepresentationKHR*>(list));
  };
  if (ask(nullptr) < 0) return {};
  std::vector<vk::PipelineExecutableInternalRepresentationKHR> list(count);
  if (ask(list.data()) < 0) return {};
  std::vector<std::string> texts;
  for (auto& entry : list) texts.emplace_back(entry.dataSize, '\0');
  for (size_t i = 0; i < list.size(); ++i) list[i].pData = texts[i].data();
  ask(list.data());
  std::vector<Representation> result;
  for (size_t i = 0; i < count; ++i) {
    if (!list[i].isText) continue;
    std::string text = texts[i].substr(0, texts[i].find('\0'));
    result.push_back({list[i].name.data(), list[i].description.data(), std::move(text)});
  }
  return result;
}

}  // namespace

std::string_view DriverStatistics::isa() const {
  return representations.empty() ? std::string_view() : representations.back().text;
}

std::span<const StatisticField> statistic_fields() { return kFields; }

void normalise(DriverStatistics& statistics, std::string_view driver) {
  for (const StatisticField& field : kFields) statistics.*field.value = {};
  for (const DriverStatistic& raw : statistics.raw)
    for (const StatisticName& row : kNames)
      if (raw.name == row.name && driver.find(row.driver) != std::string_view::npos) {
        std::optional<double>& value = statistics.*row.field;
        value = value.value_or(0) + raw.value * row.scale;
      }
}

DriverStatistics query_statistics(const Context& context, const Pipeline& pipeline) {
  const vk::raii::Device& device = context.device;
  DriverStatistics all;
  vk_check("vkGetPipelineExecutablePropertiesKHR", context.who, [&] {
    const auto executables =
        device.getPipelineExecutablePropertiesKHR(vk::PipelineInfoKHR{.pipeline = *pipeline.handle});
    for (uint32_t e = 0; e < executables.size(); ++e) {
      const vk::PipelineExecutableInfoKHR info{.pipeline = *pipeline.handle, .executableIndex = e};
      DriverStatistics one;
      for (const auto& raw : device.getPipelineExecutableStatisticsKHR(info))
        one.raw.push_back({raw.name.data(), raw.description.data(), value_of(raw)});
      normalise(one, context.capabilities.driver.driverName.data());
      for (const StatisticField& field : kFields) {
        const std::optional<double>& value = one.*field.value;
        if (value) all.*field.value = std::max(*value, (all.*field.value).value_or(*value));
      }
      all.subgroup_size = std::max(all.subgroup_size, executables[e].subgroupSize);
      const std::string prefix = executables.size() > 1 ? fmt::format("{}: ", executables[e].name.data()) : "";
      for (DriverStatistic& raw : one.raw) {
        raw.name = prefix + raw.name;
        all.raw.push_back(std::move(raw));
      }
      for (Representation& text : representations(device, info)) {
        text.name = prefix + text.name;
        all.representations.push_back(std::move(text));
      }
    }
  });
  return all;
}

}  // namespace surtsey::engine
