#include "experiments/kernels/selftest.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "experiments/train/train_session.h"

namespace surtsey::experiments {
namespace {

constexpr uint32_t kSteps = 10;
constexpr double kLossTolerance = 1e-5;  // relative
// AdamW divides by the root of the second moment: tiny gradients enlarge rounding errors.
constexpr double kParameterTolerance = 2e-3;

// The training run: a decoder whose sides are multiples of nothing.
struct Training {
  Training() : model(config()) {
    train.batch_size = 5;
    train.members = {{.seed = 5, .learning_rate = 1e-2}};
    program = train_step(model, train);
  }
  static ModelConfig config() {
    ModelConfig config;
    config.n_layer = 2;
    config.n_head = 2;
    config.n_embd = 12;
    config.block_size = 9;
    config.vocab_size = 7;
    return config;
  }
  Model model;
  TrainConfig train;
  graph::Program program;
};

class Selftest {
 public:
  Selftest(engine::Device& device, const SelftestOptions& options) : device_(device), options_(options) {
    report_.device = device.info();
    report_.validation = device.validation();
  }

  SelftestReport run() {
    std::vector<Variant> list = variants(device_);
    if (options_.quick) list.resize(1);
    for (const Variant& variant : list) {
      VariantResult& result = report_.variants.emplace_back();
      result.name = variant.name;
      result.target = variant.target;
      const auto start = std::chrono::steady_clock::now();
      for (const graph::OpDef& row : graph::op_table()) {
        if (!row.samples.empty() && wanted(row.name)) guarded(row.name, [&] { run_op(row); });
        if (!report_.stopped.empty()) return end();
      }
      if (options_.training) guarded("training", [&] { run_training(); });
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      result.seconds = taken.count();
      if (!report_.stopped.empty()) return end();
    }
    return end();
  }

 private:
  VariantResult& result() { return report_.variants.back(); }

  bool wanted(const std::string& op) const {
    const auto& ops = options_.ops;
    return ops.empty() || std::find(ops.begin(), ops.end(), op) != ops.end();
  }

  SelftestReport end() {
    report_.under_way.clear();
    if (options_.progress) options_.progress(report_);
    return std::move(report_);
  }

  void fail(const std::string& what, const std::string& why) {
    result().failures.push_back(fmt::format("{}: {}: {}", result().name, what, why));
  }

  template <typename Work>
  void guarded(const std::string& what, const Work& work) {
    report_.under_way = fmt::format("{}, variant {}", what, result().name);
    if (options_.progress) options_.progress(report_);
    try {
      work();
    } catch (const engine::DeviceError& error) {
      fail(what, error.what());
      if (error.lost()) report_.stopped = error.what();
    } catch (const std::exception& error) {
      fail(what, error.what());
    }
  }

  void run_op(const graph::OpDef& row) {
    const OpSuite suite = op_suite(row);
    graph::State state = suite.state;
    const auto reference = graph::interpret(suite.program, state);
    const auto values = run_on_device(device_, result().target, suite.program, suite.state, 1, options_.alter);
    OpResult op{row.name};
    for (const auto& [name, expected] : reference) {
      const OpCase& test = suite.cases.at(name);
      const Deviation found = deviation(values.at(name), expected, test.tolerance);
      ++op.outputs;
      op.absolute = std::max(op.absolute, found.absolute);
      if (op.worst.empty() || found.share > op.share) op.worst = test.text;
      op.share = std::max(op.share, found.share);
      if (!found.text.empty()) fail(test.text, found.text);
    }
    result().ops.push_back(std::move(op));
  }

  void run_training() {
    const Training training;
    engine::SessionOptions options;
    options.target = result().target;
    options.quiet = true;
    options.poison = true;
    engine::Session session(device_, options);
    const engine::SessionProgram train = add_program(session, "train", training.program, options_.alter);
    session.allocate();
    write_uniform_start(session, training.model, training.train);
    interpret(training, session);
    for (uint32_t step = 0; step < kSteps; ++step) {
      train.run();
      const double loss = double(train.read_floats("loss")[0]);
      const double expected = report_.reference_losses[step];
      result().losses.push_back(loss);
      if (!(std::abs(loss - expected) <= kLossTolerance * std::abs(expected)))
        fail("training", fmt::format("loss of step {} is {:.9g} instead of {:.9g}", step + 1, loss, expected));
    }
    const graph::HostTensor parameters = session.read(graph::kParameters);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < parameters.values.size(); ++i) {
      const double r = reference_parameters_.values[i];
      difference += (parameters.values[i] - r) * (parameters.values[i] - r);
      norm += r * r;
    }
    result().parameter_error = std::sqrt(difference / norm);
    if (!(result().parameter_error <= kParameterTolerance))
      fail("training", fmt::format("parameters after {} steps are off by {:.3g} of their norm, allowed {:.3g}", kSteps,
                                   result().parameter_error, kParameterTolerance));
    for (const std::string& place : session.overruns()) fail("training", "wrote " + place);
    for (const std::string& message : device_.validation_messages()) fail("validation", message);
  }

  // Once; every variant starts from the same state.
  void interpret(const Training& training, engine::Session& session) {
    if (!report_.reference_losses.empty()) return;
    graph::State state;
    for (const std::string& name : session.state_names()) state[name] = session.read(name);
    for (uint32_t step = 0; step < kSteps; ++step)
      report_.reference_losses.push_back(graph::interpret(training.program, state).at("loss").values[0]);
    reference_parameters_ = state.at(graph::kParameters);
  }

  engine::Device& device_;
  const SelftestOptions& options_;
  SelftestReport report_;
  graph::HostTensor reference_parameters_;
};

}  // namespace

size_t SelftestReport::failures() const {
  size_t count = 0;
  for (const VariantResult& variant : variants) count += variant.failures.size();
  return count;
}

SelftestReport run_selftest(engine::Device& device, const SelftestOptions& options) {
  for (const std::string& op : options.ops) {
    const auto table = graph::op_table();
    check(std::any_of(table.begin(), table.end(), [&](const graph::OpDef& row) { return row.name == op; }),
          "there is no op '{}'", op);
  }
  return Selftest(device, options).run();
}

}  // namespace surtsey::experiments
