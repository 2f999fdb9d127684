#include "shaders/emit.h"

#include "graph/attention.h"
#include "graph/debug.h"
#include "shaders/archetypes.h"
#include "shaders/cache_file.h"
#include "shaders/matmul_tile.h"
#include "shaders/reduce_tile.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace surtsey::shaders {

using namespace graph;

namespace {

// Workgroups a CPU thread gets: the driver splits them statically, so a few even out what the rest of the machine
// takes.
constexpr int64_t kGroupsPerThread = 4;

}  // namespace

uint32_t open_tiles(Writer& writer, int64_t tiles) {
  const Target& target = writer.target();
  const int64_t groups = target.cpu ? std::min<int64_t>(tiles, int64_t(target.threads) * kGroupsPerThread) : tiles;
  if (groups == tiles) {
    writer.open("");
    writer.line("uint tile = group;");
  } else {
    // Side by side, so that what one workgroup reads lies together; shares differ by one at most, the smaller ones
    // spread evenly.
    const int64_t share = tiles / groups, rest = tiles % groups;
    const std::string end =
        rest == 0 ? fmt::format("group * {0}u + {0}u", share)
                  : fmt::format("group * {0}u + {0}u + (group * {1}u + {1}u) / {2}u", share, rest, groups);
    const std::string first = rest == 0 ? fmt::format("group * {}u", share)
                                        : fmt::format("group * {}u + group * {}u / {}u", share, rest, groups);
    writer.open(fmt::format("for (uint tile = {}; tile < {}; ++tile)", first, end));
  }
  return uint32_t(groups);
}

void close_tiles(Writer& writer) { writer.close(); }

Shader pointwise(Writer& writer) {
  const LoopIndex loop = loop_index(writer.context, Archetype::pointwise, writer.kernel().space, {});
  const int64_t wanted = writer.target().cpu ? std::max(8u, writer.target().subgroup_size) : 256;
  const int64_t local =
      std::min<int64_t>({wanted, writer.target().max_workgroup_invocations, 8 * divide_up(loop.full_count, 8)});
  const uint32_t groups = open_tiles(writer, divide_up(loop.full_count, local));
  const std::string place = fmt::format("tile * {}u + gl_LocalInvocationID.x", local);
  writer.open(loop.full_count % local == 0 ? "" : fmt::format("if ({} < {}u)", place, loop.full_count));
  writer.define(loop.first, place);
  writer.store(loop.full, writer.all_outputs());
  writer.close();
  close_tiles(writer);
  return writer.finish(groups, uint32_t(local));
}

namespace {

Target without_choices(Target target) {
  target.tiles = nullptr;
  target.reduce_tiles = nullptr;
  return target;
}

// What was measured for this very kernel, as a choice for its shape; null where there is none. The text that names a
// kernel is written only where the table has a choice for some kernel of the shape.
template <typename Shape, typename Tile>
std::shared_ptr<const std::map<Shape, Tile>> own_choice(const std::shared_ptr<const std::map<Shape, Tile>>& table,
                                                        const Shape& any, const std::function<uint64_t()>& hash) {
  if (!table) return nullptr;
  const auto next = table->upper_bound(any);  // `kernel` is compared last
  if (next == table->end()) return nullptr;
  Shape own = next->first;
  own.kernel = 0;
  if (!(own == any)) return nullptr;
  own.kernel = hash();
  const auto found = table->find(own);
  if (found == table->end()) return nullptr;
  return std::make_shared<std::map<Shape, Tile>>(std::map<Shape, Tile>{{any, found->second}});
}

// Choices of single kernels apply to those alone.
Target chosen_for(const Kernel& kernel, const Graph& graph, Target target, const std::vector<uint32_t>& alignment) {
  const auto hash = [&] { return kernel_hash(kernel, graph, target, alignment); };
  if (kernel.archetype == Archetype::matmul && target.tiles)
    if (auto own = own_choice(target.tiles, matmul_shape(kernel, graph, target), hash)) target.tiles = own;
  if (kernel.archetype == Archetype::reduce && target.reduce_tiles)
    if (auto own = own_choice(target.reduce_tiles, reduce_shape(kernel, target), hash)) target.reduce_tiles = own;
  return target;
}

Shader write(const Kernel& kernel, const Graph& graph, const Target& target, std::vector<uint32_t> alignment) {
  Writer writer(kernel, graph, target, std::move(alignment));
  const auto variant = [&](const char* name, Shader (*write)(Writer&)) {
    Shader shader = write(writer);
    if (shader.variant.empty()) shader.variant = name;
    return shader;
  };
  switch (kernel.archetype) {
    case Archetype::pointwise:
      return pointwise(writer);
    case Archetype::reduce:
      return target.reduce_variant() == ReduceVariant::lane_per_row
                 ? variant("lane_per_row", reduce_lane_per_row)
                 : variant("workgroup_per_row", reduce_workgroup_per_row);
    case Archetype::matmul:
      if (is_row_product(kernel, graph, target)) return variant("rows", matmul_rows);
      switch (matmul_shape(kernel, graph, target).variant) {
        case MatmulVariant::lane_broadcast:
          return variant("lane_broadcast", matmul_lane_broadcast);
        case MatmulVariant::cooperative:
          return variant("cooperative", matmul_cooperative);
        default:
          return variant("shared_tile", matmul_shared_tile);
      }
    case Archetype::scatter:
      return variant("rows", scatter_rows);
    case Archetype::attention:
      if (std::get<RegionAttr>(graph.node(kernel.anchor).attr).region->attention->one_query)
        return attention_rows(writer);
      return target.attention_variant() == AttentionVariant::lane_broadcast
                 ? variant("lane_broadcast", attention_lane_broadcast)
                 : variant("shared_tile", attention_shared_tile);
  }
  ensure(false, "unknown archetype");
  return {};
}

// By kernel and binding: the bytes, 16 at most, at whose multiples it begins in every dispatch. Buffers begin at
// multiples of 16.
std::vector<std::vector<uint32_t>> alignments(const Plan& plan) {
  constexpr uint64_t kMost = 16;
  std::vector<std::vector<uint32_t>> list;
  for (const Kernel& kernel : plan.kernels)
    list.emplace_back(kernel.inputs.size() + kernel.outputs.size(), uint32_t(kMost));
  for (const Dispatch& dispatch : plan.dispatches)
    for (size_t x = 0; x < dispatch.accesses.size(); ++x) {
      const Access& access = dispatch.accesses[x];
      uint32_t& bytes = list[dispatch.kernel][x];
      bytes = uint32_t(std::gcd(uint64_t(bytes), uint64_t(plan.buffers[access.buffer].offset + access.offset)));
    }
  return list;
}

}  // namespace

Shader emit(const Kernel& kernel, const Graph& graph, const Target& target, std::vector<uint32_t> alignment) {
  const Target chosen = chosen_for(kernel, graph, target, alignment);
  return write(kernel, graph, chosen, std::move(alignment));
}

uint64_t kernel_hash(const Kernel& kernel, const Graph& graph, const Target& target,
                     const std::vector<uint32_t>& alignment) {
  return std::max<uint64_t>(1, hash64(write(kernel, graph, without_choices(target), alignment).glsl));
}

std::vector<uint64_t> kernel_hashes(const Plan& plan, const Target& target) {
  const std::vector<std::vector<uint32_t>> alignment = alignments(plan);
  std::vector<uint64_t> hashes;
  for (size_t k = 0; k < plan.kernels.size(); ++k)
    hashes.push_back(kernel_hash(plan.kernels[k], *plan.program.graph, target, alignment[k]));
  return hashes;
}

std::vector<Shader> emit(const Plan& plan, const Target& target) {
  const std::vector<std::vector<uint32_t>> alignment = alignments(plan);
  std::vector<Shader> shaders;
  for (size_t k = 0; k < plan.kernels.size(); ++k) {
    shaders.push_back(emit(plan.kernels[k], *plan.program.graph, target, alignment[k]));
    const Shader& shader = shaders.back();
    dump(fmt::format("{}.{:03}.{}.comp", plan.name, k, shader.name), shader.glsl);
    if (debug_level() >= 4)
      fmt::print(stderr, "---- {} {} x {}\n{}", shader.name, shader.workgroups, shader.local_size, shader.glsl);
  }
  return shaders;
}

}  // namespace surtsey::shaders
