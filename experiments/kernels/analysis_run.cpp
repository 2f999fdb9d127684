#include "experiments/kernels/analysis_run.h"

#include <map>

#include "experiments/base/join.h"
#include "experiments/kernels/analysis.h"
#include "shaders/spirv.h"

namespace surtsey::experiments {
namespace {

using Format = std::string (*)(const std::vector<DeviceAnalysis>&);

// The page takes a title, so it is no Format.
const std::map<std::string, Format>& formats() {
  static const std::map<std::string, Format> known = {{"text", analysis_table},
                                                      {"md", analysis_markdown},
                                                      {"csv", analysis_csv},
                                                      {"json", analysis_json},
                                                      {"html", nullptr}};
  return known;
}

}  // namespace

void check_request(const AnalysisRequest& request) {
  std::vector<std::string> names;
  for (const auto& [name, format] : formats()) names.push_back(name);
  check(formats().contains(request.format), "--output is one of {}, not '{}'", join(names, ", "), request.format);
  for (const std::string& statistic : request.fail_on) kernels_with({}, statistic);
  check(!request.targets.empty(),
        "--target names no device; it takes a list such as amd:vega10,amd:navi21 (--list shows "
        "what this machine's driver knows)");
}

void run_analysis(const graph::Program& program, const graph::CompileOptions& compile, const AnalysisRequest& request,
                  const std::string& title) {
  check_request(request);
  const std::vector<DeviceAnalysis> analyses =
      analyze(program, request.targets, shaders::default_cache_directory(), compile);
  if (const Format format = formats().at(request.format))
    fmt::print("{}\n", format(analyses));
  else
    fmt::print("{}", analysis_page(analyses, title));
  if (!request.isa.empty()) fmt::print(stderr, "{} files in {}\n", write_isa(analyses, request.isa), request.isa);
  std::vector<std::string> failures;
  for (const std::string& statistic : request.fail_on)
    for (const std::string& kernel : kernels_with(analyses, statistic)) failures.push_back(kernel);
  check(failures.empty(), "--fail-on: {} kernels\n  {}", failures.size(), join(failures, "\n  "));
}

}  // namespace surtsey::experiments
