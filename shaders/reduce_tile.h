// How a reduction is cut: the measured choice where Target has one, else by a rule; and which there are to choose from.
#pragma once

#include "graph/kernel.h"
#include "graph/target.h"

#include <vector>

namespace surtsey::shaders {

// Of a kernel of the reduce archetype.
graph::ReduceShape reduce_shape(const graph::Kernel& kernel, const graph::Target& target);

// Target::reduce_tiles where it has one for this shape that the target can run, else default_reduce_tile().
graph::ReduceTile choose_reduce_tile(const graph::ReduceShape& shape, const graph::Target& target);
graph::ReduceTile default_reduce_tile(const graph::ReduceShape& shape, const graph::Target& target);

// All that `surtsey tune` measures: the default first, no choice twice, each fits the target.
std::vector<graph::ReduceTile> reduce_candidates(const graph::ReduceShape& shape, const graph::Target& target);

// Whether two choices add up a row in the same order, so that they give the same bits.
bool same_order(const graph::ReduceTile& one, const graph::ReduceTile& other);

}  // namespace surtsey::shaders
