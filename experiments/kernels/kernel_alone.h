// One kernel of a plan by itself, on drawn operands: what can be measured, and checked against the
// double interpreter, without the program around it.
//
// The kernel is the plan's own, with everything that is fused into it; its operands become state
// tensors "operand0", "operand1", .. in the order of its bindings, flat and with the strides that
// they have in the plan. Floats are drawn from [.25, 1), where roots and logarithms exist; integers
// are 0 or 1, which is a valid index wherever the indexed axes have two elements.
#pragma once

#include "engine/session.h"
#include "graph/plan.h"

#include <string>
#include <vector>

namespace surtsey::experiments {

class KernelAlone {
 public:
  // `kernel` is into Plan::kernels. UserError for one that possible() refuses.
  KernelAlone(const graph::Plan& plan, uint32_t kernel);

  // Whether a kernel means anything alone: not one that writes at a place which it is told.
  static bool possible(const graph::Kernel& kernel);

  const graph::Plan& plan() const { return plan_; }  // of one dispatch
  const graph::Kernel& kernel() const { return plan_.kernels[0]; }

  void write_inputs(engine::Session& session) const;
  void clear_outputs(engine::Session& session) const;
  // The stored bytes of every output, padding between elements included.
  std::vector<std::vector<std::byte>> read_outputs(engine::Session& session) const;

  // Against the double interpreter, which is asked once: empty, or the first element that is wrong.
  // What is allowed is the rounding of the kernel's longest sum, in any order, times the largest
  // element.
  std::string wrong_element(const std::vector<std::vector<std::byte>>& outputs);

 private:
  std::vector<graph::HostTensor> reference() const;
  size_t inputs() const { return kernel().inputs.size(); }

  graph::Plan plan_;
  std::vector<graph::HostTensor> drawn_;      // as stored, one an input
  std::vector<graph::HostTensor> reference_;  // one an output, empty until it is needed
};

}  // namespace surtsey::experiments
