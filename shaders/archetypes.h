// One function per archetype and variant; emit() chooses.
#pragma once

#include "shaders/writer.h"

#include <cstdint>

namespace surtsey::shaders {

// One lane per element of the space.
Shader pointwise(Writer& writer);

// One lane per row, a sequential loop over its columns: no barrier, coalesced when rows lie side by side.
Shader reduce_lane_per_row(Writer& writer);
// A power of two of lanes per row, a tree in shared memory.
Shader reduce_workgroup_per_row(Writer& writer);

// A subgroup holds a tile: lanes along one side, rows of the other broadcast from registers. No barrier, no shared
// memory.
// Measured on lavapipe at 5 to 8 times the shared-memory kernel, where a barrier turns a subgroup into a coroutine.
Shader matmul_lane_broadcast(Writer& writer);
// The lanes of a workgroup along K, for products of few rows with a matrix whose rows lie along K; and whether a kernel
// is such a one on a target that would give it shared tiles.
Shader matmul_rows(Writer& writer);
bool is_row_product(const graph::Kernel& kernel, const graph::Graph& graph, const graph::Target& target);
// Tiles of both operands in shared memory, a small tile of the product in each lane's registers.
Shader matmul_shared_tile(Writer& writer);
// The same by matrices of a whole subgroup, for operands stored in f16 (VK_KHR_cooperative_matrix).
Shader matmul_cooperative(Writer& writer);

// A lane has rows of queries (or of keys, for their gradient) and meets the other side in tiles; online softmax, no
// score is stored.
// Tiles are broadcast from the lanes of the subgroup: no barrier, no shared memory.
Shader attention_lane_broadcast(Writer& writer);
// One query a head: a subgroup has the heads of a group, scores pass through shared memory.
Shader attention_rows(Writer& writer);
// Tiles in shared memory, any subgroup size.
Shader attention_shared_tile(Writer& writer);

// scatter_add by blocks of rows: a workgroup clears its rows, looks at every index, and adds the updates
// that are its own, in the order of the index. Lanes lie along the row. No atomics, no barrier, the same sum every
// time.
Shader scatter_rows(Writer& writer);

// Opens the loop over `tiles` pieces of work, the current one is `tile`; close_tiles() ends it. On a GPU every
// workgroup has one piece. On a CPU entering a workgroup costs about 0.2 us (measured on lavapipe), as much as hundreds
// of elements: a few workgroups a thread share all pieces. Returns the number of workgroups.
uint32_t open_tiles(Writer& writer, int64_t tiles);
void close_tiles(Writer& writer);

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace surtsey::shaders
