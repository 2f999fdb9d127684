// The rows' operand of a product by lane broadcast (matmul.cpp): which lane holds what of it during a turn of the loop
// over K, and how an element gets from there to all lanes.
//
// In general rows lie over the lanes, a register a step of K for as many rows as there are lanes. Few rows leave most
// lanes to hold the same: they are then spread, lane s * rows + i having row i at steps s, s + steps, .., and a load
// brings several steps. lavapipe's loads are gathers, whose time goes by lanes, whatever these hold.
#pragma once

#include "shaders/writer.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace surtsey::shaders {

class RowOperand {
 public:
  // GLSL of the operand at a row and a step of K.
  using Element = std::function<std::string(const graph::Affine& row, const graph::Affine& k)>;

  // `row_at`: the rows whose operand a lane loads, that of each register. `extent`: rows of the product, of which a
  // tile has `rows`. `pairs`: neighbours along K are loaded as one.
  RowOperand(Writer& writer, Element element, int64_t rows, int64_t extent, std::vector<graph::Affine> row_at,
             bool spreads, bool pairs);

  // Steps k .. k + count - 1 come next. Written into the current frame.
  void begin(const graph::Affine& k, int64_t count);
  bool is_spread() const { return steps_ > 1; }

  // GLSL, in the steps since begin(): register r at step u where rows are not spread, ..
  std::string registers(int64_t u, size_t r);
  size_t register_count() const { return row_at_.size(); }
  // .. what such a register, or one that is computed from it lane by lane, has of row i; ..
  std::string of_row(const std::string& of_registers, int64_t i) const;
  // .. and row i at step u, for all lanes.
  std::string at(int64_t i, int64_t u);

 private:
  Writer& w_;
  const Element element_;
  const int64_t rows_, extent_, lanes_;
  const std::vector<graph::Affine> row_at_;
  const bool spreads_;
  const int64_t run_;  // steps of a load by a lane
  graph::Affine k_, step_;
  int64_t steps_ = 1;  // runs of neighbours that lanes hold side by side
};

}  // namespace surtsey::shaders
