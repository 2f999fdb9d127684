#include "graph/host_tensor.h"

#include "graph/error.h"
#include "graph/random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace surtsey::graph {

namespace {

// Rounds to nearest even with `precision` significant bits and a smallest unit of 2^smallest.
double round_float(double value, int precision, int smallest, double largest) {
  if (!std::isfinite(value) || value == 0) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  const int unit = std::max(exponent - precision, smallest);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  if (std::fabs(rounded) <= largest) return rounded;
  return std::copysign(std::numeric_limits<double>::infinity(), value);
}

double round_f16(double value) { return round_float(static_cast<float>(value), 11, -24, 65504.0); }

double round_bf16(double value) { return round_float(static_cast<float>(value), 8, -133, 0x1.FEp127); }

// `value` must be one that f16 holds.
uint16_t encode_f16(double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return 0x7e00;
  if (std::isinf(value)) return sign | 0x7c00;
  if (magnitude < 0x1p-14) return sign | static_cast<uint16_t>(std::ldexp(magnitude, 24));
  int exponent = 0;
  const double mantissa = std::frexp(magnitude, &exponent);
  const auto fraction = static_cast<uint16_t>(std::ldexp(mantissa * 2 - 1, 10));
  return static_cast<uint16_t>(sign | ((exponent + 14) << 10) | fraction);
}

double decode_f16(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  double magnitude = 0;
  if (exponent == 31) {
    magnitude = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, -24);
  } else {
    magnitude = std::ldexp(1024 + fraction, exponent - 25);
  }
  return (bits & 0x8000) ? -magnitude : magnitude;
}

uint32_t encode_word(double value, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return std::bit_cast<uint32_t>(static_cast<float>(value));
    case DType::i32:
      return static_cast<uint32_t>(static_cast<int64_t>(value));
    case DType::u32:
      return static_cast<uint32_t>(static_cast<int64_t>(value));
    default:
      return value != 0 ? 1u : 0u;
  }
}

double decode_word(uint32_t word, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return std::bit_cast<float>(word);
    case DType::i32:
      return static_cast<int32_t>(word);
    case DType::u32:
      return word;
    default:
      return word != 0 ? 1 : 0;
  }
}

}  // namespace

HostTensor::HostTensor(Type t, std::vector<double> v) : type(std::move(t)), values(std::move(v)) {
  check(static_cast<int64_t>(values.size()) == element_count(type.shape), "a tensor of {} needs {} values, not {}",
        to_string(type), element_count(type.shape), values.size());
}

HostTensor HostTensor::zeros(Type type) {
  const auto count = static_cast<size_t>(element_count(type.shape));
  return HostTensor(std::move(type), std::vector<double>(count));
}

HostTensor HostTensor::scalar(DType dtype, double value) {
  HostTensor result(Type{dtype, {}}, {value});
  result.round_to_storage();
  return result;
}

HostTensor HostTensor::random(Type type, double low, double high, uint32_t seed) {
  HostTensor result = zeros(std::move(type));
  if (result.type.dtype == DType::u32) low = std::max(low, 0.0);
  for (size_t i = 0; i < result.values.size(); ++i) {
    const uint32_t bits = random_bits(seed, 0, static_cast<uint32_t>(i));
    if (is_float(result.type.dtype)) {
      result.values[i] = low + (high - low) * uniform_from_bits(bits);
    } else if (result.type.dtype == DType::boolean) {
      result.values[i] = bits >> 31;
    } else {
      result.values[i] = std::floor(low + (high - low) * (bits * 0x1p-32));
    }
  }
  result.round_to_storage();
  return result;
}

std::vector<std::byte> HostTensor::to_bytes() const {
  const auto width = static_cast<size_t>(storage_bytes(type.dtype));
  std::vector<std::byte> bytes(values.size() * width);
  for (size_t i = 0; i < values.size(); ++i) {
    std::byte* target = bytes.data() + i * width;
    if (width == 4) {
      const uint32_t word = encode_word(values[i], type.dtype);
      std::memcpy(target, &word, 4);
    } else {
      const uint16_t half = type.dtype == DType::f16
                                ? encode_f16(round_f16(values[i]))
                                : static_cast<uint16_t>(encode_word(round_bf16(values[i]), DType::f32) >> 16);
      std::memcpy(target, &half, 2);
    }
  }
  return bytes;
}

HostTensor HostTensor::from_bytes(Type type, const std::vector<std::byte>& bytes) {
  HostTensor result = zeros(std::move(type));
  const DType dtype = result.type.dtype;
  const auto width = static_cast<size_t>(storage_bytes(dtype));
  check(bytes.size() == result.values.size() * width, "{} takes {} bytes, not {}", to_string(result.type),
        result.values.size() * width, bytes.size());
  for (size_t i = 0; i < result.values.size(); ++i) {
    const std::byte* source = bytes.data() + i * width;
    if (width == 4) {
      uint32_t word = 0;
      std::memcpy(&word, source, 4);
      result.values[i] = decode_word(word, dtype);
    } else {
      uint16_t half = 0;
      std::memcpy(&half, source, 2);
      result.values[i] =
          dtype == DType::f16 ? decode_f16(half) : decode_word(static_cast<uint32_t>(half) << 16, DType::f32);
    }
  }
  return result;
}

void HostTensor::round_to_storage() {
  for (double& value : values) {
    switch (type.dtype) {
      case DType::f32:
        value = static_cast<float>(value);
        break;
      case DType::f16:
        value = round_f16(value);
        break;
      case DType::bf16:
        value = round_bf16(value);
        break;
      default:
        break;
    }
  }
}

}  // namespace surtsey::graph
