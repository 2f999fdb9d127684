// The GLSL functions that kernels call, all of them. A kernel that calls one has them in front.
#pragma once

namespace surtsey::graph {

inline constexpr const char* kGlslHelpers = R"glsl(
// Clamped: some drivers give NaN for large arguments, and at 15 the result is 1 in f32.
float surtsey_tanh(float x) { return tanh(clamp(x, -15.0, 15.0)); }

// erf(x) = x P(x^2) / Q(x^2), a weighted minimax fit on [-3.92, 3.92]: error <= 4.5e-7 with its rounding.
float surtsey_erf(float x) {
  float a = clamp(x, -3.92, 3.92);
  float s = a * a;
  float p = 1.9921481e-08;
  p = p * s - 1.9943072e-06;
  p = p * s + 1.4898766e-04;
  p = p * s + 3.9729183e-03;
  p = p * s + 5.1397346e-02;
  p = p * s + 2.0611477e-01;
  p = p * s + 1.1283787;
  float q = 1.0241313e-03;
  q = q * s + 1.4889264e-02;
  q = q * s + 1.1756478e-01;
  q = q * s + 5.1599324e-01;
  q = q * s + 1.0;
  return clamp(a * p / q, -1.0, 1.0);
}

// By the bits: comparisons with NaN and infinity are not to be trusted.
bool surtsey_is_finite(float x) { return (floatBitsToUint(x) & 0x7f800000u) != 0x7f800000u; }

// Philox-2x32-10, first word; the same as random_bits of graph/random.h.
uint surtsey_philox(uint seed, uint step, uint index) {
  uint left = index;
  uint right = step;
  uint key = seed;
  for (int i = 0; i < 10; ++i) {
    uint high, low;
    umulExtended(0xD256D193u, left, high, low);
    left = high ^ key ^ right;
    right = low;
    key += 0x9E3779B9u;
  }
  return left;
}
)glsl";

// What a store in bf16 calls. A kernel that has it has the others too.
inline constexpr const char* kGlslBfloat16 =
    R"glsl(// Round to nearest even; NaN stays NaN.
uint surtsey_bf16(float x) {
  uint bits = floatBitsToUint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40u;
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
)glsl";

}  // namespace surtsey::graph
