// An analysis as text: tables, CSV, a page.
#include "experiments/kernels/analysis.h"

#include <algorithm>

#include "experiments/base/join.h"
#include "experiments/report/report_style.h"

namespace surtsey::experiments {
namespace {

// A kernel's place in each analysis, by id, in the order of first appearance. Kernels that only
// some devices have (limits decide what is fused) are missing in the others.
std::vector<std::pair<std::string, std::vector<const AnalyzedKernel*>>> side_by_side(
    const std::vector<DeviceAnalysis>& analyses) {
  std::vector<std::pair<std::string, std::vector<const AnalyzedKernel*>>> rows;
  for (size_t a = 0; a < analyses.size(); ++a)
    for (const AnalyzedKernel& kernel : analyses[a].kernels) {
      auto row = std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.first == kernel.id; });
      if (row == rows.end()) {
        rows.emplace_back(kernel.id, std::vector<const AnalyzedKernel*>(analyses.size()));
        row = rows.end() - 1;
      }
      row->second[a] = &kernel;
    }
  return rows;
}

std::string number(const std::optional<double>& value) { return value ? fmt::format("{:.0f}", *value) : "-"; }

std::string scope_of(const AnalyzedKernel& kernel) {
  if (kernel.scopes.empty()) return "-";
  const size_t others = kernel.scopes.size() - 1;
  return others == 0 ? kernel.scopes[0] : fmt::format("{} +{}", kernel.scopes[0], others);
}

// Of all kernels of a device: what a reader looks for first.
std::string summary(const DeviceAnalysis& analysis) {
  size_t spilling = 0, scratch = 0;
  double registers = 0, shared = 0, code = 0, occupancy = 1e9;
  const AnalyzedKernel* tightest = nullptr;
  for (const AnalyzedKernel& kernel : analysis.kernels) {
    const engine::DriverStatistics& s = kernel.statistics;
    spilling += s.spills.value_or(0) > 0;
    scratch += s.scratch_bytes.value_or(0) > 0;
    registers = std::max(registers, s.registers.value_or(0));
    shared = std::max(shared, s.shared_bytes.value_or(0));
    code += s.code_bytes.value_or(0);
    if (s.occupancy && *s.occupancy < occupancy) {
      occupancy = *s.occupancy;
      tightest = &kernel;
    }
  }
  std::string text = fmt::format(
      "{} = {}, {}: {} kernels, {:.1f} kB of code, {} spill, {} use scratch, at most {:.0f} "
      "registers and {:.1f} KiB shared",
      analysis.device, analysis.gpu, analysis.driver, analysis.kernels.size(), code / 1e3, spilling, scratch, registers,
      shared / 1024);
  if (tightest) text += fmt::format(", occupancy from {:.0f} ({}) on", occupancy, tightest->id);
  return text;
}

constexpr const char* kHeads[] = {"regs", "spills", "scratch", "LDS", "code", "instr", "occup", "latency"};

std::string escape(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '<')
      result += "&lt;";
    else if (c == '&')
      result += "&amp;";
    else
      result += c;
  }
  return result;
}

}  // namespace

std::string analysis_table(const std::vector<DeviceAnalysis>& analyses) {
  std::string text = fmt::format("{:<46} {:>5} {:<16}", "kernel", "calls", "device");
  for (const char* head : kHeads) text += fmt::format(" {:>7}", head);
  text += "  scope\n";
  for (const auto& [id, kernels] : side_by_side(analyses)) {
    bool first = true;
    for (size_t a = 0; a < analyses.size(); ++a) {
      if (kernels[a] == nullptr) continue;
      const AnalyzedKernel& kernel = *kernels[a];
      text += fmt::format("{:<46} {:>5} {:<16}", first ? id : "", first ? fmt::to_string(kernel.calls) : "",
                          analyses[a].device);
      for (const engine::StatisticField& field : engine::statistic_fields())
        text += fmt::format(" {:>7}", number(kernel.statistics.*field.value));
      text += first ? "  " + scope_of(kernel) + "\n" : "\n";
      first = false;
    }
  }
  text += "\n";
  for (const DeviceAnalysis& analysis : analyses) text += summary(analysis) + "\n";
  return text;
}

std::string analysis_markdown(const std::vector<DeviceAnalysis>& analyses) {
  std::string head = "| kernel | calls | device |", rule = "| --- | ---: | --- |";
  for (const char* name : kHeads) {
    head += fmt::format(" {} |", name);
    rule += " ---: |";
  }
  std::string text = head + " scope |\n" + rule + " --- |\n";
  for (const auto& [id, kernels] : side_by_side(analyses))
    for (size_t a = 0; a < analyses.size(); ++a) {
      if (kernels[a] == nullptr) continue;
      text += fmt::format("| {} | {} | {} |", id, kernels[a]->calls, analyses[a].device);
      for (const engine::StatisticField& field : engine::statistic_fields())
        text += fmt::format(" {} |", number(kernels[a]->statistics.*field.value));
      text += fmt::format(" {} |\n", scope_of(*kernels[a]));
    }
  text += "\n";
  for (const DeviceAnalysis& analysis : analyses) text += "- " + summary(analysis) + "\n";
  return text;
}

std::string analysis_csv(const std::vector<DeviceAnalysis>& analyses) {
  std::string text = "device,gpu,kernel,calls,workgroups,local_size,subgroup_size";
  for (const engine::StatisticField& field : engine::statistic_fields()) text += fmt::format(",{}", field.name);
  text += ",scope,source\n";
  for (const DeviceAnalysis& analysis : analyses)
    for (const AnalyzedKernel& kernel : analysis.kernels) {
      text += fmt::format("{},\"{}\",{},{},{},{},{}", analysis.device, analysis.gpu, kernel.id, kernel.calls,
                          kernel.workgroups, kernel.local_size, kernel.statistics.subgroup_size);
      for (const engine::StatisticField& field : engine::statistic_fields()) {
        const auto& value = kernel.statistics.*field.value;
        text += value ? fmt::format(",{}", *value) : ",";
      }
      text += fmt::format(",\"{}\",\"{}\"\n", join(kernel.scopes, " "), join(kernel.places, " "));
    }
  return text;
}

std::string analysis_page(const std::vector<DeviceAnalysis>& analyses, const std::string& title) {
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{0}</title>\n"
      "<style>{1}\npre {{ overflow: auto; max-height: 32em; font-size: 12px; }}\n"
      "summary {{ cursor: pointer; }}</style>\n<main>\n<h1>{0}</h1>\n<ul>\n",
      escape(title), kReportStyle);
  for (const DeviceAnalysis& analysis : analyses)
    page += fmt::format("<li>{}; {}</li>\n", escape(summary(analysis)), escape(analysis.target));
  page += "</ul>\n";
  for (const auto& [id, kernels] : side_by_side(analyses)) {
    const AnalyzedKernel& any =
        **std::find_if(kernels.begin(), kernels.end(), [](const auto* kernel) { return kernel != nullptr; });
    page += fmt::format(
        "<section>\n<h2>{}</h2>\n<p>{} calls of {} x {} lanes; {}; "
        "{}</p>\n<table><tr><th>device</th>",
        escape(id), any.calls, any.workgroups, any.local_size, escape(join(any.scopes, ", ")),
        escape(join(any.places, ", ")));
    for (const char* head : kHeads) page += fmt::format("<th>{}</th>", head);
    page += "</tr>\n";
    for (size_t a = 0; a < analyses.size(); ++a) {
      if (kernels[a] == nullptr) continue;
      page += fmt::format("<tr><td>{}</td>", escape(analyses[a].device));
      for (const engine::StatisticField& field : engine::statistic_fields())
        page += fmt::format("<td>{}</td>", number(kernels[a]->statistics.*field.value));
      page += "</tr>\n";
    }
    page += fmt::format("</table>\n<details><summary>GLSL</summary><pre>{}</pre></details>\n", escape(any.glsl));
    for (size_t a = 0; a < analyses.size(); ++a)
      if (kernels[a] != nullptr)
        page += fmt::format("<details><summary>ISA of {}</summary><pre>{}</pre></details>\n",
                            escape(analyses[a].device), escape(kernels[a]->statistics.isa()));
    page += "</section>\n";
  }
  return page + "</main>\n</html>\n";
}

}  // namespace surtsey::experiments
