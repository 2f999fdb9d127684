#include "experiments/device_data/context_regression.h"

#include <map>

#include "experiments/base/interrupt.h"
#include "experiments/device_data/regression_baselines.h"
#include "experiments/models/members.h"
#include "experiments/statistics/intervals.h"
#include "graph/functions.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Program;
using graph::Value;

constexpr const char* kValidation = "measure_validation";
constexpr const char* kTest = "measure_test";
constexpr const char* kKnown = "measure_known";
constexpr const char* kTaskStream = "context.tasks";

// At every x, [B, K].
Value predict_all(const Model& model, graph::Parameters& parameters, Value tokens) {
  const int64_t rows = tokens.dim(0), examples = tokens.dim(1) / 2;
  const Value out = reshape(model.logits(parameters, tokens), {rows, examples, 2});
  return reshape(slice(out, 2, 0, 1), {rows, examples});
}

Program measure_program(const ContextRegression& data, const Model& model, const char* name, bool known) {
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  graph::Parameters parameters(graph, model.store());
  const Value seed = graph.parameter(kMeasureSeed, {DType::u32, {}});
  const Value step = graph.parameter(kMeasureStep, {DType::u32, {}});
  const auto draw = data.draw(graph, data.options().evaluation_rows, seed, step, name, known);
  const Value prediction = predict_all(model, parameters, draw.tokens);
  program.outputs = {{"prediction", prediction}, {"x", draw.x}, {"y", draw.y}};
  return program;
}

// Sums of numbers by name, one list a member.
class Means {
 public:
  explicit Means(size_t members) : lists_(members) {}

  void add(size_t member, const std::string& name, double value) {
    auto [at, fresh] = lists_[member].try_emplace(name);
    if (fresh && member == 0) names_.push_back(name);
    at->second.push_back(value);
  }
  std::vector<Measure> of(size_t member) const {
    std::vector<Measure> measures;
    for (const std::string& name : names_) {
      const auto& values = lists_[member].at(name);
      measures.push_back({name, mean(values), standard_error(values), static_cast<int64_t>(values.size())});
    }
    return measures;
  }

 private:
  std::vector<std::string> names_;
  std::vector<std::map<std::string, std::vector<double>>> lists_;
};

double mean_square(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (size_t k = 0; k < a.size(); ++k) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return sum / static_cast<double>(a.size());
}

}  // namespace

// One batch on the host.
struct ContextRegression::Batch {
  std::vector<double> x, y;                      // [B, K, d], [B, K]
  std::vector<std::vector<double>> predictions;  // a member: [B, K]
};

ModelConfig context_regression_config(const ContextRegressionOptions& options, int32_t layers, int32_t width,
                                      int32_t heads) {
  ModelConfig config;
  config.n_layer = layers;
  config.n_head = heads;
  config.n_embd = width;
  config.block_size = 2 * options.examples;
  config.vocab_size = 1;
  config.input_size = options.dimension + 1;
  config.initialisation = InitialisationScheme::recipe;
  check_config(config);
  return config;
}

ContextRegression::ContextRegression(ContextRegressionOptions options) : options_(options) {
  const ContextRegressionOptions& o = options_;
  check(o.dimension > 0 && o.examples > 1, "[regression] {} dimensions and {} examples", o.dimension, o.examples);
  check(0 <= o.tasks && o.tasks <= 1 << 24, "[regression] {} tasks are not in [0, 2^24]", o.tasks);
  check(o.tasks == 0 || o.noise > 0, "[regression] without noise a posterior over tasks is a step");
  for (int64_t at = 0; at < o.tasks * o.dimension; ++at) {
    tasks_.push_back(standard_normal(static_cast<uint32_t>(at), 0, 0, kTaskStream));
  }
}

ContextRegression::Draw ContextRegression::draw(graph::Graph& graph, int64_t rows, Value seed, Value step,
                                                std::string_view stream, bool known, Value dimensions) const {
  graph::ScopeGuard scope(graph, "context");
  const int64_t d = options_.dimension, K = options_.examples;
  const std::string prefix(stream);
  Value x = standard_normal(graph, {rows, K, d}, seed, step, prefix + ".x");
  if (dimensions) {
    const Value present = less(iota(graph, {DType::f32, {d}}, 0), dimensions);
    x = select(present, x, graph::constant_like(x, 0));
  }
  Value w;  // [B, d, 1]
  if (known) {
    // Which task: a share of M, below 1 also where f32 would round it up.
    const Value index = iota(graph, {DType::u32, {rows, 1}}, 0);
    const Value bits = random_bits(graph::stream_key(seed, prefix + ".task"), step, index);
    const Value share = min(cast(bits, DType::f32) * 0x1p-32, scalar(graph, 1 - 0x1p-24));
    const Value task = cast(floor(share * double(options_.tasks)), DType::u32);
    const Value place = iota(graph, {DType::u32, {1, d}}, 1);
    const Value zero = scalar(graph, 0, DType::u32);
    w = standard_normal(task * scalar(graph, double(d), DType::u32) + place, zero, zero, kTaskStream);
    w = reshape(w, {rows, d, 1});
  } else {
    w = standard_normal(graph, {rows, d, 1}, seed, step, prefix + ".w");
  }
  Draw result;
  result.x = x;
  Value y = matmul(x, w);  // [B, K, 1]
  if (options_.noise > 0) {
    y = y + standard_normal(graph, {rows, K, 1}, seed, step, prefix + ".noise") * options_.noise;
  }
  result.y = reshape(y, {rows, K});
  const Value nothing = graph::constant_like(y, 0);
  const Value asked = graph::concat({nothing, x}, -1);
  const Value told = graph::concat({y, graph::constant_like(x, 0)}, -1);
  const Value pairs = graph::concat({reshape(asked, {rows, K, 1, d + 1}), reshape(told, {rows, K, 1, d + 1})}, 2);
  result.tokens = reshape(pairs, {rows, 2 * K, d + 1});
  return result;
}

Value ContextRegression::training_loss(const Model& model, graph::Parameters& parameters, Value seed, Value step,
                                       int64_t rows) const {
  const ContextRegressionOptions& o = options_;
  graph::Graph& graph = parameters.graph();
  const bool growing = o.curriculum_steps > 0;
  Value dimensions, examples;  // f32 []
  if (growing) {
    const Value grown = floor(cast(step, DType::f32) * (1.0 / o.curriculum_steps));
    dimensions = min(grown + double(o.start_dimension), scalar(graph, o.dimension));
    examples = min(grown * 2.0 + double(o.start_examples), scalar(graph, o.examples));
  }
  const Draw batch = draw(graph, rows, seed, step, "context.train", o.tasks > 0, dimensions);
  const Value error = predict_all(model, parameters, batch.tokens) - batch.y;
  graph::ScopeGuard scope(graph, "loss");
  const Value square = error * error;
  if (!growing) return graph::mean(square, {0, 1}, false);
  const Value counted = less(iota(graph, {DType::f32, {1, int64_t{o.examples}}}, 1), examples);
  const Value kept = select(counted, square, graph::constant_like(square, 0));
  return sum(kept, {0, 1}, false) / (examples * double(rows));
}

void ContextRegression::add_programs(engine::Session& session, const Model& model, size_t members) const {
  const auto add = [&](const char* name, bool known) {
    session.add_program(name, for_members(measure_program(*this, model, name, known), members));
  };
  add(kValidation, options_.tasks > 0);
  add(kTest, false);
  if (options_.tasks > 0) add(kKnown, true);
}

std::vector<ContextRegression::Batch> ContextRegression::run_batches(engine::Session& session, const char* program,
                                                                     size_t members, uint32_t seed) const {
  const int64_t sequences =
      std::string_view(program) == kValidation ? options_.validation_sequences : options_.test_sequences;
  const int64_t rows = options_.evaluation_rows;
  const engine::SessionProgram measured = session.program(program);
  session.write(kMeasureSeed, std::vector<uint32_t>{seed});
  std::vector<Batch> batches;
  for (int64_t first = 0; first < sequences; first += rows) {
    if (interrupted()) throw Interrupted("interrupted during the evaluation of a regression");
    session.write(kMeasureStep, std::vector<uint32_t>{static_cast<uint32_t>(first / rows)});
    measured.run();
    Batch& batch = batches.emplace_back();
    const auto doubles = [&](const char* name) {
      const std::vector<float> values = measured.read_floats(name);
      return std::vector<double>(values.begin(), values.end());
    };
    batch.x = doubles("x");
    batch.y = doubles("y");
    const std::vector<double> all = doubles("prediction");
    const size_t each = batch.y.size();
    ensure(all.size() == members * each, "[regression] {} predictions of {} models", all.size(), members);
    for (size_t e = 0; e < members; ++e) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(e * each);
      batch.predictions.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(each));
    }
  }
  return batches;
}

std::vector<double> ContextRegression::validation_loss(engine::Session& session, size_t members, uint32_t seed) const {
  std::vector<std::vector<double>> losses(members);
  for (const Batch& batch : run_batches(session, kValidation, members, seed)) {
    for (size_t e = 0; e < members; ++e) {
      losses[e].push_back(mean_square(batch.predictions[e], batch.y));
    }
  }
  std::vector<double> means;
  for (const auto& list : losses) means.push_back(mean(list));
  return means;
}

std::vector<std::vector<Measure>> ContextRegression::measure(engine::Session& session, size_t members,
                                                             uint32_t seed) const {
  const auto d = static_cast<size_t>(options_.dimension);
  const auto K = static_cast<size_t>(options_.examples);
  const double variance = options_.dimension;
  Means means(members);
  const auto each_row = [&](const char* program, auto&& visit) {
    for (const Batch& batch : run_batches(session, program, members, seed)) {
      for (size_t row = 0; row * K < batch.y.size(); ++row) {
        const ContextExamples examples{options_.dimension, std::span(batch.x).subspan(row * K * d, K * d),
                                       std::span(batch.y).subspan(row * K, K)};
        visit(examples, [&, row](size_t member) { return std::span(batch.predictions[member]).subspan(row * K, K); });
      }
    }
  };
  const auto add_errors = [&](size_t member, const char* name, std::span<const double> predictions,
                              std::span<const double> y) {
    for (size_t k = 0; k < K; ++k) {
      const double error = predictions[k] - y[k];
      means.add(member, fmt::format("{}.{}", name, k), error * error / variance);
    }
  };
  const auto add_distances = [&](const ContextExamples& examples, auto&& predictions, const std::string& prefix) {
    const auto of_ridge = ridge(examples, options_.noise * options_.noise);
    const auto of_posterior = posterior_mean(examples, tasks_, options_.noise);
    for (size_t e = 0; e < members; ++e) {
      means.add(e, prefix + "to_ridge", mean_square(predictions(e), of_ridge) / variance);
      means.add(e, prefix + "to_posterior", mean_square(predictions(e), of_posterior) / variance);
    }
  };
  each_row(kTest, [&](const ContextExamples& examples, auto&& predictions) {
    for (size_t e = 0; e < members; ++e) add_errors(e, "error", predictions(e), examples.y);
    if (options_.noise == 0) {
      const auto lines = least_squares(examples), averages = averaging(examples);
      const auto neighbours = nearest_neighbours(examples);
      for (size_t e = 0; e < members; ++e) {
        add_errors(e, "least_squares", lines, examples.y);
        add_errors(e, "averaging", averages, examples.y);
        add_errors(e, "neighbours", neighbours, examples.y);
      }
    }
    if (options_.tasks > 0) add_distances(examples, predictions, "");
  });
  if (options_.tasks > 0) {
    each_row(kKnown, [&](const ContextExamples& examples, auto&& predictions) {
      add_distances(examples, predictions, "known_");
    });
  }
  std::vector<std::vector<Measure>> all;
  for (size_t e = 0; e < members; ++e) all.push_back(means.of(e));
  return all;
}

}  // namespace surtsey::experiments
