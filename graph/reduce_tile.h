// How reductions are cut: choices as data, as matmul_tile.h has them for products. A table of them rides in Target.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace surtsey::graph {

enum class ReduceVariant : uint8_t { automatic, lane_per_row, workgroup_per_row };
const char* name(ReduceVariant variant);

// What a choice is made for: each of `rows` rows becomes one result a reduction, over `columns`.
struct ReduceShape {
  ReduceVariant variant = ReduceVariant::automatic;
  int64_t rows = 1, columns = 1;
  uint64_t kernel =
      0;  // of this kernel alone, with what is fused into it (shaders::kernel_hash()); 0: of any of this shape
  auto operator<=>(const ReduceShape&) const = default;
};

struct ReduceTile {
  int64_t lanes =
      1;  // that share a row, a power of two; lane_per_row: 1. They decide the order in which a row is added up
  int64_t local = 1;   // lanes of a workgroup, so local / lanes rows
  int64_t unroll = 1;  // lane_per_row: columns written out in one turn of the loop over them, a divisor of them all
  auto operator<=>(const ReduceTile&) const = default;
};

using ReduceTiles = std::map<ReduceShape, ReduceTile>;

// One line a choice: `lane_per_row 2048x128 lanes 1 local 16 unroll 4`, and ` kernel 0123456789abcdef` where it is of
// one alone.
std::string print(const ReduceTiles& tiles);
// The same read back; UserError names the line that is none.
ReduceTiles parse_reduce_tiles(std::string_view text);

}  // namespace surtsey::graph
