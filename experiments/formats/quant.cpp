#include "experiments/formats/quant.h"

#include "experiments/formats/quant_blocks.h"
#include "graph/error.h"

#include <array>
#include <bit>
#include <cmath>

namespace surtsey::experiments {
namespace {

static_assert(std::endian::native == std::endian::little, "f32 rows are copied as they are");

struct TypeFormat {
  const char* name;
  int64_t numbers, bytes;                  // of a block
  void (*pack)(const float*, std::byte*);  // block types
  void (*unpack)(const std::byte*, float*);
  size_t scales[2];  // where a block's f16 scales stand
};
constexpr TypeFormat kFormats[] = {
    {"f32", 1, 4, nullptr, nullptr, {}},
    {"f16", 1, 2, nullptr, nullptr, {}},
    {"bf16", 1, 2, nullptr, nullptr, {}},
    {"q8_0", 32, 34, pack_q8_0, unpack_q8_0, {0, 0}},
    {"q4_0", 32, 18, pack_q4_0, unpack_q4_0, {0, 0}},
    {"q4_k", 256, 144, pack_q4_k, unpack_q4_k, {0, 2}},
    {"q6_k", 256, 210, pack_q6_k, unpack_q6_k, {208, 208}},
};

// No scale holds more, and sums of cubes stay finite below.
constexpr float kLargest = 1e9f;

const TypeFormat& format(StoredType type) { return kFormats[size_t(type)]; }

bool is_finite_half(uint16_t word) { return (word & 0x7c00u) != 0x7c00u; }
bool is_finite_bfloat(uint16_t word) { return (word & 0x7f80u) != 0x7f80u; }

void check_lengths(StoredType type, size_t numbers, size_t bytes) {
  ensure(int64_t(bytes) == row_bytes(type, int64_t(numbers)), "{} numbers of {} in {} bytes", numbers, name(type),
         bytes);
}

}  // namespace

const char* name(StoredType type) { return format(type).name; }

std::vector<std::string> stored_type_names() {
  std::vector<std::string> names;
  for (const TypeFormat& row : kFormats) names.emplace_back(row.name);
  return names;
}

std::optional<StoredType> stored_type(std::string_view name) {
  for (size_t i = 0; i < std::size(kFormats); ++i) {
    if (name == kFormats[i].name) return StoredType(i);
  }
  return std::nullopt;
}

int64_t block_size(StoredType type) { return format(type).numbers; }
int64_t block_bytes(StoredType type) { return format(type).bytes; }
bool is_block_type(StoredType type) { return format(type).numbers > 1; }

int64_t row_bytes(StoredType type, int64_t n) {
  const TypeFormat& row = format(type);
  check(n % row.numbers == 0, "{} stores {} numbers in a block, a row of {} is no multiple of that", row.name,
        row.numbers, n);
  return n / row.numbers * row.bytes;
}

void quantize_row(StoredType type, std::span<const float> numbers, std::span<std::byte> bytes) {
  check_lengths(type, numbers.size(), bytes.size());
  for (size_t i = 0; i < numbers.size(); ++i) {
    check(std::isfinite(numbers[i]), "number {} is {}, which {} is not made from", i, numbers[i], name(type));
  }
  const TypeFormat& row = format(type);
  if (type == StoredType::f32) {
    std::memcpy(bytes.data(), numbers.data(), bytes.size());
    return;
  }
  if (!is_block_type(type)) {
    for (size_t i = 0; i < numbers.size(); ++i) {
      const uint16_t word = type == StoredType::f16 ? half_bits(numbers[i]) : bfloat_bits(numbers[i]);
      check(type == StoredType::f16 ? is_finite_half(word) : is_finite_bfloat(word),
            "number {} is {}, too large for {}", i, numbers[i], row.name);
      store_word(bytes.data() + 2 * i, word);
    }
    return;
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    check(std::abs(numbers[i]) <= kLargest, "number {} is {}, too large for {}", i, numbers[i], row.name);
  }
  for (size_t block = 0; block < numbers.size() / size_t(row.numbers); ++block) {
    std::byte* target = bytes.data() + block * size_t(row.bytes);
    row.pack(numbers.data() + block * size_t(row.numbers), target);
    for (const size_t at : row.scales) {
      check(is_finite_half(load_word(target + at)), "block {} has numbers that are too large for {}", block, row.name);
    }
  }
}

void dequantize_row(StoredType type, std::span<const std::byte> bytes, std::span<float> numbers) {
  check_lengths(type, numbers.size(), bytes.size());
  const TypeFormat& row = format(type);
  if (type == StoredType::f32) {
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
  } else if (type == StoredType::f16) {
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = load_half(bytes.data() + 2 * i);
  } else if (type == StoredType::bf16) {
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = bfloat_value(load_word(bytes.data() + 2 * i));
  } else {
    for (size_t block = 0; block < numbers.size() / size_t(row.numbers); ++block) {
      row.unpack(bytes.data() + block * size_t(row.bytes), numbers.data() + block * size_t(row.numbers));
    }
  }
}

}  // namespace surtsey::experiments
