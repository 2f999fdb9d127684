#include "experiments/models/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace surtsey::experiments {
namespace {

std::vector<double> plain_frequencies(double base, int64_t width) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < width / 2; ++i) frequencies.push_back(std::pow(base, -2.0 * double(i) / double(width)));
  return frequencies;
}

void blend_llama3(std::vector<double>& frequencies, const RotaryScaling& scaling, double original) {
  for (double& frequency : frequencies) {
    const double turns = original * frequency / (2 * std::numbers::pi);  // over the positions of training
    const double share =
        std::clamp((turns - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency), 0.0, 1.0);
    frequency = (1 - share) * frequency / scaling.factor + share * frequency;
  }
}

void blend_yarn(std::vector<double>& frequencies, const RotaryScaling& scaling, double original, double base) {
  const auto width = 2 * double(frequencies.size());
  // The pair that turns so often over the positions of training.
  const auto pair_of = [&](double turns) {
    return width * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
  };
  const double low = std::max(std::floor(pair_of(scaling.beta_fast)), 0.0);
  const double high = std::min(std::ceil(pair_of(scaling.beta_slow)), width - 1);
  const double range = high == low ? .001 : high - low;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double stretched = std::clamp((double(i) - low) / range, 0.0, 1.0);
    frequencies[i] = frequencies[i] / scaling.factor * stretched + frequencies[i] * (1 - stretched);
  }
}

}  // namespace

RotaryAngles rotary_angles(const ModelConfig& config, int64_t length) {
  const RotaryScaling& scaling = config.rotary_scaling;
  const int64_t width = config.head_width();
  const auto original = double(scaling.original > 0 ? scaling.original : config.block_size);
  double base = config.rotary_base;
  if (scaling.kind == RotaryKind::dynamic && double(length) > original) {
    const double growth = scaling.factor * double(length) / original - (scaling.factor - 1);
    base *= std::pow(growth, double(width) / double(width - 2));
  }
  RotaryAngles angles{plain_frequencies(base, width)};
  switch (scaling.kind) {
    case RotaryKind::plain:
    case RotaryKind::dynamic:
      break;
    case RotaryKind::linear:
      for (double& frequency : angles.frequencies) frequency /= scaling.factor;
      break;
    case RotaryKind::llama3:
      blend_llama3(angles.frequencies, scaling, original);
      break;
    case RotaryKind::yarn:
      blend_yarn(angles.frequencies, scaling, original, base);
      angles.amplitude = scaling.attention_factor.value_or(.1 * std::log(scaling.factor) + 1);
      break;
    case RotaryKind::longrope: {
      const auto& factors = double(length) > original ? scaling.long_factors : scaling.short_factors;
      for (size_t i = 0; i < factors.size(); ++i) angles.frequencies[i] /= factors[i];
      const double by_factor = scaling.factor > 1 ? std::sqrt(1 + std::log(scaling.factor) / std::log(original)) : 1;
      angles.amplitude = scaling.attention_factor.value_or(by_factor);
      break;
    }
  }
  return angles;
}

}  // namespace surtsey::experiments
