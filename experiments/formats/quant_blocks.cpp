// Q8_0, Q4_0: one scale for 32 numbers.
#include "experiments/formats/quant_blocks.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

constexpr int kNumbers = 32;

// Where a scale is so small that its inverse overflows, a product is infinite or NaN: such a block is all zeros to a
// reader, as its scale is 0 in f16, and its integers are 0 by the reference.
int truncated(float value) { return std::abs(value) < 256 ? int(value) : 0; }

float inverse(float scale) { return scale != 0 ? 1.f / scale : 0.f; }

}  // namespace

void pack_q8_0(const float* numbers, std::byte* bytes) {
  float largest = 0;
  for (int i = 0; i < kNumbers; ++i) largest = std::max(largest, std::abs(numbers[i]));
  const float scale = largest / 127;
  store_half(bytes, scale);
  const float factor = inverse(scale);
  // Halves away from zero.
  for (int i = 0; i < kNumbers; ++i) bytes[2 + i] = std::byte(truncated(std::round(numbers[i] * factor)));
}

void unpack_q8_0(const std::byte* bytes, float* numbers) {
  const float scale = load_half(bytes);
  for (int i = 0; i < kNumbers; ++i) numbers[i] = scale * float(int8_t(bytes[2 + i]));
}

void pack_q4_0(const float* numbers, std::byte* bytes) {
  // The number that is furthest from 0, the first of several, becomes -8.
  float furthest = 0;
  for (int i = 0; i < kNumbers; ++i) {
    if (std::abs(numbers[i]) > std::abs(furthest)) furthest = numbers[i];
  }
  const float scale = furthest / -8;
  store_half(bytes, scale);
  const float factor = inverse(scale);
  const auto level = [&](int i) { return std::min(15, truncated(numbers[i] * factor + 8.5f)); };
  for (int i = 0; i < kNumbers / 2; ++i) bytes[2 + i] = std::byte(level(i) | level(i + kNumbers / 2) << 4);
}

void unpack_q4_0(const std::byte* bytes, float* numbers) {
  const float scale = load_half(bytes);
  for (int i = 0; i < kNumbers / 2; ++i) {
    const int pair = int(bytes[2 + i]);
    numbers[i] = scale * float((pair & 15) - 8);
    numbers[i + kNumbers / 2] = scale * float((pair >> 4) - 8);
  }
}

}  // namespace surtsey::experiments
