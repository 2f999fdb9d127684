// Files that are nearly right: one of several changes after the other, drawn by a seed.
#pragma once

#include <cstdint>
#include <string>

namespace surtsey::tests {

// splitmix64: the same numbers everywhere.
class Draws {
 public:
  explicit Draws(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  // In [0, n); 0 for n = 0.
  uint64_t below(uint64_t n) { return n == 0 ? 0 : next() % n; }

 private:
  uint64_t state_;
};

// One to eight changes: bits, bytes, ranges cut out, doubled or moved, whole numbers of 1 to 8 bytes replaced by those
// at the edges of their types, the end cut off. `text` replaces numbers and words of JSON too. Changes fall on the
// first `header` bytes nine times of ten.
std::string mutated(std::string content, size_t header, bool text, Draws& draws);

}  // namespace surtsey::tests
