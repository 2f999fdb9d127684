#include "experiments/adapt/packed.h"

#include "experiments/adapt/quantize.h"
#include "experiments/base/join.h"
#include "experiments/models/hub/stored_weights.h"

#include <cmath>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Shape;
using graph::Value;

struct Packing {
  int bits = 8;

  int64_t per_word() const { return 32 / bits; }
  int64_t words(int64_t columns) const { return (columns + per_word() - 1) / per_word(); }
  uint32_t bias() const { return 1u << (bits - 1); }

  std::vector<graph::StoredPart> parts(const Shape& shape) const {
    check(!shape.empty(), "[packed] a scalar has no row to pack");
    Shape in_words = shape, scales = shape;
    in_words.back() = words(shape.back());
    scales.back() = 1;
    return {{".words", {DType::u32, in_words}}, {".scale", {DType::f32, scales}}};
  }

  std::vector<HostTensor> pack(const HostTensor& tensor) const {
    const std::vector<graph::StoredPart> types = parts(tensor.type.shape);
    HostTensor packed = HostTensor::zeros(types[0].type), scales = HostTensor::zeros(types[1].type);
    const int64_t columns = tensor.type.shape.back(), width = words(columns);
    for (size_t row = 0; row < scales.values.size(); ++row) {
      const double* w = tensor.values.data() + row * size_t(columns);
      const float scale = row_scale(w, columns, bits);
      for (int64_t i = 0; i < columns; ++i) {
        check(std::isfinite(w[i]), "[packed] row {} of a {} is not finite", row, to_string(tensor.type));
      }
      scales.values[row] = scale;
      for (int64_t word = 0; word < width; ++word) {
        uint32_t fields = 0;
        for (int64_t i = 0; i < per_word(); ++i) {
          const int64_t column = word * per_word() + i;
          const int level = column < columns ? row_level(w[column], scale, bits) : 0;
          fields |= (uint32_t(level) + bias()) << (i * bits);
        }
        packed.values[row * size_t(width) + size_t(word)] = fields;
      }
    }
    return {std::move(packed), std::move(scales)};
  }

  // Fields side by side: word / 2^(bits i) mod 2^bits for i = 0 .. per_word - 1.
  Value unpack(std::span<const Value> parts, int64_t columns) const {
    const Value packed = parts[0], scale = parts[1];
    graph::Graph& graph = *packed.graph;
    const auto whole = [&](double value) { return graph::scalar(graph, value, DType::u32); };
    Shape fields = packed.shape();
    fields.push_back(per_word());
    Shape column = packed.shape();
    column.push_back(1);
    // 2^(bits i) as the product of 2^(bits 2^b) over the set bits b of i.
    const Value index = graph::iota(graph, {DType::u32, {per_word()}}, 0);
    Value divisor = graph::constant(graph, 1, {DType::u32, {per_word()}});
    for (int b = 0; (int64_t(1) << b) < per_word(); ++b) {
      const Value set = graph::equal(graph::mod(graph::div(index, whole(1u << b)), whole(2)), whole(1));
      divisor = graph::select(set, divisor * whole(double(1u << (bits << b))), divisor);
    }
    const Value field = graph::mod(graph::div(graph::reshape(packed, column), divisor), whole(1u << bits));
    Shape rows = packed.shape();
    rows.back() *= per_word();
    Value levels = graph::reshape(graph::cast(field, DType::f32) - double(bias()), rows);
    if (rows.back() != columns) levels = graph::slice(levels, -1, 0, columns);
    return levels * scale;
  }
};

}  // namespace

graph::Storage packed_rows(int bits) {
  check(bits == 4 || bits == 8, "[packed] numbers are packed in 4 or 8 bits, not {}", bits);
  const Packing packing{bits};
  return {
      .name = fmt::format("int{}", bits),
      .parts = [packing](const Shape& shape) { return packing.parts(shape); },
      .pack = [packing](const HostTensor& tensor) { return packing.pack(tensor); },
      .unpack = [packing](std::span<const Value> parts, int64_t columns) { return packing.unpack(parts, columns); }};
}

void freeze_weights(graph::ParameterStore& store, std::string_view format) {
  if (format == "trained") return;
  const std::optional<StoredType> stored = stored_type(format);
  const bool packs = format == "int8" || format == "int4";
  check(packs || stored, "weights are trained, or kept as {}, int8 or int4, not '{}'", join(stored_type_names(), ", "),
        format);
  if (stored && is_block_type(*stored)) return hub::freeze_in_blocks(store, *stored);
  const auto all = [](const graph::ParameterSpec&) { return true; };
  store.freeze(all, packs ? graph::whole(DType::f32) : hub::storage_of(*stored));
  if (!packs) return;
  const auto is_matrix = [](const graph::ParameterSpec& spec) { return spec.shape.size() == 2; };
  store.freeze(is_matrix, packed_rows(format == "int8" ? 8 : 4));
}

void freeze_weights(Model& model, const hub::Source& source, std::string_view format, const graph::Target& target) {
  if (format == "stored") return hub::freeze_as_stored(model, source, target.f16_storage);
  freeze_weights(model.store(), format);
}

}  // namespace surtsey::experiments
