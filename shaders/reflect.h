// What a SPIR-V module declares, read from its words, and the proof that it agrees with the Shader
// that it was made from.
#pragma once

#include "shaders/spirv.h"

#include <vector>

namespace surtsey::shaders {

struct Reflection {
  uint32_t local_size = 0;                 // x * y * z
  uint32_t push_constant_bytes = 0;        // 0 when the module uses none
  std::vector<uint32_t> storage_bindings;  // of set 0, ascending; unused ones are optimised away
  bool physical_addresses = false;
  uint32_t shared_bytes = 0;  // shared memory of a workgroup
};

// InternalError when the words are no SPIR-V module with one compute entry point.
Reflection reflect(const Spirv& spirv);

// Checks a module against its Shader under the binding contract of shader.h. InternalError names
// the kernel and what differs.
void check_reflection(const Shader& shader, const Reflection& reflection, bool address_mode);

}  // namespace surtsey::shaders
