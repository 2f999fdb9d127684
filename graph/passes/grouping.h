// Groups of nodes while fuse makes them: whether a node may be computed in a group, and the changes when it is. What is
// worth while is decided in fuse.cpp; nothing here weighs anything.
#pragma once

#include "graph/passes/lowering.h"
#include "graph/passes/uses.h"

namespace surtsey::graph {

// A node that is to get a home, and the groups that have it in an expression of theirs so far: they would read it from
// there. None has a node that is met for the first time.
struct Candidate {
  uint32_t node = kNone;
  std::set<uint32_t> inlined_in = {};
};

class Grouping {
 public:
  // Both must outlive it.
  Grouping(Lowering& lowering, const Uses& uses);

  // The node that is being placed: of what comes after it nobody knows yet where it will be computed.
  uint32_t current = 0;

  // ---- questions ----

  // May the candidate be computed in group g? Its elements are those of the group's loops (or of their rows), it reads
  // members of the group at the element that is being computed and nowhere else, no two kernels come to wait for each
  // other, and the kernels touch few enough tensors.
  bool fits(const Candidate& candidate, uint32_t g);
  // May the candidate have a kernel of its own, that is, can those that have it inlined read it from there?
  bool may_stand_alone(const Candidate& candidate);
  // Do the kernel of g with the candidate in it, and the kernels that would then read it from there, touch few enough
  // tensors?
  bool fits_bindings(const Candidate& candidate, uint32_t g);
  // Tensors that the group's kernel touches: what it loads, and what it stores for somebody outside.
  size_t bindings(uint32_t g) const;

  // The candidate that node n is after others may have inlined it.
  Candidate inlined_candidate(uint32_t n) const;
  // Groups whose stored results these terminals are.
  std::set<uint32_t> sources_of(const std::set<uint32_t>& terminals) const;
  // Is one of these groups g, or does one have to run after g?
  bool waits_for(const std::set<uint32_t>& sources, uint32_t g) const;
  bool shares_input(uint32_t g, const std::set<uint32_t>& terminals) const;
  int64_t elements(uint32_t g) const { return loops_[g].index.full_count; }
  const std::set<uint32_t>& windows() const { return windows_; }

  // ---- changes ----

  // The node's home is group g from here on; those that had it inlined wait for that group.
  void join(const Candidate& candidate, uint32_t g);
  uint32_t add(Archetype archetype, const Candidate& candidate, const Shape& space, std::vector<int64_t> reduced);
  uint32_t add_copy(const Value& value);
  // A group whose loops are over the window that slice_updates write, not over what is read: nothing else joins it.
  uint32_t add_window(const Value& update);

 private:
  struct Loops {
    IndexContext context;
    LoopIndex index;
    std::set<uint32_t> inputs;  // terminals that members read from elsewhere
  };

  Family family(uint32_t n) const;
  const Shape& shape(uint32_t n) const;
  void add_loops(uint32_t g);
  bool is_row(uint32_t g, uint32_t n) const;
  bool same_elements(uint32_t g, uint32_t n) const;
  Affine own_element(uint32_t g, uint32_t n) const;
  template <typename Visit>
  void walk_reads(uint32_t g, uint32_t n, const Visit& visit);
  bool reads_own_elements(uint32_t g, uint32_t n, std::set<uint32_t>& reads);
  bool is_read_in_place(uint32_t g, uint32_t n);
  bool read_outside(uint32_t m, uint32_t g) const;
  bool consumed_by(uint32_t user, uint32_t g) const;
  bool inlines(uint32_t user, uint32_t n, std::set<uint32_t>& seen) const;

  Lowering& lowering_;
  const Graph& graph_;
  const Uses& uses_;
  std::vector<Loops> loops_;  // one a group
  std::set<uint32_t> windows_;
};

}  // namespace surtsey::graph
