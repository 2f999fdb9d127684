#include "graph/passes/lowering.h"
#include "graph/rewrite.h"

#include <algorithm>
#include <optional>

namespace surtsey::graph {

namespace {

// Elementwise work above which an expression is not computed again for every matmul tile that loads it.
constexpr int kPrologueWork = 3;
// A value of at most this many cheap operations over values that are stored anyway is computed again rather than
// stored.
constexpr int kRecomputeWork = 3;
// One of at most this many that two kernels read (a GELU's erf, in the forward and the backward pass) is computed in
// both: a dozen operations cost less than writing a value to memory and reading it back.
constexpr int kRecomputeTwiceWork = 12;
// An index expression (no loads) of at most this much is never stored.
constexpr int kIndexWork = 8;
// Kernels over so few elements are launch-bound: any two that may share one do.
constexpr int64_t kTinySpace = 256;

class Fuser {
 public:
  Fuser(const Program& program, const Target& target) : graph_(*program.graph) {
    lowering_.program = program;
    lowering_.target = target;
    lowering_.home.assign(graph_.size(), kNone);
    work_.assign(graph_.size(), 0);
    loads_.assign(graph_.size(), 0);
  }

  Lowering run() {
    const std::vector<Value> wanted = roots(lowering_.program);
    order_ = reachable(graph_, wanted);
    count_uses(wanted);
    for (const uint32_t n : order_) place(current_ = n);
    for (const Value& root : wanted) {
      const Node& node = graph_.node(root);
      if (lowering_.home[root.node] != kNone) continue;
      if (!inlinable(node) || definition(node.op).family == Family::movement) continue;
      inlined_in_ = groups_that_inline(root.node);
      const bool joined = join_operand(root.node);
      inlined_in_.clear();
      if (!joined) give_home(root.node);
    }
    return std::move(lowering_);
  }

 private:
  const Node& node(uint32_t n) const { return graph_.node(n); }
  uint32_t& home(uint32_t n) { return lowering_.home[n]; }
  Family family(uint32_t n) const { return definition(node(n).op).family; }

  // Uses that would each compute the node again if it were inlined: a view counts for its own users.
  void count_uses(std::span<const Value> wanted) {
    uses_.assign(graph_.size(), 0);
    feeds_matmul_.assign(graph_.size(), false);
    extra_stores_.assign(graph_.size(), 0);
    stored_.assign(graph_.size(), false);
    users_.assign(graph_.size(), {});
    for (const Value& root : wanted) ++uses_[root.node], ++extra_stores_[root.node], stored_[root.node] = true;
    for (const uint32_t n : order_)
      if (node(n).op == Op::concat)
        for (const Value& part : node(n).inputs) ++extra_stores_[behind_views(graph_, part.node)];
    for (auto it = order_.rbegin(); it != order_.rend(); ++it) {
      const bool view = family(*it) == Family::movement && node(*it).op != Op::concat;
      for (const Value& input : node(*it).inputs) {
        users_[input.node].push_back(*it);
        uses_[input.node] += view ? uses_[*it] : 1;
        if (family(*it) == Family::matmul || family(*it) == Family::region || (view && feeds_matmul_[*it]))
          feeds_matmul_[input.node] = true;
        if (family(*it) == Family::matmul) products_[behind_views(graph_, input.node)].insert(*it);
      }
    }
  }

  static bool inlinable(const Node& node) {
    const Family f = definition(node.op).family;
    return f == Family::elementwise || f == Family::index || (f == Family::movement && node.op != Op::concat);
  }

  bool terminal(uint32_t n) const { return is_terminal(lowering_, n); }

  void place(uint32_t n) {
    estimate(n);
    make_room(n);
    const Node& current = node(n);
    switch (definition(current.op).family) {
      case Family::leaf:
        return;
      case Family::movement:
        if (current.op == Op::concat) return place_concat(n);
        if (current.op == Op::broadcast) keep_out_of_loop(current);
        return;
      case Family::index:
        if (writes_window(n)) return place_window(n);
        if (current.op == Op::scatter_add) return place_matmul(n, Archetype::scatter);
        return place_elementwise(n);
      case Family::elementwise:
        return place_elementwise(n);
      case Family::reduce:
        return wait_for_product(n) ? void() : place_reduction(n);
      case Family::matmul:
        place_matmul(n, Archetype::matmul);
        for (const uint32_t sum : waiting_[n])
          if (!join_product(sum, home(n))) place_reduction(sum);
        return;
      case Family::region:
        return place_region(n);
      default:
        ensure(false, "fuse met {}, which decompose should have expanded", definition(current.op).name);
    }
  }

  void estimate(uint32_t n) {
    if (family(n) == Family::leaf) {
      loads_[n] = node(n).op == Op::parameter;
      return;
    }
    if (estimate_view(n)) return;
    work_[n] = definition(node(n).op).work;
    for (const Value& input : node(n).inputs) {
      estimate_view(input.node);
      work_[n] += terminal(input.node) ? 0 : work_[input.node];
      loads_[n] += terminal(input.node) ? 1 : loads_[input.node];
    }
  }

  // An expression over more tensors than a kernel may touch is cut at its operands, the widest first.
  void make_room(uint32_t n) {
    if (family(n) == Family::movement || family(n) == Family::leaf) return;
    while (loads_[n] + 1 > int(lowering_.target.max_bindings())) {
      uint32_t widest = kNone;
      for (const Value& input : node(n).inputs) {
        const uint32_t base = behind_views(graph_, input.node);
        if (!terminal(base) && loads_[base] > 1 && (widest == kNone || loads_[base] > loads_[widest])) widest = base;
      }
      if (widest == kNone) return;
      give_home(widest);
      if (home(widest) == kNone) return;
      work_[n] = loads_[n] = 0;
      estimate(n);
    }
  }

  // A view costs what is behind it, which may have got a kernel since the view was met.
  bool estimate_view(uint32_t n) {
    if (family(n) != Family::movement || node(n).op == Op::concat) return false;
    const uint32_t base = behind_views(graph_, n);
    work_[n] = terminal(base) ? 0 : work_[base];
    loads_[n] = terminal(base) ? 1 : loads_[base];
    return true;
  }

  // ---- joining ----

  // Groups whose stored results node n reads.
  std::set<uint32_t> groups_of(const std::set<uint32_t>& terminals) {
    std::set<uint32_t> groups;
    for (const uint32_t t : terminals) groups.merge(writers(lowering_, t));
    return groups;
  }

  bool is_row(uint32_t group, uint32_t n) {
    const LoopIndex& loop = loops_[group];
    return lowering_.groups[group].archetype == Archetype::reduce &&
           (family(n) == Family::reduce ||
            (element_count(node(n).types[0].shape) == loop.row_count && loop.row_count != loop.full_count));
  }

  // May node n be computed in this group, reading its members only at the element being computed?
  bool fits(uint32_t n, uint32_t g) {
    if (window_groups_.count(g)) return false;  // their loops are over the window, not over what is read
    Group& group = lowering_.groups[g];
    if (is_closed(group.archetype)) return false;
    IndexContext& context = contexts_[g];
    const LoopIndex& loop = loops_[g];
    const Shape& shape = node(n).types[0].shape;
    const int64_t count = element_count(shape);
    Index index;
    std::optional<Index> reduced_operand;
    if (family(n) == Family::reduce) {
      const Shape& operand = node(n).inputs[0].shape();
      if (group.archetype != Archetype::reduce || element_count(operand) != loop.full_count || count != loop.row_count)
        return false;
      if (!same_loops(lowering_, n, g)) return false;
      reduced_operand = context.delinearize(loop.full, operand);
    } else if (count == loop.full_count) {
      index = context.delinearize(loop.full, shape);
    } else if (group.archetype == Archetype::reduce && count == loop.row_count) {
      index = context.delinearize(loop.row, shape);
    } else {
      return false;
    }
    bool good = true;
    std::set<uint32_t> reads;
    const auto visit = [&](uint32_t t, const Index& at) {
      reads.insert(t);
      if (home(t) == g) {
        const Affine expected = is_row(g, t) ? loop.row : loop.full;
        if (!(context.linearize_contiguous(at, node(t).types[0].shape) == expected)) good = false;
      }
    };
    if (reduced_operand) {
      const Value operand = node(n).inputs[0];
      if (terminal(operand.node)) {
        visit(operand.node, *reduced_operand);
      } else {
        walk_terminals(lowering_, context, operand.node, *reduced_operand, visit);
      }
    } else {
      walk_terminals(lowering_, context, n, index, visit);
    }
    if (!good) return false;
    for (const uint32_t t : reads)
      for (const uint32_t x : writers(lowering_, t)) {
        // A concat is whole only when all its writers have run.
        if (x == g ? home(t) != g : lowering_.groups[x].depends[g]) return false;
      }
    for (const uint32_t x : inlined_in_)
      if (x == g ? !reads_in_place(g, n) : group.depends[x] || needed_by(reads, x)) return false;
    return bindings_fit(g, n);
  }

  // Does group x have to run before these are stored?
  bool needed_by(const std::set<uint32_t>& terminals, uint32_t x) {
    const std::set<uint32_t> sources = groups_of(terminals);
    return std::any_of(sources.begin(), sources.end(),
                       [&](uint32_t source) { return source == x || lowering_.groups[source].depends[x]; });
  }

  // Would the members of g that read n do so only at the element being computed?
  bool reads_in_place(uint32_t g, uint32_t n) {
    bool good = true;
    const LoopIndex& loop = loops_[g];
    const Shape& shape = node(n).types[0].shape;
    home(n) = g;
    const Affine expected = is_row(g, n) ? loop.row : loop.full;
    const auto visit = [&](uint32_t t, const Index& at) {
      if (t == n && !(contexts_[g].linearize_contiguous(at, shape) == expected)) good = false;
    };
    for (const uint32_t m : lowering_.groups[g].members) {
      if (lowering_.groups[g].archetype == Archetype::matmul &&
          (family(m) == Family::matmul || family(m) == Family::reduce)) {
        std::set<uint32_t> operands;
        collect_terminals(lowering_, m, operands);
        good = good && !operands.count(n);
      } else if (family(m) == Family::reduce) {
        const Value operand = node(m).inputs[0];
        const Index at = contexts_[g].delinearize(loop.full, operand.shape());
        if (terminal(operand.node)) {
          visit(operand.node, at);
        } else {
          walk_terminals(lowering_, contexts_[g], operand.node, at, visit);
        }
      } else {
        walk_terminals(lowering_, contexts_[g], m,
                       contexts_[g].delinearize(is_row(g, m) ? loop.row : loop.full, node(m).types[0].shape), visit);
      }
    }
    home(n) = kNone;
    return good;
  }

  // Do the kernel of g with n in it, and the kernels that would then read n from there, touch few enough tensors?
  bool bindings_fit(uint32_t g, uint32_t n) {
    const size_t most = lowering_.target.max_bindings();
    home(n) = g;
    lowering_.groups[g].members.push_back(n);
    bool good = bindings(g) <= most;
    for (const uint32_t x : inlined_in_) good = good && bindings(x) <= most;
    lowering_.groups[g].members.pop_back();
    home(n) = kNone;
    return good;
  }

  // Tensors the group's kernel touches: what it loads, and what it stores for somebody outside.
  size_t bindings(uint32_t g) {
    const Group& group = lowering_.groups[g];
    size_t count = loads_of(lowering_, g).size() + group.copies.size();
    for (const uint32_t m : group.members)
      count += size_t(std::max<int>(extra_stores_[m], read_outside(m, g) || m == group.members.back()));
    return count;
  }

  // Will a kernel other than g's read member m, as far as is known while node current_ is placed?
  bool read_outside(uint32_t m, uint32_t g) {
    return stored_[m] ||
           std::any_of(users_[m].begin(), users_[m].end(), [&](uint32_t u) { return !consumed_by(u, g); });
  }

  bool consumed_by(uint32_t u, uint32_t g) {
    if (home(u) == g) return true;
    if (terminal(u) || stored_[u] || u > current_) return false;
    return std::all_of(users_[u].begin(), users_[u].end(), [&](uint32_t v) { return consumed_by(v, g); });
  }

  // How many of m's uses lie in the expression of u; nodes in `seen` were counted before.
  int uses_in(uint32_t u, uint32_t m, std::set<uint32_t>& seen) {
    if (!seen.insert(u).second) return 0;
    int count = 0;
    for (const Value& input : node(u).inputs) {
      const uint32_t operand = behind_views(graph_, input.node);
      if (operand == m) {
        ++count;
      } else if (operand > m && !terminal(operand)) {
        count += uses_in(operand, m, seen);
      }
    }
    return count;
  }

  void join(uint32_t n, uint32_t g) {
    std::set<uint32_t> reads;
    collect_terminals(lowering_, n, reads);
    home(n) = g;
    lowering_.groups[g].members.push_back(n);
    for (const uint32_t t : reads)
      if (home(t) != g) inputs_[g].insert(t);
    for (const uint32_t x : groups_of(reads)) add_source(lowering_, g, x);
    for (const uint32_t x : inlined_in_) add_source(lowering_, x, g);
  }

  // Groups with n in an expression of theirs: when n gets a home after all, they read it from there.
  std::set<uint32_t> groups_that_inline(uint32_t n) {
    std::set<uint32_t> groups;
    for (uint32_t g = 0; g < lowering_.groups.size(); ++g) {
      std::set<uint32_t> seen;
      const Group& group = lowering_.groups[g];
      if (std::any_of(group.members.begin(), group.members.end(), [&](uint32_t m) { return inlines(m, n, seen); }) ||
          std::any_of(group.copies.begin(), group.copies.end(),
                      [&](const Value& v) { return v.node == n || inlines(v.node, n, seen); }))
        groups.insert(g);
    }
    return groups;
  }

  bool inlines(uint32_t u, uint32_t n, std::set<uint32_t>& seen) {
    if (u <= n || !seen.insert(u).second) return false;
    const auto& inputs = node(u).inputs;
    return std::any_of(inputs.begin(), inputs.end(),
                       [&](const Value& x) { return x.node == n || (!terminal(x.node) && inlines(x.node, n, seen)); });
  }

  uint32_t new_group(Archetype archetype, uint32_t n, const Shape& space, std::vector<int64_t> reduced) {
    const uint32_t g = add_group(lowering_, archetype, n, space, std::move(reduced));
    prepare(g);
    join(n, g);
    return g;
  }

  void prepare(uint32_t g) {
    const Group& group = lowering_.groups[g];
    contexts_.emplace_back();
    loops_.push_back(loop_index(contexts_.back(), group.archetype, group.space, group.reduced));
    inputs_.emplace_back();
  }

  // Joins the latest group among the operands' that takes it.
  bool join_operand(uint32_t n) {
    if (!lowering_.target.fusion) return false;
    std::set<uint32_t> reads;
    collect_terminals(lowering_, n, reads);
    std::set<uint32_t> candidates;
    for (const uint32_t t : reads)
      if (home(t) != kNone) candidates.insert(home(t));
    for (auto it = candidates.rbegin(); it != candidates.rend(); ++it) {
      if (lowering_.groups[*it].archetype == Archetype::matmul && family(n) == Family::index) continue;
      if (!fits(n, *it)) continue;
      join(n, *it);
      return true;
    }
    return false;
  }

  // Joins a kernel over the same loops that reads one of the same tensors.
  bool join_sibling(uint32_t n, Archetype archetype) {
    if (!lowering_.target.fusion) return false;
    std::set<uint32_t> reads;
    collect_terminals(lowering_, n, reads);
    int tries = 0;
    for (uint32_t g = uint32_t(lowering_.groups.size()); g-- > 0 && tries < 24;) {
      if (lowering_.groups[g].archetype != archetype) continue;
      const bool tiny = loops_[g].full_count <= kTinySpace;
      const bool shares = std::any_of(reads.begin(), reads.end(), [&](uint32_t t) { return inputs_[g].count(t) != 0; });
      if (!shares && !tiny) continue;
      ++tries;
      if (!fits(n, g)) continue;
      join(n, g);
      return true;
    }
    return false;
  }

  void give_home(uint32_t n) {
    if (home(n) != kNone) return;
    inlined_in_ = groups_that_inline(n);
    if (!join_sibling(n, Archetype::pointwise) && may_stand_alone(n))
      new_group(Archetype::pointwise, n, node(n).types[0].shape, {});
    inlined_in_.clear();
  }

  // Can those that have n inlined read it from a kernel of its own? If not, it stays inlined, and whoever must have it
  // stored gets a copy (place_stores).
  bool may_stand_alone(uint32_t n) {
    std::set<uint32_t> reads;
    collect_terminals(lowering_, n, reads);
    for (const uint32_t x : inlined_in_)
      if (needed_by(reads, x)) return false;
    const auto elsewhere = uint32_t(lowering_.groups.size());
    home(n) = elsewhere;
    const bool good = std::all_of(inlined_in_.begin(), inlined_in_.end(),
                                  [&](uint32_t x) { return bindings(x) <= lowering_.target.max_bindings(); });
    home(n) = kNone;
    return good;
  }

  void place_elementwise(uint32_t n) {
    if (loads_[n] == 0 && work_[n] <= kIndexWork) return;  // an index expression: as cheap as a load
    if (better_inlined(n)) return;
    if (join_operand(n)) return;
    if (uses_[n] == 1 && lowering_.target.fusion && loads_[n] + 3 <= int(lowering_.target.max_bindings())) return;
    give_home(n);
  }

  // Better computed where it is read than stored: what it reads will be stored whatever happens to it, and either one
  // kernel reads it or it is few operations. Not for a matmul's operand, which every tile would compute again.
  bool better_inlined(uint32_t n) {
    if (!lowering_.target.fusion || feeds_matmul_[n]) return false;
    if (uses_[n] > 2 && work_[n] > kRecomputeWork) return false;
    if (uses_[n] > 1 && (work_[n] > kRecomputeTwiceWork || loads_[n] > kRecomputeWork)) return false;
    if (loads_[n] + 3 > int(lowering_.target.max_bindings())) return false;
    std::set<uint32_t> reads;
    collect_terminals(lowering_, n, reads);
    const int64_t count = element_count(node(n).types[0].shape);
    const auto uses_of = [&](uint32_t t) {
      std::set<uint32_t> seen;
      return uses_in(n, t, seen);
    };
    return std::all_of(reads.begin(), reads.end(), [&](uint32_t t) {
      // State and concats are stored already; a row value costs little to store.
      return home(t) == kNone || uses_[t] > uses_of(t) || element_count(node(t).types[0].shape) * 4 < count;
    });
  }

  // The new value of state that is read by nobody but this slice_update: all but the window is there already.
  bool writes_window(uint32_t n) const {
    const Node& update = node(n);
    if (update.op != Op::slice_update || node(update.inputs[0].node).op != Op::parameter) return false;
    const uint32_t state = update.inputs[0].node;
    if (stored_[state] || users_[state] != std::vector<uint32_t>{n} || extra_stores_[n] != 1) return false;
    const auto& assignments = graph_.assignments();
    return std::any_of(assignments.begin(), assignments.end(),
                       [&](const Assignment& a) { return a.parameter.node == state && a.value.node == n; });
  }

  // A kernel over the window; two windows of the same shape (keys and values) share one.
  void place_window(uint32_t n) {
    const Value& update = node(n).inputs[1];
    const Value& start = node(n).inputs[2];
    std::set<uint32_t> reads;
    for (const Value& operand : {update, start}) {
      if (terminal(operand.node)) {
        reads.insert(operand.node);
      } else {
        collect_terminals(lowering_, operand.node, reads);
      }
    }
    const std::set<uint32_t> sources = groups_of(reads);
    uint32_t g = kNone;
    for (const uint32_t other : window_groups_) {
      const Group& group = lowering_.groups[other];
      const bool waits = std::any_of(sources.begin(), sources.end(),
                                     [&](uint32_t x) { return x == other || lowering_.groups[x].depends[other]; });
      if (group.space == update.shape() && !waits && lowering_.target.fusion &&
          bindings(other) + reads.size() + 1 <= lowering_.target.max_bindings())
        g = other;
    }
    if (g == kNone) {
      g = add_copy_group(lowering_, update);
      prepare(g);
      window_groups_.insert(g);
    } else {
      lowering_.groups[g].copies.push_back(update);
    }
    lowering_.groups[g].copies.push_back(start);
    for (const uint32_t source : sources) add_source(lowering_, g, source);
    home(n) = g;
    lowering_.windows.insert(n);
  }

  void place_matmul(uint32_t n, Archetype archetype) {
    for (const Value& input : node(n).inputs) keep_out_of_matmul(input.node);
    new_group(archetype, n, node(n).types[0].shape, {});
  }

  void place_reduction(uint32_t n) {
    const Node& current = node(n);
    if (join_operand(n)) return;
    if (join_sibling(n, Archetype::reduce)) return;
    new_group(Archetype::reduce, n, current.inputs[0].shape(), std::get<AxesAttr>(current.attr).axes);
  }

  // The results of one claimed region, split by claim_regions, share a kernel. Its loops pass over the operands many
  // times: those are stored values, or cheap expressions of one.
  void place_region(uint32_t n) {
    const Node& current = node(n);
    for (uint32_t g = 0; g < lowering_.groups.size(); ++g) {
      const Group& group = lowering_.groups[g];
      if (group.archetype != Archetype::attention || !same_region(node(group.anchor), current)) continue;
      return join(n, g);
    }
    for (const Value& input : current.inputs) {
      keep_out_of_matmul(input.node);
      const uint32_t base = behind_views(graph_, input.node);
      if (!terminal(base) && loads_[base] > 1) give_home(base);
    }
    new_group(Archetype::attention, n, current.types[0].shape, {});
  }

  static bool same_region(const Node& a, const Node& b) {
    return std::get<RegionAttr>(a.attr).region->body == std::get<RegionAttr>(b.attr).region->body &&
           a.inputs == b.inputs;
  }

  // A sum over the inner axis of a product that reads the same tensor (the gradient of a bias, beside that of its
  // weight) is added up while the product is computed. The graph mostly has the sum first: it then waits for the
  // product, if nobody needs it before.
  bool wait_for_product(uint32_t n) {
    if (!lowering_.target.fusion) return false;
    for (const uint32_t product : products_[behind_views(graph_, node(n).inputs[0].node)]) {
      if (!summed_operand(graph_, product, n)) continue;
      if (home(product) != kNone) {
        if (join_product(n, home(product))) return true;
      } else if (product > n && used_after(n, product)) {
        waiting_[product].push_back(n);
        return true;
      }
    }
    return false;
  }

  bool used_after(uint32_t n, uint32_t product) const {
    return std::all_of(users_[n].begin(), users_[n].end(), [&](uint32_t u) {
      return u > product || ((node(u).op == Op::reshape || node(u).op == Op::permute) && used_after(u, product));
    });
  }

  bool join_product(uint32_t n, uint32_t g) {
    if (!bindings_fit(g, n)) return false;
    join(n, g);
    return true;
  }

  // ---- what must not be inlined ----

  // A scalar chain that ends in a long vector is computed once, not once an element.
  void keep_out_of_loop(const Node& broadcast) {
    const uint32_t n = behind_views(graph_, broadcast.inputs[0].node);
    if (terminal(n) || family(n) == Family::leaf || loads_[n] == 0) return;
    const int64_t amplification =
        element_count(broadcast.types[0].shape) / std::max<int64_t>(1, element_count(node(n).types[0].shape));
    if (amplification >= 8 && work_[n] > kRecomputeWork) give_home(n);
  }

  void keep_out_of_matmul(uint32_t operand) {
    bool padded = false;
    uint32_t n = operand;
    for (; family(n) == Family::movement && node(n).op != Op::concat; n = node(n).inputs[0].node)
      padded |= node(n).op == Op::pad;
    if (terminal(n) || family(n) == Family::leaf) return;
    if (work_[n] > kPrologueWork || family(n) == Family::index || !lowering_.target.fusion || padded) give_home(n);
  }

  void place_concat(uint32_t n) {
    for (size_t i = 0; i < node(n).inputs.size(); ++i) {
      const Value& part = node(n).inputs[i];
      const uint32_t base = behind_views(graph_, part.node);
      if (!terminal(base) && family(base) != Family::leaf) give_home(base);
      if (placeable(n, i)) continue;
      lowering_.part_copies[{n, i}] = add_copy_group(lowering_, part);
      prepare(uint32_t(lowering_.groups.size() - 1));
    }
  }

  // Views that only relabel: the kernel of the value behind them writes the part in place, by strides.
  bool placeable(uint32_t concat, size_t i) {
    const Type& type = node(concat).types[0];
    const View all{0, type.dtype, type.shape, contiguous_strides(type.shape), 0};
    const uint32_t n = node(concat).inputs[i].node;
    if (home(behind_views(graph_, n)) == kNone) return false;
    for (uint32_t v = n; v != behind_views(graph_, n); v = node(v).inputs[0].node)
      if (node(v).op != Op::reshape && node(v).op != Op::permute) return false;
    return view_behind(graph_, n, concat_region(graph_, concat, i, all)).has_value();
  }

  const Graph& graph_;
  Lowering lowering_;
  std::vector<uint32_t> order_;
  std::vector<int> uses_, work_, loads_;
  std::vector<std::vector<uint32_t>> users_;
  std::vector<bool> stored_;  // an output or assigned
  uint32_t current_ = 0;      // the node that is being placed; those after it are not yet known
  std::vector<int>
      extra_stores_;  // places that a node is stored to beside where readers find it: outputs, state, concats
  std::set<uint32_t> inlined_in_;  // of the node that is getting a home: the groups that have it inlined so far
  std::set<uint32_t> window_groups_;
  std::vector<bool> feeds_matmul_;
  std::map<uint32_t, std::set<uint32_t>> products_;  // node behind the views of an operand -> the matmuls that read it
  std::map<uint32_t, std::vector<uint32_t>> waiting_;  // matmul -> sums that are to join its kernel
  std::vector<IndexContext> contexts_;
  std::vector<LoopIndex> loops_;
  std::vector<std::set<uint32_t>> inputs_;
};

}  // namespace

Lowering fuse(const Program& program, const Target& target) { return Fuser(program, target).run(); }

}  // namespace surtsey::graph
