// The graph passes, in the order the recipe of compile.cpp runs them. Each is one free function: a program in, a
// program out.
#pragma once

#include "graph/graph.h"
#include "graph/target.h"

namespace surtsey::graph {

// Algebraic identities that never change a result that was finite: x*1, x+0, double negation, reshape of reshape,
// permute of permute, broadcast to the same shape, slices of pads and concats that fall inside one part, folding of
// scalar constants.
Program simplify(const Program& program);

// Attention that a kernel of the target takes whole: each region becomes one region a result, which fuse puts into one
// kernel again. Before decompose, which expands the others.
Program claim_regions(const Program& program, const Target& target);
bool is_claimed(const Node& node);

// Expands what no kernel claims: regions into their bodies, scatter_add into few rows into a one-hot matmul (no
// atomics), long reductions to few results into two stages (a fixed tree that depends on the reduced extents alone),
// products of few tiles and a long inner axis likewise where a workgroup computes a tile in shared memory (split-K).
// First, since the others see only primitives.
Program decompose(const Program& program, const Target& target);

// Sums of zero pads that tile an axis become a concat: what differentiating slices of one value leaves. A concat costs
// nothing, as its parts are written in place. After decompose and before fuse.
Program join_pads(const Program& program);

}  // namespace surtsey::graph
