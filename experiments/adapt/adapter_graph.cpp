#include "experiments/adapt/adapter_graph.h"

#include "graph/functions.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Value;

// A part's rows of a module's tensor [out, ..].
Value rows_of(const Projection& p, const std::string& name, const ModulePart& part, int64_t out) {
  const Value whole = p.parameters.get(name);
  return part.rows == out ? whole : graph::slice(whole, 0, part.first_row, part.first_row + part.rows);
}

Value low_rank(const Projection& p, const LowRank& l) {
  const Value a = p.parameters.get(l.module + ".lora_A.weight");
  const Value b = rows_of(p, l.module + ".lora_B.weight", l.part, l.out);
  const bool drops = l.dropout > 0 && p.seed;
  const Value x = drops ? graph::dropout(p.x, l.dropout, p.seed, p.step, "dropout." + l.module) : p.x;
  Value inner = graph::linear(x, a);
  Value scaled_a = a;  // for the rows' lengths
  if (l.varies) {
    const Value scale = p.parameters.graph().parameter(kRankScale, {DType::f32, {a.dim(0)}});
    inner = inner * scale;
    scaled_a = a * graph::reshape(scale, {-1, 1});
  } else {
    inner = inner * l.scale;
    scaled_a = a * l.scale;
  }
  const Value change = graph::linear(inner, b);
  if (!l.normed) return p.plain() + change;
  // |W + s B A|^2 of each row, without that matrix: |W|^2 + 2 B . (W (s A)^T) + B . (B (s A) (s A)^T).
  const Value still_a = detached(scaled_a), still_b = detached(b);
  const Value crossed = graph::transpose(graph::linear(still_a, p.parameters.get(p.weight)));  // [rows, r]
  const Value squared = graph::matmul(still_b, graph::matmul(still_a, graph::transpose(still_a)));
  const Value base = rows_of(p, l.module + ".weight_norm", l.part, l.out);
  const Value norm = graph::sqrt(base + graph::sum(still_b * (crossed * 2.0 + squared), {-1}, false));
  const Value scale = rows_of(p, l.module + ".lora_magnitude_vector", l.part, l.out) / norm;
  if (drops) return p.plain() + (scale - 1.0) * graph::linear(x, p.parameters.get(p.weight)) + scale * change;
  if (p.bias.empty()) return (p.plain() + change) * scale;
  const Value bias = p.parameters.get(p.bias);
  return (p.plain() - bias + change) * scale + bias;
}

// Of one of the matrices, or nothing.
template <typename Entry, typename Function>
ProjectionHook hook(std::map<std::string, Entry> matrices, Function&& function) {
  return [matrices = std::move(matrices), function](const Projection& p) -> Value {
    const auto found = matrices.find(p.name);
    return found == matrices.end() ? Value{} : function(p, found->second);
  };
}

}  // namespace

Value detached(Value x) {
  auto same = std::make_shared<graph::Region>();
  same->name = "detached";
  same->body = std::make_shared<graph::Graph>();
  same->parameters = {same->body->parameter("x", x.type())};
  same->results = same->parameters;
  same->gradient = [](std::span<const Value> inputs, std::span<const Value>, std::span<const Value>) {
    return std::vector<Value>(inputs.size());
  };
  return graph::region(same, {x}).front();
}

ProjectionHook low_rank_hook(std::map<std::string, LowRank> matrices) { return hook(std::move(matrices), low_rank); }

ProjectionHook scaled_hook(std::map<std::string, ScaledModule> matrices) {
  return hook(std::move(matrices), [](const Projection& p, const ScaledModule& s) {
    const Value l = p.parameters.get(s.module + ".ia3_l");
    if (s.input) return p.of(p.x * graph::reshape(l, {-1}));
    const Value own =
        l.dim(0) == s.part.rows ? l : graph::slice(l, 0, s.part.first_row, s.part.first_row + s.part.rows);
    return p.plain() * graph::reshape(own, {-1});
  });
}

ProjectionHook bottleneck_hook(std::map<std::string, std::string> modules, const std::string& non_linearity) {
  return hook(std::move(modules), [non_linearity](const Projection& p, const std::string& module) {
    const auto get = [&](const char* which) { return p.parameters.get(module + which); };
    const Value x = p.plain();
    const Value inner = graph::linear(x, get(".adapter_down.weight"), get(".adapter_down.bias"));
    const Value active = non_linearity == "gelu"    ? graph::gelu_erf(inner)
                         : non_linearity == "tanh"  ? graph::tanh(inner)
                         : non_linearity == "swish" ? graph::silu(inner)
                                                    : graph::max(inner, graph::scalar(*inner.graph, 0));
    return x + graph::linear(active, get(".adapter_up.weight"), get(".adapter_up.bias"));
  });
}

ProjectionHook bias_hook(std::map<std::string, Biased> matrices) {
  return hook(std::move(matrices), [](const Projection& p, const Biased& b) {
    const Value bias = p.parameters.get(b.module + ".bias");
    const bool whole = bias.dim(0) == b.part.rows;
    return p.plain() + (whole ? bias : graph::slice(bias, 0, b.part.first_row, b.part.first_row + b.part.rows));
  });
}

}  // namespace surtsey::experiments
