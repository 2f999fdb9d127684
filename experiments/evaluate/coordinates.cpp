#include "experiments/evaluate/coordinates.h"

#include <cmath>

#include "experiments/models/residual.h"
#include "graph/functions.h"

namespace surtsey::experiments {

std::vector<std::string> coordinate_names(const ModelConfig& config) {
  std::vector<std::string> names = {"embed"};
  for (int64_t i = 0; i < config.n_layer; ++i) names.push_back(fmt::format("blocks.{}", i));
  names.emplace_back("logits");
  return names;
}

graph::Program coordinate_program(const Model& model, int64_t rows, int64_t block) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Parameters parameters(*program.graph, model.store());
  Residuals residuals(model);
  for (int64_t depth = 0; depth <= model.config().n_layer; ++depth) residuals.read(depth);
  ForwardOptions options;
  options.residual = residuals.hook();
  const graph::Value tokens = program.graph->parameter("coordinates.tokens", {graph::DType::u32, {rows, block}});
  const graph::Value logits = model.logits(parameters, tokens, options);
  std::vector<graph::Value> points;
  for (const auto& [name, value] : residuals.outputs()) points.push_back(value);
  points.push_back(logits);
  const std::vector<std::string> names = coordinate_names(model.config());
  for (size_t i = 0; i < names.size(); ++i) {
    program.outputs.emplace_back(names[i], graph::mean(graph::abs(points[i]), {0, 1, 2}, false));
  }
  return program;
}

std::vector<std::vector<double>> coordinates_after(engine::Device& device, const Model& model,
                                                   const TrainConfig& config, const tasks::DataSource& source,
                                                   int64_t steps, int32_t rows) {
  check(steps >= 0 && steps <= config.steps, "[coordinates] {} steps of a run of {}", steps, config.steps);
  engine::Session session(device, {.quiet = true});
  Trainer trainer(session, model, config, source);
  const size_t members = config.members.size();
  const engine::SessionProgram coordinates =
      session.add_program("coordinates", for_members(coordinate_program(model, rows, source.block_size()), members));
  session.allocate();
  trainer.initialise();
  if (steps > 0) trainer.run({.until = steps});
  const tasks::Batch batch = source.sample(tasks::Split::kValidation, 0, 0, rows);
  session.write("coordinates.tokens", std::vector<uint32_t>(batch.tokens.begin(), batch.tokens.end()));
  coordinates.run();
  std::vector<std::vector<double>> result(members);
  for (const std::string& name : coordinate_names(model.config())) {
    const std::vector<float> values = coordinates.read_floats(name);
    for (size_t e = 0; e < members; ++e) result[e].push_back(values[e]);
  }
  return result;
}

double log_slope(std::span<const double> x, std::span<const double> y) {
  check(x.size() == y.size() && x.size() >= 2, "[coordinates] a slope of {} and {} numbers", x.size(), y.size());
  double mx = 0, my = 0, xx = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    check(x[i] > 0 && y[i] > 0, "[coordinates] the logarithm of ({}, {})", x[i], y[i]);
    mx += std::log(x[i]) / static_cast<double>(x.size());
    my += std::log(y[i]) / static_cast<double>(x.size());
  }
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (std::log(x[i]) - mx) * (std::log(x[i]) - mx);
    xy += (std::log(x[i]) - mx) * (std::log(y[i]) - my);
  }
  check(xx > 0, "[coordinates] a slope over one width");
  return xy / xx;
}

}  // namespace surtsey::experiments
