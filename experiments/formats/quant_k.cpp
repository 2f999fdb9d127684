// Q4_K, Q6_K: 256 numbers in sub-blocks whose scales are integers times one of the block's.
#include "experiments/formats/quant_blocks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace surtsey::experiments {
namespace {

constexpr int kSuperNumbers = 256;
constexpr float kVanishing = 1e-15f;  // what is smaller throughout a sub-block of Q6_K counts as zero

// To the nearest, halves to even, by adding 1.5 2^23. What does not fit 23 bits (an infinite scale's product, NaN)
// gives what the low bits of the sum are, as in the reference: -2^22, 0.
int nearest(float value) {
  const uint32_t word = std::bit_cast<uint32_t>(value + 12582912.f);
  return int(word & 0x7fffffu) - 0x400000;
}

// Q4_K: 32 numbers x as scale * level + minimum, 0 <= level <= 15, minimum <= 0.
constexpr int kSub4 = 32;
constexpr int kTop4 = 15;
struct Fit {
  float scale = 0;
  float minimum = 0;
  uint8_t levels[kSub4] = {};
};

float weighted_error(const float* x, const float* weights, const Fit& fit) {
  float error = 0;
  for (int i = 0; i < kSub4; ++i) {
    const float difference = fit.scale * float(fit.levels[i]) + fit.minimum - x[i];
    error += weights[i] * (difference * difference);
  }
  return error;
}

// Levels of several scales around the one that spans the numbers; for each the least squares' scale and minimum; the
// fit whose weighted error is smallest stays. Sums are taken in the order of the numbers.
Fit fit_sub_block(const float* x) {
  float squares = 0;
  for (int i = 0; i < kSub4; ++i) squares += x[i] * x[i];
  const float mean = std::sqrt(squares / kSub4);
  float weights[kSub4];
  for (int i = 0; i < kSub4; ++i) weights[i] = mean + std::abs(x[i]);

  float low = x[0], high = x[0], sum_w = weights[0], sum_x = sum_w * x[0];
  for (int i = 1; i < kSub4; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    sum_w += weights[i];
    sum_x += weights[i] * x[i];
  }
  low = std::min(low, 0.f);
  Fit best;
  best.minimum = low;
  if (high == low) return best;

  const auto levels_at = [&](float factor, uint8_t* levels) {
    for (int i = 0; i < kSub4; ++i) levels[i] = uint8_t(std::clamp(nearest(factor * (x[i] - low)), 0, kTop4));
  };
  const float first = kTop4 / (high - low);
  best.scale = 1 / first;
  levels_at(first, best.levels);
  float best_error = weighted_error(x, weights, best);
  for (int step = 0; step <= 20; ++step) {
    Fit fit;
    levels_at((-1.f + .1f * float(step) + kTop4) / (high - low), fit.levels);
    float sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (int i = 0; i < kSub4; ++i) {
      const float level = float(fit.levels[i]), w = weights[i];
      sum_l += w * level;
      sum_l2 += w * level * level;
      sum_xl += w * level * x[i];
    }
    const float determinant = sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0)) continue;
    fit.scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    fit.minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if (fit.minimum > 0) {
      fit.minimum = 0;
      fit.scale = sum_xl / sum_l2;
    }
    const float error = weighted_error(x, weights, fit);
    if (error < best_error) {
      best = fit;
      best_error = error;
      low = fit.minimum;  // from here on levels are counted from it
    }
  }
  return best;
}

// Eight scales and eight minima of 6 bits in 12 bytes: the first four of each in the low bits of bytes 0 to 7, the low
// halves of the others in bytes 8 to 11, and their high bits above the first ones.
void store_six_bits(std::byte* bytes, int i, int scale, int minimum) {
  if (i < 4) {
    bytes[i] = std::byte(scale);
    bytes[i + 4] = std::byte(minimum);
    return;
  }
  bytes[i + 4] = std::byte((scale & 15) | (minimum & 15) << 4);
  bytes[i - 4] |= std::byte(scale >> 4 << 6);
  bytes[i] |= std::byte(minimum >> 4 << 6);
}

// Q6_K: 16 numbers x as scale * level, -32 <= level <= 31; levels are kept with 32 added.
constexpr int kSub6 = 16;
constexpr int kTop6 = 32;

float fit_symmetric(const float* x, uint8_t* levels) {
  float furthest = 0;
  for (int i = 0; i < kSub6; ++i) {
    if (std::abs(x[i]) > std::abs(furthest)) furthest = x[i];
  }
  std::fill(levels, levels + kSub6, uint8_t(0));
  if (std::abs(furthest) < kVanishing) return 0;

  const auto level = [&](float factor, int i) { return std::clamp(nearest(factor * x[i]), -kTop6, kTop6 - 1); };
  float sum_xl = 0, sum_l2 = 0;
  const auto measure = [&](float factor) {
    sum_xl = sum_l2 = 0;
    for (int i = 0; i < kSub6; ++i) {
      const float l = float(level(factor, i)), w = x[i] * x[i];
      sum_xl += w * x[i] * l;
      sum_l2 += w * l * l;
    }
  };
  const auto take = [&](float factor) {
    for (int i = 0; i < kSub6; ++i) levels[i] = uint8_t(level(factor, i) + kTop6);
  };
  const float first = -kTop6 / furthest;
  measure(first);
  take(first);
  float scale = sum_l2 != 0 ? sum_xl / sum_l2 : 0;
  float best = scale * sum_xl;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float factor = -(kTop6 + .1f * float(step)) / furthest;
    measure(factor);
    if (sum_l2 > 0 && sum_xl * sum_xl > best * sum_l2) {
      take(factor);
      scale = sum_xl / sum_l2;
      best = scale * sum_xl;
    }
  }
  return scale;
}

}  // namespace

SixBits load_six_bits(const std::byte* bytes, int i) {
  if (i < 4) return {int(bytes[i]) & 63, int(bytes[i + 4]) & 63};
  const int low = int(bytes[i + 4]);
  return {(low & 15) | int(bytes[i - 4]) >> 6 << 4, low >> 4 | int(bytes[i]) >> 6 << 4};
}

void pack_q4_k(const float* numbers, std::byte* bytes) {
  constexpr int kSubs = kSuperNumbers / kSub4;
  Fit fits[kSubs];
  float largest_scale = 0, largest_minimum = 0;
  for (int s = 0; s < kSubs; ++s) {
    fits[s] = fit_sub_block(numbers + s * kSub4);
    largest_scale = std::max(largest_scale, fits[s].scale);
    largest_minimum = std::max(largest_minimum, -fits[s].minimum);
  }
  const float scale_factor = largest_scale > 0 ? 63.f / largest_scale : 0.f;
  const float minimum_factor = largest_minimum > 0 ? 63.f / largest_minimum : 0.f;
  const auto six_bits = [](float value) { return std::min(63, int(uint8_t(nearest(value)))); };
  for (int s = 0; s < kSubs; ++s) {
    store_six_bits(bytes + 4, s, six_bits(scale_factor * fits[s].scale), six_bits(minimum_factor * -fits[s].minimum));
  }
  const float scale = store_half(bytes, largest_scale / 63.f), minimum = store_half(bytes + 2, largest_minimum / 63.f);

  // Levels again, by the scales as they are stored.
  for (int s = 0; s < kSubs; ++s) {
    const SixBits stored = load_six_bits(bytes + 4, s);
    const float step = scale * float(stored.scale), least = minimum * float(stored.minimum);
    if (step == 0) continue;
    for (int i = 0; i < kSub4; ++i) {
      fits[s].levels[i] = uint8_t(std::clamp(nearest((numbers[s * kSub4 + i] + least) / step), 0, kTop4));
    }
  }
  for (int s = 0; s < kSubs; s += 2) {
    for (int i = 0; i < kSub4; ++i) {
      bytes[16 + s / 2 * kSub4 + i] = std::byte(fits[s].levels[i] | fits[s + 1].levels[i] << 4);
    }
  }
}

void unpack_q4_k(const std::byte* bytes, float* numbers) {
  const float scale = load_half(bytes), minimum = load_half(bytes + 2);
  for (int s = 0; s < kSuperNumbers / kSub4; ++s) {
    const SixBits stored = load_six_bits(bytes + 4, s);
    const float step = scale * float(stored.scale), least = minimum * float(stored.minimum);
    const std::byte* pairs = bytes + 16 + s / 2 * kSub4;
    for (int i = 0; i < kSub4; ++i) {
      const int pair = int(pairs[i]);
      numbers[s * kSub4 + i] = step * float(s % 2 == 0 ? pair & 15 : pair >> 4) - least;
    }
  }
}

void pack_q6_k(const float* numbers, std::byte* bytes) {
  constexpr int kSubs = kSuperNumbers / kSub6;
  std::byte* const low = bytes;
  std::byte* const high = bytes + 128;
  std::byte* const scales = bytes + 192;
  uint8_t levels[kSuperNumbers];
  float fitted[kSubs], largest = 0;
  for (int s = 0; s < kSubs; ++s) {
    fitted[s] = fit_symmetric(numbers + s * kSub6, levels + s * kSub6);
    if (std::abs(fitted[s]) > std::abs(largest)) largest = fitted[s];
  }
  if (std::abs(largest) < kVanishing) {
    std::memset(bytes, 0, 210);
    return;
  }
  const float factor = -128.f / largest;
  const float scale = store_half(bytes + 208, 1 / factor);
  for (int s = 0; s < kSubs; ++s) scales[s] = std::byte(std::min(127, nearest(factor * fitted[s])));

  for (int s = 0; s < kSubs; ++s) {
    const float step = scale * float(int8_t(scales[s]));
    if (step == 0) continue;
    for (int i = 0; i < kSub6; ++i) {
      const int at = s * kSub6 + i;
      levels[at] = uint8_t(std::clamp(nearest(numbers[at] / step), -kTop6, kTop6 - 1) + kTop6);
    }
  }
  // Of each half: numbers i, i + 32, i + 64 and i + 96 share a byte of high bits, the first and third and the second
  // and fourth one of low bits.
  for (int half = 0; half < 2; ++half) {
    const uint8_t* l = levels + half * 128;
    for (int i = 0; i < 32; ++i) {
      low[half * 64 + i] = std::byte((l[i] & 15) | (l[i + 64] & 15) << 4);
      low[half * 64 + 32 + i] = std::byte((l[i + 32] & 15) | (l[i + 96] & 15) << 4);
      high[half * 32 + i] = std::byte(l[i] >> 4 | l[i + 32] >> 4 << 2 | l[i + 64] >> 4 << 4 | l[i + 96] >> 4 << 6);
    }
  }
}

void unpack_q6_k(const std::byte* bytes, float* numbers) {
  const std::byte* const scales = bytes + 192;
  const float scale = load_half(bytes + 208);
  for (int i = 0; i < kSuperNumbers; ++i) {
    const int half = i / 128, quarter = i / 32 % 4, at = i % 32;
    const int pair = int(bytes[half * 64 + quarter % 2 * 32 + at]);
    const int low = quarter < 2 ? pair & 15 : pair >> 4;
    const int high = int(bytes[128 + half * 32 + at]) >> (2 * quarter) & 3;
    numbers[i] = scale * float(int8_t(scales[i / kSub6])) * float((low | high << 4) - 32);
  }
}

}  // namespace surtsey::experiments
