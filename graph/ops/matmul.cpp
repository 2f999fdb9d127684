#include "graph/ops/rows.h"

namespace surtsey::graph {

namespace {

std::vector<Type> infer_matmul(std::span<const Type> inputs, const Attr&) {
  const Type& a = inputs[0];
  const Type& b = inputs[1];
  const auto text = [&] { return to_string(a) + " @ " + to_string(b); };
  check(a.dtype == DType::f32 && b.dtype == DType::f32, "[matmul] operands must be f32: {}", text());
  const size_t rank = a.shape.size();
  check(rank >= 2 && rank == b.shape.size(), "[matmul] operands need the same axes: {}", text());
  check(a.shape[rank - 1] == b.shape[rank - 2], "[matmul] inner dimensions differ: {}", text());
  Type result = a;
  result.shape[rank - 1] = b.shape[rank - 1];
  for (size_t axis = 0; axis + 2 < rank; ++axis) {
    check(a.shape[axis] == b.shape[axis], "[matmul] leading axes differ: {}", text());
  }
  return {result};
}

// C = A B:  dA = dC B^T,  dB = A^T dC
std::vector<Value> gradient_matmul(std::span<const Value> inputs, const Attr&, Value, Value g) {
  return {matmul(g, transpose(inputs[1])), matmul(transpose(inputs[0]), g)};
}

HostTensor interpret_matmul(std::span<const HostTensor* const> inputs, const Attr&, const Type& type) {
  HostTensor result = HostTensor::zeros(type);
  const size_t rank = type.shape.size();
  const auto rows = static_cast<size_t>(type.shape[rank - 2]);
  const auto columns = static_cast<size_t>(type.shape[rank - 1]);
  const auto inner = static_cast<size_t>(inputs[0]->type.shape[rank - 1]);
  const size_t batches = result.values.size() / (rows * columns);
  for (size_t batch = 0; batch < batches; ++batch) {
    const double* a = inputs[0]->values.data() + batch * rows * inner;
    const double* b = inputs[1]->values.data() + batch * inner * columns;
    double* c = result.values.data() + batch * rows * columns;
    for (size_t row = 0; row < rows; ++row) {
      for (size_t k = 0; k < inner; ++k) {
        const double factor = a[row * inner + k];
        for (size_t column = 0; column < columns; ++column) {
          c[row * columns + column] += factor * b[k * columns + column];
        }
      }
    }
  }
  return result;
}

}  // namespace

std::vector<OpDef> matmul_rows() {
  return {
      {.op = Op::matmul,
       .name = "matmul",
       .family = Family::matmul,
       .arity = 2,
       .doc = "[..., M, K] @ [..., K, N] -> [..., M, N], equal leading axes",
       .infer = infer_matmul,
       .gradient = gradient_matmul,
       .interpret = interpret_matmul,
       .absolute = 2e-5,
       .relative = 1e-5,
       .samples = {{{f32_type({1, 1}), f32_type({1, 1})}},
                   {{f32_type({3, 5}), f32_type({5, 7})}},
                   {{f32_type({1, 17}), f32_type({17, 9})}},
                   {{f32_type({9, 17}), f32_type({17, 1})}},
                   {{f32_type({3, 1}), f32_type({1, 4})}},
                   {{f32_type({33, 65}), f32_type({65, 17})}},
                   {{f32_type({3, 5, 9}), f32_type({3, 9, 4})}},
                   {{f32_type({2, 3, 16, 8}), f32_type({2, 3, 8, 16})}},
                   {{f32_type({128, 40}), f32_type({40, 72})}}}},
  };
}

}  // namespace surtsey::graph
