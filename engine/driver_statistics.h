// What the driver's compiler says of a kernel (VK_KHR_pipeline_executable_properties): statistics
// under one set of names, whatever the driver calls them, the driver's own list, and the texts of
// its stages down to the ISA. Drivers without the extension say nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::engine {

struct Context;
struct Pipeline;

// A line of the driver's list, in its words.
struct DriverStatistic {
  std::string name;
  std::string description;
  double value = 0;
};

// A stage of the driver's compiler as text: NIR, the driver's own IR, ISA.
struct Representation {
  std::string name;
  std::string description;
  std::string text;
};

struct DriverStatistics {
  // Absent where the driver has no such number. A driver that compiled the kernel several times
  // (for several subgroup sizes) counts with the largest number.
  std::optional<double> registers;      // of one lane, vector registers where there are two kinds
  std::optional<double> spills;         // registers or stores that spilling cost, of all kinds
  std::optional<double> scratch_bytes;  // private memory, as the driver counts it
  std::optional<double> shared_bytes;   // of a workgroup
  std::optional<double> code_bytes;
  std::optional<double> instructions;
  std::optional<double> occupancy;  // subgroups in flight on a SIMD or a core, in the driver's unit
  std::optional<double> latency;    // cycles, an estimate of the compiler
  uint32_t subgroup_size = 0;       // that the kernel was compiled for
  std::vector<DriverStatistic> raw;
  std::vector<Representation> representations;  // in the order of the compiler

  // The last text, the ISA; empty when the driver shows none.
  std::string_view isa() const;
};

// The normalised numbers, for consumers that print or store all of them.
struct StatisticField {
  const char* name;  // registers
  std::optional<double> DriverStatistics::* value;
};
std::span<const StatisticField> statistic_fields();

// Fills the normalised numbers from `raw`, by the names that the driver of that name uses
// (VkPhysicalDeviceDriverProperties::driverName).
void normalise(DriverStatistics& statistics, std::string_view driver);

// Of a pipeline that was made to be asked (PipelineStore's `capture`). For this folder.
DriverStatistics query_statistics(const Context& context, const Pipeline& pipeline);

}  // namespace surtsey::engine
