#include "experiments/kernels/selftest.h"

#include <cctype>

#include "experiments/commands/commands.h"
#include "experiments/results/record.h"

namespace surtsey::experiments::commands {
namespace {

std::string default_file(const engine::DeviceInfo& device) {
  std::string name = "selftest-";
  for (const char c : device.name) {
    if (std::isalnum(static_cast<unsigned char>(c)))
      name += char(std::tolower(static_cast<unsigned char>(c)));
    else if (name.back() != '-')
      name += '-';
  }
  while (name.back() == '-') name.pop_back();
  return name + ".md";
}

}  // namespace

void selftest(const SelftestOptions& options) {
  engine::Device device = engine::Device::open({.select = options.device});
  const std::string out = options.out.empty() ? default_file(device.info()) : options.out;
  experiments::SelftestOptions chosen;
  chosen.quick = options.quick;
  size_t finished = 0;
  chosen.progress = [&](const SelftestReport& report) {
    write_file_atomic(out, selftest_page(report));
    if (const size_t variants = report.variants.size(); variants > finished + (report.under_way.empty() ? 0 : 1)) {
      const VariantResult& last = report.variants[finished++];
      fmt::print(stderr, "selftest: {} done in {:.1f} s, {} failures\n", last.name, last.seconds, last.failures.size());
    }
  };
  const SelftestReport report = run_selftest(device, chosen);
  fmt::print("{}report: {}\n", selftest_summary(report), out);
  check(report.passed(), "selftest of {} failed; attach {} to a report of the defect", device.info().name, out);
}

}  // namespace surtsey::experiments::commands
