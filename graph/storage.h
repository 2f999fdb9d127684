// How a tensor is kept that programs read in f32 (a frozen weight, a cache): as it is, in 16 bits, or packed; in one
// state tensor or several.
//
// A format is one value of this type: functions to its parts, on the host or in a graph, and back in a graph. So what
// keeps and reads a tensor (parameters.h, a model's caches) knows no format by name.
#pragma once

#include "graph/graph.h"
#include "graph/host_tensor.h"

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace surtsey::graph {

// One state tensor of a stored tensor.
struct StoredPart {
  std::string suffix;  // after the tensor's name: "" or ".scale", say
  Type type;
};

// Every part keeps all axes of the tensor but the last, so that rows are read without the others.
struct Storage {
  std::string name;  // for messages: f16, int8, ..
  // What a tensor of this shape is kept in. UserError where the format cannot hold it.
  std::function<std::vector<StoredPart>(const Shape& shape)> parts;
  // The parts of f32 values, rounded to what they can hold.
  std::function<std::vector<HostTensor>(const HostTensor& tensor)> pack;
  // The same of a value in a graph. Empty: only the host computes them.
  std::function<std::vector<Value>(Value value)> keep;
  // And f32 again, in a graph: of whole parts, or of some of their rows. `columns` is the tensor's last extent.
  std::function<Value(std::span<const Value> parts, int64_t columns)> unpack;
};

// The tensor itself as f32, f16 or bf16. UserError for another type.
Storage whole(DType dtype);

}  // namespace surtsey::graph
