#include "graph/attention.h"
#include "graph/passes/passes.h"
#include "graph/rewrite.h"

#include <algorithm>

namespace surtsey::graph {
namespace {

// The widest head that the kernels are written for.
constexpr int64_t kWidestHead = 256;

// An operand has the leading axes of the results, or none of them.
bool has_leading(const Value& operand, size_t rank, const Shape& leading) {
  if (!operand || operand.rank() == int64_t(rank)) return true;
  const Shape& shape = operand.shape();
  return shape.size() == rank + leading.size() && std::equal(leading.begin(), leading.end(), shape.begin());
}

bool has_head_operands(const AttentionOperands& in) {
  for (const Value& operand : {in.q, in.k, in.v})
    if (operand.dtype() != DType::f32 || operand.dim(-1) > kWidestHead) return false;
  return true;
}

// Every operand has the leading axes of an ensemble, or none of them.
bool has_member_operands(const Node& node, const AttentionOperands& in) {
  const Shape& result = node.types[0].shape;
  const Shape leading(result.begin(), result.end() - 4);
  for (const Value& operand : {in.q, in.k, in.v, in.out, in.lse, in.delta, in.dout, in.dlse}) {
    if (!has_leading(operand, 4, leading)) return false;
  }
  for (const Value& operand : {in.position, in.seed, in.step}) {
    if (!has_leading(operand, 0, leading)) return false;
  }
  return has_leading(in.key_mask, 2, leading) && has_leading(in.first_key, 2, leading);
}

bool fits(const Node& node, const AttentionForm& form, const Target& target) {
  const AttentionOperands in = attention_operands(form, node.inputs);
  if (node.inputs.size() + node.types.size() > target.max_bindings()) return false;
  if (!has_head_operands(in) || !has_member_operands(node, in)) return false;
  // A lane has a query: with few of them most lanes would idle while all keys pass by.
  if (target.attention != AttentionVariant::automatic) return true;
  return in.q.dim(-2) >= int64_t(std::max(4u, target.subgroup_size / 2));
}

// One query a head, whose scores fit shared memory. The kernel computes what the primitives do, to the bit, so that it
// does not matter which of them read a text. With a single head packed keys would be multiplied by another kernel there
// (shaders/packed_turn.h); a training step shares the primitives of its forward pass with the gradient's.
bool fits_one_query(const Node& node, const AttentionForm& form, const Target& target) {
  const AttentionVariant variant = target.attention_variant();
  if (variant != AttentionVariant::one_query &&
      (variant != AttentionVariant::lane_broadcast || target.attention != AttentionVariant::automatic))
    return false;
  if (form.part != AttentionPart::forward || form.dropout > 0 || form.has_first_key) return false;
  const AttentionOperands in = attention_operands(form, node.inputs);
  const int64_t heads = in.q.dim(-3), group = heads / in.k.dim(-3), lanes = target.subgroup_size;
  if (in.q.dim(-2) != 1 || heads == 1 || group > lanes) return false;
  if (!has_head_operands(in) || !has_member_operands(node, in)) return false;
  // Keys and values in few bits are two tensors each.
  if (node.inputs.size() + node.types.size() + 2 > target.max_bindings()) return false;
  const int64_t keys = (in.k.dim(-2) / (2 * lanes) + 1) * 2 * lanes;  // whole turns of the kernel's loop
  return group * keys * storage_bytes(DType::f32) <= int64_t(target.shared_memory_bytes);
}

bool has_attention_gradient(const Program& program) {
  const std::vector<uint32_t> nodes = reachable(*program.graph, roots(program));
  return std::any_of(nodes.begin(), nodes.end(), [&](uint32_t n) {
    const auto* attr = std::get_if<RegionAttr>(&program.graph->node(n).attr);
    return attr && attr->region->attention && attr->region->attention->part != AttentionPart::forward;
  });
}

std::shared_ptr<const Region> one_result(const Region& whole, int result, bool one_query) {
  auto region = std::make_shared<Region>();
  auto form = std::make_shared<AttentionForm>(*whole.attention);
  form->result = result;
  form->one_query = one_query;
  region->name = whole.name;
  region->body = whole.body;
  region->parameters = whole.parameters;
  region->results = {whole.results[size_t(result)]};
  region->attention = std::move(form);
  return region;
}

}  // namespace

bool is_claimed(const Node& node) {
  const auto* attr = std::get_if<RegionAttr>(&node.attr);
  return attr && attr->region->attention && attr->region->attention->result >= 0;
}

Program claim_regions(const Program& program, const Target& target) {
  if (target.attention_variant() == AttentionVariant::expanded) return program;
  const bool trains = has_attention_gradient(program);
  return rewrite(program, [&](Graph&, const Node& node, std::span<const Value> inputs) -> std::vector<Value> {
    const auto* attr = std::get_if<RegionAttr>(&node.attr);
    if (!attr || !attr->region->attention || is_claimed(node)) return {};
    const AttentionForm& form = *attr->region->attention;
    const bool one_query = !trains && fits_one_query(node, form, target);
    if (!one_query && (target.attention == AttentionVariant::one_query || !fits(node, form, target))) return {};
    std::vector<Value> results;
    for (size_t i = 0; i < node.types.size(); ++i) {
      results.push_back(region(one_result(*attr->region, int(i), one_query), {inputs.begin(), inputs.end()})[0]);
    }
    return results;
  });
}

}  // namespace surtsey::graph
