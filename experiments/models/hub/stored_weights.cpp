#include "experiments/models/hub/stored_weights.h"

#include "experiments/formats/quant_blocks.h"
#include "experiments/models/hub/import.h"

#include <cstring>
#include <map>
#include <set>

namespace surtsey::experiments::hub {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Shape;
using graph::StoredPart;
using graph::Value;

constexpr int64_t kWordBits = 32;
constexpr int64_t kSigned = 128;  // is added to what is a signed byte in the file

// A part as an axis of fields: so many of so many bits a block. Scales (f16) count as fields of 16 bits.
struct StoredFields {
  const char* suffix;
  int64_t count;
  int64_t bits;
  bool scale = false;

  int64_t elements() const { return scale ? count : count * bits / kWordBits; }
};

// Short blocks are joined until their fields fill whole words.
struct StoredLayout {
  StoredType type;
  std::vector<StoredFields> parts;  // in the order of unpack's
};

const StoredLayout& layout(StoredType type) {
  static const StoredLayout kStoredLayouts[] = {
      {StoredType::q8_0, {{".words", 32, 8}, {".scale", 1, 16, true}}},
      {StoredType::q4_0, {{".words", 32, 4}, {".scale", 1, 16, true}}},
      {StoredType::q4_k, {{".words", 256, 4}, {".low", 16, 4}, {".high", 16, 2}, {".scale", 2, 16, true}}},
      {StoredType::q6_k, {{".words", 256, 4}, {".high", 256, 2}, {".steps", 16, 8}, {".scale", 1, 16, true}}}};
  for (const StoredLayout& one : kStoredLayouts) {
    if (one.type == type) return one;
  }
  throw InternalError(fmt::format("{} is no type of blocks", name(type)));
}

std::vector<StoredPart> parts_of(StoredType type, const Shape& shape) {
  check(!shape.empty() && shape.back() % block_size(type) == 0, "[stored] {} keeps rows of whole blocks of {}, not {}",
        name(type), block_size(type), graph::to_string(shape));
  std::vector<StoredPart> parts;
  for (const StoredFields& fields : layout(type).parts) {
    Shape stored = shape;
    stored.back() = shape.back() / block_size(type) * fields.elements();
    parts.push_back({fields.suffix, {fields.scale ? DType::f16 : DType::u32, stored}});
  }
  return parts;
}

// The fields of one block, part by part.
using Block = std::vector<std::vector<uint32_t>>;

uint32_t byte_at(const std::byte* bytes, size_t i) { return uint32_t(bytes[i]); }
uint32_t half_at(const std::byte* bytes) { return load_word(bytes); }

void split_q8_0(const std::byte* bytes, Block& block) {
  for (size_t i = 0; i < 32; ++i) block[0][i] = byte_at(bytes, 2 + i) ^ uint32_t(kSigned);
  block[1][0] = half_at(bytes);
}

void split_q4_0(const std::byte* bytes, Block& block) {
  for (size_t i = 0; i < 16; ++i) {
    block[0][i] = byte_at(bytes, 2 + i) & 15;
    block[0][i + 16] = byte_at(bytes, 2 + i) >> 4;
  }
  block[1][0] = half_at(bytes);
}

void split_q4_k(const std::byte* bytes, Block& block) {
  for (size_t s = 0; s < 8; ++s) {
    for (size_t i = 0; i < 32; ++i) {
      const uint32_t pair = byte_at(bytes, 16 + s / 2 * 32 + i);
      block[0][s * 32 + i] = s % 2 == 0 ? pair & 15 : pair >> 4;
    }
    const SixBits six = load_six_bits(bytes + 4, int(s));
    block[1][s] = uint32_t(six.scale & 15);
    block[1][s + 8] = uint32_t(six.minimum & 15);
    block[2][s] = uint32_t(six.scale >> 4);
    block[2][s + 8] = uint32_t(six.minimum >> 4);
  }
  block[3][0] = half_at(bytes);
  block[3][1] = half_at(bytes + 2);
}

void split_q6_k(const std::byte* bytes, Block& block) {
  for (size_t i = 0; i < 256; ++i) {
    const size_t half = i / 128, quarter = i / 32 % 4, at = i % 32;
    const uint32_t pair = byte_at(bytes, half * 64 + quarter % 2 * 32 + at);
    block[0][i] = quarter < 2 ? pair & 15 : pair >> 4;
    block[1][i] = byte_at(bytes, 128 + half * 32 + at) >> (2 * quarter) & 3;
  }
  for (size_t s = 0; s < 16; ++s) block[2][s] = byte_at(bytes, 192 + s) ^ uint32_t(kSigned);
  block[3][0] = half_at(bytes + 208);
}

void split(StoredType type, const std::byte* bytes, Block& block) {
  switch (type) {
    case StoredType::q8_0:
      return split_q8_0(bytes, block);
    case StoredType::q4_0:
      return split_q4_0(bytes, block);
    case StoredType::q4_k:
      return split_q4_k(bytes, block);
    default:
      return split_q6_k(bytes, block);
  }
}

// ---- in a graph ----

Value whole_number(graph::Graph& graph, double value) { return graph::scalar(graph, value, DType::u32); }

// The fields of words u32 [.., w], as f32 [.., w * 32 / bits].
Value fields_of(Value words, int64_t bits) {
  graph::Graph& graph = *words.graph;
  const int64_t count = kWordBits / bits;
  // 2^(bits i) as the product of 2^(bits 2^b) over the set bits b of i.
  const Value index = graph::iota(graph, {DType::u32, {count}}, 0);
  Value divisor = graph::constant(graph, 1, {DType::u32, {count}});
  for (int b = 0; (int64_t(1) << b) < count; ++b) {
    const Value bit = graph::mod(graph::div(index, whole_number(graph, double(1u << b))), whole_number(graph, 2));
    const Value set = graph::equal(bit, whole_number(graph, 1));
    divisor = graph::select(set, divisor * whole_number(graph, double(1u << (bits << b))), divisor);
  }
  Shape column = words.shape(), rows = words.shape();
  column.push_back(1);
  rows.back() *= count;
  const Value field =
      graph::mod(graph::div(graph::reshape(words, column), divisor), whole_number(graph, double(1u << bits)));
  return graph::reshape(graph::cast(field, DType::f32), rows);
}

// x [.., n] as [.., n / inner, inner].
Value cut(Value x, int64_t inner) {
  Shape shape = x.shape();
  shape.back() /= inner;
  shape.push_back(inner);
  return graph::reshape(x, shape);
}

// Each number of x [.., m] stands for `times` neighbours of [.., n], n = m times: x as [.., m, 1].
Value column(Value x) { return cut(x, 1); }

Value joined(Value x, const Value& like, int64_t n) {
  Shape shape = like.shape();
  shape.back() = n;
  return graph::reshape(x, shape);
}

Value number(Value half) { return graph::cast(half, DType::f32); }

Value unpack(StoredType type, std::span<const Value> parts, int64_t n) {
  const Value& words = parts[0];
  const Value scale = number(parts.back());
  if (type == StoredType::q8_0 || type == StoredType::q4_0) {
    const int64_t bits = type == StoredType::q8_0 ? 8 : 4;
    const Value levels = fields_of(words, bits) - double(1u << (bits - 1));
    return joined(cut(levels, 32) * column(scale), words, n);
  }
  if (type == StoredType::q4_k) {
    const Value six = cut(fields_of(parts[1], 4) + fields_of(parts[2], 2) * 16.0, 16);  // [.., blocks, 16]
    const Value both = cut(scale, 2);                                                   // [.., blocks, 2]
    const Value step = graph::slice(six, -1, 0, 8) * graph::slice(both, -1, 0, 1);
    const Value least = graph::slice(six, -1, 8, 16) * graph::slice(both, -1, 1, 2);
    const Value levels = cut(cut(fields_of(words, 4), 256), 32);  // [.., blocks, 8, 32]
    return joined(column(step) * levels - column(least), words, n);
  }
  const Value levels = fields_of(words, 4) + fields_of(parts[1], 2) * 16.0 - 32.0;
  const Value step = cut(fields_of(parts[2], 8) - double(kSigned), 16) * column(scale);  // [.., blocks, 16]
  return joined(cut(cut(levels, 256), 16) * column(step), words, n);
}

// x [.., n] as quantize_row() would have it, where that takes x, by the same steps in f32: a scale of f16 for 32
// numbers, the whole numbers made with the one that was not rounded yet, halves away from 0.
std::vector<Value> keep_q8_0(Value x) {
  graph::Graph& graph = *x.graph;
  constexpr int64_t kPerWord = 4, kBlock = 32;
  const Value blocks = cut(x, kBlock);
  const Value scale = graph::reduce_max(graph::abs(blocks), {-1}) / 127.0;
  const Value zero = graph::scalar(graph, 0), one = graph::scalar(graph, 1);
  const Value factor = graph::select(graph::equal(scale, zero), zero, one / scale);
  const Value size = graph::abs(blocks * factor);
  const Value below = graph::floor(size);
  const Value level = below + graph::select(graph::less(size - below, graph::scalar(graph, 0.5)), zero, one);
  // The inverse of a scale that is all but 0 overflows: numbers that are 0 to a reader, as their scale is.
  const Value bounded = graph::select(graph::less(level, graph::scalar(graph, 2.0 * kSigned)), level, zero);
  const Value field = graph::cast(
      graph::select(graph::less(blocks, zero), double(kSigned) - bounded, double(kSigned) + bounded), DType::u32);
  const Value fields = cut(joined(field, x, x.dim(-1)), kPerWord);
  Value words = graph::slice(fields, -1, 0, 1);
  for (int64_t i = 1; i < kPerWord; ++i)
    words = words + graph::slice(fields, -1, i, i + 1) * whole_number(graph, double(uint64_t(1) << (8 * i)));
  return {joined(words, x, x.dim(-1) / kPerWord), graph::cast(joined(scale, x, x.dim(-1) / kBlock), DType::f16)};
}

bool is_matrix(const graph::ParameterSpec& spec) { return spec.shape.size() == 2; }

graph::Storage block_storage(StoredType type) {
  return {.name = name(type),
          .parts = [type](const Shape& shape) { return parts_of(type, shape); },
          .pack =
              [type](const HostTensor& tensor) {
                const std::vector<float> numbers(tensor.values.begin(), tensor.values.end());
                std::vector<std::byte> bytes(numbers.size() / size_t(block_size(type)) * size_t(block_bytes(type)));
                parts_of(type, tensor.type.shape);
                quantize_row(type, numbers, bytes);
                return block_parts(type, tensor.type.shape, bytes);
              },
          .keep = type == StoredType::q8_0 ? keep_q8_0 : std::function<std::vector<Value>(Value)>(),
          .unpack = [type](std::span<const Value> parts, int64_t n) { return unpack(type, parts, n); }};
}

}  // namespace

graph::Storage storage_of(StoredType type) {
  if (is_block_type(type)) return block_storage(type);
  return graph::whole(type == StoredType::f32 ? DType::f32 : type == StoredType::f16 ? DType::f16 : DType::bf16);
}

std::vector<std::vector<std::byte>> block_part_bytes(StoredType type, const Shape& shape,
                                                     std::span<const std::byte> bytes) {
  const std::vector<StoredPart> parts = parts_of(type, shape);
  const std::vector<StoredFields>& fields = layout(type).parts;
  const auto blocks = size_t(graph::element_count(shape) / block_size(type)), size = size_t(block_bytes(type));
  ensure(bytes.size() == blocks * size, "[stored] {} bytes are no {} of {}", bytes.size(), name(type),
         graph::to_string(shape));
  std::vector<std::vector<std::byte>> result;
  Block block;
  for (size_t p = 0; p < parts.size(); ++p) {
    const int64_t each = graph::storage_bytes(parts[p].type.dtype);
    result.emplace_back(size_t(graph::element_count(parts[p].type.shape) * each));
    block.emplace_back(size_t(fields[p].count));
  }
  std::vector<size_t> written(parts.size(), 0);
  const auto put = [&](size_t p, const auto& value) {
    std::memcpy(result[p].data() + written[p], &value, sizeof value);
    written[p] += sizeof value;
  };
  for (size_t b = 0; b < blocks; ++b) {
    split(type, bytes.data() + b * size, block);
    for (size_t p = 0; p < parts.size(); ++p) {
      if (fields[p].scale) {
        for (const uint32_t half : block[p]) put(p, uint16_t(half));
        continue;
      }
      const auto per_word = size_t(kWordBits / fields[p].bits);
      for (size_t i = 0; i < block[p].size(); i += per_word) {
        uint32_t word = 0;
        for (size_t k = 0; k < per_word; ++k) word |= block[p][i + k] << (k * size_t(fields[p].bits));
        put(p, word);
      }
    }
  }
  return result;
}

std::vector<HostTensor> block_parts(StoredType type, const Shape& shape, std::span<const std::byte> bytes) {
  const std::vector<StoredPart> parts = parts_of(type, shape);
  const std::vector<std::vector<std::byte>> stored = block_part_bytes(type, shape, bytes);
  std::vector<HostTensor> result;
  for (size_t p = 0; p < parts.size(); ++p) {
    HostTensor& tensor = result.emplace_back(HostTensor::zeros(parts[p].type));
    const std::byte* from = stored[p].data();
    for (double& value : tensor.values) {
      if (parts[p].type.dtype == DType::f16) {
        value = double(load_half(from));
        from += 2;
      } else {
        uint32_t word;
        std::memcpy(&word, from, sizeof word);
        value = word;
        from += 4;
      }
    }
  }
  return result;
}

void freeze_in_blocks(graph::ParameterStore& store, StoredType type) {
  const auto fits = [](const graph::ParameterSpec& spec, StoredType blocks) {
    return is_matrix(spec) && spec.shape.back() % block_size(blocks) == 0;
  };
  store.freeze([](const graph::ParameterSpec&) { return true; }, graph::whole(DType::f32));
  store.freeze([&](const graph::ParameterSpec& spec) { return fits(spec, type); }, storage_of(type));
  if (!is_block_type(type)) return;
  const auto shorter = [&](const graph::ParameterSpec& spec) {
    return !fits(spec, type) && fits(spec, StoredType::q8_0);
  };
  store.freeze(shorter, storage_of(StoredType::q8_0));
}

void freeze_as_stored(Model& model, const Source& source, bool narrow) {
  std::map<std::string, StoredType> types;
  for (const TensorInfo& tensor : source.tensors()) types.emplace(tensor.name, tensor.type);
  const auto type_of = [&](const graph::ParameterSpec& spec) {
    const auto found = types.find(source_name(model.config(), spec.name));
    const StoredType type = found == types.end() ? StoredType::f32 : found->second;
    const bool wide = type == StoredType::f16 || type == StoredType::bf16;
    return wide && !narrow ? StoredType::f32 : type;
  };
  std::set<StoredType> met;
  for (const graph::ParameterSpec& spec : model.store().specs()) met.insert(type_of(spec));
  for (const StoredType type : met) {
    model.store().freeze([&](const graph::ParameterSpec& spec) { return type_of(spec) == type; }, storage_of(type));
  }
}

}  // namespace surtsey::experiments::hub
