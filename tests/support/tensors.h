// Types of tensors in few words, and files of tensors.
#pragma once

#include "experiments/formats/safetensors.h"
#include "tests/support/folder.h"

namespace surtsey::tests {

inline graph::Type f32(graph::Shape shape) { return {graph::DType::f32, std::move(shape)}; }
inline graph::Type u32(graph::Shape shape) { return {graph::DType::u32, std::move(shape)}; }

inline void write_tensors(const std::filesystem::path& path, const experiments::Safetensors& content) {
  const std::vector<std::byte> bytes = experiments::format_safetensors(content);
  write(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace surtsey::tests
