// Which tile a product gets: the measured one where Target has it, else by a rule; and which there are to choose from.
#pragma once

#include "graph/kernel.h"
#include "graph/target.h"

#include <optional>
#include <vector>

namespace surtsey::shaders {

// The input of the kernel that an operand of a product is, or that it is cast from; none where it is computed on load.
std::optional<size_t> stored_operand(const graph::Kernel& kernel, const graph::Graph& graph,
                                     const graph::Value& operand);
// Elements between its neighbours along an axis, counted from the last one; 0 where it is computed.
int64_t stored_stride(const graph::Kernel& kernel, std::optional<size_t> stored, size_t from_back);

// How many neighbours along a row one loaded word of an operand holds (8 of 4 bits), where it is unpacked on load; else
// 1. Of several kinds of words it is the one that holds fewest.
int64_t packed_run(const graph::Kernel& kernel, const graph::Graph& graph, const graph::Value& operand);

// Of a kernel of the matmul archetype. Operands that are computed on load count as not transposed. The cooperative
// variant is for operands that are stored in f16, so that nothing is rounded for it; other products of such a target
// get shared_tile.
graph::MatmulShape matmul_shape(const graph::Kernel& kernel, const graph::Graph& graph, const graph::Target& target);

// Target::tiles where it has one for this shape that the target can run, else default_tile(). Bits do not depend on it.
graph::MatmulTile choose_tile(const graph::MatmulShape& shape, const graph::Target& target);
graph::MatmulTile default_tile(const graph::MatmulShape& shape, const graph::Target& target);

// Lanes of a workgroup (of a subgroup, for lane_broadcast) that computes such a tile.
int64_t tile_lanes(const graph::MatmulTile& tile, graph::MatmulVariant variant, const graph::Target& target);

// All that `surtsey tune` measures: the default first, no tile twice, each fits the target.
std::vector<graph::MatmulTile> tile_candidates(const graph::MatmulShape& shape, const graph::Target& target);

}  // namespace surtsey::shaders
