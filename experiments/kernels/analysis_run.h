// From a program to what `surtsey analyze` and `STUDY --analyze` print and write.
#pragma once

#include <string>
#include <vector>

#include "graph/compile.h"

namespace surtsey::experiments {

struct AnalysisRequest {
  std::vector<std::string> targets;  // amd:navi21, ..; see engine/offline.h
  std::string format = "text";       // text, md, json, csv, html
  std::string isa;                   // a folder for the ISA of each kernel, or empty
  std::vector<std::string> fail_on;  // statistics that must be 0 for every kernel: spills, ..
};

// UserError: no target, a format or a statistic that there is not. Before anything is compiled.
void check_request(const AnalysisRequest& request);

// Compiles the program for each target, prints the analysis to stdout and writes the ISA. UserError
// that names the kernels when one has what `fail_on` forbids. `title` is that of the HTML page.
void run_analysis(const graph::Program& program, const graph::CompileOptions& compile, const AnalysisRequest& request,
                  const std::string& title);

}  // namespace surtsey::experiments
