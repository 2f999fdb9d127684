#include "experiments/study/study.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/join.h"
#include "experiments/base/version.h"
#include "experiments/report/report.h"
#include "experiments/results/environment.h"
#include "experiments/study/largest_step.h"
#include "experiments/study/study_plan.h"
#include "experiments/study/study_try.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.toml";

constexpr const char* kPlan = "plan";
constexpr const char* kTry = "try";

struct Flags {
  std::string command;  // kPlan, kTry, or empty: run
  std::string scale = "quick";
  std::string config;
  std::string device;
  std::string seeds;
  std::string out;
  bool resume = false;
  bool replace = false;
  bool no_timing = false;  // with kPlan
  bool profile = false;
  ProfileRequest request;    // with --profile
  AnalysisRequest analysis;  // with --analyze: its targets
  std::vector<std::string> keys;
};

void check_scale(const Study& study, const std::string& scale) {
  const std::vector<std::string> known = {"quick", "full", "paper"};
  if (std::find(known.begin(), known.end(), scale) == known.end()) {
    const std::string near = nearest_word(scale, known);
    throw UserError(fmt::format("there is no scale '{}'{}; scales are {}", scale,
                                near.empty() ? "" : fmt::format(", did you mean '{}'?", near), join(known, ", ")));
  }
  const std::vector<std::string> defined = study.scales();
  check(std::find(defined.begin(), defined.end(), scale) != defined.end(),
        "{} does not define the scale '{}' yet; it has {}", study.name(), scale, join(defined, " and "));
}

void check_same_config(const fs::path& path, const std::string& toml) {
  if (!fs::exists(path)) return;
  const std::string before = read_file(path);
  if (before == toml) return;
  std::istringstream old_lines(before), new_lines(toml);
  std::string old_line, new_line;
  while (old_line == new_line && (old_lines || new_lines)) {
    old_line.clear(), new_line.clear();
    std::getline(old_lines, old_line);
    std::getline(new_lines, new_line);
  }
  throw UserError(
      fmt::format("'{}' is of a run with other settings ('{}' there, '{}' now): resume with the "
                  "same ones, or choose another directory",
                  path.parent_path().string(), old_line, new_line));
}

std::vector<std::string> claim_names(const Study& study) {
  std::vector<std::string> names;
  for (const DeclaredClaim& claim : study.claims()) names.push_back(claim.name);
  return names;
}

// The keys of a study and those that every study has, at the scale that is set.
struct Settings {
  explicit Settings(Study& study) {
    study.add_fields(table);
    claims = claim_names(study);
    table.add("claims", &claims, "what this run claims; one family");
    table.add("error_rate", &error_rate, "chance of any wrong verdict in the family").at_least(1e-6).at_most(0.5);
  }

  ConfigTable table;
  std::vector<std::string> claims;
  double error_rate = 0.05;
};

// Whoever runs a demonstration should not take a FAIL for a broken build.
void print_claims(const StudyResult& result) {
  for (const Claim& claim : result.claims) {
    const std::string why = demonstration_text(result, claim);
    fmt::print("{:<12} {} ({}): {}\n             {}\n", verdict_name(claim.verdict), claim.name,
               claim.demonstration ? "demonstration: " + why : fmt::format("{} seeds", claim.seeds), claim.statement,
               claim.evidence);
  }
  const std::string note = demonstration_note(result);
  if (!note.empty()) fmt::print("{}\n", note);
}

int run_with(const Flags& flags, Study& study, int argc, char** argv) {
  check_scale(study, flags.scale);
  study.set_scale(flags.scale);
  Settings settings(study);
  ConfigTable& table = settings.table;
  if (!flags.config.empty()) table.load_file(flags.config);
  table.override_all(flags.keys);
  if (!flags.seeds.empty()) table.override_one("--seeds=" + flags.seeds);
  // What a study can claim may hang on what it was told to train.
  if (!table.was_set("claims")) settings.claims = claim_names(study);
  study.check_options();

  if (flags.profile) {
    ProfileRequest request = flags.request;
    request.command = {argv, argv + argc};
    if (!flags.out.empty()) request.out = flags.out;
    check_request(request);
    engine::Device device = engine::Device::open({.select = flags.device});
    profile_pack_step(device, largest_step(device, study), request);
    return 0;
  }
  if (!flags.analysis.targets.empty()) {
    check_request(flags.analysis);
    // The device at hand decides how many models are a pack.
    engine::Device device = engine::Device::open({.select = flags.device});
    analyze_pack_step(largest_step(device, study), flags.analysis);
    return 0;
  }

  const std::vector<DeclaredClaim> claims = choose_claims(study.claims(), settings.claims);
  if (flags.command == kPlan) {
    engine::Device device = engine::Device::open({.select = flags.device});
    fmt::print("{}", plan_text(plan_study(study, device, !flags.no_timing), device.info()));
    return 0;
  }
  if (flags.command == kTry) {
    engine::Device device = engine::Device::open({.select = flags.device});
    fmt::print("{}", try_text(try_study(study, device)));
    return 0;
  }
  const std::string toml = fmt::format("# {} --scale {}\n{}{}", study.name(), flags.scale, table.to_toml(),
                                       claims_toml(claims, settings.error_rate));
  study.check_inputs();
  const fs::path out = flags.out.empty() ? fs::path("runs") / study.name() : fs::path(flags.out);
  using Mode = RunDirectory::Mode;
  if (flags.resume) check_same_config(out / kConfig, toml);
  // A device that is not there must not cost an earlier run its files.
  engine::Device device = engine::Device::open({.select = flags.device});
  RunDirectory directory(out, flags.resume ? Mode::kResume : flags.replace ? Mode::kReplace : Mode::kFresh);
  if (!flags.resume) fs::remove(out / kCellsFile);
  directory.write_config(toml);
  directory.write_environment(describe_environment(device.info(), {argv, argv + argc}));

  StudyResult header;
  header.study = study.name();
  header.scale = flags.scale;
  header.title = study.title();
  header.question = study.question();
  header.demonstration = study.demonstration(flags.scale);
  header.device = device_facts(device.info());
  StudyRun run(device, directory, std::move(header), flags.resume);
  handle_interrupts();
  study.run(run);
  judge_claims(run.result(), claims, settings.error_rate);
  study.describe(run.result());
  directory.write_result(run.result());
  run.close();
  const fs::path page = write_report(out);

  print_claims(run.result());
  fmt::print("{}\n", page.string());
  return 0;
}

}  // namespace

int run_study(int argc, char** argv, Study& study) {
  CLI::App app(fmt::format("{}\n{}", study.title(), study.question()), std::string(study.name()));
  Flags flags;
  app.add_option("command", flags.command,
                 "plan: tell what would be trained, its FLOPs, memory and time, and stop; try: train "
                 "each kind of model for three steps of one sequence, and stop")
      ->check(CLI::IsMember({kPlan, kTry}));
  app.add_option("--scale", flags.scale, "quick, full or paper")->capture_default_str();
  app.add_option("--config", flags.config, "TOML file of keys");
  app.add_option("--device", flags.device, "index, part of a name, or UUID; see `surtsey devices`");
  app.add_option("--seeds", flags.seeds, "comma list: one model each");
  app.add_option("--out", flags.out, fmt::format("directory of the run (\"runs/{}\" by default)", study.name()));
  app.add_flag("--resume", flags.resume, "go on where an earlier run of the same settings stopped");
  app.add_flag("--replace", flags.replace, "drop what an earlier run left in the directory")->excludes("--resume");
  app.add_flag("--no-timing", flags.no_timing, "with plan: measure no steps, expect no time");
  app.add_flag("--profile", flags.profile,
               "profile the training step of the largest cell instead (out: \"runs/profile\")");
  app.add_option("--profile_steps", flags.request.steps, "with --profile: replays in each mode")->capture_default_str();
  app.add_option("--compare", flags.request.compare, "with --profile: profile.json of another run");
  app.add_flag("--measure-ceilings", flags.request.measure_ceilings,
               "with --profile: measure the device's ceilings again");
  app.add_option("--analyze", flags.analysis.targets,
                 "analyze the training step of the largest cell instead, for GPUs that are not "
                 "here: amd:navi21,..; see `surtsey analyze`")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--output", flags.analysis.format, "with --analyze: text, md, json, csv or html");
  app.add_option("--isa", flags.analysis.isa, "with --analyze: a folder for the ISA");
  app.add_option("--fail-on", flags.analysis.fail_on,
                 "with --analyze: an error when a kernel has any: spills, scratch_bytes")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.set_version_flag("--version", fmt::format("surtsey {} ({})", kVersion, kCommit));
  app.allow_extras();
  app.footer([&] {
    study.set_scale(study.scales().front());
    return fmt::format("Keys, with their values at the scale '{}':\n{}", study.scales().front(),
                       Settings(study).table.help());
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return guarded(std::string(study.name()), [&] {
      if (error.get_exit_code() == 0) return app.exit(error);
      throw CommandLineError(fmt::format("{} (see --help)", error.what()));
    });
  }
  flags.keys = app.remaining();
  const std::string program(study.name());
  const int scale = guarded(program, [&] {
    check_scale(study, flags.scale);
    return 0;
  });
  if (scale != 0) return kCommandLineStatus;
  return guarded(program, [&] { return run_with(flags, study, argc, argv); });
}

}  // namespace surtsey::experiments
