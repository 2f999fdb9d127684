// The ensemble axis: one graph becomes many models that train in the same dispatches.
#pragma once

#include "graph/graph.h"

#include <set>
#include <string>

namespace surtsey::graph {

// Copies `program` with a leading axis of `members` on every parameter named in `per_member` (or all whose name starts
// with a name that ends in '*'), on everything computed from them, and on every assignment and output that depends on
// them. The other parameters are shared: assigning a per-member value to one is a UserError. One rule per op family;
// reductions keep their order inside a member, so a member's bits do not depend on how many there are. A matrix that
// members share (a frozen base) is not promoted: the rows of all of them meet it in one product. There a member's bits
// are those of a single run where the target sums over the inner axis in one go; where it splits long inner axes
// (decompose: shared-tile products of few tiles) the cut follows the rows of all members.
Program vectorize(const Program& program, int64_t members, const std::set<std::string>& per_member);

}  // namespace surtsey::graph
