// The builders: they broadcast, count axes from the back and insert reshapes, so that the nodes
// themselves keep one plain form each.
#include "graph/graph.h"

#include <algorithm>
#include <numeric>

namespace surtsey::graph {

namespace {

Graph& graph_of(Value x, const char* what) {
  check(static_cast<bool>(x), "[{}] an operand is an empty value", what);
  return *x.graph;
}

Value unary(Op op, Value x) { return graph_of(x, definition(op).name).add(op, {x}); }

Value elementwise(Op op, std::vector<Value> operands) {
  const char* what = definition(op).name;
  Shape shape;
  for (const Value& operand : operands) {
    graph_of(operand, what);
    shape = broadcast_shapes(shape, operand.shape(), what);
  }
  for (Value& operand : operands) operand = broadcast(operand, shape);
  Graph& graph = *operands.front().graph;
  return graph.add(op, std::move(operands));
}

int64_t positive_axis(Value x, int64_t axis, const char* what) {
  const int64_t at = axis < 0 ? axis + x.rank() : axis;
  check(at >= 0 && at < x.rank(), "[{}] axis {} of {}", what, axis, to_string(x.type()));
  return at;
}

std::vector<int64_t> positive_axes(Value x, std::vector<int64_t> axes, const char* what) {
  for (int64_t& axis : axes) axis = positive_axis(x, axis, what);
  std::sort(axes.begin(), axes.end());
  check(std::adjacent_find(axes.begin(), axes.end()) == axes.end(), "[{}] an axis is given twice", what);
  return axes;
}

Value drop_axes(Value x, const std::vector<int64_t>& axes) {
  Shape shape;
  for (int64_t axis = 0; axis < x.rank(); ++axis) {
    if (std::find(axes.begin(), axes.end(), axis) == axes.end()) shape.push_back(x.dim(axis));
  }
  return reshape(x, shape);
}

Value reduction(Op op, Value x, std::vector<int64_t> axes, bool keep) {
  const char* what = definition(op).name;
  Graph& graph = graph_of(x, what);
  axes = positive_axes(x, std::move(axes), what);
  if (axes.empty() && op != Op::argmax) return x;
  const Value result = graph.add(op, {x}, AxesAttr{axes});
  return keep ? result : drop_axes(result, axes);
}

}  // namespace

Value constant(Graph& graph, double value, Type type) {
  return graph.add(Op::constant, {}, LeafAttr{std::move(type), "", value});
}
Value constant_like(Value like, double value) { return constant(graph_of(like, "constant"), value, like.type()); }
Value scalar(Graph& graph, double value, DType dtype) { return constant(graph, value, Type{dtype, {}}); }
Value iota(Graph& graph, Type type, int64_t axis) {
  if (axis < 0) axis += static_cast<int64_t>(type.shape.size());
  return graph.add(Op::iota, {}, LeafAttr{std::move(type), "", 0, axis});
}

Value neg(Value x) { return unary(Op::neg, x); }
Value abs(Value x) { return unary(Op::abs, x); }
Value exp(Value x) { return unary(Op::exp, x); }
Value log(Value x) { return unary(Op::log, x); }
Value sqrt(Value x) { return unary(Op::sqrt, x); }
Value rsqrt(Value x) { return unary(Op::rsqrt, x); }
Value sin(Value x) { return unary(Op::sin, x); }
Value cos(Value x) { return unary(Op::cos, x); }
Value tanh(Value x) { return unary(Op::tanh, x); }
Value erf(Value x) { return unary(Op::erf, x); }
Value floor(Value x) { return unary(Op::floor, x); }
Value is_finite(Value x) { return unary(Op::is_finite, x); }
Value logical_not(Value x) { return unary(Op::logical_not, x); }

Value cast(Value x, DType dtype) {
  Graph& graph = graph_of(x, "cast");
  if (x.dtype() == dtype) return x;
  return graph.add(Op::cast, {x}, TypeAttr{Type{dtype, x.shape()}});
}

Value add(Value a, Value b) { return elementwise(Op::add, {a, b}); }
Value sub(Value a, Value b) { return elementwise(Op::sub, {a, b}); }
Value mul(Value a, Value b) { return elementwise(Op::mul, {a, b}); }
Value div(Value a, Value b) { return elementwise(Op::div, {a, b}); }
Value mod(Value a, Value b) { return elementwise(Op::mod, {a, b}); }
Value max(Value a, Value b) { return elementwise(Op::max, {a, b}); }
Value min(Value a, Value b) { return elementwise(Op::min, {a, b}); }
Value equal(Value a, Value b) { return elementwise(Op::equal, {a, b}); }
Value less(Value a, Value b) { return elementwise(Op::less, {a, b}); }
Value logical_and(Value a, Value b) { return elementwise(Op::logical_and, {a, b}); }
Value logical_or(Value a, Value b) { return elementwise(Op::logical_or, {a, b}); }
Value select(Value condition, Value if_true, Value if_false) {
  return elementwise(Op::select, {condition, if_true, if_false});
}
Value random_bits(Value seed, Value step, Value index) { return elementwise(Op::random_bits, {seed, step, index}); }

Value operator+(Value a, Value b) { return add(a, b); }
Value operator-(Value a, Value b) { return sub(a, b); }
Value operator*(Value a, Value b) { return mul(a, b); }
Value operator/(Value a, Value b) { return div(a, b); }
Value operator-(Value a) { return neg(a); }
Value operator+(Value a, double b) { return add(a, constant_like(a, b)); }
Value operator-(Value a, double b) { return sub(a, constant_like(a, b)); }
Value operator*(Value a, double b) { return mul(a, constant_like(a, b)); }
Value operator/(Value a, double b) { return div(a, constant_like(a, b)); }
Value operator+(double a, Value b) { return add(constant_like(b, a), b); }
Value operator-(double a, Value b) { return sub(constant_like(b, a), b); }
Value operator*(double a, Value b) { return mul(constant_like(b, a), b); }
Value operator/(double a, Value b) { return div(constant_like(b, a), b); }

Value reshape(Value x, Shape shape) {
  Graph& graph = graph_of(x, "reshape");
  const auto open = std::find(shape.begin(), shape.end(), -1);
  if (open != shape.end()) {
    *open = 1;
    const int64_t rest = element_count(shape);
    const int64_t count = element_count(x.shape());
    *open = -1;
    check(rest > 0 && count % rest == 0, "[reshape] {} does not fit {}", to_string(x.type()), to_string(shape));
    *open = count / rest;
  }
  if (shape == x.shape()) return x;
  return graph.add(Op::reshape, {x}, TypeAttr{Type{x.dtype(), std::move(shape)}});
}

Value permute(Value x, std::vector<int64_t> axes) {
  Graph& graph = graph_of(x, "permute");
  for (int64_t& axis : axes) axis = positive_axis(x, axis, "permute");
  const bool same_rank = static_cast<int64_t>(axes.size()) == x.rank();
  if (same_rank && std::is_sorted(axes.begin(), axes.end()) &&
      std::adjacent_find(axes.begin(), axes.end()) == axes.end()) {
    return x;
  }
  return graph.add(Op::permute, {x}, AxesAttr{std::move(axes)});
}

Value transpose(Value x) {
  check(x.rank() >= 2, "[transpose] {} has less than two axes", to_string(x.type()));
  std::vector<int64_t> axes(static_cast<size_t>(x.rank()));
  std::iota(axes.begin(), axes.end(), 0);
  std::swap(axes[axes.size() - 1], axes[axes.size() - 2]);
  return permute(x, std::move(axes));
}

Value broadcast(Value x, Shape shape) {
  Graph& graph = graph_of(x, "broadcast");
  if (x.shape() == shape) return x;
  check(x.shape().size() <= shape.size(), "[broadcast] {} to {}", to_string(x.type()), to_string(shape));
  if (x.shape().size() < shape.size()) {
    Shape padded(shape.size() - x.shape().size(), 1);
    padded.insert(padded.end(), x.shape().begin(), x.shape().end());
    x = reshape(x, std::move(padded));
  }
  if (x.shape() == shape) return x;
  return graph.add(Op::broadcast, {x}, TypeAttr{Type{x.dtype(), std::move(shape)}});
}

Value slice(Value x, int64_t axis, int64_t start, int64_t stop) {
  graph_of(x, "slice");
  const auto at = static_cast<size_t>(positive_axis(x, axis, "slice"));
  Shape starts(x.shape().size(), 0);
  Shape stops = x.shape();
  starts[at] = start;
  stops[at] = stop;
  return slice(x, std::move(starts), std::move(stops));
}

Value slice(Value x, Shape start, Shape stop) {
  Graph& graph = graph_of(x, "slice");
  if (stop == x.shape() && std::all_of(start.begin(), start.end(), [](int64_t s) { return s == 0; })) return x;
  return graph.add(Op::slice, {x}, SliceAttr{std::move(start), std::move(stop)});
}

Value pad(Value x, Shape low, Shape high, double value) {
  Graph& graph = graph_of(x, "pad");
  const auto is_zero = [](int64_t extent) { return extent == 0; };
  if (low.size() == x.shape().size() && high.size() == low.size() && std::all_of(low.begin(), low.end(), is_zero) &&
      std::all_of(high.begin(), high.end(), is_zero)) {
    return x;
  }
  return graph.add(Op::pad, {x}, PadAttr{std::move(low), std::move(high), value});
}

Value concat(std::vector<Value> parts, int64_t axis) {
  check(!parts.empty(), "[concat] needs an operand");
  Graph& graph = graph_of(parts.front(), "concat");
  const int64_t at = positive_axis(parts.front(), axis, "concat");
  if (parts.size() == 1) return parts.front();
  return graph.add(Op::concat, std::move(parts), AxisAttr{at});
}

Value sum(Value x, std::vector<int64_t> axes, bool keep) { return reduction(Op::sum, x, std::move(axes), keep); }

Value mean(Value x, std::vector<int64_t> axes, bool keep) {
  const Value total = sum(x, std::move(axes), keep);
  const double count =
      static_cast<double>(element_count(x.shape())) / static_cast<double>(element_count(total.shape()));
  return total * (1.0 / count);
}

Value reduce_max(Value x, std::vector<int64_t> axes, bool keep) {
  return reduction(Op::reduce_max, x, std::move(axes), keep);
}

Value argmax(Value x, int64_t axis, bool keep) { return reduction(Op::argmax, x, {axis}, keep); }

Value matmul(Value a, Value b) {
  Graph& graph = graph_of(a, "matmul");
  graph_of(b, "matmul");
  const auto text = [&] { return to_string(a.type()) + " @ " + to_string(b.type()); };
  check(a.rank() >= 2 && b.rank() >= 2, "[matmul] operands need two axes or more: {}", text());
  check(a.dim(-1) == b.dim(-2), "[matmul] inner dimensions differ: {}", text());
  const auto leading = [](Value x) { return Shape(x.shape().begin(), x.shape().end() - 2); };
  Shape a_leading = leading(a);
  Shape b_leading = leading(b);
  if (a_leading == b_leading) return graph.add(Op::matmul, {a, b});
  if (element_count(b_leading) == 1 && a_leading.size() >= b_leading.size()) {
    // One right-hand side for all: a single tall product, whose gradient needs no sum over copies.
    Shape shape = a.shape();
    shape.back() = b.dim(-1);
    const Value flat = reshape(a, {-1, a.dim(-1)});
    return reshape(graph.add(Op::matmul, {flat, reshape(b, {b.dim(-2), b.dim(-1)})}), std::move(shape));
  }
  const Shape common = broadcast_shapes(a_leading, b_leading, "matmul");
  const auto widen = [&](Value x) {
    Shape shape = common;
    shape.push_back(x.dim(-2));
    shape.push_back(x.dim(-1));
    return broadcast(x, std::move(shape));
  };
  return graph.add(Op::matmul, {widen(a), widen(b)});
}

Value gather(Value x, Value index, int64_t axis, int64_t batch) {
  Graph& graph = graph_of(x, "gather");
  return graph.add(Op::gather, {x, index}, GatherAttr{positive_axis(x, axis, "gather"), batch});
}

Value scatter_add(Value index, Value updates, int64_t rows, int64_t batch) {
  return graph_of(index, "scatter_add").add(Op::scatter_add, {index, updates}, ScatterAttr{rows, batch});
}

Value slice_update(Value x, Value update, Value start, int64_t axis) {
  Graph& graph = graph_of(x, "slice_update");
  return graph.add(Op::slice_update, {x, update, start}, AxisAttr{positive_axis(x, axis, "slice_update")});
}

}  // namespace surtsey::graph
