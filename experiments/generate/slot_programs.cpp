#include "experiments/generate/slot_programs.h"

#include "graph/functions.h"
#include "graph/vectorize.h"

#include <string_view>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Program;
using graph::Value;

struct Builder {
  Builder(const Model& m, const SlotShape& s)
      : model(m), shape(s), graph(*program.graph), parameters(graph, m.store()) {}

  Value state(const char* name, graph::Shape extents, DType dtype = DType::u32) const {
    return graph.parameter(name, {dtype, std::move(extents)});
  }
  Value source_mask() const {
    if (model.config().architecture != Architecture::encoder_decoder) return {};
    return state("slot.source_mask", {1, model.config().source_length()}, DType::boolean);
  }
  // tokens u32 [1, n] that stand at `position` and after it, read with an adapter of several (u32 []): [1, n, C].
  Value hidden(Value tokens, Value position, Value adapter, int64_t depth) {
    ForwardOptions options;
    options.source_mask = source_mask();
    options.cache_length = shape.cache_length;
    options.position = position;
    options.visible_length = depth;
    options.adapter = adapter;
    return model.hidden(parameters, tokens, options);
  }

  const Model& model;
  const SlotShape& shape;
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph;
  graph::Parameters parameters;
};

Value word(Value words, int64_t index) { return graph::reshape(graph::slice(words, 0, index, index + 1), {}); }

// The caches that a text writes as it grows.
std::vector<std::pair<std::string, graph::Type>> growing_caches(const Model& model, const SlotShape& shape) {
  std::vector<std::pair<std::string, graph::Type>> result;
  const Program step = step_program(model, shape, shape.cache_length);
  for (const auto& [name, value] : step.graph->parameters()) {
    const bool cross = name.find(".cross.") != std::string::npos;
    if (name.starts_with("cache.") && !cross) result.emplace_back(name, value.type());
  }
  return result;
}

std::string held_name(const std::string& cache) { return "held." + cache.substr(std::string_view("cache.").size()); }

graph::Type with_slots(graph::Type type, int64_t slots) {
  type.shape.insert(type.shape.begin(), slots);
  return type;
}

graph::Type held_type(graph::Type cache, const SlotShape& shape, int64_t slots) {
  cache.shape[2] = shape.chunk;
  return with_slots(std::move(cache), slots);
}

}  // namespace

std::set<std::string> slot_member_state() { return {"slot.*", "cache.*"}; }

Program step_program(const Model& model, const SlotShape& shape, int64_t depth) {
  Builder b(model, shape);
  const Value next = b.state("slot.next", {kSlotWords});
  const Value token = graph::reshape(graph::slice(next, 0, 0, 1), {1, 1});
  const Value hidden = b.hidden(token, word(next, 1), word(next, 2), depth);
  b.program.outputs = {{"logits", model.head(b.parameters, hidden)}};
  return b.program;
}

Program read_program(const Model& model, const SlotShape& shape, int64_t depth, bool all) {
  Builder b(model, shape);
  const Value next = b.state("read.next", {shape.chunk + 3});
  const Value tokens = graph::reshape(graph::slice(next, 0, 3, shape.chunk + 3), {1, shape.chunk});
  Value hidden = b.hidden(tokens, word(next, 0), word(next, 2), depth);
  if (!all) hidden = graph::gather(hidden, graph::slice(next, 0, 1, 2), 1);
  b.program.outputs = {{"logits", model.head(b.parameters, hidden)}};
  return b.program;
}

Program source_program(const Model& model) {
  const SlotShape none;
  Builder b(model, none);
  const Value source = b.state("read.source", {1, model.config().source_length()});
  model.remember_source(b.parameters, source, b.source_mask());
  return b.program;
}

Program virtual_program(const Model& model, const SlotShape& shape) {
  Builder b(model, shape);
  model.remember_virtual(b.parameters, 1, shape.cache_length);
  return b.program;
}

Program hold_program(const Model& model, const SlotShape& shape, int64_t slots) {
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& g = *program.graph;
  const Value from = g.parameter("move.from", {DType::u32, {slots}});
  const Value columns = graph::iota(g, {DType::u32, {shape.chunk}}, 0) + g.parameter("move.position", {DType::u32, {}});
  for (const auto& [name, type] : growing_caches(model, shape)) {
    const Value cache = g.parameter(name, with_slots(type, slots));
    const Value held = g.parameter(held_name(name), held_type(type, shape, slots));
    g.assign(held, graph::gather(graph::gather(cache, columns, 3), from));
  }
  return program;
}

Program put_program(const Model& model, const SlotShape& shape, int64_t slots) {
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& g = *program.graph;
  const Value position = g.parameter("move.position", {DType::u32, {}});
  for (const auto& [name, type] : growing_caches(model, shape)) {
    const Value cache = g.parameter(name, with_slots(type, slots));
    const Value held = g.parameter(held_name(name), held_type(type, shape, slots));
    g.assign(cache, graph::slice_update(cache, held, position, 3));
  }
  return program;
}

}  // namespace surtsey::experiments
