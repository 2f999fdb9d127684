// GLSL functions that the expressions of the op table call. The emitter puts them in front of every
// kernel.
#pragma once

namespace surtsey::graph {

inline constexpr const char* kGlslHelpers = R"glsl(
// Clamped: some drivers give NaN for large arguments, and at 15 the result is 1 in f32.
float surtsey_tanh(float x) { return tanh(clamp(x, -15.0, 15.0)); }

// erf(x) = x P(x^2) below 1, sign(x) (1 - exp(Q(|x|))) above: weighted minimax fits, error <= 1.3e-7.
float surtsey_erf(float x) {
  float a = min(abs(x), 4.0);
  float s = a * a;
  float p = 7.647120009e-05;
  p = p * s - 7.942357004e-04;
  p = p * s + 5.179749629e-03;
  p = p * s - 2.684859136e-02;
  p = p * s + 1.128343012e-01;
  p = p * s - 3.761260599e-01;
  p = p * s + 1.128379158;
  float q = -1.150419167e-03;
  q = q * a + 1.477809806e-02;
  q = q * a - 8.863411032e-02;
  q = q * a - 6.544890382e-01;
  q = q * a - 1.117438419;
  q = q * a - 2.671719930e-03;
  float r = a < 1.0 ? a * p : 1.0 - exp(q);
  return x < 0.0 ? -r : r;
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

}  // namespace surtsey::graph
