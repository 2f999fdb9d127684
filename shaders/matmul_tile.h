// Which tile a product gets: the measured one where Target has it, else by a rule; and which there are to choose from.
#pragma once

#include "graph/kernel.h"
#include "graph/target.h"

#include <vector>

namespace surtsey::shaders {

// Of a kernel of the matmul archetype. Operands that are computed on load count as not transposed.
graph::MatmulShape matmul_shape(const graph::Kernel& kernel, const graph::Graph& graph, const graph::Target& target);

// Target::tiles where it has one for this shape that the target can run, else default_tile(). Bits do not depend on it.
graph::MatmulTile choose_tile(const graph::MatmulShape& shape, const graph::Target& target);
graph::MatmulTile default_tile(const graph::MatmulShape& shape, const graph::Target& target);

// All that `surtsey tune` measures: the default first, no tile twice, each fits the target.
std::vector<graph::MatmulTile> tile_candidates(const graph::MatmulShape& shape, const graph::Target& target);

}  // namespace surtsey::shaders
