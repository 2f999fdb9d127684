// What drivers make of the kernels of a program on GPUs that are not here: registers, spills,
// shared memory, occupancy, latency and ISA, one device beside the other.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/driver_statistics.h"
#include "graph/compile.h"
#include "shaders/shader.h"

namespace surtsey::experiments {

// A kernel of the plan; kernels of the same text are one.
struct AnalyzedKernel {
  std::string name;                 // matmul_nt_64x32x512_gelu
  std::string id;                   // the name, with a number where texts of one name differ
  uint32_t calls = 0;               // dispatches a run
  std::vector<std::string> scopes;  // of the model, without repetition; the anchor's first
  std::vector<std::string> places;  // model.cpp:189, the lines that opened the scopes
  uint32_t workgroups = 0, local_size = 0;
  std::string glsl;
  engine::DriverStatistics statistics;
};

struct DeviceAnalysis {
  std::string device;  // amd:navi21, as it was asked for
  std::string gpu;     // in the driver's words
  std::string driver;
  std::string target;                   // what the kernels were written for: subgroup size, shared memory, variants
  std::vector<AnalyzedKernel> kernels;  // in the order of the plan
};

// Compiles the program for each device, for its own limits and in the variants that it asks for;
// see engine/offline.h for what a device is and what is thrown. `cache` is the folder of SPIR-V, or
// empty. `alter` changes the shaders before they are compiled (tests).
std::vector<DeviceAnalysis> analyze(const graph::Program& program, const std::vector<std::string>& devices,
                                    const std::string& cache, const graph::CompileOptions& compile = {},
                                    const std::function<void(std::vector<shaders::Shader>&)>& alter = {});

// A kernel on a device whose statistic is not 0: "amd:navi21: matmul_tn_8x8x8: 12 spills".
// `statistic` is a name of engine::statistic_fields().
std::vector<std::string> kernels_with(const std::vector<DeviceAnalysis>& analyses, const std::string& statistic);

std::string analysis_table(const std::vector<DeviceAnalysis>& analyses);     // for the terminal
std::string analysis_markdown(const std::vector<DeviceAnalysis>& analyses);  // the same as Markdown
std::string analysis_csv(const std::vector<DeviceAnalysis>& analyses);       // a line a kernel and device
std::string analysis_json(const std::vector<DeviceAnalysis>& analyses);      // all but texts
// One file without network: the table, and for each kernel its GLSL and the ISA on every device.
std::string analysis_page(const std::vector<DeviceAnalysis>& analyses, const std::string& title);

// One file a kernel and device, FOLDER/amd-navi21/KERNEL.s, with what is known of it above the
// text. Returns the number of files.
size_t write_isa(const std::vector<DeviceAnalysis>& analyses, const std::string& folder);

}  // namespace surtsey::experiments
