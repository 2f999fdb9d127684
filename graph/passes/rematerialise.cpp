// Values that wait long for their next reader are dropped and computed again before it (Chen et al. 2016), by copies of
// their kernels.
#include "graph/passes/lowering.h"

#include <algorithm>
#include <functional>
#include <optional>

namespace surtsey::graph {
namespace {

// What one dispatch does for one buffer: the kernel without the outputs, and the inputs, that others need.
struct Part {
  std::vector<size_t> inputs, outputs;  // indices into the kernel's
  std::set<uint32_t> nodes;             // computed for them
};

// One emission of a kernel. An instance is one writing of a buffer; several may show the same value at different times.
struct Step {
  uint32_t dispatch = 0;    // of the plan
  uint32_t buffer = kNone;  // emitted again for this buffer only; kNone: the kernel as it is
  std::vector<uint32_t> reads,
      writes;  // instances of transients, aligned with the part's inputs and outputs; kNone elsewhere
};

// Chains that are longer are not worth what they cost.
constexpr size_t kLongestChain = 48;
// Evaluated at a time, by bytes.
constexpr size_t kCandidates = 24;
// Places of largest need that are looked at before giving up.
constexpr size_t kPlaces = 24;
// A value so many times smaller than what it helps to drop simply lives longer.
constexpr uint64_t kSmall = 16;
// What moving a byte costs, in floating-point operations.
constexpr uint64_t kByteCost = 4;

class Rematerialiser {
 public:
  explicit Rematerialiser(const Plan& plan) : plan_(plan), graph_(*plan.program.graph) {
    for (uint32_t b = 0; b < plan.buffers.size(); ++b) root_.push_back(b);
    writers_.resize(plan.buffers.size());
    for (uint32_t d = 0; d < plan.dispatches.size(); ++d) {
      const Kernel& kernel = kernel_of(d);
      Step step{d};
      for (const KernelOperand& input : kernel.inputs) step.reads.push_back(transient(input.view.buffer));
      for (const KernelOperand& output : kernel.outputs) {
        step.writes.push_back(transient(output.view.buffer));
        auto& writers = writers_[output.view.buffer];
        if (writers.empty() || writers.back() != d) writers.push_back(d);
      }
      steps_.push_back(std::move(step));
    }
    refresh();
  }

  // Lowers what is live at any time towards `target` bytes; false when nothing more helps.
  bool reach(uint64_t target) {
    target_ = target;
    while (peak() > target)
      if (!improve()) return false;
    return true;
  }

  uint64_t peak() const { return *std::max_element(live_.begin(), live_.end()); }

  Plan plan() const {
    Plan result = plan_;
    result.kernels.clear();
    result.dispatches.clear();
    result.flops = result.matmul_flops = result.bytes = 0;
    for (uint32_t i = uint32_t(plan_.buffers.size()); i < root_.size(); ++i)
      result.buffers.push_back(plan_.buffers[root_[i]]);
    for (const Step& step : steps_) emit(step, result);
    return result;
  }

 private:
  const Kernel& kernel_of(uint32_t dispatch) const { return plan_.kernels[plan_.dispatches[dispatch].kernel]; }
  uint32_t transient(uint32_t buffer) const {
    return plan_.buffers[buffer].kind == BufferKind::transient ? buffer : kNone;
  }
  uint64_t bytes(uint32_t instance) const { return plan_.buffers[root_[instance]].bytes; }

  struct Life {
    uint32_t first = kNone, last = 0;
  };

  std::vector<Life> lives(const std::vector<Step>& steps) const {
    std::vector<Life> result(root_.size());
    for (uint32_t s = 0; s < steps.size(); ++s)
      for (const auto* list : {&steps[s].reads, &steps[s].writes})
        for (const uint32_t i : *list) {
          if (i == kNone) continue;
          result[i].first = std::min(result[i].first, s);
          result[i].last = s;
        }
    return result;
  }

  std::vector<uint64_t> live_bytes(const std::vector<Life>& lives, size_t steps) const {
    std::vector<uint64_t> result(steps + 1, 0);
    for (uint32_t i = 0; i < lives.size(); ++i)
      if (lives[i].first != kNone) result[lives[i].first] += bytes(i), result[lives[i].last + 1] -= bytes(i);
    for (size_t s = 1; s < result.size(); ++s) result[s] += result[s - 1];
    result.pop_back();
    return result;
  }

  // How far and for how long memory is above the target: what every change has to lower.
  double excess(const std::vector<uint64_t>& live) const {
    double sum = 0;
    for (const uint64_t bytes : live)
      if (bytes > target_) sum += double(bytes - target_);
    return sum;
  }

  void refresh() {
    lives_ = lives(steps_);
    live_ = live_bytes(lives_, steps_.size());
    instances_.assign(plan_.buffers.size(), {});
    for (uint32_t i = 0; i < root_.size(); ++i)
      if (lives_[i].first != kNone) instances_[root_[i]].push_back(i);
    overwritten_.assign(plan_.buffers.size(), uint32_t(steps_.size()));
    for (uint32_t s = uint32_t(steps_.size()); s-- > 0;)
      for (const KernelOperand& output : kernel_of(steps_[s].dispatch).outputs)
        if (steps_[s].buffer == kNone) overwritten_[output.view.buffer] = s;
  }

  // ---- parts of kernels ----

  const Part& part(uint32_t dispatch, uint32_t buffer) {
    auto [found, added] = parts_.try_emplace({dispatch, buffer});
    if (!added) return found->second;
    Part& result = found->second;
    const Kernel& kernel = kernel_of(dispatch);
    std::map<uint32_t, size_t> loads;
    for (size_t i = 0; i < kernel.inputs.size(); ++i) loads[kernel.inputs[i].value.node] = i;
    std::set<size_t> used;
    // Of other archetypes only the whole kernel is known to work.
    if (kernel.archetype != Archetype::pointwise && kernel.archetype != Archetype::reduce &&
        kernel.archetype != Archetype::matmul) {
      for (size_t i = 0; i < kernel.inputs.size(); ++i) result.inputs.push_back(i);
      for (size_t o = 0; o < kernel.outputs.size(); ++o) result.outputs.push_back(o);
      result.nodes.insert(kernel.members.begin(), kernel.members.end());
      result.nodes.insert(kernel.inlined.begin(), kernel.inlined.end());
      return result;
    }
    const std::function<void(uint32_t)> visit = [&](uint32_t n) {
      if (const auto load = loads.find(n); load != loads.end()) {
        used.insert(load->second);
      } else if (result.nodes.insert(n).second) {
        for (const Value& input : graph_.node(n).inputs) visit(input.node);
      }
    };
    for (size_t o = 0; o < kernel.outputs.size(); ++o)
      if (kernel.outputs[o].view.buffer == buffer) result.outputs.push_back(o), visit(kernel.outputs[o].value.node);
    result.inputs.assign(used.begin(), used.end());
    return result;
  }

  uint64_t cost(uint32_t dispatch) const { return kernel_of(dispatch).flops + kByteCost * kernel_of(dispatch).bytes; }

  // ---- one value computed again ----

  struct Chain {
    uint32_t before = 0;   // the step that it goes before
    uint64_t dropped = 0;  // bytes that the chain is for
    std::vector<Step> steps;
    std::map<uint32_t, uint32_t> made;  // buffer -> its instance
    uint64_t cost = 0;
  };

  // An instance that shows the value of `buffer` before the chain's end: one that lives, one that may live longer, or a
  // new one.
  std::optional<uint32_t> need(uint32_t buffer, Chain& chain) {
    if (const auto found = chain.made.find(buffer); found != chain.made.end()) return found->second;
    uint32_t latest = kNone;
    for (const uint32_t i : instances_[buffer]) {
      if (lives_[i].first >= chain.before) continue;
      if (lives_[i].last >= chain.before) return i;
      if (latest == kNone || lives_[i].last > lives_[latest].last) latest = i;
    }
    if (latest != kNone) {
      uint64_t most = 0;
      for (uint32_t s = lives_[latest].last + 1; s < chain.before; ++s) most = std::max(most, live_[s]);
      if (most + bytes(latest) <= target_ || bytes(latest) * kSmall <= chain.dropped) return latest;
    }
    return again(buffer, chain);
  }

  std::optional<uint32_t> again(uint32_t buffer, Chain& chain) {
    std::vector<Step> made;
    const auto instance = uint32_t(root_.size());
    root_.push_back(buffer);
    for (const uint32_t writer : writers_[buffer]) {
      const Kernel& kernel = kernel_of(writer);
      const Part& wanted = part(writer, buffer);
      Step step{writer, buffer};
      chain.cost += cost(writer);
      for (const size_t i : wanted.inputs) {
        const uint32_t from = kernel.inputs[i].view.buffer;
        if (transient(from) == kNone) {
          if (overwritten_[from] < chain.before && plan_.buffers[from].kind == BufferKind::state) return std::nullopt;
          step.reads.push_back(kNone);
          continue;
        }
        if (chain.steps.size() > kLongestChain) return std::nullopt;
        const std::optional<uint32_t> read = need(from, chain);
        if (!read) return std::nullopt;
        step.reads.push_back(*read);
      }
      for (const size_t o : wanted.outputs) {
        const uint32_t to = kernel.outputs[o].view.buffer;
        if (transient(to) == kNone) return std::nullopt;
        step.writes.push_back(to == buffer ? instance : uint32_t(root_.size()));
        if (to != buffer) root_.push_back(to);
      }
      made.push_back(std::move(step));
    }
    chain.steps.insert(chain.steps.end(), made.begin(), made.end());
    chain.made[buffer] = instance;
    return instance;
  }

  // The steps with instance i dropped from its last use before `place` to its first one after it.
  std::optional<std::pair<std::vector<Step>, uint64_t>> without(uint32_t i, uint32_t place) {
    uint32_t next = place + 1;
    const auto uses = [&](const Step& step) { return std::count(step.reads.begin(), step.reads.end(), i) != 0; };
    while (!uses(steps_[next])) ++next;
    Chain chain{next, bytes(i)};
    const std::optional<uint32_t> instance = again(root_[i], chain);
    if (!instance) return std::nullopt;
    std::vector<Step> result(steps_.begin(), steps_.begin() + next);
    result.insert(result.end(), chain.steps.begin(), chain.steps.end());
    for (uint32_t s = next; s < steps_.size(); ++s) {
      result.push_back(steps_[s]);
      std::replace(result.back().reads.begin(), result.back().reads.end(), i, *instance);
    }
    return std::pair(std::move(result), chain.cost);
  }

  bool improve() {
    std::vector<uint32_t> places(live_.size());
    for (uint32_t s = 0; s < places.size(); ++s) places[s] = s;
    std::stable_sort(places.begin(), places.end(), [&](uint32_t a, uint32_t b) { return live_[a] > live_[b]; });
    for (size_t p = 0; p < std::min(kPlaces, places.size()); ++p)
      if (live_[places[p]] > target_ && improve_at(places[p])) return true;
    return false;
  }

  bool improve_at(uint32_t place) {
    std::vector<uint32_t> candidates;
    const Step& here = steps_[place];
    for (uint32_t i = 0; i < root_.size(); ++i) {
      if (lives_[i].first >= place || lives_[i].last <= place || lives_[i].first == kNone) continue;
      if (std::count(here.reads.begin(), here.reads.end(), i) + std::count(here.writes.begin(), here.writes.end(), i) !=
          0)
        continue;
      // Not between its writers, when it has several.
      bool whole = true;
      for (uint32_t s = place; whole && s <= lives_[i].last; ++s)
        whole = std::count(steps_[s].writes.begin(), steps_[s].writes.end(), i) == 0;
      if (whole) candidates.push_back(i);
    }
    std::stable_sort(candidates.begin(), candidates.end(), [&](uint32_t a, uint32_t b) { return bytes(a) > bytes(b); });
    if (candidates.size() > kCandidates) candidates.resize(kCandidates);
    const double before = excess(live_);
    double best_score = 0;
    std::vector<Step> best;
    const std::vector<uint32_t> roots = root_;
    std::vector<uint32_t> best_roots;
    for (const uint32_t i : candidates) {
      root_ = roots;
      auto found = without(i, place);
      if (!found) continue;
      const double saved = before - excess(live_bytes(lives(found->first), found->first.size()));
      const double score = saved / double(found->second + 1);
      if (saved > 0 && score > best_score) best_score = score, best = std::move(found->first), best_roots = root_;
    }
    root_ = best.empty() ? roots : best_roots;
    if (best.empty()) return false;
    steps_ = std::move(best);
    remove_unread();
    refresh();
    return true;
  }

  // Copies whose value is by now computed yet again for all who read it.
  void remove_unread() {
    for (size_t before = steps_.size() + 1; before > steps_.size();) {
      before = steps_.size();
      std::set<uint32_t> read;
      for (const Step& step : steps_) read.insert(step.reads.begin(), step.reads.end());
      std::erase_if(steps_, [&](const Step& step) {
        return step.buffer != kNone &&
               std::none_of(step.writes.begin(), step.writes.end(), [&](uint32_t i) { return read.count(i) != 0; });
      });
    }
  }

  // ---- the new plan ----

  void emit(const Step& step, Plan& result) const {
    Dispatch dispatch = plan_.dispatches[step.dispatch];
    Kernel kernel = kernel_of(step.dispatch);
    if (step.buffer != kNone) {
      const Part& part = parts_.at({step.dispatch, step.buffer});
      std::vector<KernelOperand> inputs, outputs;
      std::vector<Access> accesses;
      for (const size_t i : part.inputs) inputs.push_back(kernel.inputs[i]), accesses.push_back(dispatch.accesses[i]);
      for (const size_t o : part.outputs)
        outputs.push_back(kernel.outputs[o]), accesses.push_back(dispatch.accesses[kernel.inputs.size() + o]);
      kernel.inputs = std::move(inputs);
      kernel.outputs = std::move(outputs);
      dispatch.accesses = std::move(accesses);
      const auto unused = [&](uint32_t n) { return part.nodes.count(n) == 0; };
      std::erase_if(kernel.members, unused);
      std::erase_if(kernel.inlined, unused);
      // Of products side by side another may be what is left.
      for (const uint32_t m : kernel.members)
        if (unused(kernel.anchor.node) && plan_.program.graph->node(m).op == Op::matmul) kernel.anchor.node = m;
      kernel.name += "_again";
    }
    for (size_t i = 0; i < kernel.inputs.size(); ++i)
      if (step.reads[i] != kNone) kernel.inputs[i].view.buffer = dispatch.accesses[i].buffer = step.reads[i];
    for (size_t o = 0; o < kernel.outputs.size(); ++o)
      if (step.writes[o] != kNone)
        kernel.outputs[o].view.buffer = dispatch.accesses[kernel.inputs.size() + o].buffer = step.writes[o];
    result.flops += kernel.flops;
    result.matmul_flops += kernel.matmul_flops;
    result.bytes += kernel.bytes;
    dispatch.kernel = uint32_t(result.kernels.size());
    result.kernels.push_back(std::move(kernel));
    result.dispatches.push_back(std::move(dispatch));
  }

  const Plan& plan_;
  const Graph& graph_;
  std::vector<uint32_t> root_;                  // instance -> buffer; the first ones are the buffers themselves
  std::vector<std::vector<uint32_t>> writers_;  // buffer -> dispatches, in their order
  std::vector<Step> steps_;
  std::vector<Life> lives_;                       // of instances
  std::vector<uint64_t> live_;                    // bytes at each step
  std::vector<std::vector<uint32_t>> instances_;  // of a buffer
  std::vector<uint32_t> overwritten_;             // buffer -> the first step that writes it
  std::map<std::pair<uint32_t, uint32_t>, Part> parts_;
  uint64_t target_ = 0;
};

uint64_t fixed_bytes(const Plan& plan) {
  uint64_t bytes = 0;
  for (const Buffer& buffer : plan.buffers)
    if (buffer.kind != BufferKind::transient) bytes += buffer.bytes;
  return bytes;
}

}  // namespace

uint64_t planned_bytes(const Plan& plan) { return fixed_bytes(plan) + plan.transient_bytes; }

void fit_memory(Plan& plan, const MemoryLimit& limit, uint64_t block) {
  Plan first = plan;
  plan_memory(first, block);
  const uint64_t whole = planned_bytes(first), fixed = fixed_bytes(plan);
  const auto budget = limit.share > 0 ? uint64_t(limit.share * double(whole)) : limit.bytes;
  if (!limit || whole <= budget) {
    plan = std::move(first);
    return;
  }
  Rematerialiser work(plan);
  Plan best = std::move(first);
  // A budget below the state cannot be met; what could is worth telling.
  uint64_t target = budget > fixed ? budget - fixed : best.transient_bytes / 4;
  // Buffers do not pack without gaps: where they leave some, less may be live.
  for (bool more = true; more && planned_bytes(best) > budget; target -= target / 32) {
    more = work.reach(target);
    Plan next = work.plan();
    plan_memory(next, block);
    if (next.transient_bytes < best.transient_bytes) best = std::move(next);
  }
  check(planned_bytes(best) <= budget,
        "a memory budget of {:.2f} MiB is too little for program {}: the least found is {:.2f} MiB ({:.2f} MiB of "
        "state, {:.2f} MiB of transients), {:.2f} MiB "
        "without a budget",
        double(budget) / 0x1p20, plan.name, double(planned_bytes(best)) / 0x1p20, double(fixed) / 0x1p20,
        double(best.transient_bytes) / 0x1p20, double(whole) / 0x1p20);
  plan = std::move(best);
}

}  // namespace surtsey::graph
