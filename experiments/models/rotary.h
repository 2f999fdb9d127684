// The angles of rotary positions (Su et al. 2021), and what the ways of stretching them make of these.
//
// With D the width of a head, base b and i = 0 .. D/2 - 1, pair i turns by t f_i at position t:
//   plain     f_i = b^(-2i/D)
//   linear    f_i / factor (Chen et al. 2023)
//   dynamic   b grows with the length n once it exceeds `original`: b (factor n / original - (factor - 1))^(D/(D-2))
//   yarn      between f_i and f_i / factor, by how often the pair turns over `original` positions; cosine and sine
//             times .1 ln(factor) + 1 (Peng et al. 2023)
//   longrope  f_i / short_factors[i], past `original` positions f_i / long_factors[i]; cosine and sine times
//             sqrt(1 + ln(factor) / ln(original)) (Ding et al. 2024)
//   llama3    f_i / factor for wavelengths above original / low_frequency, f_i below original / high_frequency, a blend
//             between (Dubey et al. 2024)
#pragma once

#include "experiments/models/model_config.h"

#include <vector>

namespace surtsey::experiments {

struct RotaryAngles {
  std::vector<double> frequencies;  // f_i, [D/2]
  double amplitude = 1;             // of cosine and sine
};

// For a text of `length` tokens, which decides for dynamic and longrope.
RotaryAngles rotary_angles(const ModelConfig& config, int64_t length);

}  // namespace surtsey::experiments
