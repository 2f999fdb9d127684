#include "experiments/study/cheapest.h"

#include "experiments/base/numbers.h"

#include <fmt/format.h>

#include <algorithm>

namespace surtsey::experiments {

int32_t cheapest(std::span<const WayCost> ways, double uses) {
  const auto cost = [&](int32_t i) { return ways[size_t(i)].update + uses * ways[size_t(i)].use; };
  int32_t best = -1;
  for (int32_t i = 0; i < int32_t(ways.size()); ++i)
    if (ways[size_t(i)].reaches && (best < 0 || cost(i) < cost(best))) best = i;
  return best;
}

void fill_map(Grid& grid, std::span<const Situation> situations, std::span<const double> uses,
              const std::string& none) {
  const auto group_of = [&](const std::string& name) {
    const auto found = std::find(grid.groups.begin(), grid.groups.end(), name);
    if (found != grid.groups.end()) return int32_t(found - grid.groups.begin());
    grid.groups.push_back(name);
    return int32_t(grid.groups.size() - 1);
  };
  for (const double one : uses) grid.columns.push_back(short_number(one));
  for (const Situation& situation : situations)
    for (const WayCost& way : situation.ways) group_of(way.name);
  for (const Situation& situation : situations) {
    grid.rows.push_back(situation.name);
    auto& row = grid.entries.emplace_back();
    for (const double one : uses) {
      const int32_t best = cheapest(situation.ways, one);
      if (best < 0) {
        row.push_back({none, -1});
        continue;
      }
      const WayCost& way = situation.ways[size_t(best)];
      row.push_back({fmt::format("{}: {}", way.name, short_seconds(way.update + one * way.use)), group_of(way.name)});
    }
  }
}

std::string short_seconds(double seconds) {
  // Two digits, and no exponent.
  const auto with = [](double value, const char* unit) {
    return value < 9.95 ? fmt::format("{:.2g} {}", value, unit) : fmt::format("{:.0f} {}", value, unit);
  };
  if (seconds < .9995) return with(1e3 * seconds, "ms");
  if (seconds < 120) return with(seconds, "s");
  if (seconds < 7200) return with(seconds / 60, "min");
  return seconds < 172'800 ? with(seconds / 3600, "h") : with(seconds / 86'400, "days");
}

}  // namespace surtsey::experiments
