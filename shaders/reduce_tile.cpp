#include "shaders/reduce_tile.h"

#include <algorithm>
#include <bit>

namespace surtsey::shaders {

using namespace graph;

namespace {

// Rows up to this many columns are written out, so that all stages share what the first has loaded.
constexpr int64_t kWrittenOut = 32;
// A longer turn would take the driver longer to compile than to run.
constexpr int64_t kMaxUnroll = 64;
constexpr int64_t kMaxLocal = 256;
constexpr int64_t kGpuLanes = 64;

// The most lanes of a workgroup of the tree: a power of two.
int64_t most_lanes(const Target& target) {
  return std::min<int64_t>(kMaxLocal, std::bit_floor(target.max_workgroup_invocations));
}

int64_t lanes_for(int64_t columns) { return int64_t(std::bit_ceil(uint64_t(std::max<int64_t>(1, columns)))); }

bool fits(const ReduceTile& tile, const ReduceShape& shape, const Target& target) {
  if (tile.lanes < 1 || tile.local < 1 || tile.unroll < 1 || shape.columns % tile.unroll != 0) return false;
  if (shape.variant == ReduceVariant::lane_per_row)
    return tile.lanes == 1 && tile.unroll <= kMaxUnroll &&
           tile.local <= std::min<int64_t>(kMaxLocal, target.max_workgroup_invocations);
  return std::has_single_bit(uint64_t(tile.lanes)) && std::has_single_bit(uint64_t(tile.local)) &&
         tile.lanes <= tile.local && tile.unroll == 1 && tile.lanes <= lanes_for(shape.columns) &&
         tile.local <= most_lanes(target);
}

}  // namespace

ReduceShape reduce_shape(const Kernel& kernel, const Target& target) {
  ReduceShape shape{.variant = target.reduce_variant()};
  for (const int64_t axis : kernel.reduced) shape.columns *= kernel.space[size_t(axis)];
  shape.rows = element_count(kernel.space) / std::max<int64_t>(1, shape.columns);
  return shape;
}

ReduceTile default_reduce_tile(const ReduceShape& shape, const Target& target) {
  if (shape.variant == ReduceVariant::lane_per_row) {
    const int64_t wanted = target.cpu ? std::max(8u, target.subgroup_size) : kGpuLanes;
    return {.local = std::min<int64_t>(wanted, target.max_workgroup_invocations),
            .unroll = shape.columns <= kWrittenOut ? std::max<int64_t>(1, shape.columns) : 1};
  }
  const int64_t most = most_lanes(target), lanes = std::min(most, lanes_for(shape.columns));
  return {.lanes = lanes, .local = std::max(lanes, std::min(most, kGpuLanes))};
}

ReduceTile choose_reduce_tile(const ReduceShape& shape, const Target& target) {
  if (target.reduce_tiles)
    if (const auto found = target.reduce_tiles->find(shape);
        found != target.reduce_tiles->end() && fits(found->second, shape, target))
      return found->second;
  return default_reduce_tile(shape, target);
}

std::vector<ReduceTile> reduce_candidates(const ReduceShape& shape, const Target& target) {
  const ReduceTile usual = default_reduce_tile(shape, target);
  std::vector<ReduceTile> list = {usual};
  const auto add = [&](const ReduceTile& tile) {
    if (fits(tile, shape, target) && std::find(list.begin(), list.end(), tile) == list.end()) list.push_back(tile);
  };
  if (shape.variant == ReduceVariant::lane_per_row) {
    for (const int64_t unroll : {int64_t(1), int64_t(4), int64_t(8), int64_t(16), shape.columns})
      for (const int64_t times : {1, 4}) add({.local = usual.local * times, .unroll = unroll});
    return list;
  }
  for (int64_t lanes = usual.lanes; lanes >= 1 && lanes * 64 >= usual.lanes; lanes /= 2)
    for (const int64_t local : {32, 64, 128, 256}) add({.lanes = lanes, .local = std::max(lanes, local)});
  return list;
}

bool same_order(const ReduceTile& one, const ReduceTile& other) { return one.lanes == other.lanes; }

}  // namespace surtsey::shaders
