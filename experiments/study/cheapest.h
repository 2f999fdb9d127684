// Which of several ways costs least, by how much each is used between two changes: what a map over (changes, uses) is
// made of. A way costs what bringing it up to date takes, and so much at each use.
#pragma once

#include "experiments/results/grid.h"

#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct WayCost {
  std::string name;
  double update = 0;    // seconds, at each change
  double use = 0;       // seconds, at each use
  bool reaches = true;  // whether it is good enough
};

// The index of the way with the least update + uses * use among those that reach, the first of equals; -1: none does.
int32_t cheapest(std::span<const WayCost> ways, double uses);

// A map with a row for each situation and a column for each number of uses; `groups` become the names of all ways, in
// their order of appearance. Entries are the way and its seconds, or `none`.
struct Situation {
  std::string name;
  std::vector<WayCost> ways;
};
void fill_map(Grid& grid, std::span<const Situation> situations, std::span<const double> uses, const std::string& none);

// "3 ms", "12 s", "4 min", "2.5 h".
std::string short_seconds(double seconds);

}  // namespace surtsey::experiments
