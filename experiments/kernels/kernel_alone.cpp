#include "experiments/kernels/kernel_alone.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "graph/interpret.h"

namespace surtsey::experiments {

using namespace graph;

namespace {

std::string operand_name(size_t i) { return fmt::format("operand{}", i); }

double precision(DType dtype) {
  if (dtype == DType::bf16) return 0x1p-8;
  if (dtype == DType::f16) return 0x1p-11;
  return 0x1p-22;  // of f32: functions of devices are a few units off
}

// The elements of a view in row-major order, out of those that are stored from its first one on.
HostTensor gathered(const View& view, const std::vector<double>& stored, size_t first) {
  HostTensor tensor = HostTensor::zeros({view.dtype, view.shape});
  for (size_t i = 0; i < tensor.values.size(); ++i) {
    int64_t rest = static_cast<int64_t>(i), at = 0;
    for (size_t axis = view.shape.size(); axis-- > 0;) {
      at += rest % view.shape[axis] * view.strides[axis];
      rest /= view.shape[axis];
    }
    tensor.values[i] = stored.at(first + static_cast<size_t>(at));
  }
  return tensor;
}

// Where an index of 1 is past the end, all are 0.
bool has_two_everywhere(const Graph& graph, const Kernel& kernel) {
  for (const auto* nodes : {&kernel.members, &kernel.inlined}) {
    for (const uint32_t n : *nodes) {
      const Node& node = graph.node(n);
      if (definition(node.op).family != Family::index) continue;
      const Shape& shape = node.inputs[0].shape();
      if (std::any_of(shape.begin(), shape.end(), [](int64_t extent) { return extent < 2; })) return false;
    }
  }
  return true;
}

// The part of a graph between a kernel's inputs, which become parameters, and its outputs.
class Cut {
 public:
  Cut(const Graph& from, const Kernel& kernel) : from_(from) {
    for (size_t i = 0; i < kernel.inputs.size(); ++i) {
      const Value& value = kernel.inputs[i].value;
      known_[{value.node, value.output}] = to_.parameter(operand_name(i), value.type());
    }
    for (const KernelOperand& output : kernel.outputs) results_.push_back(copy(output.value));
  }

  std::vector<HostTensor> evaluate(const State& state) const { return graph::evaluate(to_, results_, state); }

 private:
  Value copy(const Value& value) {
    const std::pair key{value.node, value.output};
    if (const auto found = known_.find(key); found != known_.end()) return found->second;
    const Node& node = from_.node(value.node);
    ensure(node.op != Op::parameter, "[kernel_alone] a parameter is read that is no input");
    std::vector<Value> inputs;
    for (const Value& input : node.inputs) inputs.push_back(copy(input));
    Value result = to_.add(node.op, std::move(inputs), node.attr);
    result.output = value.output;
    return known_[key] = result;
  }

  const Graph& from_;
  Graph to_;
  std::map<std::pair<uint32_t, uint32_t>, Value> known_;
  std::vector<Value> results_;
};

// Terms of the longest sum in the kernel.
int64_t longest_sum(const Graph& graph, const Kernel& kernel) {
  int64_t longest = 1;
  for (const uint32_t n : kernel.members) {
    const Node& node = graph.node(n);
    const Family family = definition(node.op).family;
    if (family == Family::matmul) longest = std::max(longest, node.inputs[0].shape().back());
    if (family == Family::reduce) {
      longest = std::max(
          longest, element_count(node.inputs[0].shape()) / std::max<int64_t>(1, element_count(node.types[0].shape)));
    }
  }
  return longest;
}

// The coarsest type that anything in the kernel is rounded to.
double coarsest(const Graph& graph, const Kernel& kernel) {
  double worst = precision(DType::f32);
  for (const auto* nodes : {&kernel.members, &kernel.inlined}) {
    for (const uint32_t n : *nodes) worst = std::max(worst, precision(graph.node(n).types[0].dtype));
  }
  return worst;
}

}  // namespace

bool KernelAlone::possible(const Kernel& kernel) {
  return std::none_of(kernel.outputs.begin(), kernel.outputs.end(),
                      [](const auto& output) { return static_cast<bool>(output.moved.start); });
}

KernelAlone::KernelAlone(const Plan& plan, uint32_t kernel) {
  check(possible(plan.kernels.at(kernel)), "kernel {} writes where it is told, not alone", plan.kernels[kernel].name);
  plan_.name = plan.kernels[kernel].name;
  plan_.program = plan.program;
  plan_.kernels = {plan.kernels[kernel]};
  const Kernel& own = plan_.kernels[0];
  plan_.flops = own.flops;
  plan_.matmul_flops = own.matmul_flops;
  plan_.bytes = own.bytes;

  Dispatch alone;
  const auto operand = [&](size_t i) -> const KernelOperand& {
    return i < inputs() ? own.inputs[i] : own.outputs[i - inputs()];
  };
  // The kernel's text hangs on what its operands begin at multiples of, up to 16 bytes.
  constexpr uint64_t kWhole = 16;
  std::vector<uint64_t> first(inputs() + own.outputs.size(), kWhole);
  for (const Dispatch& dispatch : plan.dispatches) {
    if (dispatch.kernel != kernel) continue;
    alone = dispatch;
    for (size_t i = 0; i < first.size(); ++i) {
      const Access& access = dispatch.accesses.at(i);
      first[i] = std::gcd(first[i], plan.buffers[access.buffer].offset + access.offset);
    }
  }
  ensure(!alone.accesses.empty(), "[kernel_alone] kernel {} is never dispatched", own.name);
  const bool two = has_two_everywhere(*plan_.program.graph, own);
  for (size_t i = 0; i < alone.accesses.size(); ++i) {
    const DType dtype = operand(i).view.dtype;
    const auto size = static_cast<uint64_t>(storage_bytes(dtype));
    Access& access = alone.accesses[i];
    access.buffer = static_cast<uint32_t>(i);
    access.offset = first[i] % kWhole;
    const Type type{dtype, {static_cast<int64_t>((access.offset + access.bytes) / size)}};
    plan_.buffers.push_back(
        {.kind = BufferKind::state, .name = operand_name(i), .type = type, .bytes = access.offset + access.bytes});
    if (i >= inputs()) continue;
    drawn_.push_back(is_float(dtype) ? HostTensor::random(type, 0.25, 1, static_cast<uint32_t>(i + 1))
                                     : HostTensor::random(type, 0, two ? 2 : 1, static_cast<uint32_t>(i + 1)));
    drawn_.back().round_to_storage();
  }
  alone.kernel = 0;
  plan_.dispatches = {std::move(alone)};
  place_barriers(plan_);
}

void KernelAlone::write_inputs(engine::Session& session) const {
  for (size_t i = 0; i < inputs(); ++i) session.write(operand_name(i), drawn_[i]);
}

void KernelAlone::clear_outputs(engine::Session& session) const {
  for (size_t i = inputs(); i < plan_.buffers.size(); ++i)
    session.write(operand_name(i), HostTensor::zeros(plan_.buffers[i].type));
}

std::vector<std::vector<std::byte>> KernelAlone::read_outputs(engine::Session& session) const {
  std::vector<std::vector<std::byte>> outputs;
  for (size_t i = inputs(); i < plan_.buffers.size(); ++i) outputs.push_back(session.read_bytes(operand_name(i)));
  return outputs;
}

std::vector<HostTensor> KernelAlone::reference() const {
  State state;
  for (size_t i = 0; i < inputs(); ++i) {
    const KernelOperand& input = kernel().inputs[i];
    const size_t first =
        plan_.dispatches[0].accesses[i].offset / static_cast<uint64_t>(storage_bytes(input.view.dtype));
    HostTensor tensor = gathered(input.view, drawn_[i].values, first);
    tensor.type = input.value.type();
    state[operand_name(i)] = std::move(tensor);
  }
  return Cut(*plan_.program.graph, kernel()).evaluate(state);
}

std::string KernelAlone::wrong_element(const std::vector<std::vector<std::byte>>& outputs) {
  if (reference_.empty()) reference_ = reference();
  const Graph& graph = *plan_.program.graph;
  const double rounding = 4 * coarsest(graph, kernel()) * std::sqrt(static_cast<double>(longest_sum(graph, kernel())));
  for (size_t o = 0; o < reference_.size(); ++o) {
    const KernelOperand& output = kernel().outputs[o];
    const size_t at = inputs() + o;
    const size_t first =
        plan_.dispatches[0].accesses[at].offset / static_cast<uint64_t>(storage_bytes(output.view.dtype));
    const HostTensor stored = HostTensor::from_bytes(plan_.buffers[at].type, outputs.at(o));
    const HostTensor found = gathered(output.view, stored.values, first);
    const std::vector<double>& expected = reference_[o].values;
    double largest = 0;
    for (const double value : expected)
      if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
    const double tolerance = is_float(output.view.dtype) ? rounding * (1 + largest) : 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double is = found.values[i], should = expected[i];
      if (is == should || (std::isnan(is) && std::isnan(should))) continue;
      if (std::abs(is - should) <= tolerance) continue;
      return fmt::format("element {} of output {} is {}, not {}", i, o, is, should);
    }
  }
  return {};
}

}  // namespace surtsey::experiments
