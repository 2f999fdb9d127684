#include "experiments/device_data/sparse_parity.h"

#include <cmath>
#include <numeric>
#include <set>

#include "experiments/base/interrupt.h"
#include "experiments/models/members.h"
#include "graph/functions.h"
#include "graph/random.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Program;
using graph::Value;

constexpr const char* kParityValidation = "parity_validation";
constexpr const char* kParityTest = "parity_test";
constexpr const char* kParitySeed = "parity.seed";
constexpr const char* kTask = "parity.task";
constexpr uint32_t kSalts = 1000;

Program measure_program(const SparseParity& data, const Model& model, const char* name) {
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  graph::Parameters parameters(graph, model.store());
  const bool test = name == std::string_view(kParityTest);
  const Value seed = graph.parameter(kParitySeed, {DType::u32, {}});
  const Value task = test ? graph.parameter(kTask, {DType::u32, {}}) : Value{};
  const Value step = test ? task : graph::scalar(graph, 0, DType::u32);
  const int64_t rows = test ? data.options().items : data.options().validation_samples;
  const auto draw = data.draw(graph, rows, seed, step, name, task);
  const Value logits = model.logits(parameters, draw.input);
  const Value loss = graph::cross_entropy(logits, draw.target).per_token;
  const Value hit = cast(graph::equal(graph::argmax(logits, -1, false), draw.target), DType::f32);
  program.outputs = {{"loss", graph::mean(loss, {0, 1}, false)},
                     {"loss_square", graph::mean(loss * loss, {0, 1}, false)},
                     {"right", graph::mean(hit, {0, 1}, false)}};
  return program;
}

double standard_error_of(double mean, double square, int32_t n) {
  return std::sqrt(std::max(0.0, square - mean * mean) / std::max(1, n - 1));
}

}  // namespace

SparseParity::SparseParity(SparseParityOptions options) : options_(options) {
  check(options_.tasks >= 1 && options_.tasks <= 1000, "[parity] tasks is {}, it must be in [1, 1000]", options_.tasks);
  check(options_.subset >= 1 && options_.bits >= options_.subset && options_.bits % options_.subset == 0,
        "[parity] subset is {}, it must divide the {} bits", options_.subset, options_.bits);
  check(options_.exponent >= 0, "[parity] exponent is {}, it must not be negative", options_.exponent);
  check(options_.items >= 1 && options_.validation_samples >= 1, "[parity] a test of {} items, a validation of {}",
        options_.items, options_.validation_samples);
  double total = 0;
  for (int32_t i = 0; i < options_.tasks; ++i) {
    probabilities_.push_back(std::pow(i + 1.0, -options_.exponent));
    total += probabilities_.back();
  }
  for (double& p : probabilities_) p /= total;
  for (; salt_ < kSalts; ++salt_) {
    std::set<std::vector<int32_t>> subsets;
    for (int32_t task = 0; task < options_.tasks; ++task) subsets.insert(subset(task));
    if (subsets.size() == static_cast<size_t>(options_.tasks)) return;
  }
  check(false, "[parity] {} tasks find no distinct subsets of {} among {} bits", options_.tasks, options_.subset,
        options_.bits);
}

uint32_t SparseParity::place_key(int32_t part) const {
  return graph::stream_seed(options_.subset_seed, fmt::format("parity.{}.{}", salt_, part));
}

std::vector<int32_t> SparseParity::subset(int32_t task) const {
  const int32_t block = options_.bits / options_.subset;
  std::vector<int32_t> places;
  for (int32_t part = 0; part < options_.subset; ++part) {
    const uint32_t bits = graph::random_bits(place_key(part), 0, static_cast<uint32_t>(task));
    places.push_back(part * block + static_cast<int32_t>(bits % static_cast<uint32_t>(block)));
  }
  return places;
}

ModelConfig SparseParity::model(int32_t width) const {
  ModelConfig config;
  config.n_layer = 1;
  config.n_head = 1;
  config.n_embd = width;
  config.block_size = 1;
  config.vocab_size = 2;
  config.input_size = options_.tasks + options_.bits;
  config.bias = false;
  config.hidden_bias = true;
  config.position = Position::none;
  config.norm = Norm::none;
  config.initialisation = InitialisationScheme::recipe;
  check_config(config);
  return config;
}

SparseParity::Draw SparseParity::draw(graph::Graph& graph, int64_t rows, Value seed, Value step,
                                      std::string_view stream, Value task) const {
  graph::ScopeGuard scope(graph, "parity");
  const std::string name(stream);
  const auto number = [&](double value) { return graph::scalar(graph, value, DType::u32); };
  const int64_t n = options_.bits, tasks = options_.tasks;
  Value chosen;  // u32 [B]
  if (task) {
    chosen = broadcast(task, {rows});
  } else {
    const Value index = iota(graph, {DType::u32, {rows}}, 0);
    const Value place = random_bits(graph::stream_key(seed, name + ".task"), step, index);
    // Thresholds on the bits themselves: no device rounds them.
    double sum = 0;
    chosen = constant(graph, 0, {DType::u32, {rows}});
    for (size_t i = 0; i + 1 < probabilities_.size(); ++i) {
      sum += probabilities_[i];
      const double threshold = std::min(std::floor(sum * 0x1p32), 0x1p32 - 1);
      chosen = chosen + cast(logical_not(less(place, number(threshold))), DType::u32);
    }
  }
  const Value index = reshape(iota(graph, {DType::u32, {rows * n}}, 0), {rows, n});
  const Value bits = mod(random_bits(graph::stream_key(seed, name + ".bits"), step, index), number(2));
  Value parity;
  for (int32_t part = 0; part < options_.subset; ++part) {
    const int64_t block = n / options_.subset;
    const Value place =
        mod(random_bits(number(place_key(part)), number(0), chosen), number(static_cast<double>(block)));
    const Value bit = gather(slice(bits, 1, part * block, (part + 1) * block), reshape(place, {rows, 1}), 1, 1);
    parity = part == 0 ? bit : parity + bit;
  }
  const Value code = equal(reshape(chosen, {rows, 1}), iota(graph, {DType::u32, {1, tasks}}, 1));
  Draw result;
  result.input = reshape(graph::concat({cast(code, DType::f32), cast(bits, DType::f32)}, 1), {rows, 1, tasks + n});
  result.target = mod(parity, number(2));
  return result;
}

Value SparseParity::training_loss(const Model& model, graph::Parameters& parameters, Value seed, Value step,
                                  int64_t rows) const {
  const Draw batch = draw(parameters.graph(), rows, seed, step, "parity.train");
  return graph::cross_entropy(model.logits(parameters, batch.input), batch.target).mean;
}

void SparseParity::add_programs(engine::Session& session, const Model& model, size_t members) const {
  for (const char* name : {kParityValidation, kParityTest}) {
    session.add_program(name, for_members(measure_program(*this, model, name), members));
  }
}

std::vector<double> SparseParity::validation_loss(engine::Session& session, size_t members, uint32_t seed) const {
  session.write(kParitySeed, std::vector<uint32_t>{seed});
  const engine::SessionProgram validation = session.program(kParityValidation);
  validation.run();
  const std::vector<float> losses = validation.read_floats("loss");
  ensure(losses.size() == members, "[parity] {} losses of {} models", losses.size(), members);
  return {losses.begin(), losses.end()};
}

std::vector<std::vector<Measure>> SparseParity::measure(engine::Session& session, size_t members, uint32_t seed) const {
  session.write(kParitySeed, std::vector<uint32_t>{seed});
  const engine::SessionProgram test = session.program(kParityTest);
  std::vector<std::vector<Measure>> all(members);
  std::vector<double> loss(members, 0), variance(members, 0);
  for (int32_t task = 0; task < options_.tasks; ++task) {
    if (interrupted()) throw Interrupted("interrupted during the test of a parity");
    session.write(kTask, std::vector<uint32_t>{static_cast<uint32_t>(task)});
    test.run();
    const std::vector<float> right = test.read_floats("right"), losses = test.read_floats("loss"),
                             squares = test.read_floats("loss_square");
    for (size_t e = 0; e < members; ++e) {
      const double error = standard_error_of(losses[e], squares[e], options_.items);
      all[e].push_back({fmt::format("accuracy {}", task), right[e],
                        standard_error_of(right[e], right[e], options_.items), options_.items});
      all[e].push_back({fmt::format("loss {}", task), losses[e], error, options_.items});
      loss[e] += probability(task) * losses[e];
      variance[e] += std::pow(probability(task) * error, 2);
    }
  }
  const auto items = int64_t{options_.tasks} * options_.items;
  for (size_t e = 0; e < members; ++e) {
    all[e].push_back({"loss", loss[e], std::sqrt(variance[e]), items});
  }
  return all;
}

}  // namespace surtsey::experiments
