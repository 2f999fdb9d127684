// Counter-based random numbers: every draw is a pure function of (seed, step, index).
//
// The generator is Philox-2x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2,
// 3"). It holds no state, so the host, the interpreter and the device draw the same bits, in any
// order, for any number of ensemble members. Only 32-bit additions, xors and 32x32 -> 64 bit
// products are used, which GLSL has as umulExtended; the float helpers use exact operations only.
//
// Streams keep uses apart: derive one key per use with stream_seed(seed, "dropout.3") and never let
// two uses share a key. An index must not depend on the number of members or on a node id.
#pragma once

#include <cstdint>
#include <string_view>

namespace surtsey::graph {

inline constexpr uint32_t kPhiloxMultiplier = 0xD256D193u;
inline constexpr uint32_t kPhiloxWeyl = 0x9E3779B9u;
inline constexpr int kPhiloxRounds = 10;

// High word of the 64-bit product a * b.
constexpr uint32_t multiply_high(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
}

// First output word of Philox-2x32-10 with counter (index, step) and key seed.
constexpr uint32_t random_bits(uint32_t seed, uint32_t step, uint32_t index) {
  uint32_t left = index;
  uint32_t right = step;
  uint32_t key = seed;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint32_t high = multiply_high(kPhiloxMultiplier, left);
    const uint32_t low = kPhiloxMultiplier * left;
    left = high ^ key ^ right;
    right = low;
    key += kPhiloxWeyl;
  }
  return left;
}

// Key of a named stream: FNV-1a of the name, then one Philox draw, so that neighbouring seeds and
// similar names give unrelated keys.
constexpr uint32_t stream_seed(uint32_t seed, std::string_view stream) {
  uint32_t hash = 2166136261u;
  for (const char letter : stream) {
    hash ^= static_cast<uint8_t>(letter);
    hash *= 16777619u;
  }
  return random_bits(seed, 0x73747265u, hash);
}

// Uniform in [0, 1), a multiple of 2^-24: exact in f32 and the same on every device.
constexpr float uniform_from_bits(uint32_t bits) { return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f); }

constexpr float random_uniform(uint32_t seed, uint32_t step, uint32_t index) {
  return uniform_from_bits(random_bits(seed, step, index));
}

// Integer in [0, count) by multiply-shift; its bias is below count / 2^32. count must not be 0.
constexpr uint32_t range_from_bits(uint32_t bits, uint32_t count) { return multiply_high(bits, count); }

constexpr uint32_t random_range(uint32_t seed, uint32_t step, uint32_t index, uint32_t count) {
  return range_from_bits(random_bits(seed, step, index), count);
}

}  // namespace surtsey::graph
