#include "tests/support/random_program.h"

namespace surtsey::tests {

using namespace graph;

Value random_view(Draw& draw, Value x, double padding) {
  const auto rank = uint32_t(x.rank());
  switch (draw.below(rank == 0 ? 2 : 6)) {
    case 0:
      return reshape(x, draw.reshaped(element_count(x.shape())));
    case 1: {
      Shape shape = x.shape();
      for (int64_t& extent : shape)
        if (extent == 1 && draw.chance(2)) extent = draw.between(2, 3);
      if (draw.chance(3) && rank < 4) shape.insert(shape.begin(), draw.between(1, 3));
      return broadcast(x, shape);
    }
    case 2: {
      const int64_t axis = draw.below(rank), extent = x.dim(axis), start = draw.below(uint32_t(extent));
      return slice(x, axis, start, draw.between(start + 1, extent));
    }
    case 3: {
      Shape low(rank, 0), high(rank, 0);
      const uint32_t axis = draw.below(rank);
      low[axis] = draw.below(4);
      high[axis] = draw.below(3);
      return pad(x, low, high, padding);
    }
    default:
      return permute(x, draw.permutation(rank));
  }
}

namespace {

constexpr int64_t kMostElements = 400;

class Maker {
 public:
  explicit Maker(uint32_t seed) : draw_(seed) { result_.program.graph = std::make_shared<Graph>(); }

  RandomProgram make() {
    for (uint32_t i = 2 + draw_.below(3); i > 0; --i) values_.push_back(parameter(draw_.shape(draw_.between(1, 3), 7)));
    for (uint32_t i = 5 + draw_.below(20); i > 0; --i) {
      const Value next = step();
      if (element_count(next.shape()) <= kMostElements) values_.push_back(next);
    }
    if (draw_.chance(3)) add_gradients();
    if (draw_.chance(2)) assign_some();
    for (uint32_t i = 1 + draw_.below(4); i > 0; --i) output(recent());
    return std::move(result_);
  }

 private:
  Graph& graph() { return *result_.program.graph; }

  Value parameter(const Shape& shape, DType dtype = DType::f32, double low = -1, double high = 1) {
    const std::string name = fmt::format("p{}", result_.state.size());
    const Type type{dtype, shape};
    HostTensor tensor = HostTensor::random(type, low, high, draw_.below(1u << 30));
    tensor.round_to_storage();
    result_.state[name] = tensor;
    return graph().parameter(name, type);
  }

  void output(Value value) {
    result_.program.outputs.emplace_back(fmt::format("y{}", result_.program.outputs.size()), value);
  }

  Value any() { return draw_.of(values_); }
  // The newest values are read most, so that chains get long.
  Value recent() { return values_[values_.size() - 1 - draw_.below(uint32_t(std::min<size_t>(values_.size(), 4)))]; }

  // A value of this shape: one there is, one broadcast, or a new parameter.
  Value shaped_like(Value x) {
    std::vector<Value> fitting;
    for (const Value& value : values_)
      if (value.shape() == x.shape()) fitting.push_back(value);
    if (!fitting.empty() && !draw_.chance(3)) return draw_.of(fitting);
    Shape shape = x.shape();
    for (int64_t& extent : shape)
      if (draw_.chance(3)) extent = 1;
    return broadcast(parameter(shape), x.shape());
  }

  Value unary(Value x) {
    switch (draw_.below(8)) {
      case 0:
        return -x;
      case 1:
        return tanh(x);
      case 2:
        return sin(x);
      case 3:
        return exp(tanh(x));
      case 4:
        return sqrt(x * x + 0.5);
      case 5:
        return rsqrt(x * x + 1.0) * x;
      case 6:
        return gelu_erf(x);
      default:
        return x * 0.5 + 0.25;
    }
  }

  Value binary(Value x) {
    const Value y = shaped_like(x);
    switch (draw_.below(6)) {
      case 0:
        return x + y;
      case 1:
        return x - y;
      case 2:
        return x * tanh(y);
      case 3:
        return max(x, y);
      case 4:
        return x / (y * y + 1.0);
      default: {
        // On indices, so that no rounding decides.
        const Type type{DType::u32, x.shape()};
        if (x.rank() == 0) return x * 0.5;
        const Value at = iota(graph(), type, int64_t(draw_.below(uint32_t(x.rank()))));
        return select(less(at, constant(graph(), 2, type)), x, y);
      }
    }
  }

  Value reduced(Value x) {
    std::vector<int64_t> axes;
    for (int64_t d = 0; d < x.rank(); ++d)
      if (draw_.chance(2)) axes.push_back(d);
    if (axes.empty()) axes.push_back(x.rank() - 1);
    const bool keep = draw_.chance(2);
    switch (draw_.below(3)) {
      case 0:
        return mean(x, axes, keep);
      case 1:
        return reduce_max(x, axes, keep);
      default:
        return sum(tanh(x), axes, keep) * 0.3;
    }
  }

  Value product(Value x) {
    if (x.rank() < 2) return x * 0.75;
    if (draw_.chance(3)) return matmul(x, transpose(x)) * 0.2;
    for (const Value& value : values_)
      if (value.rank() == 2 && value.dim(0) == x.dim(-1) && draw_.chance(2)) return matmul(x, value) * 0.3;
    return matmul(x, parameter({x.dim(-1), draw_.between(1, 19)})) * 0.3;
  }

  Value indexed(Value x) {
    const int64_t axis = draw_.below(uint32_t(x.rank()));
    switch (draw_.below(3)) {
      case 0:
        return gather(x, parameter({draw_.between(1, 6)}, DType::u32, 0, 9), axis);
      case 1:
        return scatter_add(parameter({x.dim(0)}, DType::u32, 0, 6), x * 0.5, draw_.between(1, 5));
      default: {
        Shape shape = x.shape();
        shape[size_t(axis)] = draw_.between(1, shape[size_t(axis)]);
        return slice_update(x, parameter(shape), parameter({}, DType::u32, 0, 5), axis);
      }
    }
  }

  Value joined(Value x) {
    const int64_t axis = draw_.below(uint32_t(x.rank()));
    std::vector<Value> parts{x};
    for (uint32_t i = 1 + draw_.below(3); i > 0; --i) parts.push_back(draw_.chance(2) ? unary(x) : shaped_like(x));
    if (draw_.chance(2)) std::swap(parts.front(), parts.back());
    return concat(parts, axis);
  }

  Value step() {
    const Value x = draw_.chance(4) ? any() : recent();
    const uint32_t kind = draw_.below(16);
    if (kind < 3) return unary(x);
    if (kind < 6) return binary(x);
    if (kind < 9 || x.rank() == 0) return random_view(draw_, x, 0.5 * draw_.below(2));
    if (kind < 11) return reduced(x);
    if (kind < 13) return product(x);
    if (kind < 14) return indexed(x);
    if (kind < 15) return joined(x);
    return draw_.chance(2) ? softmax(x) : layer_norm(x, {}, {}, 0.1);
  }

  static Value average(Value x) {
    std::vector<int64_t> axes;
    for (int64_t d = 0; d < x.rank(); ++d) axes.push_back(d);
    return mean(x, axes, false);
  }

  void add_gradients() {
    const Value y = recent();
    const Value loss = average(y * sin(y));
    std::vector<Value> wrt;
    for (const auto& [name, value] : graph().parameters())
      if (value.dtype() == DType::f32 && wrt.size() < 3) wrt.push_back(value);
    for (const Value& gradient : differentiate(loss, wrt)) values_.push_back(gradient);
    output(loss);
  }

  void assign_some() {
    std::vector<Value> parameters;
    for (const auto& [name, value] : graph().parameters())
      if (value.dtype() == DType::f32) parameters.push_back(value);
    for (const Value& p : parameters) {
      if (!draw_.chance(2)) continue;
      Value value;
      for (const Value& candidate : values_)
        if (candidate.shape() == p.shape() && candidate != p && draw_.chance(2)) value = candidate;
      if (!value) value = p + average(recent());
      graph().assign(p, draw_.chance(2) ? tanh(value) : tanh(value) * 0.5 + p * 0.25);
    }
  }

  Draw draw_;
  RandomProgram result_;
  std::vector<Value> values_;
};

}  // namespace

RandomProgram random_program(uint32_t seed) { return Maker(seed).make(); }

}  // namespace surtsey::tests
