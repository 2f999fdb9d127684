// A self-test as text.
#include <algorithm>
#include <cmath>

#include "experiments/base/join.h"
#include "experiments/base/version.h"
#include "experiments/kernels/selftest.h"
#include "graph/debug.h"

namespace surtsey::experiments {
namespace {

constexpr size_t kShownFailures = 10;    // on the terminal
constexpr size_t kListedFailures = 200;  // in the report, of one variant

std::string verdict(const SelftestReport& report) {
  if (report.passed()) return "passed";
  if (!report.under_way.empty()) return "NOT FINISHED, at " + report.under_way;
  return fmt::format("FAILED, {} failures", report.failures());
}

std::string share(double value) { return std::isfinite(value) ? fmt::format("{:.3g}", value) : "out of all bounds"; }

size_t outputs_of(const VariantResult& variant) {
  size_t count = 0;
  for (const OpResult& op : variant.ops) count += op.outputs;
  return count;
}

double worst_of(const VariantResult& variant) {
  double worst = 0;
  for (const OpResult& op : variant.ops) worst = std::max(worst, op.share);
  return worst;
}

std::string paths_of(const graph::Target& target) {
  const bool groups = target.reduce_variant() == graph::ReduceVariant::workgroup_per_row;
  return fmt::format("{}, {}, {}, {}", target.addressing == graph::Addressing::address ? "address" : "descriptor",
                     graph::name(target.matmul_variant()), groups ? "workgroup_per_row" : "lane_per_row",
                     target.fusion ? "fused" : "unfused");
}

// By op over all variants: the worst.
struct Worst {
  const OpResult* result;
  const VariantResult* variant;
};
std::vector<Worst> worst_by_op(const SelftestReport& report) {
  std::vector<Worst> list;
  for (const VariantResult& variant : report.variants)
    for (const OpResult& op : variant.ops) {
      const auto found = std::find_if(list.begin(), list.end(), [&](const Worst& w) { return w.result->op == op.op; });
      if (found == list.end())
        list.push_back({&op, &variant});
      else if (op.share > found->result->share)
        *found = {&op, &variant};
    }
  return list;
}

std::string training_table(const SelftestReport& report) {
  std::string text = "| step | interpreter |", rule = "| ---: | ---: |";
  for (const VariantResult& variant : report.variants) {
    text += fmt::format(" {} |", variant.name);
    rule += " ---: |";
  }
  text += "\n" + rule + "\n";
  for (size_t step = 0; step < report.reference_losses.size(); ++step) {
    text += fmt::format("| {} | {:.7f} |", step + 1, report.reference_losses[step]);
    for (const VariantResult& variant : report.variants)
      text += step < variant.losses.size() ? fmt::format(" {:.7f} |", variant.losses[step]) : " |";
    text += "\n";
  }
  text += "| parameters off by | |";
  for (const VariantResult& variant : report.variants)
    text += variant.losses.empty() ? " |" : fmt::format(" {:.2g} |", variant.parameter_error);
  return text + "\n";
}

}  // namespace

std::string selftest_summary(const SelftestReport& report) {
  std::string text;
  for (const VariantResult& variant : report.variants) {
    text += fmt::format("{:<18} {:>3} ops, {:>4} results, worst at {} of what is allowed", variant.name,
                        variant.ops.size(), outputs_of(variant), share(worst_of(variant)));
    if (!variant.losses.empty())
      text += fmt::format("; {} training steps, loss {:.6f}", variant.losses.size(), variant.losses.back());
    text += variant.failures.empty() ? ": passed\n" : fmt::format(": {} FAILURES\n", variant.failures.size());
  }
  size_t shown = 0;
  for (const VariantResult& variant : report.variants)
    for (const std::string& failure : variant.failures)
      if (++shown <= kShownFailures) text += "  " + failure + "\n";
  if (shown > kShownFailures) text += fmt::format("  and {} more, in the report\n", shown - kShownFailures);
  if (!report.stopped.empty()) text += "stopped: " + report.stopped + "\n";
  return text + fmt::format("selftest of {}: {}\n", report.device.name, verdict(report));
}

std::string selftest_page(const SelftestReport& report) {
  const engine::DeviceInfo& device = report.device;
  std::string text = fmt::format("# surtsey selftest: {}\n\n", verdict(report));
  text += fmt::format("- device: {}\n- driver: {}\n- uuid: {}\n- surtsey: {} ({})\n", engine::print(device),
                      device.driver, device.uuid, kVersion, kCommit);
  text += fmt::format("- paths: {}\n", engine::print_paths(device));
  if (report.validation) text += "- validation: on\n";
  for (const std::string& quirk : device.quirks) text += "- quirk: " + quirk + "\n";
  for (const EnvironmentVariable& variable : environment_variables())
    if (const std::string value = environment(variable.name); !value.empty())
      text += fmt::format("- {}={}\n", variable.name, value);
  if (!report.stopped.empty()) text += "- stopped: " + report.stopped + "\n";

  text += fmt::format("\n## Failures\n\n{}", report.failures() == 0 ? "None.\n" : "");
  for (const VariantResult& variant : report.variants) {
    for (size_t i = 0; i < std::min(kListedFailures, variant.failures.size()); ++i)
      text += "- " + variant.failures[i] + "\n";
    if (variant.failures.size() > kListedFailures)
      text += fmt::format("- {}: and {} more\n", variant.name, variant.failures.size() - kListedFailures);
  }

  text +=
      "\n## Variants\n\nErrors are shares of what each case allows.\n\n"
      "| variant | kernels | ops | results | worst error | failures | seconds |\n"
      "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n";
  for (const VariantResult& variant : report.variants)
    text += fmt::format("| {} | {} | {} | {} | {} | {} | {:.1f} |\n", variant.name, paths_of(variant.target),
                        variant.ops.size(), outputs_of(variant), share(worst_of(variant)), variant.failures.size(),
                        variant.seconds);
  if (!report.reference_losses.empty())
    text += "\n## Training\n\nLosses of a small decoder, AdamW, one step a line.\n\n" + training_table(report);

  text +=
      "\n## Worst error by op\n\n| op | results | share | absolute | variant | case |\n"
      "| --- | ---: | ---: | ---: | --- | --- |\n";
  for (const auto& [result, variant] : worst_by_op(report))
    text += fmt::format("| {} | {} | {} | {:.3g} | {} | {} |\n", result->op, result->outputs, share(result->share),
                        result->absolute, variant->name, result->worst);
  return text + "\n## Device\n\n```json\n" + engine::to_json({&device, 1}) + "\n```\n";
}

}  // namespace surtsey::experiments
