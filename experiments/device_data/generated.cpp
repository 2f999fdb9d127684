#include "experiments/device_data/generated.h"

#include <cmath>
#include <numbers>

#include "graph/functions.h"
#include "graph/random.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Value;

// Draws are kept in (0, 1): one that f32 rounds up to 1 must not give a negative square.
constexpr double kUnit = 0x1p-32, kHalf = 0x1p-33, kLargestDraw = 1 - 0x1p-24;
// Between -pi and pi, where devices compute the cosine best.
constexpr double kTurn = 2 * std::numbers::pi;

}  // namespace

Value standard_normal(Value index, Value seed, Value step, const std::string& stream) {
  const auto uniform = [&](const char* part) {
    const Value bits = random_bits(graph::stream_key(seed, stream + part), step, index);
    const Value share = cast(bits, DType::f32) * kUnit + kHalf;
    return min(share, scalar(*index.graph, kLargestDraw));
  };
  const Value radius = sqrt(log(uniform(".radius")) * -2.0);
  const Value angle = (uniform(".angle") - 0.5) * kTurn;
  return radius * cos(angle);
}

Value standard_normal(graph::Graph& graph, const graph::Shape& shape, Value seed, Value step,
                      const std::string& stream) {
  const int64_t count = graph::element_count(shape);
  const Value index = reshape(iota(graph, {DType::u32, {count}}, 0), shape);
  return standard_normal(index, seed, step, stream);
}

double standard_normal(uint32_t index, uint32_t seed, uint32_t step, const std::string& stream) {
  const auto uniform = [&](const char* part) {
    const uint32_t bits = graph::random_bits(graph::stream_seed(seed, stream + part), step, index);
    const float share = static_cast<float>(bits) * static_cast<float>(kUnit);
    return std::min<double>(static_cast<float>(share + static_cast<float>(kHalf)), kLargestDraw);
  };
  return std::sqrt(-2 * std::log(uniform(".radius"))) * std::cos((uniform(".angle") - 0.5) * kTurn);
}

}  // namespace surtsey::experiments
