#include "experiments/adapt/planted_change.h"

#include "experiments/adapt/adapter_graph.h"
#include "experiments/models/members.h"
#include "graph/functions.h"
#include "graph/optimizer.h"
#include "graph/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Value;

constexpr const char* kMatrix = "matrix";
constexpr const char* kPlantedWeight = "planted.weight";
constexpr const char* kPlantedX = "planted.x";
constexpr const char* kPlantedY = "planted.y";
constexpr const char* kPlantedA = "adapter.matrix.lora_A.weight";
constexpr const char* kPlantedB = "adapter.matrix.lora_B.weight";

// Row by row, in double: the numbers of one member on the host.
using Doubles = std::vector<double>;

// Standard normal numbers of a stream (Box and Muller 1958).
Doubles normal_numbers(int64_t count, uint32_t seed, const char* stream) {
  const uint32_t key = graph::stream_seed(seed, stream);
  Doubles numbers;
  for (int64_t i = 0; i < count; ++i) {
    const double first = 1 - double(graph::random_uniform(key, 0, uint32_t(i)));  // in (0, 1]
    const double second = graph::random_uniform(key, 1, uint32_t(i));
    numbers.push_back(std::sqrt(-2 * std::log(first)) * std::cos(2 * std::numbers::pi * second));
  }
  return numbers;
}

// k orthonormal columns of n numbers each, one behind the other (Gram and Schmidt, twice for rounding).
Doubles orthonormal_columns(int64_t n, int64_t k, uint32_t seed, const char* stream) {
  Doubles columns = normal_numbers(n * k, seed, stream);
  for (int64_t c = 0; c < k; ++c) {
    double* const own = columns.data() + c * n;
    for (int64_t before = 0; before < 2 * c; ++before) {
      const double* const other = columns.data() + before % c * n;
      double dot = 0;
      for (int64_t i = 0; i < n; ++i) dot += own[i] * other[i];
      for (int64_t i = 0; i < n; ++i) own[i] -= dot * other[i];
    }
    double square = 0;
    for (int64_t i = 0; i < n; ++i) square += own[i] * own[i];
    for (int64_t i = 0; i < n; ++i) own[i] /= std::sqrt(square);
  }
  return columns;
}

// a [rows, n] b [m, n]^T.
Doubles times_transposed(const Doubles& a, const Doubles& b, int64_t rows, int64_t n, int64_t m) {
  Doubles result(size_t(rows * m), 0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < m; ++j)
      for (int64_t l = 0; l < n; ++l) result[size_t(i * m + j)] += a[size_t(i * n + l)] * b[size_t(j * n + l)];
  return result;
}

// What one member is made of.
struct PlantedProblem {
  Doubles weight, change, x, y;
};

Doubles rounded_to_f32(Doubles numbers) {
  for (double& one : numbers) one = double(float(one));
  return numbers;
}

PlantedProblem problem_of(const PlantedOptions& o, uint32_t seed) {
  const int64_t n = o.width;
  PlantedProblem problem;
  problem.weight = normal_numbers(n * n, seed, "planted.weight");
  for (double& one : problem.weight) one /= std::sqrt(double(n));
  problem.weight = rounded_to_f32(std::move(problem.weight));
  problem.x = rounded_to_f32(normal_numbers(o.rows * n, seed, "planted.x"));
  const Doubles u = orthonormal_columns(n, o.rank, seed, "planted.u"),
                v = orthonormal_columns(n, o.rank, seed, "planted.v");
  problem.change.assign(size_t(n * n), 0);
  for (int64_t c = 0; c < o.rank; ++c)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        problem.change[size_t(i * n + j)] += o.size * u[size_t(c * n + i)] * v[size_t(c * n + j)];
  Doubles sum = problem.weight;
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += problem.change[i];
  problem.y = rounded_to_f32(times_transposed(problem.x, sum, o.rows, n, n));
  return problem;
}

graph::ParameterStore planted_store(const PlantedOptions& o, int64_t most_rank) {
  graph::ParameterStore store;
  store.add(kPlantedA, {most_rank, o.width}, graph::Initialisation::uniform(1 / std::sqrt(double(o.width))));
  store.add(kPlantedB, {o.width, most_rank}, graph::Initialisation::constant(0));
  return store;
}

graph::OptimizerConfig planted_optimizer(const PlantedOptions& o) {
  graph::OptimizerConfig optimizer;
  optimizer.weight_decay = 0;
  optimizer.clip_norm = 0;
  optimizer.schedule = {graph::Decay::linear, 0, o.steps, 0};
  return optimizer;
}

graph::Program planted_step(const PlantedOptions& o, const graph::ParameterStore& store) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  graph::Parameters parameters(graph, store);
  const Value weight = graph.parameter(kPlantedWeight, {DType::f32, {o.width, o.width}});
  const auto rows = [&](const char* name) { return graph.parameter(name, {DType::f32, {o.rows, o.width}}); };
  LowRank low;
  low.module = std::string("adapter.") + kMatrix;
  low.part = {kMatrix, "", "", 0, o.width};
  low.out = o.width;
  low.varies = true;
  const Projection projection{
      .parameters = parameters, .name = kMatrix, .weight = kPlantedWeight, .x = rows(kPlantedX), .of = [&](Value x) {
        return graph::linear(x, weight);
      }};
  const Value error = low_rank_hook({{kMatrix, low}})(projection) - rows(kPlantedY);
  const Value loss = graph::mean(error * error, {0, 1}, false);
  graph::optimize(parameters, parameters.flat_gradient(loss), loss, planted_optimizer(o));
  program.outputs = {{"loss", loss}};
  return program;
}

// Of an adapter's flat parameters.
PlantedResult result_of(const PlantedOptions& o, const PlantedProblem& problem, const PlantedMember& member,
                        const graph::State& adapter, int64_t most_rank) {
  const Doubles &a = adapter.at(kPlantedA).values, &b = adapter.at(kPlantedB).values;
  const int64_t n = o.width;
  PlantedResult result;
  result.least = std::max<double>(0, double(o.rank - member.rank)) * o.size * o.size / double(n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double missing = problem.change[size_t(i * n + j)];
      for (int64_t c = 0; c < member.rank; ++c)
        missing -= o.lora_scale * b[size_t(i * most_rank + c)] * a[size_t(c * n + j)];
      result.loss += missing * missing / double(n);
    }
  }
  return result;
}

void append(std::vector<float>& all, const Doubles& own) { all.insert(all.end(), own.begin(), own.end()); }

}  // namespace

std::vector<PlantedResult> recover_planted(engine::Device& device, const PlantedOptions& options,
                                           const std::vector<PlantedMember>& members) {
  check(!members.empty(), "[planted] there is no member to train");
  check(1 <= options.rank && options.rank <= options.width, "[planted] a change of rank {} of a matrix of {}",
        options.rank, options.width);
  int64_t most_rank = 0;
  for (const PlantedMember& member : members) {
    check(1 <= member.rank && member.rank <= options.width, "[planted] rank {} is not in [1, {}]", member.rank,
          options.width);
    most_rank = std::max(most_rank, member.rank);
  }
  const graph::ParameterStore store = planted_store(options, most_rank);
  engine::Session session(device, {.quiet = true});
  const engine::SessionProgram train = session.add_program(
      "train", for_members(planted_step(options, store), members.size(), {kPlantedWeight, kPlantedX, kPlantedY}));
  session.allocate();
  std::vector<PlantedProblem> problems;
  std::vector<float> weight, x, y, start, scale;
  for (const PlantedMember& member : members) {
    const PlantedProblem& problem = problems.emplace_back(problem_of(options, member.seed));
    append(weight, problem.weight);
    append(x, problem.x);
    append(y, problem.y);
    append(start, store.initialise(member.seed).values);
    Doubles own(size_t(most_rank), 0);
    std::fill_n(own.begin(), member.rank, options.lora_scale);
    append(scale, own);
  }
  session.write(kPlantedWeight, weight);
  session.write(kPlantedX, x);
  session.write(kPlantedY, y);
  session.write(graph::kParameters, start);
  session.write(kRankScale, scale);
  session.write("learning_rate", std::vector<float>(members.size(), float(options.learning_rate)));
  train.run(static_cast<uint32_t>(options.steps));
  const std::vector<float> trained = session.read_floats(graph::kParameters);
  const auto size = static_cast<size_t>(store.flat_size());
  std::vector<PlantedResult> results;
  for (size_t e = 0; e < members.size(); ++e) {
    const auto first = trained.begin() + static_cast<std::ptrdiff_t>(e * size);
    const HostTensor flat(store.flat_type(), {first, first + static_cast<std::ptrdiff_t>(size)});
    results.push_back(result_of(options, problems[e], members[e], store.unpack(flat), most_rank));
  }
  return results;
}

}  // namespace surtsey::experiments
