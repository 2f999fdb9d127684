#include "shaders/matmul_product.h"

#include <algorithm>
#include <set>

namespace surtsey::shaders {

using namespace graph;

MatmulProduct::MatmulProduct(Writer& writer)
    : w(writer), loop(loop_index(writer.context, Archetype::matmul, writer.kernel().space, {})) {
  const Node& node = w.graph().node(w.kernel().anchor);
  a = node.inputs[0];
  b = node.inputs[1];
  const Shape& shape = w.kernel().space;
  m = shape[shape.size() - 2];
  n = shape.back();
  k = a.shape().back();
  batch = loop.full_count / (m * n);
  batch_shape = Shape(shape.begin(), shape.end() - 2);
  products.push_back(w.kernel().anchor.node);
  for (const uint32_t member : w.kernel().members)
    if (w.graph().node(member).op == Op::matmul && member != products[0]) products.push_back(member);
  std::set<uint32_t> sums;
  for (const uint32_t member : w.kernel().members)
    if (const auto side = summed_operand(w.graph(), w.kernel().anchor.node, member)) {
      sides[*side].sums.push_back(member);
      sums.insert(member);
    } else if (definition(w.graph().node(member).op).family == Family::reduce) {
      statistics.push_back(member);
    }
  for (const size_t output : w.all_outputs()) {
    const uint32_t base = behind_views(w.graph(), w.kernel().outputs[output].value.node);
    if (!sums.count(base)) {
      outputs.push_back(output);
      continue;
    }
    for (Side& side : sides)
      if (std::find(side.sums.begin(), side.sums.end(), base) != side.sums.end()) side.outputs.push_back(output);
  }
  plain = outputs.size() == 1 && w.kernel().members.size() == 1 + sums.size();
}

void MatmulProduct::bind(const std::vector<std::string>& accumulators) {
  for (size_t p = 0; p < products.size(); ++p) w.bind(products[p], accumulators[p]);
}

void MatmulProduct::store_sums(size_t side, const std::string& accumulator) {
  for (const uint32_t sum : sides[side].sums) w.bind(sum, accumulator);
  w.store(w.context.add(w.context.scale(loop.first, side == 0 ? m : n), side == 0 ? loop.second : loop.third),
          sides[side].outputs);
}

Index MatmulProduct::batched(const Affine& second_last, const Affine& last) {
  Index index = w.context.delinearize(loop.first, batch_shape);
  index.push_back(second_last);
  index.push_back(last);
  return index;
}

}  // namespace surtsey::shaders
