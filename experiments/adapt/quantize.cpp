#include "experiments/adapt/quantize.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

using graph::HostTensor;
using graph::ParameterSpec;

bool is_matrix(const ParameterSpec& spec) { return spec.shape.size() == 2; }

bool is_embedding(const ParameterSpec& spec) {
  return spec.name.find("embed.") == 0 || spec.name.find(".embed.") != std::string::npos;
}

std::vector<const ParameterSpec*> chosen(const graph::ParameterStore& store, const QuantizeConfig& config) {
  std::vector<const ParameterSpec*> list;
  for (const std::string& name : config.names) {
    list.push_back(&store.spec(name));
    check(is_matrix(*list.back()), "[quantize] {} is {}, not a matrix [out, in]", name,
          graph::to_string(list.back()->type()));
    check(!list.back()->frozen(), "[quantize] {} is frozen, kept as {}: only what trains is rounded in place", name,
          list.back()->storage->name);
  }
  if (!config.names.empty()) return list;
  for (const ParameterSpec& spec : store.specs()) {
    if (is_matrix(spec) && !spec.frozen() && (config.embeddings || !is_embedding(spec))) list.push_back(&spec);
  }
  return list;
}

void quantize_row(double* row, int64_t count, int bits) {
  const float scale = row_scale(row, count, bits);
  if (scale == 0 || !std::isfinite(scale)) return;
  for (int64_t i = 0; i < count; ++i) row[i] = double(float(row_level(row[i], scale, bits)) * scale);
}

}  // namespace

float row_scale(const double* row, int64_t count, int bits) {
  float most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(float(row[i])));
  return most / float((1 << (bits - 1)) - 1);
}

int row_level(double value, float scale, int bits) {
  const auto levels = float((1 << (bits - 1)) - 1);
  if (scale == 0) return 0;
  return int(std::clamp(std::nearbyint(float(value) / scale), -levels, levels));
}

std::vector<std::string> quantize(const graph::ParameterStore& store, HostTensor& parameters,
                                  const QuantizeConfig& config) {
  check(config.bits >= 2 && config.bits <= 8, "[quantize] 2 to 8 bits, not {}", config.bits);
  const graph::Shape& shape = parameters.type.shape;
  const int64_t P = store.flat_size();
  check(parameters.type.dtype == graph::DType::f32 && !shape.empty() && shape.size() <= 2 && shape.back() == P,
        "[quantize] the parameters are {}, not f32[{}]", to_string(parameters.type), P);
  const int64_t members = shape.size() == 2 ? shape[0] : 1;
  std::vector<std::string> names;
  for (const ParameterSpec* spec : chosen(store, config)) {
    names.push_back(spec->name);
    for (int64_t e = 0; e < members; ++e) {
      for (int64_t row = 0; row < spec->shape[0]; ++row) {
        double* first = &parameters.values[size_t(e * P + spec->offset + row * spec->shape[1])];
        quantize_row(first, spec->shape[1], config.bits);
      }
    }
  }
  return names;
}

std::vector<std::string> quantize(engine::Session& session, const graph::ParameterStore& store,
                                  const QuantizeConfig& config) {
  HostTensor parameters = session.read(graph::kParameters);
  std::vector<std::string> names = quantize(store, parameters, config);
  session.write(graph::kParameters, parameters);
  return names;
}

}  // namespace surtsey::experiments
