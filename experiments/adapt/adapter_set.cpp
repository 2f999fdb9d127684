#include "experiments/adapt/adapter_set.h"

#include "experiments/models/hub/import.h"
#include "graph/functions.h"

#include <algorithm>
#include <set>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Value;

std::string stack_name(const std::string& matrix, const char* which) {
  return fmt::format("{}set.{}.{}", hub::kAdapterPrefix, matrix, which);
}

// x [B, .., in] by each text's own a [R, in] and b [out, R], or by its row's of [B, R, in] and [B, out, R].
Value chosen(const Projection& p) {
  const Value a = p.parameters.rows(stack_name(p.name, "a"), p.adapter);
  const Value b = p.parameters.rows(stack_name(p.name, "b"), p.adapter);
  const Value zero = graph::scalar(p.parameters.graph(), 0, DType::u32);
  const Value base = p.plain();
  if (p.adapter.rank() == 0)
    return graph::select(graph::equal(p.adapter, zero), base, base + graph::linear(graph::linear(p.x, a), b));
  const int64_t rows = p.x.dim(0);
  check(p.adapter.rank() == 1 && p.adapter.dim(0) == rows, "[adapters] {} texts, adapters for {}", rows,
        graph::to_string(p.adapter.shape()));
  const Value x = graph::reshape(p.x, {rows, -1, p.x.dim(-1)});
  const Value change = graph::matmul(graph::matmul(x, graph::transpose(a)), graph::transpose(b));
  graph::Shape each(base.shape().size(), 1);
  each[0] = rows;
  const Value none = graph::reshape(graph::equal(p.adapter, zero), each);
  return graph::select(none, base, base + graph::reshape(change, base.shape()));
}

}  // namespace

AdapterSet::AdapterSet(const std::vector<std::string>& folders, const hub::Source& source, const Model& model)
    : size_(folders.size()) {
  std::vector<std::vector<LowRankChange>> all;
  std::map<std::string, int64_t> ranks;
  for (const std::string& folder : folders) {
    const Adaptation adaptation(folder, source, model);
    check(
        adaptation.config().method == AdaptMethod::lora && !adaptation.config().use_dora && adapter_labels(folder) == 0,
        "{}: beside others stand adapters of LoRA alone, without DoRA and without a head", folder);
    all.push_back(adaptation.low_rank_changes());
    for (const LowRankChange& one : all.back()) {
      check(one.matrix.find("blocks.") != std::string::npos, "{}: beside others an adapter changes no {}", folder,
            one.matrix);
      ranks[one.matrix] = std::max(ranks[one.matrix], one.a.type.shape[0]);
    }
  }
  for (size_t i = 0; i < all.size(); ++i) {
    for (const LowRankChange& one : all[i]) {
      const int64_t rank = ranks.at(one.matrix), own = one.a.type.shape[0];
      const int64_t in = one.a.type.shape[1], out = one.b.type.shape[0];
      const auto count = int64_t(size_) + 1;
      auto [found, first] = stacks_.try_emplace(one.matrix);
      Stack& stack = found->second;
      if (first) {
        stack.a = HostTensor::zeros({DType::f32, {count, rank, in}});
        stack.b = HostTensor::zeros({DType::f32, {count, out, rank}});
      }
      const auto at = int64_t(i) + 1;
      std::copy(one.a.values.begin(), one.a.values.end(), stack.a.values.begin() + at * rank * in);
      for (int64_t r = 0; r < out; ++r)
        for (int64_t k = 0; k < own; ++k)
          stack.b.values[size_t((at * out + r) * rank + k)] = one.scale * one.b.values[size_t(r * own + k)];
    }
  }
  for (auto& [matrix, stack] : stacks_) stack.b.round_to_storage();
}

void AdapterSet::install(Model& model) const {
  std::set<std::string> matrices;
  for (const auto& [matrix, stack] : stacks_) {
    model.store().add(stack_name(matrix, "a"), stack.a.type.shape, graph::Initialisation::constant(0));
    model.store().add(stack_name(matrix, "b"), stack.b.type.shape, graph::Initialisation::constant(0));
    matrices.insert(matrix);
  }
  const std::string prefix = std::string(hub::kAdapterPrefix) + "set.";
  model.store().freeze([&](const graph::ParameterSpec& spec) { return spec.name.starts_with(prefix); });
  model.on_projection([matrices](const Projection& p) -> Value {
    return p.adapter && matrices.contains(p.name) ? chosen(p) : Value{};
  });
}

void AdapterSet::write(const std::function<void(const std::string&, const HostTensor&)>& write) const {
  for (const auto& [matrix, stack] : stacks_) {
    write(graph::kFrozen + stack_name(matrix, "a"), stack.a);
    write(graph::kFrozen + stack_name(matrix, "b"), stack.b);
  }
}

}  // namespace surtsey::experiments
