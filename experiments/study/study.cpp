#include "experiments/study/study.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/join.h"
#include "experiments/base/version.h"
#include "experiments/report/report.h"
#include "experiments/results/environment.h"
#include "experiments/study/attempt.h"
#include "experiments/study/largest_step.h"
#include "experiments/study/plan.h"
#include "experiments/study/shards.h"
#include "experiments/sweeps/workers.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.toml";

struct Flags {
  std::string command = "run";
  std::string scale = "quick";
  std::string config;
  std::string device;
  std::string seeds;
  std::string out;
  bool resume = false;
  bool replace = false;
  bool no_timing = false;  // with plan and shard
  int32_t shards = 0;      // processes; 0: this one
  ShardChoice choice;      // with work
  bool profile = false;
  ProfileRequest request;    // with --profile
  AnalysisRequest analysis;  // with --analyze: its targets
  std::vector<std::string> keys;
  std::vector<std::string> line;  // the whole command line

  fs::path path(const Study& study) const { return out.empty() ? fs::path("runs") / study.name : fs::path(out); }
};

void check_scale(const std::string& scale) {
  if (has(kScales, scale)) return;
  const std::string near = nearest_word(scale, kScales);
  throw UserError(fmt::format("there is no scale '{}'{}; scales are {}", scale,
                              near.empty() ? "" : fmt::format(", did you mean '{}'?", near), join(kScales, ", ")));
}

// The assignments of a configuration, in whatever order they stand.
std::set<std::string> assignments(const std::string& toml) {
  std::set<std::string> lines;
  std::istringstream text(toml);
  for (std::string line; std::getline(text, line);)
    if (!line.empty() && line.front() != '#') lines.insert(line);
  return lines;
}

void check_same_config(const fs::path& path, const std::string& toml) {
  if (!fs::exists(path)) return;
  const std::set<std::string> before = assignments(read_file(path)), now = assignments(toml);
  const auto first_without = [](const std::set<std::string>& lines, const std::set<std::string>& others) {
    for (const std::string& line : lines)
      if (!others.contains(line)) return line;
    return std::string("nothing");
  };
  check(before == now,
        "'{}' is of a run with other settings ('{}' there, '{}' now): resume with the same ones, or choose another "
        "directory",
        path.parent_path().string(), first_without(before, now), first_without(now, before));
}

// Whether the budget of the scale that is set decides the claim.
bool is_decided(const Study& study, const DeclaredClaim& claim) {
  const auto rank = [](std::string_view scale) {
    return std::find(kScales.begin(), kScales.end(), scale) - kScales.begin();
  };
  return rank(claim.from) <= rank(study.keys->scale());
}

std::vector<std::string> claim_names(const Study& study) {
  std::vector<std::string> names;
  for (const DeclaredClaim& claim : study.claims())
    if (is_decided(study, claim)) names.push_back(claim.name);
  return names;
}

// What a reader might miss: claims of the study that this scale leaves to larger ones.
void tell_what_is_left(const Study& study, const std::vector<DeclaredClaim>& claims, StudyResult& result) {
  std::vector<std::string> left;
  for (const DeclaredClaim& claim : study.claims()) {
    const bool made =
        std::any_of(claims.begin(), claims.end(), [&](const DeclaredClaim& one) { return one.name == claim.name; });
    if (!made && !is_decided(study, claim)) left.push_back(fmt::format("{} (--scale {})", claim.name, claim.from));
  }
  if (left.empty()) return;
  result.caveats.push_back("Not claimed here, as this scale trains too little to decide it: " + join(left, ", ") + ".");
}

// The keys of a study and those that every study has, at the scale that is set.
struct StudySettings {
  explicit StudySettings(const Study& study) {
    study.keys->add_fields(table);
    claims = claim_names(study);
    table.add("claims", &claims, "what this run claims; one family");
    table.add("error_rate", &error_rate, "chance of any wrong verdict in the family").at_least(1e-6).at_most(0.5);
  }

  ConfigTable table;
  std::vector<std::string> claims;
  double error_rate = 0.05;
};

// A study with its keys set and checked: what a command works with.
struct Set {
  std::vector<DeclaredClaim> claims;
  double error_rate = 0;
  std::string toml;
};

Set set_keys(const Study& study, const Flags& flags) {
  study.keys->set_scale(flags.scale);
  StudySettings settings(study);
  if (!flags.config.empty()) settings.table.load_file(flags.config);
  settings.table.override_all(flags.keys);
  if (!flags.seeds.empty()) settings.table.override_one("--seeds=" + flags.seeds);
  // What a study can claim may hang on what it was told to train.
  if (!settings.table.was_set("claims")) settings.claims = claim_names(study);
  study.check();
  Set set{choose_claims(study.claims(), settings.claims), settings.error_rate, ""};
  set.toml = fmt::format("# {} --scale {}\n{}{}", study.name, flags.scale, settings.table.to_toml(),
                         claims_toml(set.claims, settings.error_rate));
  return set;
}

// Whoever runs a demonstration should not take a FAIL for a broken build.
void print_claims(const StudyResult& result) {
  for (const Claim& claim : result.claims) {
    fmt::print("{:<12} {} ({} seeds): {}\n             {}\n", verdict_name(claim.verdict), claim.name, claim.seeds,
               claim.statement, claim.evidence);
  }
  const std::string note = demonstration_note(result);
  if (!note.empty()) fmt::print("{}\n", note);
}

StudyResult header_of(const Study& study, const engine::Device& device) {
  StudyResult header;
  header.study = study.name;
  header.scale = study.keys->scale();
  header.title = study.title;
  header.question = study.question;
  header.demonstration = header.scale == "quick";
  header.device = device_facts(device.info());
  return header;
}

// Models without scores, to who runs the study and on its page.
void tell_what_diverged(StudyResult& result) {
  std::vector<std::string> names;
  for (const Cell& cell : result.cells)
    if (diverged(cell)) names.push_back(cell.cell);
  if (names.empty()) return;
  const std::string text = fmt::format(
      "{} of {} models diverged, their loss is no number: {}. They have no scores: claims of every model are open "
      "where they need one, means and fits leave them out.",
      names.size(), result.cells.size(), join(names, ", "));
  fmt::print(stderr, "warning: {}\n", text);
  result.caveats.push_back(text);
}

// Judges cells that are all there, and writes result and report.
void conclude(const Study& study, const Set& set, StudyRun& run) {
  study.finish(run);
  judge_claims(run.result(), set.claims, set.error_rate);
  study.describe(run.result());
  tell_what_diverged(run.result());
  tell_what_is_left(study, set.claims, run.result());
  run.directory().write_result(run.result());
  run.close();
  const fs::path page = write_report(run.directory().path());
  print_claims(run.result());
  fmt::print("{}\n", page.string());
}

engine::Device open_device(const Study& study, const Flags& flags) {
  const std::vector<Experiment> experiments = study.experiments();
  const bool f16 = std::any_of(experiments.begin(), experiments.end(),
                               [](const Experiment& one) { return one.dtype == graph::DType::f16; });
  return engine::Device::open({.select = flags.device, .f16 = f16});
}

void check_trains(const Study& study, const std::vector<Experiment>& experiments) {
  const char* hint = study.on_request();
  check(hint == nullptr || !experiments.empty(), "this scale trains only what it is told to, such as {}",
        hint == nullptr ? "" : hint);
}

// What the whole run is made of, before a directory is touched.
std::vector<Experiment> experiments_to_run(const Study& study) {
  study.check_inputs();
  std::vector<Experiment> experiments = with_trained_models(study.experiments());
  check_trains(study, experiments);
  return experiments;
}

void collect(const Study& study, const Set& set, const Flags& flags) {
  const fs::path out = flags.path(study);
  const SweepDirectory shards = SweepDirectory::open(out);
  engine::Device device = open_device(study, flags);
  RunDirectory directory(out, RunDirectory::Mode::kReplace);
  fs::remove(out / kCellsFile);
  directory.write_config(set.toml);
  directory.write_environment(describe_environment(device.info(), flags.line));
  StudyRun run(device, directory, header_of(study, device), false);
  gather_shards(study, shards, run);
  conclude(study, set, run);
}

// Of an earlier plan in the directory nothing stays with `replace`.
void shard(const Study& study, const Set& set, const Flags& flags, bool replace) {
  experiments_to_run(study);
  // A device that is not there must not cost an earlier run its files.
  engine::Device device = open_device(study, flags);
  if (replace) SweepDirectory::forget(flags.path(study));
  const SweepDirectory shards = shard_study(study, device, flags.path(study), set.toml, !flags.no_timing);
  size_t cells = 0;
  for (const SweepPack& pack : shards.packs()) cells += pack.cells().size();
  fmt::print("{} cells in {} packs: {}\n", cells, shards.packs().size(), shards.path().string());
}

void run_in_shards(const Study& study, const Set& set, const Flags& flags) {
  const fs::path out = flags.path(study);
  check(flags.resume || flags.replace || !fs::exists(out / kResultFile),
        "'{}' holds a finished run: choose another directory, or say --resume or --replace", out.string());
  shard(study, set, flags, flags.replace);
  handle_interrupts();
  std::vector<std::string> words = {"work", "--out", out.string()};
  if (!flags.device.empty()) words.insert(words.end(), {"--device", flags.device});
  run_workers(std::vector(static_cast<size_t>(flags.shards), words));
  collect(study, set, flags);
}

void work(const Study& study, const Flags& flags) {
  handle_interrupts();
  SweepDirectory shards = SweepDirectory::open(flags.path(study));
  engine::Device device = open_device(study, flags);
  work_shards(study, shards, device, flags.choice, flags.line);
}

void run_here(const Study& study, const Set& set, const Flags& flags) {
  const std::vector<Experiment> experiments = experiments_to_run(study);
  const fs::path out = flags.path(study);
  using Mode = RunDirectory::Mode;
  if (flags.resume) check_same_config(out / kConfig, set.toml);
  // A device that is not there must not cost an earlier run its files.
  engine::Device device = open_device(study, flags);
  RunDirectory directory(out, flags.resume ? Mode::kResume : flags.replace ? Mode::kReplace : Mode::kFresh);
  if (!flags.resume) fs::remove(out / kCellsFile);
  directory.write_config(set.toml);
  directory.write_environment(describe_environment(device.info(), flags.line));
  StudyRun run(device, directory, header_of(study, device), flags.resume);
  handle_interrupts();
  std::vector<std::string> left_out;
  run_packs(run, *study.options, packs_of(experiments, *study.options, device.info(), &left_out));
  for (const std::string& one : left_out) {
    fmt::print(stderr, "left out: {}\n", one);
    run.result().caveats.push_back(one + " was left out.");
  }
  conclude(study, set, run);
}

void profile(const Study& study, const Flags& flags) {
  ProfileRequest request = flags.request;
  request.command = flags.line;
  if (!flags.out.empty()) request.out = flags.out;
  check_request(request);
  engine::Device device = open_device(study, flags);
  profile_pack_step(device, largest_step(device, study), request);
}

void analyze(const Study& study, const Flags& flags) {
  check_request(flags.analysis);
  // The device at hand decides how many models are a pack.
  engine::Device device = open_device(study, flags);
  analyze_pack_step(largest_step(device, study), flags.analysis);
}

void plan(const Study& study, const Flags& flags) {
  engine::Device device = open_device(study, flags);
  fmt::print("{}", plan_text(plan_study(study, device, !flags.no_timing), device.info()));
}

void try_models(const Study& study, const Flags& flags) {
  engine::Device device = open_device(study, flags);
  fmt::print("{}", try_text(try_study(study, device)));
}

void run_command(const Study& study, Flags flags) {
  if (flags.command == "work" || flags.command == "collect") {
    const SweepDirectory shards = SweepDirectory::open(flags.path(study));
    check(shards.study().name == study.name, "'{}' is a plan of {}, not of {}", flags.path(study).string(),
          shards.study().name.empty() ? "`surtsey sweep`" : shards.study().name, study.name);
    flags.scale = shards.study().scale;
    flags.config = SweepDirectory::config(shards.path()).string();
  }
  const Set set = set_keys(study, flags);
  if (flags.profile) return profile(study, flags);
  if (!flags.analysis.targets.empty()) return analyze(study, flags);
  if (flags.command == "plan") return plan(study, flags);
  if (flags.command == "try") return try_models(study, flags);
  if (flags.command == "shard") return shard(study, set, flags, false);
  if (flags.command == "work") return work(study, flags);
  if (flags.command == "collect") return collect(study, set, flags);
  return flags.shards > 0 ? run_in_shards(study, set, flags) : run_here(study, set, flags);
}

}  // namespace

int run_study(int argc, char** argv, const Study& study) {
  CLI::App app(fmt::format("{}\n{}", study.title, study.question), study.name);
  Flags flags;
  app.add_option("command", flags.command,
                 "plan: tell what would be trained, its FLOPs, memory and time, and stop; try: train each kind of "
                 "model for three steps of one sequence, and stop; shard, work, collect: plan a directory of packs, "
                 "work some of them off, put them together")
      ->check(CLI::IsMember({"run", "plan", "try", "shard", "work", "collect"}));
  app.add_option("--scale", flags.scale, "quick, full or paper")->capture_default_str();
  app.add_option("--config", flags.config, "TOML file of keys");
  app.add_option("--device", flags.device, "index, part of a name, or UUID; see `surtsey devices`");
  app.add_option("--seeds", flags.seeds, "comma list: one model each");
  app.add_option("--out", flags.out, fmt::format("directory of the run (\"runs/{}\" by default)", study.name));
  app.add_flag("--resume", flags.resume, "go on where an earlier run of the same settings stopped");
  app.add_flag("--replace", flags.replace, "drop what an earlier run left in the directory")->excludes("--resume");
  app.add_flag("--no-timing", flags.no_timing, "with plan and shard: measure no steps, expect no time");
  app.add_option("--shards", flags.shards, "so many processes share the packs of the run")->check(CLI::Range(1, 1024));
  app.add_option("--index", flags.choice.index, "with work: this pack, and those that it waits for");
  app.add_flag("--only-failed", flags.choice.only_failed, "with work: packs that failed before");
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
    study.keys->set_scale(kScales.front());
    return fmt::format("Keys, with their values at the scale '{}':\n{}", kScales.front(),
                       StudySettings(study).table.help());
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return guarded(study.name, [&] {
      if (error.get_exit_code() == 0) return app.exit(error);
      throw CommandLineError(fmt::format("{} (see --help)", error.what()));
    });
  }
  flags.keys = app.remaining();
  flags.line = {argv, argv + argc};
  const auto status = [&](const std::function<void()>& part) {
    return guarded(study.name, [&] {
      part();
      return 0;
    });
  };
  if (status([&] { check_scale(flags.scale); }) != 0) return kCommandLineStatus;
  return status([&] { run_command(study, flags); });
}

}  // namespace surtsey::experiments
