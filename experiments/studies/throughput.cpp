// How fast training steps are: a ladder of sizes, types of activations and ensembles.
//
//   build/experiments/throughput --scale quick --models=27.5k,104k --members=1,8
//   build/experiments/throughput --models='V64 T64 L4 C128 H4 B12'
//
// Each entry is a cell: a decoder's whole step (data ring, forward, backward, clipping, AdamW), as every study trains
// it. A sample is the mean of as many steps as make sample_gflop; numbers are medians of samples. metrics.jsonl has
// every sample, throughput.csv a line an entry. An entry that is finished is never measured again.
#include <charconv>
#include <chrono>
#include <cstring>
#include <sstream>

#include "experiments/profile/ceilings.h"
#include "experiments/study/study.h"
#include "experiments/tasks/markov.h"
#include "shaders/spirv.h"

namespace surtsey::experiments {
namespace {

constexpr double kLearningRate = 1e-3;
constexpr int64_t kMostSteps = 64;  // in a sample
constexpr double kMebibyte = 1 << 20;
// In f16 the first steps look for the loss scale, which is halved at each that is skipped.
constexpr int64_t kMostSkipped = 16;

struct Keys : KeySet {
  Keys() { sweep.ensemble_size = std::numeric_limits<int32_t>::max(); }  // an entry is one ensemble, whatever its size
  SweepOptions sweep;
  Key<Words> models = Key<Words>(
      this, "models",
      {{"27.5k", "104k", "818k", "10.8M"},
       {"27.5k", "104k", "818k", "10.8M", "124M"},
       {"27.5k", "104k", "818k", "10.8M", "124M", "355M", "774M", "1558M"}},
      "names, or sizes such as 'V16 T32 L2 C32 H2 B64': vocabulary, tokens, layers, width, heads, sequences of a step");
  Key<Words> dtypes = Key<Words>(this, "dtypes", {{"f32", "bf16", "f16"}},
                                 "of activations, as far as the device stores them", {"f32", "bf16", "f16"});
  Key<Integers> members{this, "members", {{1, 4}, {1, 8}, {1, 8, 64}}, "models of an ensemble", 1, 4096};
  Key<int32_t> repetitions{this, "repetitions", {3, 5, 9}, "samples of which the median is taken", 1, 1000};
  Key<int32_t> warm_up{this, "warm_up", {1, 1, 2}, "samples before them", 1, 1000};
  Key<double> sample_gflop{this, "sample_gflop", {2, 4, 1000}, "steps of a sample: as many as make this, from 1 to 64"};
  Key<double> most_gflop{
      this, "most_gflop", {10, 1200, 0}, "of a step: larger ones are left out, but for single models in f32; 0: none"};
};

struct Rung {
  std::string name;
  ModelConfig model;
  int32_t batch_size = 0;
};

Rung rung(const std::string& name, int64_t V, int64_t T, int64_t L, int64_t C, int64_t H, int64_t B) {
  return {name, decoder_config(L, C, H, V, T), static_cast<int32_t>(B)};
}

// Those that scripts/bench_against sets beside other programs, then GPT-2 (Radford et al. 2019).
std::vector<Rung> named_rungs() {
  std::vector<Rung> rungs = {rung("27.5k", 16, 32, 2, 32, 2, 64), rung("104k", 16, 32, 2, 64, 2, 64),
                             rung("818k", 64, 64, 4, 128, 4, 12), rung("10.8M", 65, 256, 6, 384, 6, 8)};
  for (const auto& [name, layers, width] : {std::tuple{"124M", 12, 768}, std::tuple{"355M", 24, 1024},
                                            std::tuple{"774M", 36, 1280}, std::tuple{"1558M", 48, 1600}}) {
    Rung& gpt2 = rungs.emplace_back(rung(name, 50257, 1024, layers, width, width / 64, 1));
    gpt2.model.activation = Activation::gelu_tanh;
    gpt2.model.tied = true;
  }
  return rungs;
}

// "V16 T32 L2 C32 H2 B64", or a name. UserError says what would be right.
Rung parse_rung(const std::string& text) {
  const std::vector<Rung> rungs = named_rungs();
  for (const Rung& known : rungs)
    if (known.name == text) return known;
  const std::string expected = fmt::format(
      "models: '{}' is none of {}, nor a size such as 'V16 T32 L2 C32 H2 B64' (vocabulary, tokens, layers, width, "
      "heads, sequences)",
      text, join(names_of(rungs), ", "));
  std::map<char, int64_t> values;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(word.data() + 1, word.data() + word.size(), value);
    const bool whole = error == std::errc() && end == word.data() + word.size() && 0 < value && value <= 1 << 20;
    check(whole && std::strchr("VTLCHB", word[0]) != nullptr && values.emplace(word[0], value).second, "{}", expected);
  }
  check(values.size() == 6, "{}", expected);
  Rung parsed = rung(text, values['V'], values['T'], values['L'], values['C'], values['H'], values['B']);
  check_config(parsed.model);
  return parsed;
}

void check_keys(const Keys& k) {
  check(!k.models->empty() && !k.dtypes->empty() && !k.members->empty(),
        "models, dtypes and members each want one entry at the least");
  check_once(*k.models, "models");
  check_once(*k.dtypes, "dtypes");
  check_once(*k.members, "members");
  for (const std::string& model : *k.models) parse_rung(model);
}

// One measurement: a rung, a type, a number of members.
struct Entry {
  Rung rung;
  std::string dtype;
  int32_t members = 1;
  int64_t parameters = 0;

  std::string variant() const { return fmt::format("{} x{}", dtype, members); }
  int64_t tokens_per_step() const { return members * rung.batch_size * rung.model.block_size; }
  double step_flops() const { return estimated_training_flops(parameters, static_cast<double>(tokens_per_step())); }
  int64_t sample_steps(double gigaflops) const {
    return std::clamp(static_cast<int64_t>(gigaflops * 1e9 / step_flops()), int64_t{1}, kMostSteps);
  }
};

// The standard error is that of the median of normal samples, sqrt(pi / 2) times the mean's.
Measure median_of(const std::string& name, const std::vector<double>& values) {
  return {name, median(values), values.size() < 2 ? 0 : 1.2533 * standard_error(values),
          static_cast<int64_t>(values.size())};
}

PackResult time_steps(const Keys& k, const Entry& entry, double peak_gflops, engine::Device& device,
                      const Experiment& experiment, const std::vector<Member>& members) {
  const Model model(entry.rung.model);
  engine::Session session(device, {.quiet = true});
  const std::unique_ptr<Trainer> trainer = make_trainer(session, model, experiment, members);
  session.allocate();
  trainer->initialise();
  RunOptions run;
  run.on_log = [&](const TrainLog& log) {
    for (const MemberMetrics& member : log.members) {
      const int64_t most = experiment.dtype == graph::DType::f16 ? kMostSkipped : 0;
      check(member.skipped <= most, "{}: {} steps were skipped, their gradients not finite", experiment.variant,
            member.skipped);
    }
  };
  const int64_t steps = entry.sample_steps(k.sample_gflop);
  run.until = steps * k.warm_up;
  trainer->run(run);
  const graph::Plan& plan = session.program("train").plan();
  const double gflop = static_cast<double>(plan.matmul_flops) / 1e9;

  PackResult result;
  Cell& cell = result.cells.emplace_back(empty_cell(experiment, members.front()));
  cell.variant = entry.variant();
  cell.parameters = entry.parameters;
  cell.steps = steps * k.repetitions;
  cell.tokens = cell.steps * entry.tokens_per_step();
  cell.flops = static_cast<double>(plan.flops) * static_cast<double>(cell.steps);
  std::vector<double> milliseconds, rates, gflops, percents;
  for (int64_t done = steps; done <= cell.steps; done += steps) {
    run.until += steps;
    const auto start = std::chrono::steady_clock::now();
    trainer->run(run);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    const double seconds = spent.count() / static_cast<double>(steps);
    cell.train_seconds += spent.count();
    milliseconds.push_back(1e3 * seconds);
    rates.push_back(static_cast<double>(entry.tokens_per_step()) / seconds);
    gflops.push_back(gflop / seconds);
    percents.push_back(100 * gflops.back() / peak_gflops);
    result.metrics.push_back({cell.cell, done, done * entry.tokens_per_step(), {}});
    result.metrics.back().values = {
        {"step_ms", milliseconds.back()}, {"tokens_per_second", rates.back()}, {"percent_of_peak", percents.back()}};
  }
  const auto planned = [](const char* name, double value) { return Measure{name, value, 0, 1}; };
  cell.measures = {
      median_of("tokens_per_second", rates),
      median_of("step_ms", milliseconds),
      median_of("gflops", gflops),
      median_of("percent_of_peak", percents),
      planned("planned_mib", static_cast<double>(planned_bytes(plan)) / kMebibyte),
      planned("dispatches", static_cast<double>(plan.dispatches.size())),
      planned("barriers", static_cast<double>(plan.barriers.size())),
      planned("host_us_per_submission", static_cast<double>(session.program("train").host_ns_per_submission()) / 1e3)};
  fmt::print(stderr, "{}: {:.4g} tokens/s\n", experiment.variant, cell.measures.front().mean);
  return result;
}

// Cheap to draw, and of any length; what the text says does not matter here.
std::shared_ptr<tasks::MarkovTask> text_for(const Rung& rung) {
  tasks::MarkovOptions options{.order = 1, .shares = {.5, .5}};
  options.symbols = static_cast<int32_t>(std::min(rung.model.vocab_size, int64_t{256}));
  options.block_size = static_cast<int32_t>(rung.model.block_size);
  return std::make_shared<tasks::MarkovTask>(options);
}

std::string left_out(const Keys& k, const Entry& entry, const Experiment& experiment,
                     const engine::DeviceInfo& device) {
  const bool single = experiment.dtype == graph::DType::f32;
  if (!single && !device.target.f16_storage) return "the device has no 16-bit storage";
  if (!(single && entry.members == 1) && k.most_gflop > 0 && entry.step_flops() > 1e9 * k.most_gflop)
    return fmt::format("{:.0f} GFLOP a step", entry.step_flops() / 1e9);
  try {
    const std::vector<Member> members(static_cast<size_t>(entry.members), Member{0, kLearningRate});
    const auto bytes = static_cast<double>(pack_cost(device.target, experiment, members).bytes);
    return bytes <= static_cast<double>(device.memory_bytes)
               ? ""
               : fmt::format("it takes {:.1f} GiB", bytes / kMebibyte / 1024);
  } catch (const UserError& error) {
    return error.what();  // a tensor is more than the device allocates at once
  }
}

void experiments(const Keys& k, Experiments& list) {
  const auto peak = std::make_shared<double>(0);  // measured when it is first needed
  for (const std::string& name : *k.models) {
    const Rung rung = parse_rung(name);
    const auto text = text_for(rung);
    const int64_t parameters = Model(rung.model).parameter_count();
    for (const std::string& dtype : *k.dtypes) {
      for (const int32_t members : *k.members) {
        const Entry entry{rung, dtype, members, parameters};
        Experiment& one = list.add("", rung.name + " " + entry.variant(), text, int32_t(rung.model.n_embd));
        one.model = rung.model;
        one.n_layer = static_cast<int32_t>(rung.model.n_layer);
        one.batch_size = rung.batch_size;
        one.dtype = parse_dtype(dtype);
        one.steps = static_cast<int32_t>(entry.sample_steps(k.sample_gflop) * (k.warm_up + k.repetitions));
        one.seeds = seeds(members);
        one.learning_rates = {kLearningRate};
        one.left_out = [&k, entry, own = one](const auto& device) { return left_out(k, entry, own, device); };
        one.procedure = [&k, entry, peak](auto& device, const auto& experiment, const auto& list) {
          if (*peak == 0) *peak = measure_ceilings(device, shaders::default_cache_directory()).f32_gflops;
          return time_steps(k, entry, *peak, device, experiment, list);
        };
      }
    }
  }
}

// A line a cell, numbers in full; then the same columns, rounded, for the terminal.
void write_tables(const Keys&, StudyRun& run) {
  StudyResult& result = run.result();
  result.benchmark = true;
  check(!result.cells.empty(), "nothing was measured: {}", join(result.caveats, " "));
  std::string csv = "cell,parameters,n_layer,n_embd,variant,steps,tokens,flops,seconds";
  for (const Measure& one : result.cells.front().measures)
    csv += "," + one.name + (one.n > 1 ? "," + one.name + "_standard_error" : "");
  std::string table = fmt::format("{:>12}  {:<9}", "parameters", "variant");
  const char* shown[] = {"tokens_per_second", "step_ms", "gflops", "percent_of_peak", "planned_mib", "dispatches"};
  for (const char* name : shown) table += fmt::format("  {:>17}", name);
  for (const Cell& cell : result.cells) {
    csv += fmt::format("\n{},{},{},{},{},{},{},{},{}", cell.cell, cell.parameters, cell.n_layer, cell.n_embd,
                       cell.variant, cell.steps, cell.tokens, cell.flops, cell.train_seconds);
    for (const Measure& one : cell.measures)
      csv += fmt::format(",{}", one.mean) + (one.n > 1 ? fmt::format(",{}", one.standard_error) : "");
    table += fmt::format("\n{:12}  {:<9}", cell.parameters, cell.variant);
    for (const char* name : shown) table += fmt::format("  {:>17.4g}", cell.find_measure(name)->mean);
  }
  write_file_atomic(run.directory().path() / "throughput.csv", csv + "\n");
  fmt::print("{}\n", table);
}

// A measure against size, a line a variant.
std::vector<Figure> figures(const Keys&, const StudyResult& result) {
  const auto figure = [&](const char* measure, const char* title, const char* note, const FigureAxis& y) {
    Curves curves(title, note, {"parameters", true}, y);
    for (const Cell& cell : result.cells) {
      const Measure& one = *cell.find_measure(measure);
      const double error = one.n > 1 ? one.standard_error : kNoValue;
      curves.add(cell.variant, {static_cast<double>(cell.parameters), one.mean, one.mean - error, one.mean + error});
    }
    return curves.figure();
  };
  return {
      figure("tokens_per_second", "Tokens per second by size",
             "All members together, data and optimizer included; whiskers are standard errors.",
             {"tokens per second", true}),
      figure("percent_of_peak", "Share of the measured peak by size",
             "Products alone over what f32 multiply-adds reach on this device at best.", {"% of the f32 peak", true}),
      figure("planned_mib", "Planned memory by size", "State, outputs and the arena of a step.", {"MiB", true}),
      figure("dispatches", "Dispatches of a step by size", "From the plan.", {"dispatches"})};
}

}  // namespace

// It measures and claims nothing; what is fast enough is for its reader to say.
const StudyProgram kStudy =
    StudyOf<Keys>{.head = {"throughput", "How fast a training step is, by size",
                           "What do size, ensembles and 16-bit activations do to tokens per second, to the share of "
                           "the device's peak, and to memory?"},
                  .parts = {.check = check_keys, .experiments = experiments, .figures = figures},
                  .caveats = {"Times are wall clock: whatever else ran on the machine is in them.",
                              "The peak is that of f32 multiply-adds, whatever activations are stored in.",
                              "Sizes differ in depth, length and batch as well: a line joins models, it is no law."},
                  .finish = write_tables};

}  // namespace surtsey::experiments
