#include "experiments/profile/run.h"

#include <filesystem>

#include "experiments/base/join.h"
#include "experiments/base/version.h"
#include "experiments/results/record.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostProfiled = 100'000;

void write(const fs::path& folder, const char* name, const std::string& content) {
  write_file_atomic(folder / name, content);
  fmt::print("{}\n", (folder / name).string());
}

void print_profile(const Profile& profile) {
  fmt::print("{} on {}\n\nceilings{}\n", profile.subject, profile.device.name,
             profile.ceilings.from_cache ? ", measured by an earlier run" : "");
  for (const CeilingLine& line : describe(profile.ceilings))
    fmt::print("  {:<18} {:>16}  {}\n", line.name, line.value, line.how);
  fmt::print("\nisolated (a barrier around every dispatch), {} replays\n{}\n", profile.steps, profile_table(profile));
  fmt::print(
      "a step takes {:.3f} ms as it is; the rows add up to {:.1f}% of that\n"
      "profiled steps are {:+.1f}% slower grouped, {:+.1f}% isolated (medians, taking turns with "
      "plain "
      "steps);\na timestamp costs {:.1f} us, which rows are without\n",
      quantile(profile.whole.busy, 0.5) / 1e6, 100 * profile.rows_of_step(), 100 * profile.grouped_overhead(),
      100 * profile.isolated_overhead(), double(profile.timestamp_ns) / 1e3);
}

}  // namespace

void check_request(const ProfileRequest& request) {
  check(request.steps > 0 && request.steps <= kMostProfiled, "--steps is from 1 to {}, not {}", kMostProfiled,
        request.steps);
  if (!request.compare.empty()) check_base(read_file(request.compare), request.steps);
}

void run_profile(engine::Session& session, engine::SessionProgram program, const std::string& subject,
                 const std::string& configuration, const ProfileRequest& request) {
  const std::string base = request.compare.empty() ? "" : read_file(request.compare);
  const std::string cache = shaders::default_cache_directory();
  Ceilings ceilings = measure_ceilings(session.device(), cache, request.measure_ceilings);
  Profile profile = profile_program(session, program, ceilings, {.steps = uint32_t(request.steps)});
  if (const KernelRow* row = above_its_roof(profile); row && ceilings.from_cache) {
    const std::string finding =
        fmt::format("{} reaches {:.0f}% of a ceiling that an earlier run measured", row->id, 100 * row->roof);
    if (raise_ceilings(session.device(), cache, ceilings)) {
      fmt::print(stderr, "{}: all were measured again, and the better ones kept\n", finding);
      judge(profile, ceilings);
    }
  }
  profile.subject = subject;
  profile.facts = {{"command", join(request.command, " ")}, {"commit", kCommit}, {"configuration", configuration}};
  print_profile(profile);
  Comparison comparison;
  if (!base.empty()) {
    comparison = compare_profiles(profile, base);
    fmt::print("\nagainst {}\n{}", request.compare, comparison_table(comparison));
  }
  fmt::print("\n");
  fs::create_directories(request.out);
  write(request.out, "profile.json", profile_json(profile));
  write(request.out, "profile.csv", profile_csv(profile));
  write(request.out, "trace.json", profile_trace(profile));
  write(request.out, "speedscope.json", profile_speedscope(profile));
  write(request.out, "profile.html", profile_page(profile, base.empty() ? nullptr : &comparison));
}

}  // namespace surtsey::experiments
