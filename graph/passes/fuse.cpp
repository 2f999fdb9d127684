// Which nodes share a kernel: the policy. What is possible is grouping.h's.
#include "graph/attention.h"
#include "graph/passes/grouping.h"
#include "graph/passes/lowering.h"
#include "graph/rewrite.h"

#include <algorithm>
#include <unordered_set>

namespace surtsey::graph {

namespace {

// ---- the policy's numbers; work is counted in additions (OpDef::work), loads in tensors ----

// More work than this is not computed again for every tile of a product that loads it.
constexpr int kPrologueWork = 3;
// At most this much work over values that are stored anyway is computed wherever it is read, rather than stored.
constexpr int kRepeatedWork = 3;
// At most this much that two kernels read (a GELU's erf, in the forward and the backward pass) is computed in both: a
// dozen operations cost less than writing a value to memory and reading it back. It reads at most so many tensors.
constexpr int kTwiceReaders = 2;
constexpr int kTwiceWork = 12;
constexpr int kTwiceLoads = 3;
// An index expression (no loads) of at most this much work is never stored.
constexpr int kIndexWork = 8;
// What is inlined leaves its kernel room for at least so many tensors beside its own: the result and two operands more.
constexpr int kSpareBindings = 3;
// A value with so many times fewer elements than what is computed from it (one of a row) costs little to store.
constexpr int64_t kRowShare = 4;
// A scalar chain that a broadcast repeats at least so often is computed once.
constexpr int64_t kAmplification = 8;
// An operand of a product with so many times the bytes of all the state that it is made from is packed: it is unpacked
// wherever it is read, as the copy that it is packed to avoid would be written and read.
constexpr int64_t kPackedShare = 2;
// Kernels over so few elements are launch-bound: any two that may share one do.
constexpr int64_t kTinySpace = 256;
// A kernel that computes a concat where it reads it loads each tensor behind it in so many views at most, and has so
// many more bindings: of attention the keys and values, in two tensors each, and the results.
constexpr int kViewsOfRead = 2;
constexpr int kReadOnceBindings = 6;
// Such attention has no operands but queries, keys, values and a position.
constexpr size_t kReadOnceOperands = 4;
// And so much work for an element: that of a rotary position.
constexpr int kReadOnceWork = 16;
// So many products share a kernel, and of so few rows: each has sums of its own in the same registers.
constexpr int64_t kProductsBeside = 2;
constexpr int64_t kRowsBeside = 4;
// The latest groups that a node asks whether it may join them as a sibling: asking all would be quadratic.
constexpr int kSiblingsAsked = 24;

// What it costs to compute nodes where they are read: work and loaded tensors of their expressions, up to terminals.
class Costs {
 public:
  explicit Costs(const Lowering& lowering)
      : lowering_(lowering), graph_(*lowering.program.graph), work_(graph_.size(), 0), loads_(graph_.size(), 0) {}

  int work(uint32_t n) const { return work_[n]; }
  int loads(uint32_t n) const { return loads_[n]; }

  void read_from(uint32_t n, int loads) { loads_[n] = loads; }  // where that is known

  // From the costs of its operands, and from which of them are terminals by now.
  void estimate(uint32_t n) {
    const Node& node = graph_.node(n);
    const Family family = definition(node.op).family;
    if (family == Family::leaf) {
      loads_[n] = node.op == Op::parameter;
      return;
    }
    if (estimate_view(n)) return;
    work_[n] = definition(node.op).work;
    loads_[n] = 0;
    for (const Value& input : node.inputs) {
      estimate_view(input.node);
      const bool stored = is_terminal(lowering_, input.node);
      work_[n] += stored ? 0 : work_[input.node];
      loads_[n] += stored ? 1 : loads_[input.node];
    }
  }

 private:
  // A view costs what is behind it, which may have got a kernel since the view was met.
  bool estimate_view(uint32_t n) {
    if (!is_view(graph_.node(n).op)) return false;
    const uint32_t base = behind_views(graph_, n);
    const bool stored = is_terminal(lowering_, base);
    work_[n] = stored ? 0 : work_[base];
    loads_[n] = stored ? 1 : loads_[base];
    return true;
  }

  const Lowering& lowering_;
  const Graph& graph_;
  std::vector<int> work_, loads_;
};

class Fuser {
 public:
  explicit Fuser(Lowering& lowering)
      : lowering_(lowering),
        graph_(*lowering.program.graph),
        uses_(count_uses(lowering.program)),
        costs_(lowering),
        groups_(lowering, uses_) {}

  void run() {
    for (const uint32_t n : uses_.order) place(groups_.current = n);
    for (const Value& root : roots(lowering_.program)) {
      if (home(root.node) != kNone || !is_expression(root.node)) continue;
      if (!join_operand(groups_.inlined_candidate(root.node))) give_home(root.node);
    }
  }

 private:
  const Node& node(uint32_t n) const { return graph_.node(n); }
  uint32_t home(uint32_t n) const { return lowering_.home[n]; }
  Family family(uint32_t n) const { return definition(node(n).op).family; }
  int64_t elements(uint32_t n) const { return element_count(node(n).types[0].shape); }
  bool terminal(uint32_t n) const { return is_terminal(lowering_, n); }
  bool fusion() const { return lowering_.target.fusion; }
  int most_bindings() const { return int(lowering_.target.max_bindings()); }
  bool is_expression(uint32_t n) const { return family(n) == Family::elementwise || family(n) == Family::index; }

  std::set<uint32_t> reads_of(uint32_t n) const {
    std::set<uint32_t> reads;
    collect_expression(lowering_, n, reads);
    return reads;
  }

  // ---- where a node is computed, by family ----

  void place(uint32_t n) {
    costs_.estimate(n);
    make_room(n);
    switch (family(n)) {
      case Family::leaf:
        return;
      case Family::movement:
        if (node(n).op == Op::concat) return place_concat(n);
        if (node(n).op == Op::broadcast) keep_out_of_loop(n);
        return;
      case Family::index:
        if (writes_window(n)) return place_window(n);
        if (node(n).op == Op::scatter_add) return place_product(n, Archetype::scatter);
        return place_expression(n);
      case Family::elementwise:
        return place_expression(n);
      case Family::reduce:
        if (joins_product(n) || waits_for_product(n)) return;
        return place_reduction(n);
      case Family::matmul:
        place_product(n, Archetype::matmul);
        for (const uint32_t sum : waiting_[n])
          if (!join_product(sum, home(n))) place_reduction(sum);
        return;
      case Family::region:
        return place_region(n);
      default:
        ensure(false, "fuse met {}, which decompose should have expanded", definition(node(n).op).name);
    }
  }

  void place_expression(uint32_t n) {
    if (is_cheap_index(n)) return;
    if (uses_.feeds_matmul[n] ? unpacks(n) : left_packed(n)) return;
    if (better_inlined(n)) return;
    if (join_operand({n})) return;
    if (left_to_its_user(n)) return;
    give_home(n);
  }

  void place_product(uint32_t n, Archetype archetype) {
    for (const Value& input : node(n).inputs) keep_out_of_product(input.node);
    if (archetype == Archetype::matmul && joins_product_beside(n)) return;
    groups_.add(archetype, {n}, node(n).types[0].shape, {});
  }

  void place_reduction(uint32_t n) {
    if (join_operand({n})) return;
    if (join_sibling({n}, Archetype::reduce)) return;
    groups_.add(Archetype::reduce, {n}, node(n).inputs[0].shape(), std::get<AxesAttr>(node(n).attr).axes);
  }

  // The results of one claimed region, split by claim_regions, share a kernel. Its loops pass over the operands many
  // times: those are stored values, or cheap expressions of one.
  void place_region(uint32_t n) {
    for (uint32_t g = 0; g < lowering_.groups.size(); ++g) {
      const Group& group = lowering_.groups[g];
      if (group.archetype == Archetype::attention && same_region(node(group.anchor), node(n)))
        return groups_.join({n}, g);
    }
    for (const Value& input : node(n).inputs) {
      keep_out_of_product(input.node);
      const uint32_t base = behind_views(graph_, input.node);
      if (!terminal(base) && costs_.loads(base) > 1 && !unpacks(base) && node(base).op != Op::concat) give_home(base);
    }
    groups_.add(Archetype::attention, {n}, node(n).types[0].shape, {});
  }

  static bool same_region(const Node& a, const Node& b) {
    return std::get<RegionAttr>(a.attr).region->body == std::get<RegionAttr>(b.attr).region->body &&
           a.inputs == b.inputs;
  }

  // An expression over more tensors than a kernel may touch is cut at its operands, the widest first.
  void make_room(uint32_t n) {
    if (family(n) == Family::movement || family(n) == Family::leaf) return;
    while (costs_.loads(n) + 1 > most_bindings()) {
      uint32_t widest = kNone;
      for (const Value& input : node(n).inputs) {
        const uint32_t base = behind_views(graph_, input.node);
        if (terminal(base) || costs_.loads(base) <= 1 || lowering_.inlined_concats.contains(base)) continue;
        if (widest == kNone || costs_.loads(base) > costs_.loads(widest)) widest = base;
      }
      if (widest == kNone) return;
      give_home(widest);
      if (home(widest) == kNone) return;
      costs_.estimate(n);
    }
  }

  // ---- what is packed ----

  int64_t bytes(uint32_t n) const { return elements(n) * storage_bytes(node(n).types[0].dtype); }

  // State, or its new value where a window of it was written (a cache).
  bool is_state(uint32_t n) const {
    const Node& update = node(n);
    return update.op == Op::parameter ||
           (update.op == Op::slice_update && node(update.inputs[0].node).op == Op::parameter);
  }

  // What is read of a value, through views of which each may leave some of it out or repeat it.
  int64_t bytes_read(uint32_t n) const {
    int64_t least = bytes(n);
    for (; is_view(node(n).op); n = node(n).inputs[0].node) least = std::min(least, bytes(node(n).inputs[0].node));
    return least;
  }

  // Computed from state alone, some of it words, that has far fewer bytes. Asked of later nodes too, before there is a
  // kernel for what they read: a product or a sum on the way answers it.
  bool unpacks(uint32_t n) const {
    if (!fusion()) return false;
    int64_t read = 0;
    bool words = false;
    std::unordered_set<uint32_t> seen;
    std::vector<uint32_t> open = {n};
    while (!open.empty()) {
      const uint32_t at = open.back();
      open.pop_back();
      for (const Value& input : node(at).inputs) {
        const uint32_t operand = input.node, base = behind_views(graph_, operand);
        if (!seen.insert(operand).second) continue;
        if (is_state(base)) {
          words |= node(base).types[0].dtype == DType::u32;
          read += bytes_read(operand);
        } else if (terminal(operand) || family(operand) == Family::matmul || family(operand) == Family::reduce ||
                   family(operand) == Family::region) {
          return false;
        } else {
          open.push_back(operand);
        }
      }
    }
    return words && read * kPackedShare <= bytes(n);
  }

  // On the way from packed state to what it holds: the number that is read in the end decides. Index expressions (which
  // field of a word) are left to all their users if one of them unpacks.
  bool left_packed(uint32_t n) const {
    if (uses_.extra_stores[n] > 0) return false;
    const bool index = costs_.loads(n) == 0;
    return (index || unpacks(n)) && is_unpacked(n, index);
  }

  bool is_unpacked(uint32_t n, bool by_any) const {
    const auto& users = uses_.users[n];
    const auto unpacked = [&](uint32_t user) {
      if (is_view(node(user).op)) return is_unpacked(user, by_any);
      if (family(user) != Family::elementwise) return false;
      return unpacks(user) || (by_any && reads_of(user).empty() && is_unpacked(user, true));
    };
    return !users.empty() && (by_any ? std::any_of(users.begin(), users.end(), unpacked)
                                     : std::all_of(users.begin(), users.end(), unpacked));
  }

  // ---- expressions: inlined or not ----

  bool is_cheap_index(uint32_t n) const { return costs_.loads(n) == 0 && costs_.work(n) <= kIndexWork; }

  bool leaves_room(uint32_t n) const { return costs_.loads(n) + kSpareBindings <= most_bindings(); }

  bool left_to_its_user(uint32_t n) const { return uses_.computations[n] == 1 && fusion() && leaves_room(n); }

  // Better computed where it is read than stored: what it reads will be stored whatever happens to it, and either one
  // kernel reads it or it is few operations. Not for a matmul's operand, which every tile would compute again.
  bool better_inlined(uint32_t n) const {
    if (!fusion()) return false;
    if (uses_.feeds_matmul[n]) return false;
    if (!cheap_to_repeat(n)) return false;
    if (!leaves_room(n)) return false;
    const std::set<uint32_t> reads = reads_of(n);
    return std::all_of(reads.begin(), reads.end(), [&](uint32_t t) { return stored_anyway(t, n); });
  }

  bool cheap_to_repeat(uint32_t n) const {
    const int times = uses_.computations[n], work = costs_.work(n);
    if (times <= 1) return true;
    if (work > kTwiceWork || costs_.loads(n) > kTwiceLoads) return false;
    return times <= kTwiceReaders || work <= kRepeatedWork;
  }

  // Will terminal t, which the expression of n reads, be stored if n is inlined? State and concats are already; a row
  // value costs little to store.
  bool stored_anyway(uint32_t t, uint32_t n) const {
    std::set<uint32_t> seen;
    if (home(t) == kNone) return true;
    if (uses_.computations[t] > uses_in(n, t, seen)) return true;
    return elements(t) * kRowShare < elements(n);
  }

  // How many of t's uses lie in the expression of user; nodes in `seen` were counted before.
  int uses_in(uint32_t user, uint32_t t, std::set<uint32_t>& seen) const {
    if (!seen.insert(user).second) return 0;
    int count = 0;
    for (const Value& input : node(user).inputs) {
      const uint32_t operand = behind_views(graph_, input.node);
      if (operand == t) {
        ++count;
      } else if (operand > t && !terminal(operand)) {
        count += uses_in(operand, t, seen);
      }
    }
    return count;
  }

  // ---- which kernel ----

  // Joins the latest group among the operands' that takes it.
  bool join_operand(const Candidate& candidate) {
    if (!fusion()) return false;
    std::set<uint32_t> homes;
    for (const uint32_t t : reads_of(candidate.node))
      if (home(t) != kNone) homes.insert(home(t));
    for (auto g = homes.rbegin(); g != homes.rend(); ++g) {
      // Gathers and updates are no epilogue of a product.
      if (lowering_.groups[*g].archetype == Archetype::matmul && family(candidate.node) == Family::index) continue;
      if (!groups_.fits(candidate, *g)) continue;
      groups_.join(candidate, *g);
      return true;
    }
    return false;
  }

  // Joins a kernel over the same loops that reads one of the same tensors.
  bool join_sibling(const Candidate& candidate, Archetype archetype) {
    if (!fusion()) return false;
    const std::set<uint32_t> reads = reads_of(candidate.node);
    int asked = 0;
    for (auto g = uint32_t(lowering_.groups.size()); g-- > 0 && asked < kSiblingsAsked;) {
      if (lowering_.groups[g].archetype != archetype) continue;
      if (!groups_.shares_input(g, reads) && groups_.elements(g) > kTinySpace) continue;
      ++asked;
      if (!groups_.fits(candidate, g)) continue;
      groups_.join(candidate, g);
      return true;
    }
    return false;
  }

  // A kernel of its own or a sibling's. Where those that have it inlined could not read it from there it stays
  // inlined, and whoever must have it stored gets a copy (place_state, place_concats).
  void give_home(uint32_t n) {
    if (home(n) != kNone) return;
    const Candidate candidate = groups_.inlined_candidate(n);
    if (join_sibling(candidate, Archetype::pointwise)) return;
    if (groups_.may_stand_alone(candidate)) groups_.add(Archetype::pointwise, candidate, node(n).types[0].shape, {});
  }

  // ---- products side by side ----

  // A product of few rows joins the kernel of one that multiplies the same rows by another matrix of the same form (the
  // gate beside what it is multiplied with): reading the matrices is all their time, and the launch.
  bool joins_product_beside(uint32_t n) {
    const Shape& shape = node(n).types[0].shape;
    const Value& rows = node(n).inputs[0];
    if (!fusion() || uses_.trains || lowering_.target.matmul_variant() != MatmulVariant::lane_broadcast) return false;
    if (shape.size() != 2 || shape[0] > kRowsBeside) return false;
    for (const uint32_t other : uses_.products.at(behind_views(graph_, rows.node))) {
      const uint32_t g = home(other);
      if (other == n || g == kNone || node(other).inputs[0] != rows || node(other).types != node(n).types) continue;
      if (lowering_.groups[g].anchor != other || !same_form(node(other).inputs[1].node, node(n).inputs[1].node))
        continue;
      if (products_of(g) == kProductsBeside || groups_.waits_for(groups_.sources_of(reads_of(n)), g)) continue;
      if (join_product(n, g)) return true;
    }
    return false;
  }

  int64_t products_of(uint32_t g) const {
    const auto& members = lowering_.groups[g].members;
    return std::count_if(members.begin(), members.end(), [&](uint32_t m) { return family(m) == Family::matmul; });
  }

  // The same expression but for which state it is of.
  bool same_form(uint32_t a, uint32_t b) const {
    if (a == b) return true;
    const Node &one = node(a), &other = node(b);
    if (one.op != other.op || one.types != other.types || home(a) != kNone || home(b) != kNone) return false;
    if (one.op == Op::parameter) return true;
    return one.attr == other.attr &&
           std::equal(one.inputs.begin(), one.inputs.end(), other.inputs.begin(), other.inputs.end(),
                      [&](const Value& x, const Value& y) { return same_form(x.node, y.node); });
  }

  // ---- sums beside products ----

  // A sum over the inner axis of a product that reads the same tensor (the gradient of a bias, beside that of its
  // weight) is added up while the product is computed.
  bool joins_product(uint32_t n) {
    if (!fusion()) return false;
    for (const uint32_t product : products_beside(n))
      if (home(product) != kNone && join_product(n, home(product))) return true;
    return false;
  }

  // The graph mostly has the sum first: it then waits for the product, if nobody needs it before.
  bool waits_for_product(uint32_t n) {
    if (!fusion()) return false;
    for (const uint32_t product : products_beside(n)) {
      if (home(product) != kNone || product <= n || !used_after(n, product)) continue;
      waiting_[product].push_back(n);
      return true;
    }
    return false;
  }

  std::vector<uint32_t> products_beside(uint32_t sum) const {
    std::vector<uint32_t> beside;
    const auto products = uses_.products.find(behind_views(graph_, node(sum).inputs[0].node));
    if (products == uses_.products.end()) return beside;
    for (const uint32_t product : products->second)
      if (summed_operand(graph_, product, sum)) beside.push_back(product);
    return beside;
  }

  bool used_after(uint32_t n, uint32_t product) const {
    const auto& users = uses_.users[n];
    return std::all_of(users.begin(), users.end(), [&](uint32_t user) {
      const bool relabels = node(user).op == Op::reshape || node(user).op == Op::permute;
      return user > product || (relabels && used_after(user, product));
    });
  }

  bool join_product(uint32_t n, uint32_t g) {
    if (!groups_.fits_bindings({n}, g)) return false;
    groups_.join({n}, g);
    return true;
  }

  // ---- what must not be inlined ----

  // A scalar chain that ends in a long vector is computed once, not once an element.
  void keep_out_of_loop(uint32_t broadcast) {
    const uint32_t n = behind_views(graph_, node(broadcast).inputs[0].node);
    if (terminal(n) || family(n) == Family::leaf || costs_.loads(n) == 0 || left_packed(n)) return;
    const int64_t amplification = elements(broadcast) / std::max<int64_t>(1, elements(n));
    if (amplification >= kAmplification && costs_.work(n) > kRepeatedWork) give_home(n);
  }

  // Every tile of a product computes its operands again.
  void keep_out_of_product(uint32_t operand) {
    bool padded = false;
    uint32_t n = operand;
    for (; is_view(node(n).op); n = node(n).inputs[0].node) padded |= node(n).op == Op::pad;
    if (terminal(n) || family(n) == Family::leaf || unpacks(n) || lowering_.inlined_concats.contains(n)) return;
    if (costs_.work(n) > kPrologueWork || family(n) == Family::index || padded || !fusion()) give_home(n);
  }

  // ---- windows of state ----

  // The new value of state that is read by nobody but this slice_update: all but the window is there already.
  bool writes_window(uint32_t n) const {
    const Node& update = node(n);
    if (update.op != Op::slice_update || node(update.inputs[0].node).op != Op::parameter) return false;
    const uint32_t state = update.inputs[0].node;
    if (uses_.leaves_program[state]) return false;
    if (uses_.users[state] != std::vector<uint32_t>{n}) return false;
    if (uses_.extra_stores[n] != 1) return false;
    const auto& assignments = graph_.assignments();
    return std::any_of(assignments.begin(), assignments.end(),
                       [&](const Assignment& a) { return a.parameter.node == state && a.value.node == n; });
  }

  // An update may read several views of a tensor, each a binding of its own.
  bool has_room_for_window(uint32_t g, const Value& update, const Value& start) {
    std::vector<Value>& copies = lowering_.groups[g].copies;
    copies.insert(copies.end(), {update, start});
    const size_t touched = loads_of(lowering_, g).size() + copies.size() / 2;
    copies.erase(copies.end() - 2, copies.end());
    return touched <= size_t(most_bindings());
  }

  // A kernel over the window; two windows of the same shape (keys and values) share one.
  void place_window(uint32_t n) {
    const Value &update = node(n).inputs[1], &start = node(n).inputs[2];
    std::set<uint32_t> reads;
    for (const Value& operand : {update, start}) collect_value(lowering_, operand.node, reads);
    const std::set<uint32_t> sources = groups_.sources_of(reads);
    uint32_t g = kNone;
    for (const uint32_t other : groups_.windows()) {
      const bool room = int(groups_.bindings(other) + reads.size()) + 1 <= most_bindings();
      if (lowering_.groups[other].space == update.shape() && !groups_.waits_for(sources, other) && fusion() && room &&
          has_room_for_window(other, update, start))
        g = other;
    }
    if (g == kNone) {
      g = groups_.add_window(update);
    } else {
      lowering_.groups[g].copies.push_back(update);
    }
    lowering_.groups[g].copies.push_back(start);
    for (const uint32_t source : sources) add_source(lowering_, g, source);
    lowering_.home[n] = g;
    lowering_.windows.insert(n);
  }

  // ---- concats: parts are stored in place where they can be, and copied where not ----

  void place_concat(uint32_t n) {
    if (inlines_concat(n)) {
      lowering_.inlined_concats.insert(n);
      costs_.read_from(n, kViewsOfRead * int(reads_of(n).size()));
      return;
    }
    for (size_t i = 0; i < node(n).inputs.size(); ++i) {
      const Value& part = node(n).inputs[i];
      const uint32_t base = behind_views(graph_, part.node);
      if (!terminal(base) && family(base) != Family::leaf) give_home(base);
      if (!placeable(n, i)) lowering_.part_copies[{n, i}] = groups_.add_copy(part);
    }
  }

  // Rotary queries and keys of a token: what is read of them once, by attention of one query and by windows of state,
  // is computed there.
  bool inlines_concat(uint32_t n) const {
    if (!fusion() || uses_.trains || uses_.leaves_program[n] || costs_.work(n) > kReadOnceWork) return false;
    if (kViewsOfRead * int(reads_of(n).size()) + kReadOnceBindings > most_bindings()) return false;
    for (const Value& part : node(n).inputs)
      if (!terminal(part.node) && family(behind_views(graph_, part.node)) != Family::elementwise) return false;
    return is_read_once(n);
  }

  bool is_read_once(uint32_t n) const {
    const auto& users = uses_.users[n];
    return !users.empty() && std::all_of(users.begin(), users.end(), [&](uint32_t user) {
      const Node& reader = node(user);
      if ((is_view(reader.op) && reader.op != Op::pad) || reader.op == Op::cast) return is_read_once(user);
      if (reader.op == Op::slice_update) return writes_window(user) && reader.inputs[1].node == n;
      if (family(user) != Family::region || std::count(users.begin(), users.end(), user) != 1) return false;
      return std::get<RegionAttr>(reader.attr).region->attention->one_query && reader.inputs[0].node == n &&
             reader.inputs.size() <= kReadOnceOperands;
    });
  }

  // Views that only relabel: the kernel of the value behind them writes the part in place, by strides.
  bool placeable(uint32_t concat, size_t i) const {
    const Type& type = node(concat).types[0];
    const View all{0, type.dtype, type.shape, contiguous_strides(type.shape), 0};
    const uint32_t part = node(concat).inputs[i].node, base = behind_views(graph_, part);
    if (home(base) == kNone) return false;
    for (uint32_t view = part; view != base; view = node(view).inputs[0].node)
      if (node(view).op != Op::reshape && node(view).op != Op::permute) return false;
    return view_behind(graph_, part, concat_region(graph_, concat, i, all)).has_value();
  }

  Lowering& lowering_;
  const Graph& graph_;
  const Uses uses_;
  Costs costs_;
  Grouping groups_;
  std::map<uint32_t, std::vector<uint32_t>> waiting_;  // matmul -> sums that are to join its kernel
};

}  // namespace

Lowering fuse(const Program& program, const Target& target) {
  Lowering lowering;
  lowering.program = program;
  lowering.target = target;
  lowering.home.assign(program.graph->size(), kNone);
  Fuser(lowering).run();
  return lowering;
}

}  // namespace surtsey::graph
