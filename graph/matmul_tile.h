// How products are cut into tiles: choices as data. A table of them, made by measuring on a device (`surtsey tune`),
// rides in Target.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace surtsey::graph {

// cooperative: shared_tile with the device's matrix units, for products of operands that are stored in f16.
enum class MatmulVariant : uint8_t { automatic, lane_broadcast, shared_tile, cooperative };
const char* name(MatmulVariant variant);

// What a choice is made for: C[batch, m, n] = A[batch, m, k] B[batch, k, n] in one variant.
struct MatmulShape {
  MatmulVariant variant = MatmulVariant::automatic;
  int64_t batch = 1, m = 1, n = 1, k = 1;
  bool a_transposed = false;  // A's rows lie side by side in memory, not its columns
  bool b_transposed = false;  // B's rows (along K) lie side by side
  uint64_t kernel =
      0;  // of this kernel alone, with what is fused into it (shaders::kernel_hash()); 0: of any of this shape
  auto operator<=>(const MatmulShape&) const = default;
};

// Every element is the same sum in the same order of K, whatever the tile.
struct MatmulTile {
  int64_t rows = 1;     // lane_broadcast: rows of the product (columns with lanes_along_m) that a subgroup holds
  int64_t columns = 1;  // lane_broadcast: results that a lane holds of each row; else columns of the tile
  int64_t depth = 1;    // lane_broadcast: steps of K in one turn of the loop; else of a tile in shared memory
  int64_t own = 1;      // shared_tile: a lane holds own x own results; cooperative: a subgroup own x own matrices
  bool lanes_along_m = false;  // lane_broadcast: lanes lie along M, not along N
  auto operator<=>(const MatmulTile&) const = default;
};

using MatmulTiles = std::map<MatmulShape, MatmulTile>;

// One line a choice: `lane_broadcast nt 1x512x512x512 rows 32 columns 2 depth 4 own 1 along n`, and ` kernel
// 0123456789abcdef` where it is of one kernel alone.
std::string print(const MatmulTiles& tiles);
// The same read back; UserError names the line that is none.
MatmulTiles parse_matmul_tiles(std::string_view text);

}  // namespace surtsey::graph
