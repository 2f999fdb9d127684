#include "graph/reduce_tile.h"

#include "graph/error.h"

#include <sstream>

namespace surtsey::graph {
namespace {

constexpr const char* kReduceVariants[] = {"automatic", "lane_per_row", "workgroup_per_row"};

std::string line(const ReduceShape& s, const ReduceTile& t) {
  const std::string kernel = s.kernel == 0 ? "" : fmt::format(" kernel {:016x}", s.kernel);
  return fmt::format("{} {}x{} lanes {} local {} unroll {}{}\n", name(s.variant), s.rows, s.columns, t.lanes, t.local,
                     t.unroll, kernel);
}

}  // namespace

const char* name(ReduceVariant variant) { return kReduceVariants[size_t(variant)]; }

std::string print(const ReduceTiles& tiles) {
  std::string text;
  for (const auto& [shape, tile] : tiles) text += line(shape, tile);
  return text;
}

ReduceTiles parse_reduce_tiles(std::string_view text) {
  ReduceTiles tiles;
  std::istringstream lines{std::string(text)};
  for (std::string each; std::getline(lines, each);) {
    std::istringstream in(each);
    ReduceShape s;
    ReduceTile t;
    std::string variant, lanes, local, unroll;
    char x = 0;
    in >> variant >> s.rows >> x >> s.columns >> lanes >> t.lanes >> local >> t.local >> unroll >> t.unroll;
    const bool whole = bool(in);
    if (std::string word; in >> word) in >> std::hex >> s.kernel;
    for (const ReduceVariant each_variant : {ReduceVariant::lane_per_row, ReduceVariant::workgroup_per_row})
      if (variant == name(each_variant)) s.variant = each_variant;
    // Written again it must be the same line: nothing is read that was not understood.
    check(whole && s.variant != ReduceVariant::automatic && line(s, t) == each + "\n",
          "'{}' is no choice for a reduction", each);
    tiles[s] = t;
  }
  return tiles;
}

}  // namespace surtsey::graph
