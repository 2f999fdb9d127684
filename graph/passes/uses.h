// Who reads what in a program: facts that stay the same while fuse decides where nodes are computed.
#pragma once

#include "graph/graph.h"

#include <map>
#include <set>
#include <vector>

namespace surtsey::graph {

// By node, where it is not said otherwise.
struct Uses {
  std::vector<uint32_t> order;               // the nodes that outputs and assignments reach, operands before users
  std::vector<std::vector<uint32_t>> users;  // that have it as an operand, once for each time that they do
  std::vector<int> computations;             // how often it would be computed if it were inlined everywhere: a view
                                             // counts for its own users
  std::vector<bool> leaves_program;          // an output, or the new value of state
  std::vector<int> extra_stores;             // places it is stored to beside the one where readers find it: outputs,
                                             // state, regions of concats
  std::vector<bool> feeds_matmul;            // itself or through views; into the kernels of regions as well
  bool trains = false;                       // the program has more than a forward pass
  std::map<uint32_t, std::set<uint32_t>> products;  // node behind the views of an operand -> the matmuls that read it
};

Uses count_uses(const Program& program);

}  // namespace surtsey::graph
