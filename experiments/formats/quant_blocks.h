// The blocks of quant.h, one at a time: between that file and the arithmetic.
#pragma once

#include "experiments/formats/half.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace surtsey::experiments {

// `numbers` has a block's count, all of them finite; `bytes` its bytes.
void pack_q8_0(const float* numbers, std::byte* bytes);
void pack_q4_0(const float* numbers, std::byte* bytes);
void pack_q4_k(const float* numbers, std::byte* bytes);
void pack_q6_k(const float* numbers, std::byte* bytes);

void unpack_q8_0(const std::byte* bytes, float* numbers);
void unpack_q4_0(const std::byte* bytes, float* numbers);
void unpack_q4_k(const std::byte* bytes, float* numbers);
void unpack_q6_k(const std::byte* bytes, float* numbers);

// Scale and minimum of sub-block i of a Q4_K block: `bytes` are the 12 that hold all of them.
struct SixBits {
  int scale, minimum;
};
SixBits load_six_bits(const std::byte* bytes, int i);

// Little-endian, as are the files.
inline void store_word(std::byte* bytes, uint16_t word) {
  bytes[0] = std::byte(word & 0xff);
  bytes[1] = std::byte(word >> 8);
}
inline uint16_t load_word(const std::byte* bytes) { return uint16_t(uint16_t(bytes[0]) | uint16_t(bytes[1]) << 8); }

// Stores a scale and gives the value that a reader will see.
inline float store_half(std::byte* bytes, float scale) {
  const uint16_t word = half_bits(scale);
  store_word(bytes, word);
  return half_value(word);
}
inline float load_half(const std::byte* bytes) { return half_value(load_word(bytes)); }

}  // namespace surtsey::experiments
