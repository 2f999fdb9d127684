#include "graph/passes/grouping.h"

#include <algorithm>

namespace surtsey::graph {
namespace {

// "What if node n were computed in group g": so it is while this lives, for all that look at the lowering, and it is
// dropped afterwards. g may be one more than there are: a kernel of its own.
class Trial {
 public:
  Trial(Lowering& lowering, uint32_t n, uint32_t g) : lowering_(lowering), n_(n), g_(g) {
    ensure(lowering.home[n] == kNone, "node {} is tried in group {} and has a home", n, g);
    lowering.home[n] = g;
    if (in_a_group()) lowering.groups[g].members.push_back(n);
  }
  ~Trial() {
    if (in_a_group()) lowering_.groups[g_].members.pop_back();
    lowering_.home[n_] = kNone;
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

 private:
  bool in_a_group() const { return g_ < lowering_.groups.size(); }

  Lowering& lowering_;
  const uint32_t n_, g_;
};

}  // namespace

Grouping::Grouping(Lowering& lowering, const Uses& uses)
    : lowering_(lowering), graph_(*lowering.program.graph), uses_(uses) {}

Family Grouping::family(uint32_t n) const { return definition(graph_.node(n).op).family; }

const Shape& Grouping::shape(uint32_t n) const { return graph_.node(n).types[0].shape; }

// ---- the elements of a group's loops ----

// Is node n, a member of the group or a candidate, a value of its rows?
bool Grouping::is_row(uint32_t g, uint32_t n) const {
  const LoopIndex& loop = loops_[g].index;
  if (lowering_.groups[g].archetype != Archetype::reduce) return false;
  return family(n) == Family::reduce ||
         (element_count(shape(n)) == loop.row_count && loop.row_count != loop.full_count);
}

// Has node n an element for each of the group's elements or rows? A reduction has to pass over its operand as the group
// passes over its space.
bool Grouping::same_elements(uint32_t g, uint32_t n) const {
  const Archetype archetype = lowering_.groups[g].archetype;
  const LoopIndex& loop = loops_[g].index;
  const int64_t count = element_count(shape(n));
  if (family(n) == Family::reduce)
    return archetype == Archetype::reduce && count == loop.row_count &&
           element_count(graph_.node(n).inputs[0].shape()) == loop.full_count && same_loops(lowering_, n, g);
  return count == loop.full_count || (archetype == Archetype::reduce && count == loop.row_count);
}

// The flat index of the element of node n that a turn of the group's loops computes.
Affine Grouping::own_element(uint32_t g, uint32_t n) const {
  return is_row(g, n) ? loops_[g].index.row : loops_[g].index.full;
}

// Visits the terminals that node n reads in a turn of the group's loops, each with the index it is read at: a reduction
// reads an element of its operand there.
template <typename Visit>
void Grouping::walk_reads(uint32_t g, uint32_t n, const Visit& visit) {
  IndexContext& context = loops_[g].context;
  if (family(n) == Family::reduce) {
    const Value& operand = graph_.node(n).inputs[0];
    walk_value(lowering_, context, operand.node, context.delinearize(loops_[g].index.full, operand.shape()), visit);
  } else {
    walk_expression(lowering_, context, n, context.delinearize(own_element(g, n), shape(n)), visit);
  }
}

// Would node n read members of g only at the element that is being computed? `reads`: the terminals that it reads.
bool Grouping::reads_own_elements(uint32_t g, uint32_t n, std::set<uint32_t>& reads) {
  bool good = true;
  walk_reads(g, n, [&](uint32_t t, const Index& at) {
    reads.insert(t);
    if (lowering_.home[t] == g && !(loops_[g].context.linearize_contiguous(at, shape(t)) == own_element(g, t)))
      good = false;
  });
  return good;
}

// Would the members of g that have n inlined read it only at the element that is being computed?
bool Grouping::is_read_in_place(uint32_t g, uint32_t n) {
  const Trial trial(lowering_, n, g);
  bool good = true;
  const auto visit = [&](uint32_t t, const Index& at) {
    if (t == n && !(loops_[g].context.linearize_contiguous(at, shape(n)) == own_element(g, n))) good = false;
  };
  for (const uint32_t m : lowering_.groups[g].members) {
    if (m == n) continue;
    const bool whole_operands = lowering_.groups[g].archetype == Archetype::matmul &&
                                (family(m) == Family::matmul || family(m) == Family::reduce);
    if (whole_operands) {
      std::set<uint32_t> operands;
      collect_expression(lowering_, m, operands);
      good = good && !operands.count(n);
    } else {
      walk_reads(g, m, visit);
    }
  }
  return good;
}

// ---- what waits for what ----

std::set<uint32_t> Grouping::sources_of(const std::set<uint32_t>& terminals) const {
  std::set<uint32_t> groups;
  for (const uint32_t t : terminals) groups.merge(writers(lowering_, t));
  return groups;
}

bool Grouping::waits_for(const std::set<uint32_t>& sources, uint32_t g) const {
  return std::any_of(sources.begin(), sources.end(),
                     [&](uint32_t source) { return source == g || lowering_.groups[source].depends[g]; });
}

bool Grouping::shares_input(uint32_t g, const std::set<uint32_t>& terminals) const {
  return std::any_of(terminals.begin(), terminals.end(), [&](uint32_t t) { return loops_[g].inputs.count(t) != 0; });
}

bool Grouping::fits(const Candidate& candidate, uint32_t g) {
  const uint32_t n = candidate.node;
  if (windows_.count(g) || is_closed(lowering_.groups[g].archetype)) return false;
  if (!same_elements(g, n)) return false;
  std::set<uint32_t> reads;
  if (!reads_own_elements(g, n, reads)) return false;
  for (const uint32_t t : reads)
    for (const uint32_t writer : writers(lowering_, t)) {
      // A concat is whole only when all its writers have run, so none of them may read it.
      const bool waits = writer == g ? lowering_.home[t] != g : lowering_.groups[writer].depends[g];
      if (waits) return false;
    }
  for (const uint32_t reader : candidate.inlined_in) {
    const bool readable = reader == g ? is_read_in_place(g, n)
                                      : !lowering_.groups[g].depends[reader] && !waits_for(sources_of(reads), reader);
    if (!readable) return false;
  }
  return fits_bindings(candidate, g);
}

bool Grouping::may_stand_alone(const Candidate& candidate) {
  std::set<uint32_t> reads;
  collect_expression(lowering_, candidate.node, reads);
  const std::set<uint32_t> sources = sources_of(reads);
  for (const uint32_t reader : candidate.inlined_in)
    if (waits_for(sources, reader)) return false;
  const Trial trial(lowering_, candidate.node, uint32_t(lowering_.groups.size()));
  return std::all_of(candidate.inlined_in.begin(), candidate.inlined_in.end(),
                     [&](uint32_t reader) { return bindings(reader) <= lowering_.target.max_bindings(); });
}

// ---- bindings ----

bool Grouping::fits_bindings(const Candidate& candidate, uint32_t g) {
  const size_t most = lowering_.target.max_bindings();
  const Trial trial(lowering_, candidate.node, g);
  return bindings(g) <= most && std::all_of(candidate.inlined_in.begin(), candidate.inlined_in.end(),
                                            [&](uint32_t reader) { return bindings(reader) <= most; });
}

size_t Grouping::bindings(uint32_t g) const {
  const Group& group = lowering_.groups[g];
  size_t count = loads_of(lowering_, g).size() + group.copies.size();
  for (const uint32_t m : group.members) {
    const bool stored = read_outside(m, g) || m == group.members.back();
    count += size_t(std::max<int>(uses_.extra_stores[m], stored));
  }
  return count;
}

// Will a kernel other than g's read member m, as far as is known while node `current` is placed?
bool Grouping::read_outside(uint32_t m, uint32_t g) const {
  const auto& users = uses_.users[m];
  return uses_.leaves_program[m] ||
         std::any_of(users.begin(), users.end(), [&](uint32_t user) { return !consumed_by(user, g); });
}

bool Grouping::consumed_by(uint32_t user, uint32_t g) const {
  if (lowering_.home[user] == g) return true;
  if (is_terminal(lowering_, user) || uses_.leaves_program[user] || user > current) return false;
  const auto& users = uses_.users[user];
  return std::all_of(users.begin(), users.end(), [&](uint32_t next) { return consumed_by(next, g); });
}

// ---- who has it inlined ----

Candidate Grouping::inlined_candidate(uint32_t n) const {
  Candidate candidate{n};
  for (uint32_t g = 0; g < lowering_.groups.size(); ++g) {
    std::set<uint32_t> seen;
    const Group& group = lowering_.groups[g];
    const auto member = [&](uint32_t m) { return inlines(m, n, seen); };
    const auto copy = [&](const Value& value) { return value.node == n || inlines(value.node, n, seen); };
    if (std::any_of(group.members.begin(), group.members.end(), member) ||
        std::any_of(group.copies.begin(), group.copies.end(), copy))
      candidate.inlined_in.insert(g);
  }
  return candidate;
}

// Is node n part of the expression of `user`? Nodes in `seen` were asked before.
bool Grouping::inlines(uint32_t user, uint32_t n, std::set<uint32_t>& seen) const {
  if (user <= n || !seen.insert(user).second) return false;
  const auto& inputs = graph_.node(user).inputs;
  return std::any_of(inputs.begin(), inputs.end(), [&](const Value& input) {
    return input.node == n || (!is_terminal(lowering_, input.node) && inlines(input.node, n, seen));
  });
}

// ---- changes ----

void Grouping::join(const Candidate& candidate, uint32_t g) {
  std::set<uint32_t> reads;
  collect_expression(lowering_, candidate.node, reads);
  lowering_.home[candidate.node] = g;
  lowering_.groups[g].members.push_back(candidate.node);
  for (const uint32_t t : reads)
    if (lowering_.home[t] != g) loops_[g].inputs.insert(t);
  for (const uint32_t source : sources_of(reads)) add_source(lowering_, g, source);
  for (const uint32_t reader : candidate.inlined_in) add_source(lowering_, reader, g);
}

uint32_t Grouping::add(Archetype archetype, const Candidate& candidate, const Shape& space,
                       std::vector<int64_t> reduced) {
  const uint32_t g = add_group(lowering_, archetype, candidate.node, space, std::move(reduced));
  add_loops(g);
  join(candidate, g);
  return g;
}

uint32_t Grouping::add_copy(const Value& value) {
  const uint32_t g = add_copy_group(lowering_, value);
  add_loops(g);
  return g;
}

uint32_t Grouping::add_window(const Value& update) {
  const uint32_t g = add_copy(update);
  windows_.insert(g);
  return g;
}

void Grouping::add_loops(uint32_t g) {
  const Group& group = lowering_.groups[g];
  Loops& loops = loops_.emplace_back();
  loops.index = loop_index(loops.context, group.archetype, group.space, group.reduced);
}

}  // namespace surtsey::graph
