#include "graph/storage.h"

namespace surtsey::graph {

Storage whole(DType dtype) {
  check(is_float(dtype), "[storage] weights are stored as f32, f16 or bf16, not {}", name(dtype));
  Storage storage;
  storage.name = name(dtype);
  storage.parts = [dtype](const Shape& shape) { return std::vector<StoredPart>{{"", {dtype, shape}}}; };
  storage.pack = [dtype](const HostTensor& tensor) {
    HostTensor part({dtype, tensor.type.shape}, tensor.values);
    part.round_to_storage();
    return std::vector<HostTensor>{part};
  };
  storage.keep = [dtype](Value value) {
    return std::vector<Value>{value.dtype() == dtype ? value : cast(value, dtype)};
  };
  storage.unpack = [](std::span<const Value> parts, int64_t) {
    return parts[0].dtype() == DType::f32 ? parts[0] : cast(parts[0], DType::f32);
  };
  return storage;
}

}  // namespace surtsey::graph
