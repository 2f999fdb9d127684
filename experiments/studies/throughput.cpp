// How fast training steps are: a ladder of sizes, types of activations and ensembles.
//
//   build/experiments/throughput --scale quick --models=27.5k,104k --members=1,8
//   build/experiments/throughput --models='V64 T64 L4 C128 H4 B12'
//
// Each entry is a cell: a decoder's whole step (data ring, forward, backward, clipping, AdamW), as
// every study trains it. A sample is the mean of as many steps as make sample_gflop; numbers are
// medians of samples. metrics.jsonl has every sample, throughput.csv a line an entry. An entry that
// is finished is never measured again.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "experiments/base/join.h"
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

struct Options {
  std::vector<std::string> models;
  std::vector<std::string> dtypes = {"f32", "bf16", "f16"};
  std::vector<int32_t> members;
  int32_t repetitions = 5;
  int32_t warm_up = 1;
  double sample_gflop = 4;
  double most_gflop = 0;
};

struct Rung {
  std::string name;
  ModelConfig model;
  int32_t batch_size = 0;
};

struct Shape {
  int64_t V, T, L, C, H, B;
};

Rung rung(const std::string& name, const Shape& shape) {
  Rung rung{name, {}, static_cast<int32_t>(shape.B)};
  rung.model.vocab_size = shape.V;
  rung.model.block_size = shape.T;
  rung.model.n_layer = shape.L;
  rung.model.n_embd = shape.C;
  rung.model.n_head = shape.H;
  return rung;
}

// Those that scripts/bench_against sets beside other programs, then GPT-2 (Radford et al. 2019).
std::vector<Rung> named_rungs() {
  std::vector<Rung> rungs = {rung("27.5k", {16, 32, 2, 32, 2, 64}), rung("104k", {16, 32, 2, 64, 2, 64}),
                             rung("818k", {64, 64, 4, 128, 4, 12}), rung("10.8M", {65, 256, 6, 384, 6, 8})};
  for (const auto& [name, layers, width] : {std::tuple{"124M", 12, 768}, std::tuple{"355M", 24, 1024},
                                            std::tuple{"774M", 36, 1280}, std::tuple{"1558M", 48, 1600}}) {
    Rung gpt2 = rung(name, {50257, 1024, layers, width, width / 64, 1});
    gpt2.model.activation = Activation::gelu_tanh;
    gpt2.model.tied = true;
    rungs.push_back(std::move(gpt2));
  }
  return rungs;
}

// "V16 T32 L2 C32 H2 B64", or a name. UserError says what would be right.
Rung parse_rung(const std::string& text) {
  std::vector<std::string> names;
  for (Rung& known : named_rungs()) {
    if (known.name == text) return known;
    names.push_back(known.name);
  }
  const std::string expected = fmt::format(
      "models: '{}' is none of {}, nor a size such as 'V16 T32 L2 C32 H2 B64' (vocabulary, tokens, "
      "layers, width, heads, sequences)",
      text, join(names, ", "));
  std::map<char, int64_t> values;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    size_t used = 0;
    int64_t value = 0;
    try {
      value = std::stoll(word.substr(1), &used);
    } catch (const std::logic_error&) {
      throw UserError(expected);
    }
    check(std::string_view("VTLCHB").find(word[0]) != std::string_view::npos && used + 1 == word.size() && value > 0 &&
              value <= 1 << 20 && values.emplace(word[0], value).second,
          "{}", expected);
  }
  check(values.size() == 6, "{}", expected);
  Rung parsed = rung(text, {values['V'], values['T'], values['L'], values['C'], values['H'], values['B']});
  check_config(parsed.model);
  return parsed;
}

// One measurement: a rung, a type, a number of members.
struct Entry {
  const Rung& rung;
  std::string dtype;
  int32_t members = 1;
  int64_t parameters = 0;

  std::string variant() const { return fmt::format("{} x{}", dtype, members); }
  int64_t tokens_per_step() const { return members * rung.batch_size * rung.model.block_size; }
  double step_flops() const { return estimated_training_flops(parameters, static_cast<double>(tokens_per_step())); }
  int64_t sample_steps(double gigaflops) const {
    return std::clamp(static_cast<int64_t>(gigaflops * 1e9 / step_flops()), int64_t{1}, kMostSteps);
  }
  std::vector<Member> list() const {
    std::vector<Member> list;
    for (int32_t i = 0; i < members; ++i) list.push_back({static_cast<uint32_t>(i), kLearningRate});
    return list;
  }
};

Experiment experiment_of(const Entry& entry, const tasks::Task& data, const Options& options) {
  Experiment experiment;
  experiment.variant = entry.rung.name + " " + entry.variant();
  experiment.data = &data;
  experiment.model = entry.rung.model;
  experiment.width = static_cast<int32_t>(entry.rung.model.n_embd);
  experiment.n_layer = static_cast<int32_t>(entry.rung.model.n_layer);
  experiment.batch_size = entry.rung.batch_size;
  experiment.dtype = parse_dtype(entry.dtype);
  experiment.steps =
      static_cast<int32_t>(entry.sample_steps(options.sample_gflop) * (options.warm_up + options.repetitions));
  return experiment;
}

// Cheap to draw, and of any length; what the text says does not matter here.
tasks::MarkovTask text_for(const Rung& rung) {
  constexpr int64_t kMostSymbols = 256;
  tasks::MarkovOptions options;
  options.symbols = static_cast<int32_t>(std::min(rung.model.vocab_size, kMostSymbols));
  options.order = 1;
  options.shares = {0.5, 0.5};
  options.block_size = static_cast<int32_t>(rung.model.block_size);
  return tasks::MarkovTask(options);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// The standard error is that of the median of normal samples, sqrt(pi / 2) times the mean's.
Measure median_of(const std::string& name, const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / n;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double error = values.size() < 2 ? 0 : 1.2533 * std::sqrt(squares / (n - 1) / n);
  return {name, median(values), error, static_cast<int64_t>(values.size())};
}

// What the plan of an entry says, and the seconds of a step in every sample.
struct Timed {
  graph::Plan plan;
  double host_seconds = 0;  // of a submission
  std::vector<double> step_seconds;
};

Timed time_steps(engine::Device& device, const Entry& entry, const Experiment& experiment, const Options& options) {
  const Model model(entry.rung.model);
  engine::Session session(device, {.quiet = true});
  const std::unique_ptr<Trainer> trainer = make_trainer(session, model, experiment, entry.list());
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
  const int64_t steps = entry.sample_steps(options.sample_gflop);
  run.until = steps * options.warm_up;
  trainer->run(run);
  Timed timed;
  for (int32_t i = 0; i < options.repetitions; ++i) {
    run.until += steps;
    const auto start = std::chrono::steady_clock::now();
    trainer->run(run);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    timed.step_seconds.push_back(spent.count() / static_cast<double>(steps));
  }
  timed.plan = session.plan("train");
  timed.host_seconds = static_cast<double>(session.host_ns_per_submission("train")) / 1e9;
  return timed;
}

Cell measure(StudyRun& run, const Entry& entry, const Experiment& experiment, const Options& options,
             double peak_gflops) {
  const Timed timed = time_steps(run.device(), entry, experiment, options);
  const auto tokens = static_cast<double>(entry.tokens_per_step());
  const double gflop = static_cast<double>(timed.plan.matmul_flops) / 1e9;
  const int64_t steps = entry.sample_steps(options.sample_gflop);

  Cell cell;
  cell.cell = cell_name(experiment, entry.list().front());
  cell.variant = entry.variant();
  cell.parameters = entry.parameters;
  cell.n_layer = experiment.n_layer;
  cell.n_embd = experiment.width;
  cell.learning_rate = kLearningRate;
  cell.steps = steps * options.repetitions;
  cell.tokens = cell.steps * entry.tokens_per_step();
  cell.flops = static_cast<double>(timed.plan.flops) * static_cast<double>(cell.steps);
  std::vector<double> milliseconds, rates, gflops, percents;
  for (const double seconds : timed.step_seconds) {
    cell.train_seconds += seconds * static_cast<double>(steps);
    milliseconds.push_back(1e3 * seconds);
    rates.push_back(tokens / seconds);
    gflops.push_back(gflop / seconds);
    percents.push_back(100 * gflops.back() / peak_gflops);
    const auto done = static_cast<int64_t>(rates.size()) * steps;
    run.directory().append(MetricLine{
        cell.cell,
        done,
        done * entry.tokens_per_step(),
        {{"step_ms", milliseconds.back()}, {"tokens_per_second", rates.back()}, {"percent_of_peak", percents.back()}}});
  }
  const auto planned = [](const char* name, double value) { return Measure{name, value, 0, 1}; };
  cell.measures = {median_of("tokens_per_second", rates),
                   median_of("step_ms", milliseconds),
                   median_of("gflops", gflops),
                   median_of("percent_of_peak", percents),
                   planned("planned_mib", static_cast<double>(planned_bytes(timed.plan)) / kMebibyte),
                   planned("dispatches", static_cast<double>(timed.plan.dispatches.size())),
                   planned("barriers", static_cast<double>(timed.plan.barriers.size())),
                   planned("host_us_per_submission", 1e6 * timed.host_seconds)};
  return cell;
}

// A line a cell, numbers in full; the same columns, rounded, for the terminal.
std::string cells_csv(const StudyResult& result) {
  std::string text = "cell,parameters,n_layer,n_embd,variant,steps,tokens,flops,seconds";
  for (const Cell& cell : result.cells) {
    if (&cell == result.cells.data()) {
      for (const Measure& one : cell.measures) {
        text += "," + one.name;
        if (one.n > 1) text += "," + one.name + "_standard_error";
      }
      text += "\n";
    }
    text += fmt::format("{},{},{},{},{},{},{},{},{}", cell.cell, cell.parameters, cell.n_layer, cell.n_embd,
                        cell.variant, cell.steps, cell.tokens, cell.flops, cell.train_seconds);
    for (const Measure& one : cell.measures) {
      text += fmt::format(",{}", one.mean);
      if (one.n > 1) text += fmt::format(",{}", one.standard_error);
    }
    text += "\n";
  }
  return text;
}

std::string cells_table(const StudyResult& result) {
  const std::vector<std::string> names = {"tokens_per_second", "step_ms",     "gflops",
                                          "percent_of_peak",   "planned_mib", "dispatches"};
  std::string text = fmt::format("{:>12}  {:<9}", "parameters", "variant");
  for (const std::string& name : names) text += fmt::format("  {:>17}", name);
  text += "\n";
  for (const Cell& cell : result.cells) {
    text += fmt::format("{:12}  {:<9}", cell.parameters, cell.variant);
    for (const std::string& name : names) text += fmt::format("  {:>17.4g}", cell.find_measure(name)->mean);
    text += "\n";
  }
  return text;
}

// A measure against size, a line a variant.
Figure figure_of(const StudyResult& result, const std::string& measure, const std::string& title,
                 const std::string& note, FigureAxis axis) {
  Figure figure{title, note, {"parameters", true}, std::move(axis), {}};
  for (const Cell& cell : result.cells) {
    auto series = std::find_if(figure.series.begin(), figure.series.end(),
                               [&](const FigureSeries& one) { return one.name == cell.variant; });
    if (series == figure.series.end()) {
      series = figure.series.insert(series, FigureSeries{cell.variant, {}});
    }
    const Measure& one = *cell.find_measure(measure);
    const double error = one.n > 1 ? one.standard_error : kNoValue;
    series->points.push_back({static_cast<double>(cell.parameters), one.mean, one.mean - error, one.mean + error});
  }
  return figure;
}

class Throughput : public Study {
 public:
  std::string_view name() const override { return "throughput"; }
  std::string_view title() const override { return "How fast a training step is, by size"; }
  std::string_view question() const override {
    return "What do size, ensembles and 16-bit activations do to tokens per second, to the share "
           "of the device's peak, and to memory?";
  }
  std::vector<std::string> scales() const override { return {"quick", "full", "paper"}; }

  void set_scale(std::string_view scale) override {
    options_ = {};
    options_.models = {"27.5k", "104k", "818k", "10.8M"};
    if (scale == "quick") {
      options_.members = {1, 4};
      options_.repetitions = 3;
      options_.sample_gflop = 2;
      options_.most_gflop = 10;
      return;
    }
    options_.models.push_back("124M");
    options_.members = {1, 8};
    options_.most_gflop = 1200;
    if (scale == "full") return;
    options_.models.insert(options_.models.end(), {"355M", "774M", "1558M"});
    options_.members = {1, 8, 64};
    options_.repetitions = 9;
    options_.warm_up = 2;
    options_.sample_gflop = 1000;
    options_.most_gflop = 0;
  }

  void add_fields(ConfigTable& table) override {
    table.add("models", &options_.models,
              "names, or sizes such as 'V16 T32 L2 C32 H2 B64': vocabulary, tokens, layers, width, "
              "heads, sequences of a step");
    table.add("dtypes", &options_.dtypes, "of activations, as far as the device stores them")
        .one_of({"f32", "bf16", "f16"});
    table.add("members", &options_.members, "models of an ensemble").at_least(1).at_most(4096);
    table.add("repetitions", &options_.repetitions, "samples of which the median is taken").at_least(1);
    table.add("warm_up", &options_.warm_up, "samples before them").at_least(1);
    table.add("sample_gflop", &options_.sample_gflop, "steps of a sample: as many as make this, from 1 to 64")
        .at_least(0);
    table
        .add("most_gflop", &options_.most_gflop,
             "of a step: larger ones are left out, but for single models in f32; 0: none")
        .at_least(0);
  }

  void check_options() const override {
    check(!options_.models.empty() && !options_.dtypes.empty() && !options_.members.empty(),
          "models, dtypes and members each want one entry at the least");
    const auto once = [](const auto& list, const char* key) {
      for (size_t i = 0; i < list.size(); ++i)
        check(std::find(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(i), list[i]) ==
                  list.begin() + static_cast<std::ptrdiff_t>(i),
              "{}: {} is there twice", key, list[i]);
    };
    once(options_.models, "models");
    once(options_.dtypes, "dtypes");
    once(options_.members, "members");
    for (const std::string& model : options_.models) parse_rung(model);
  }

  void run(StudyRun& run) override {
    left_out_.clear();
    for (const std::string& name : options_.models) {
      const Rung rung = parse_rung(name);
      const tasks::MarkovTask text = text_for(rung);
      const int64_t parameters = Model(rung.model).parameter_count();
      for (const std::string& dtype : options_.dtypes)
        for (const int32_t members : options_.members) visit(run, {rung, dtype, members, parameters}, text);
    }
    if (run.scouting()) return;
    run.result().benchmark = true;
    check(!run.result().cells.empty(), "nothing was measured: {}", join(left_out_, "; "));
    write_file_atomic(run.directory().path() / "throughput.csv", cells_csv(run.result()));
    fmt::print("{}", cells_table(run.result()));
  }

  // It measures; what is fast enough is for its reader to say.
  std::vector<DeclaredClaim> claims() const override { return {}; }

  void describe(StudyResult& result) const override {
    result.settings = {{"models", join(options_.models, ", ")},
                       {"samples", fmt::format("median of {}, after {} to warm up; {} GFLOP each or one step",
                                               options_.repetitions, options_.warm_up, options_.sample_gflop)}};
    result.figures = {
        figure_of(result, "tokens_per_second", "Tokens per second by size",
                  "All members together, data and optimizer included; whiskers are standard errors.",
                  {"tokens per second", true}),
        figure_of(result, "percent_of_peak", "Share of the measured peak by size",
                  "Products alone over what f32 multiply-adds reach on this device at best.",
                  {"% of the f32 peak", true}),
        figure_of(result, "planned_mib", "Planned memory by size", "State, outputs and the arena of a step.",
                  {"MiB", true}),
        figure_of(result, "dispatches", "Dispatches of a step by size", "From the plan.", {"dispatches", false})};
    result.caveats = {"Times are wall clock: whatever else ran on the machine is in them.",
                      "The peak is that of f32 multiply-adds, whatever activations are stored in.",
                      "Sizes differ in depth, length and batch as well: a line joins models, it is no law."};
    for (const std::string& one : left_out_) result.caveats.push_back(one + " was left out.");
  }

 private:
  void visit(StudyRun& run, const Entry& entry, const tasks::Task& text) {
    const engine::DeviceInfo& device = run.device().info();
    const Experiment experiment = experiment_of(entry, text, options_);
    const auto leave_out = [&](const std::string& why) {
      left_out_.push_back(fmt::format("{} ({})", experiment.variant, why));
      if (said_.insert(experiment.variant).second) {
        fmt::print(stderr, "left out: {}\n", left_out_.back());
      }
    };
    if (experiment.dtype != graph::DType::f32 && !device.target.f16_storage) {
      return leave_out("the device has no 16-bit storage");
    }
    const bool plain = entry.members == 1 && experiment.dtype == graph::DType::f32;
    if (!plain && options_.most_gflop > 0 && entry.step_flops() > 1e9 * options_.most_gflop) {
      return leave_out(fmt::format("{:.0f} GFLOP a step", entry.step_flops() / 1e9));
    }
    const std::vector<Member> members = entry.list();
    if (run.finished(cell_name(experiment, members.front()))) return;
    try {
      const auto bytes = static_cast<double>(pack_cost(device.target, experiment, members).bytes);
      if (bytes > static_cast<double>(device.memory_bytes)) {
        return leave_out(fmt::format("it takes {:.1f} GiB", bytes / kMebibyte / 1024));
      }
    } catch (const UserError& error) {
      return leave_out(error.what());  // a tensor is more than the device allocates at once
    }
    if (run.scouting()) return run.scouting()({experiment, members});
    if (peak_gflops_ == 0) {
      peak_gflops_ = measure_ceilings(run.device(), shaders::default_cache_directory()).f32_gflops;
    }
    const Cell cell = measure(run, entry, experiment, options_, peak_gflops_);
    run.add({cell});
    fmt::print(stderr, "{}: {:.4g} tokens/s\n", experiment.variant, cell.find_measure("tokens_per_second")->mean);
  }

  Options options_;
  double peak_gflops_ = 0;             // measured when it is first needed
  std::vector<std::string> left_out_;  // entries, and why
  std::set<std::string> said_;         // of these, on stderr: a plan visits all of them twice
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  surtsey::experiments::Throughput study;
  return surtsey::experiments::run_study(argc, argv, study);
}
