// A tensor on the host: the values of the interpreter and of every exchange with a device.
#pragma once

#include "graph/types.h"

#include <cstddef>
#include <vector>

namespace surtsey::graph {

// Values are doubles whatever the type; 32-bit integers and booleans (0 or 1) are exact in them. Row-major, contiguous.
struct HostTensor {
  Type type;
  std::vector<double> values;

  HostTensor() = default;
  HostTensor(Type t, std::vector<double> v);  // UserError when the count does not match the shape
  static HostTensor zeros(Type type);
  static HostTensor scalar(DType dtype, double value);
  // Uniform in [low, high) for floats, integers in [low, high) for integers (u32: of its part that is not negative),
  // from the counter-based generator of random.h.
  static HostTensor random(Type type, double low, double high, uint32_t seed);

  std::vector<std::byte> to_bytes() const;  // in the storage format of the type, rounding to it
  static HostTensor from_bytes(Type type, const std::vector<std::byte>& bytes);
  void round_to_storage();  // rounds f32, f16 and bf16 values to what the type can hold
};

}  // namespace surtsey::graph
