#include "shaders/archetypes.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

namespace {

// Rows are cut into so many blocks that every processor of a GPU has a few workgroups; each block
// costs another look at the index.
constexpr int64_t kBlocksPerProcessor = 8;

}  // namespace

Shader scatter_rows(Writer& writer) {
  const Target& target = writer.target();
  const Kernel& kernel = writer.kernel();
  IndexContext& context = writer.context;
  const Node& node = writer.graph().node(kernel.anchor.node);
  const auto& [rows, batch_axes] = std::get<ScatterAttr>(node.attr);
  const Value index = node.inputs[0], updates = node.inputs[1];
  const Shape batch(index.shape().begin(), index.shape().begin() + batch_axes);
  const int64_t batches = element_count(batch), count = element_count(index.shape()) / std::max<int64_t>(1, batches);
  const int64_t width = element_count(updates.shape()) / std::max<int64_t>(1, batches * count);

  // A CPU's lanes are few and its workgroups dear.
  const int64_t processors = int64_t(target.threads) * (target.cpu ? 1 : kBlocksPerProcessor);
  const int64_t blocks = std::clamp<int64_t>(divide_up(processors, batches), 1, rows), share = divide_up(rows, blocks);
  const int64_t wanted =
      target.cpu ? std::max(8u, target.subgroup_size) : std::min<int64_t>(256, 32 * divide_up(width, 32));
  const int64_t local = std::min<int64_t>(wanted, target.max_workgroup_invocations);

  const Affine z = context.variable("z", batches), n = context.variable("n", count);
  const Affine row = context.variable("row", rows), column = context.variable("column", width);
  const auto open_columns = [&] {
    if (column.is_constant()) {
      writer.open("if (gl_LocalInvocationID.x == 0u)", true);
      return;
    }
    writer.open(fmt::format("for (uint column = gl_LocalInvocationID.x; column < {}u; column += {}u)", width, local));
    writer.declare(column);
  };
  const auto each_output = [&](const char* assignment, const std::string& value) {
    const Affine flat = context.add(context.scale(context.add(context.scale(z, rows), row), width), column);
    for (const size_t output : writer.all_outputs())
      writer.line(fmt::format("{} {} {};", writer.place(output, flat), assignment, value));
  };

  const uint32_t groups = open_tiles(writer, batches * blocks);
  writer.define(z, blocks == 1 ? "tile" : fmt::format("tile / {}u", blocks));
  writer.line(fmt::format("uint begin = {};", blocks == 1 ? "0u" : fmt::format("tile % {}u * {}u", blocks, share)));
  writer.line(fmt::format("uint end = min(begin + {}u, {}u);", share, rows));
  if (row.is_constant()) {
    writer.open("");
  } else {
    writer.open("for (uint row = begin; row < end; ++row)");
    writer.declare(row);
  }
  open_columns();
  each_output("=", "0.0");
  writer.close();
  writer.close();
  if (n.is_constant()) {
    writer.open("");
  } else {
    writer.open(fmt::format("for (uint n = 0u; n < {}u; ++n)", count));
    writer.declare(n);
  }
  const Affine place = context.add(context.scale(z, count), n);
  const Expression wanted_row = writer.value(index, context.delinearize(place, index.shape()));
  // Past the end: the last row.
  const std::string own = writer.keep("uint", fmt::format("min({}, {}u)", wanted_row.text, rows - 1));
  writer.open(fmt::format("if ({0} >= begin && {0} < end)", own), true);
  writer.define(row, own);
  open_columns();
  const Affine element = context.add(context.scale(place, width), column);
  each_output("+=", writer.value(updates, context.delinearize(element, updates.shape())).text);
  writer.close();
  writer.close();
  writer.close();
  close_tiles(writer);
  return writer.finish(groups, uint32_t(local));
}

}  // namespace surtsey::shaders
