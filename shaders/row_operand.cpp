#include "shaders/row_operand.h"

namespace surtsey::shaders {

using namespace graph;

RowOperand::RowOperand(Writer& writer, Element element, int64_t rows, int64_t extent, std::vector<Affine> row_at,
                       bool spreads, bool pairs)
    : w_(writer),
      element_(std::move(element)),
      rows_(rows),
      extent_(extent),
      lanes_(writer.target().subgroup_size),
      row_at_(std::move(row_at)),
      spreads_(spreads),
      run_(pairs ? 2 : 1) {}

void RowOperand::begin(const Affine& k, int64_t count) {
  k_ = k;
  steps_ = 1;
  if (!spreads_) return;
  while (2 * steps_ * rows_ <= lanes_ && count % (2 * steps_ * run_) == 0) steps_ *= 2;
  if (steps_ == 1) return;
  step_ = w_.context.variable(fmt::format("step{}", steps_), steps_);
  w_.define(step_, fmt::format("lane / {}u % {}u", rows_, steps_));
}

std::string RowOperand::registers(int64_t u, size_t r) { return element_(row_at_[r], w_.context.add(k_, Affine(u))); }

std::string RowOperand::of_row(const std::string& of_registers, int64_t i) const {
  // A single row's is the same in all lanes as it is.
  return extent_ == 1 ? of_registers : fmt::format("subgroupBroadcast({}, {}u)", of_registers, i % lanes_);
}

std::string RowOperand::at(int64_t i, int64_t u) {
  if (!is_spread()) return of_row(registers(u, size_t(i / lanes_)), i);
  const int64_t held = steps_ * run_, inside = u % held;
  const Affine first = w_.context.add(k_, Affine(u - inside + inside % run_));
  const std::string text = element_(row_at_[0], w_.context.add(first, w_.context.scale(step_, run_)));
  return fmt::format("subgroupBroadcast({}, {}u)", text, inside / run_ * rows_ + i);
}

}  // namespace surtsey::shaders
