#include "graph/index.h"

#include <algorithm>

namespace surtsey::graph {

Affine IndexContext::variable(std::string name, int64_t extent) {
  ensure(extent >= 1, "index variable {} has extent {}", name, extent);
  if (extent == 1) return Affine(0);
  variables_.push_back({std::move(name), extent, Kind::free, {}, 1});
  Affine a;
  a.terms.push_back({uint32_t(variables_.size() - 1), 1});
  return a;
}

Affine IndexContext::add(const Affine& a, const Affine& b) {
  Affine sum;
  sum.constant = a.constant + b.constant;
  size_t i = 0, j = 0;
  while (i < a.terms.size() || j < b.terms.size()) {
    if (j == b.terms.size() || (i < a.terms.size() && a.terms[i].variable < b.terms[j].variable)) {
      sum.terms.push_back(a.terms[i++]);
    } else if (i == a.terms.size() || b.terms[j].variable < a.terms[i].variable) {
      sum.terms.push_back(b.terms[j++]);
    } else {
      const int64_t factor = a.terms[i].factor + b.terms[j].factor;
      if (factor != 0) sum.terms.push_back({a.terms[i].variable, factor});
      ++i, ++j;
    }
  }
  recombine(sum);
  return sum;
}

// (x / c) * (c * f) + (x % c) * f  ->  x * f
void IndexContext::recombine(Affine& a) {
  for (size_t i = 0; i < a.terms.size(); ++i) {
    const Variable& quotient = variables_[a.terms[i].variable];
    if (quotient.kind != Kind::quotient || a.terms[i].factor % quotient.divisor != 0) continue;
    const int64_t factor = a.terms[i].factor / quotient.divisor;
    for (size_t j = 0; j < a.terms.size(); ++j) {
      const Variable& remainder = variables_[a.terms[j].variable];
      if (remainder.kind != Kind::remainder || a.terms[j].factor != factor || remainder.divisor != quotient.divisor ||
          remainder.of != quotient.of)
        continue;
      const Affine whole = scale(quotient.of, factor);
      a.terms.erase(a.terms.begin() + int64_t(std::max(i, j)));
      a.terms.erase(a.terms.begin() + int64_t(std::min(i, j)));
      a = add(a, whole);  // recombines further by itself
      return;
    }
  }
}

Affine IndexContext::scale(const Affine& a, int64_t factor) {
  if (factor == 0) return Affine(0);
  Affine scaled = a;
  scaled.constant *= factor;
  for (auto& term : scaled.terms) term.factor *= factor;
  return scaled;
}

int64_t IndexContext::maximum(const Affine& a) const {
  int64_t most = a.constant;
  for (const auto& term : a.terms)
    if (term.factor > 0) most += term.factor * (variables_[term.variable].extent - 1);
  return most;
}

namespace {

// The part of `a` that is not a multiple of the divisor. Its constant is never negative: a pad's index is (x - low),
// and what is not negative as a whole must not be cut into a part that is.
Affine residue(const Affine& a, int64_t divisor, Affine& multiple) {
  Affine rest;
  rest.constant = (a.constant % divisor + divisor) % divisor;
  multiple.constant = a.constant - rest.constant;
  for (const auto& term : a.terms) (term.factor % divisor == 0 ? multiple : rest).terms.push_back(term);
  return rest;
}

bool no_negative_part(const Affine& a) {
  return a.constant >= 0 && std::all_of(a.terms.begin(), a.terms.end(), [](const auto& t) { return t.factor > 0; });
}

}  // namespace

Affine IndexContext::derived(Kind kind, const Affine& of, int64_t divisor) {
  Affine a;
  for (uint32_t v = 0; v < variables_.size(); ++v)
    if (variables_[v].kind == kind && variables_[v].divisor == divisor && variables_[v].of == of) {
      a.terms.push_back({v, 1});
      return a;
    }
  const int64_t extent = kind == Kind::quotient ? maximum(of) / divisor + 1 : std::min(divisor, maximum(of) + 1);
  if (extent <= 1) return Affine(0);
  variables_.push_back({fmt::format("t{}", variables_.size()), extent, kind, of, divisor});
  a.terms.push_back({uint32_t(variables_.size() - 1), 1});
  return a;
}

Affine IndexContext::divide(const Affine& a, int64_t divisor) {
  if (divisor == 1) return a;
  Affine multiple;
  const Affine rest = residue(a, divisor, multiple);
  multiple.constant /= divisor;
  for (auto& term : multiple.terms) term.factor /= divisor;
  if (no_negative_part(rest) && maximum(rest) < divisor) return multiple;
  return add(multiple, derived(Kind::quotient, rest, divisor));
}

Affine IndexContext::modulo(const Affine& a, int64_t divisor) {
  if (divisor == 1) return Affine(0);
  Affine multiple;
  const Affine rest = residue(a, divisor, multiple);
  if (no_negative_part(rest) && maximum(rest) < divisor) return rest;
  return derived(Kind::remainder, rest, divisor);
}

Affine IndexContext::linearize(const Index& index, const Strides& strides) {
  Affine linear;
  for (size_t d = 0; d < index.size(); ++d) linear = add(linear, scale(index[d], strides[d]));
  return linear;
}

Affine IndexContext::linearize_contiguous(const Index& index, const Shape& shape) {
  return linearize(index, contiguous_strides(shape));
}

Index IndexContext::delinearize(const Affine& linear, const Shape& shape) {
  Index index(shape.size());
  Affine rest = linear;
  // Innermost first: the quotient of the inner extents is then itself an index that outer extents share.
  int64_t outer = element_count(shape);
  for (size_t d = shape.size(); d-- > 0;) {
    outer /= std::max<int64_t>(shape[d], 1);
    if (shape[d] == 1) {
      index[d] = Affine(0);
    } else if (outer == 1) {
      index[d] = rest;
      rest = Affine(0);
    } else {
      index[d] = modulo(rest, shape[d]);
      rest = divide(rest, shape[d]);
    }
  }
  return index;
}

Index IndexContext::operand_index(const Node& node, const Shape& operand_shape, const Index& index) {
  Index result(operand_shape.size());
  switch (node.op) {
    case Op::reshape: {
      const Shape& shape = node.types[0].shape;
      // Leading extents in common need no arithmetic.
      size_t common = 0;
      while (common < shape.size() && common < operand_shape.size() && shape[common] == operand_shape[common]) ++common;
      const Index inner(index.begin() + int64_t(common), index.end());
      const Affine linear = linearize_contiguous(inner, Shape(shape.begin() + int64_t(common), shape.end()));
      const Index tail = delinearize(linear, Shape(operand_shape.begin() + int64_t(common), operand_shape.end()));
      std::copy_n(index.begin(), common, result.begin());
      std::copy(tail.begin(), tail.end(), result.begin() + int64_t(common));
      return result;
    }
    case Op::permute: {
      const auto& axes = std::get<AxesAttr>(node.attr).axes;
      for (size_t d = 0; d < axes.size(); ++d) result[size_t(axes[d])] = index[d];
      return result;
    }
    case Op::broadcast:
      for (size_t d = 0; d < result.size(); ++d) result[d] = operand_shape[d] == 1 ? Affine(0) : index[d];
      return result;
    case Op::slice:
      for (size_t d = 0; d < result.size(); ++d)
        result[d] = add(index[d], Affine(std::get<SliceAttr>(node.attr).start[d]));
      return result;
    case Op::pad:
      for (size_t d = 0; d < result.size(); ++d)
        result[d] = add(index[d], Affine(-std::get<PadAttr>(node.attr).low[d]));
      return result;
    default:
      ensure(false, "{} is not a view", definition(node.op).name);
      return result;
  }
}

std::vector<std::pair<Value, Index>> IndexContext::operands(const Node& node, const Index& index) {
  std::vector<std::pair<Value, Index>> result;
  switch (definition(node.op).family) {
    case Family::elementwise:
      for (const Value& input : node.inputs) result.emplace_back(input, index);
      break;
    case Family::movement:
      if (node.op != Op::concat) {
        result.emplace_back(node.inputs[0], operand_index(node, node.inputs[0].shape(), index));
        break;
      }
      // Which part it is, and where in it, is known when it is read.
      for (const Value& part : node.inputs) {
        const auto axis = size_t(std::get<AxisAttr>(node.attr).axis);
        Index at = index;
        at[axis] = variable(fmt::format("part{}", variables_.size()), part.shape()[axis]);
        result.emplace_back(part, at);
      }
      break;
    case Family::index:
      if (node.op == Op::gather) {
        const GatherIndex at = gather_index(node, index);
        Index table = at.table;
        const int64_t axis = std::get<GatherAttr>(node.attr).axis;
        table[size_t(axis)] = variable(fmt::format("row{}", variables_.size()), node.inputs[0].shape()[size_t(axis)]);
        result.emplace_back(node.inputs[0], table);
        result.emplace_back(node.inputs[1], at.index);
      } else if (node.op == Op::slice_update) {
        const auto axis = size_t(std::get<AxisAttr>(node.attr).axis);
        result.emplace_back(node.inputs[0], index);
        Index update = index;
        update[axis] = variable(fmt::format("row{}", variables_.size()), node.inputs[1].shape()[axis]);
        result.emplace_back(node.inputs[1], update);
        result.emplace_back(node.inputs[2], start_index(node, index));
      }
      break;
    default:
      ensure(node.inputs.empty(), "{} cannot be inlined", definition(node.op).name);
  }
  return result;
}

Index start_index(const Node& node, const Index& index) {
  return {index.begin(), index.begin() + std::ptrdiff_t(node.inputs[2].shape().size())};
}

GatherIndex gather_index(const Node& node, const Index& index) {
  // out = x[:axis] + n... + x[axis + 1:], index operand = x[:batch] + n...
  const auto& attr = std::get<GatherAttr>(node.attr);
  const size_t rank = node.inputs[0].shape().size(), index_rank = node.inputs[1].shape().size();
  const size_t axis = size_t(attr.axis), batch = size_t(attr.batch), n = index_rank - batch;
  GatherIndex at;
  at.table.resize(rank);
  for (size_t d = 0; d < axis; ++d) at.table[d] = index[d];
  for (size_t d = axis + 1; d < rank; ++d) at.table[d] = index[d + n - 1];
  for (size_t d = 0; d < batch; ++d) at.index.push_back(index[d]);
  for (size_t d = 0; d < n; ++d) at.index.push_back(index[axis + d]);
  return at;
}

}  // namespace surtsey::graph
