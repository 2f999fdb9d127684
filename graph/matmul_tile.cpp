#include "graph/matmul_tile.h"

#include "graph/error.h"

#include <sstream>

namespace surtsey::graph {
namespace {

constexpr const char* kMatmulVariants[] = {"automatic", "lane_broadcast", "shared_tile", "cooperative"};

char letter(bool transposed) { return transposed ? 't' : 'n'; }

std::string line(const MatmulShape& s, const MatmulTile& t) {
  const std::string kernel = s.kernel == 0 ? "" : fmt::format(" kernel {:016x}", s.kernel);
  return fmt::format("{} {}{} {}x{}x{}x{} rows {} columns {} depth {} own {} along {}{}\n", name(s.variant),
                     letter(s.a_transposed), letter(s.b_transposed), s.batch, s.m, s.n, s.k, t.rows, t.columns, t.depth,
                     t.own, t.lanes_along_m ? 'm' : 'n', kernel);
}

}  // namespace

const char* name(MatmulVariant variant) { return kMatmulVariants[size_t(variant)]; }

std::string print(const MatmulTiles& tiles) {
  std::string text;
  for (const auto& [shape, tile] : tiles) text += line(shape, tile);
  return text;
}

MatmulTiles parse_matmul_tiles(std::string_view text) {
  MatmulTiles tiles;
  std::istringstream lines{std::string(text)};
  for (std::string each; std::getline(lines, each);) {
    std::istringstream in(each);
    MatmulShape s;
    MatmulTile t;
    std::string variant, layout, rows, columns, depth, own, along;
    char x = 0, side = 0;
    in >> variant >> layout >> s.batch >> x >> s.m >> x >> s.n >> x >> s.k >> rows >> t.rows >> columns >> t.columns >>
        depth >> t.depth >> own >> t.own >> along >> side;
    for (const MatmulVariant each_variant :
         {MatmulVariant::lane_broadcast, MatmulVariant::shared_tile, MatmulVariant::cooperative})
      if (variant == name(each_variant)) s.variant = each_variant;
    s.a_transposed = layout.starts_with('t');
    s.b_transposed = layout.ends_with('t');
    t.lanes_along_m = side == 'm';
    const bool whole = bool(in);
    if (std::string word; in >> word) in >> std::hex >> s.kernel;
    // Written again it must be the same line: nothing is read that was not understood.
    check(whole && s.variant != MatmulVariant::automatic && line(s, t) == each + "\n", "'{}' is no tile of a product",
          each);
    tiles[s] = t;
  }
  return tiles;
}

}  // namespace surtsey::graph
