#include "experiments/device_data/regression.h"

#include <cmath>

#include "experiments/base/interrupt.h"
#include "experiments/models/members.h"
#include "experiments/statistics/intervals.h"
#include "graph/functions.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Program;
using graph::Value;

constexpr const char* kStreams[] = {"regression.validation", "regression.test"};
constexpr const char* kPrograms[] = {"measure_validation", "measure_test"};

// The model's number at the query, [B].
Value predict_query(const Model& model, graph::Parameters& parameters, Value tokens) {
  const Value out = model.logits(parameters, tokens);
  return reshape(slice(out, 1, tokens.dim(1) - 1, tokens.dim(1)), {tokens.dim(0)});
}

Value mean_of(Value x) { return graph::mean(x, {0}, false); }

// One batch of an evaluation stream.
Program measure_program(const LinearRegression& data, const Model& model, const char* stream) {
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  graph::Parameters parameters(graph, model.store());
  const Value seed = graph.parameter(kMeasureSeed, {DType::u32, {}});
  const Value step = graph.parameter(kMeasureStep, {DType::u32, {}});
  const auto draw = data.draw(graph, data.options().evaluation_rows, seed, step, stream);
  const Value prediction = predict_query(model, parameters, draw.tokens);
  const Value error = prediction - draw.target;
  const Value step_error = draw.gradient_step - draw.target;
  program.outputs = {{"loss", mean_of(error * error)},
                     {"gradient_step_loss", mean_of(step_error * step_error)},
                     {"product", mean_of(prediction * draw.gradient_step)},
                     {"square", mean_of(prediction * prediction)},
                     {"step_square", mean_of(draw.gradient_step * draw.gradient_step)}};
  return program;
}

// Every output of every batch: [output][member][batch]. What no parameter enters has one value for
// all members.
std::map<std::string, std::vector<std::vector<double>>> run_batches(engine::Session& session, const char* program,
                                                                    size_t members, uint32_t seed, int64_t batches) {
  const engine::SessionProgram measured = session.program(program);
  session.write(kMeasureSeed, std::vector<uint32_t>{seed});
  std::map<std::string, std::vector<std::vector<double>>> outputs;
  for (int64_t batch = 0; batch < batches; ++batch) {
    if (interrupted()) throw Interrupted("interrupted during the evaluation of a regression");
    session.write(kMeasureStep, std::vector<uint32_t>{static_cast<uint32_t>(batch)});
    measured.run();
    for (const char* name : {"loss", "gradient_step_loss", "product", "square", "step_square"}) {
      const std::vector<float> values = measured.read_floats(name);
      ensure(values.size() == members || values.size() == 1, "[regression] {} values of {} models", values.size(),
             members);
      auto& lists = outputs[name];
      lists.resize(members);
      for (size_t e = 0; e < members; ++e) {
        lists[e].push_back(values[values.size() == 1 ? 0 : e]);
      }
    }
  }
  return outputs;
}

int64_t batches_for(int64_t sequences, int64_t rows) { return (sequences + rows - 1) / rows; }

}  // namespace

double gradient_step_loss(const RegressionOptions& options) {
  const double d = options.dimension, N = options.context;
  return d * (d + 1) / (N + d + 1);
}

ModelConfig linear_attention_config(const RegressionOptions& options, int32_t layers, int32_t width) {
  ModelConfig config;
  config.n_layer = layers;
  config.n_head = 1;
  config.n_embd = width;
  config.block_size = options.context + 1;
  config.vocab_size = 1;
  config.input_size = options.dimension + 1;
  config.bias = false;
  config.position = Position::none;
  config.norm = Norm::none;
  config.attention = AttentionKind::linear;
  config.mlp = false;
  config.initialisation = InitialisationScheme::recipe;
  check_config(config);
  return config;
}

LinearRegression::Draw LinearRegression::draw(graph::Graph& graph, int64_t rows, Value seed, Value step,
                                              std::string_view stream) const {
  graph::ScopeGuard scope(graph, "regression");
  const int64_t d = options_.dimension, N = options_.context;
  const std::string prefix(stream);
  const Value x = standard_normal(graph, {rows, N + 1, d}, seed, step, prefix + ".x");
  const Value w = standard_normal(graph, {rows, d, 1}, seed, step, prefix + ".w");
  const Value y = matmul(x, w);  // [B, T, 1]
  const Value place = iota(graph, {DType::u32, {N + 1, 1}}, 0);
  const Value known = less(place, scalar(graph, double(N), DType::u32));
  const Value shown = select(known, y, graph::constant_like(y, 0));
  Draw result;
  result.tokens = graph::concat({x, shown}, -1);
  result.target = reshape(slice(y, 1, N, N + 1), {rows});
  const Value examples = slice(x, 1, 0, N), query = slice(x, 1, N, N + 1);
  const Value direction = matmul(transpose(examples), slice(y, 1, 0, N));  // [B, d, 1]
  const double rate = 1 / double(N + d + 1);                               // eta / N
  result.gradient_step = reshape(matmul(query, direction), {rows}) * rate;
  return result;
}

Value LinearRegression::training_loss(const Model& model, graph::Parameters& parameters, Value seed, Value step,
                                      int64_t rows) const {
  const Draw batch = draw(parameters.graph(), rows, seed, step, "regression.train");
  const Value error = predict_query(model, parameters, batch.tokens) - batch.target;
  graph::ScopeGuard scope(parameters.graph(), "loss");
  return mean_of(error * error);
}

void LinearRegression::add_programs(engine::Session& session, const Model& model, size_t members) const {
  for (size_t i = 0; i < std::size(kPrograms); ++i) {
    session.add_program(kPrograms[i], for_members(measure_program(*this, model, kStreams[i]), members));
  }
}

std::vector<double> LinearRegression::validation_loss(engine::Session& session, size_t members, uint32_t seed) const {
  const int64_t batches = batches_for(options_.validation_sequences, options_.evaluation_rows);
  const auto outputs = run_batches(session, kPrograms[0], members, seed, batches);
  std::vector<double> losses;
  for (const auto& list : outputs.at("loss")) losses.push_back(mean(list));
  return losses;
}

std::vector<std::vector<Measure>> LinearRegression::measure(engine::Session& session, size_t members,
                                                            uint32_t seed) const {
  const int64_t batches = batches_for(options_.test_sequences, options_.evaluation_rows);
  const auto outputs = run_batches(session, kPrograms[1], members, seed, batches);
  const double optimum = gradient_step_loss(options_);
  std::vector<std::vector<Measure>> all;
  for (size_t e = 0; e < members; ++e) {
    const auto list = [&](const char* name) -> const std::vector<double>& { return outputs.at(name)[e]; };
    const auto average = [&](const char* name, const std::vector<double>& values, double by) {
      return Measure{name, mean(values) / by, standard_error(values) / by, batches * options_.evaluation_rows};
    };
    std::vector<double> cosines;
    for (size_t b = 0; b < list("product").size(); ++b) {
      cosines.push_back(list("product")[b] / std::sqrt(list("square")[b] * list("step_square")[b]));
    }
    all.push_back({average("loss", list("loss"), 1), average("loss_over_optimum", list("loss"), optimum),
                   average("gradient_step_loss", list("gradient_step_loss"), 1), average("cosine", cosines, 1)});
  }
  return all;
}

}  // namespace surtsey::experiments
