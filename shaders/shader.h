// The text of one kernel, and what the engine must know to run it.
//
// Binding contract between the emitter and the engine. Binding i is access i of the dispatch.
//   address mode     push constants { uvec2 address[14]; uint base; uint reserved; }, 120 bytes: address[i] is the
//                    device address of the first byte of the access range of binding i.
//   descriptor mode  set 0, binding i is a storage buffer of the exact range of access i, its offset aligned down to
//                    Target::storage_offset_alignment; push constants { uint first[14]; uint base; uint reserved; },
//                    64 bytes: first[i] is where the access begins in the bound range, in elements of its storage type.
// Grids are one-dimensional. One of more workgroups than Target::max_workgroups goes out in several
// dispatches: a workgroup's index is gl_WorkGroupID.x + base.
#pragma once

#include <cstdint>
#include <string>

namespace surtsey::shaders {

constexpr uint32_t kMaxBindings = 14;
constexpr uint32_t kAddressArgumentBytes = 120;
constexpr uint32_t kDescriptorArgumentBytes = 64;

struct Shader {
  std::string name;  // for messages and the profiler; not part of the cache key
  std::string glsl;
  uint32_t workgroups = 1;
  uint32_t local_size = 1;  // along x; y and z are 1
  uint32_t bindings = 0;
  uint32_t subgroup_size = 0;  // 0: any; else the pipeline requires it
  std::string variant;         // of the archetype, for the profiler: shared_tile; empty where there is one
};

}  // namespace surtsey::shaders
