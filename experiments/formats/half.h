// 16-bit floats in words, as files store them: to the nearest, ties to even.
#pragma once

#include <bit>
#include <cstdint>

namespace surtsey::experiments {

// Infinite from 65520 on; a NaN stays one.
inline uint16_t half_bits(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value), magnitude = word & 0x7fffffffu;
  const auto sign = uint16_t(word >> 16 & 0x8000u);
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {
    // Below 2^-14 the steps are 2^-24, which are those of a float in [.5, 1): the addition rounds.
    return sign | uint16_t(std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + .5f) - 0x3f000000u);
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return sign | uint16_t((rounded - (112u << 23)) >> 13);
}

inline float half_value(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return (sign != 0 ? -1.f : 1.f) * float(fraction) * 0x1p-24f;
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

inline uint16_t bfloat_bits(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value);
  if ((word & 0x7fffffffu) > 0x7f800000u) return uint16_t(word >> 16 | 64u);
  return uint16_t((word + 0x7fffu + (word >> 16 & 1u)) >> 16);
}

inline float bfloat_value(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

}  // namespace surtsey::experiments
