// What must hold for the memory of any plan, checked without a device.
#pragma once

#include "graph/error.h"
#include "graph/plan.h"

#include <string>
#include <vector>

namespace surtsey::tests {

// Calls visit with the offset of every element of a view, repeated ones once.
template <typename Visit>
void each_element(const graph::View& view, const Visit& visit) {
  graph::Shape shape = view.shape;
  for (size_t d = 0; d < shape.size(); ++d)
    if (view.strides[d] == 0) shape[d] = 1;
  const int64_t count = graph::element_count(shape);
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, at = view.offset;
    for (size_t d = shape.size(); d-- > 0;) {
      at += rest % shape[d] * view.strides[d];
      rest /= shape[d];
    }
    visit(at);
  }
}

// What each element of memory holds while a plan runs: which buffer's data, and whether state is old or new. Units of
// two bytes, the smallest storage type. run() says what is read before it is written, read after it was overwritten, or
// never written.
class Memory {
 public:
  explicit Memory(const graph::Plan& plan) : plan_(plan), arena_(plan.transient_bytes / 2, kNobody) {
    for (const graph::Buffer& buffer : plan.buffers)
      written_.emplace_back(buffer.kind == graph::BufferKind::transient ? 0 : buffer.bytes / 2);
  }

  std::string run() {
    for (const graph::Dispatch& dispatch : plan_.dispatches) {
      const graph::Kernel& kernel = plan_.kernels[dispatch.kernel];
      if (dispatch.accesses.size() != kernel.inputs.size() + kernel.outputs.size())
        return kernel.name + ": accesses are not its operands";
      for (size_t i = 0; i < kernel.inputs.size(); ++i) {
        const std::string wrong =
            touch(dispatch.accesses[i], kernel.inputs[i].view, false, shows_state(kernel.inputs[i].value));
        if (!wrong.empty()) return fmt::format("{} input {}: {}", kernel.name, i, wrong);
      }
      for (size_t i = 0; i < kernel.outputs.size(); ++i) {
        const graph::KernelOperand& output = kernel.outputs[i];
        const graph::Access& access = dispatch.accesses[kernel.inputs.size() + i];
        // A window that moves may be anywhere in its access; around it state keeps what is its new value, too.
        const int64_t bytes = graph::storage_bytes(output.view.dtype);
        const graph::View all{output.view.buffer,
                              output.view.dtype,
                              {int64_t(access.bytes) / bytes},
                              {1},
                              int64_t(access.offset) / bytes};
        const std::string wrong = touch(access, output.moved.start ? all : output.view, true, false);
        if (!wrong.empty()) return fmt::format("{} output {}: {}", kernel.name, i, wrong);
      }
    }
    for (size_t b = 0; b < written_.size(); ++b)
      for (const uint8_t times : written_[b])
        if (times > 1 || (times == 0 && plan_.buffers[b].kind == graph::BufferKind::output))
          return fmt::format("an element of {} is written {} times", plan_.buffers[b].name, times);
    return {};
  }

 private:
  static constexpr uint32_t kNobody = ~0u;

  // A parameter or a view of one: the old value of state.
  bool shows_state(graph::Value value) const {
    const graph::Graph& graph = *plan_.program.graph;
    while (graph::definition(graph.node(value).op).family == graph::Family::movement &&
           graph.node(value).op != graph::Op::concat)
      value = graph.node(value).inputs[0];
    return graph.node(value).op == graph::Op::parameter;
  }

  std::string touch(const graph::Access& access, const graph::View& view, bool write, bool old) {
    const graph::Buffer& buffer = plan_.buffers[view.buffer];
    const int64_t bytes = graph::storage_bytes(view.dtype);
    if (access.buffer != view.buffer || access.write != write || access.read == write)
      return "the access is not the operand's";
    if (access.offset + access.bytes > buffer.bytes) return "the access leaves its buffer";
    if (buffer.kind == graph::BufferKind::transient && buffer.offset + buffer.bytes > plan_.transient_bytes)
      return "the buffer leaves the arena";
    if (buffer.kind == graph::BufferKind::transient && buffer.offset % 256 != 0) return "the buffer is not aligned";
    std::string wrong;
    each_element(view, [&](int64_t element) {
      const auto first = uint64_t(element * bytes);
      if (first < access.offset || first + uint64_t(bytes) > access.offset + access.bytes)
        wrong = "an element outside the access";
      if (!wrong.empty()) return;
      for (uint64_t unit = first / 2; unit < (first + uint64_t(bytes)) / 2; ++unit) {
        if (buffer.kind != graph::BufferKind::transient) {
          uint8_t& times = written_[view.buffer][unit];
          if (!write && old && times != 0) wrong = "reads state that was overwritten, of " + buffer.name;
          if (!write && !old && times == 0) wrong = "reads what is not yet written, of " + buffer.name;
          times = uint8_t(times + write);
          continue;
        }
        uint32_t& owner = arena_[buffer.offset / 2 + unit];
        if (!write && owner != view.buffer)
          wrong = owner == kNobody ? fmt::format("reads what nobody has written in this run, of {}", buffer.name)
                                   : fmt::format("reads what another buffer has overwritten, of {}", buffer.name);
        if (write) owner = view.buffer;
      }
    });
    return wrong;
  }

  const graph::Plan& plan_;
  std::vector<uint32_t> arena_;
  std::vector<std::vector<uint8_t>> written_;
};

}  // namespace surtsey::tests
