// Reproducible draws for tests: a counter over the engine's own counter-based generator.
#pragma once

#include "graph/random.h"
#include "graph/types.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace surtsey::tests {

class Draw {
 public:
  explicit Draw(uint32_t seed) : key_(graph::stream_seed(seed, "tests.draw")) {}

  // In [0, count).
  uint32_t below(uint32_t count) { return graph::random_range(key_, 0, at_++, count); }
  // In [low, high].
  int64_t between(int64_t low, int64_t high) { return low + below(uint32_t(high - low + 1)); }
  bool chance(uint32_t one_in) { return below(one_in) == 0; }
  template <typename T>
  const T& of(const std::vector<T>& list) {
    return list[below(uint32_t(list.size()))];
  }
  // Extents in [1, most], often 1 or odd.
  graph::Shape shape(int64_t rank, int64_t most) {
    graph::Shape shape;
    for (int64_t d = 0; d < rank; ++d) shape.push_back(chance(5) ? 1 : between(1, most));
    return shape;
  }
  // A shape of as many elements.
  graph::Shape reshaped(int64_t count) {
    graph::Shape shape;
    while (count > 1 && shape.size() < 4) {
      std::vector<int64_t> divisors;
      for (int64_t d = 2; d <= count; ++d)
        if (count % d == 0) divisors.push_back(d);
      const int64_t extent = shape.size() == 3 ? count : of(divisors);
      shape.push_back(extent);
      count /= extent;
    }
    if (chance(4)) shape.insert(shape.begin() + int64_t(below(uint32_t(shape.size() + 1))), 1);
    return shape;
  }
  std::vector<int64_t> permutation(int64_t rank) {
    std::vector<int64_t> axes;
    for (int64_t d = 0; d < rank; ++d) axes.push_back(d);
    for (int64_t d = rank - 1; d > 0; --d) std::swap(axes[size_t(d)], axes[below(uint32_t(d + 1))]);
    return axes;
  }

 private:
  uint32_t key_;
  uint32_t at_ = 0;
};

}  // namespace surtsey::tests
