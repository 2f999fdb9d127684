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

bool fits(const Node& node, const AttentionForm& form, const Target& target) {
  const AttentionOperands in = attention_operands(form, node.inputs);
  if (node.inputs.size() + node.types.size() > target.max_bindings()) return false;
  for (const Value& operand : {in.q, in.k, in.v}) {
    if (operand.dtype() != DType::f32 || operand.dim(-1) > kWidestHead) return false;
  }
  const Shape& result = node.types[0].shape;
  const Shape leading(result.begin(), result.end() - 4);
  for (const Value& operand : {in.q, in.k, in.v, in.out, in.lse, in.delta, in.dout, in.dlse}) {
    if (!has_leading(operand, 4, leading)) return false;
  }
  for (const Value& operand : {in.position, in.seed, in.step}) {
    if (!has_leading(operand, 0, leading)) return false;
  }
  if (!has_leading(in.key_mask, 2, leading) || !has_leading(in.first_key, 2, leading)) return false;
  // A lane has a query: with few of them most lanes would idle while all keys pass by.
  if (target.attention != AttentionVariant::automatic) return true;
  return in.q.dim(-2) >= int64_t(std::max(4u, target.subgroup_size / 2));
}

std::shared_ptr<const Region> one_result(const Region& whole, int result) {
  auto region = std::make_shared<Region>();
  auto form = std::make_shared<AttentionForm>(*whole.attention);
  form->result = result;
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
  return rewrite(program, [&](Graph&, const Node& node, std::span<const Value> inputs) -> std::vector<Value> {
    const auto* attr = std::get_if<RegionAttr>(&node.attr);
    if (!attr || !attr->region->attention || is_claimed(node)) return {};
    if (!fits(node, *attr->region->attention, target)) return {};
    std::vector<Value> results;
    for (size_t i = 0; i < node.types.size(); ++i) {
      results.push_back(region(one_result(*attr->region, int(i)), {inputs.begin(), inputs.end()})[0]);
    }
    return results;
  });
}

}  // namespace surtsey::graph
