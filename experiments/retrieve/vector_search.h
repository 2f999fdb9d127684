// The vectors whose dot product with a query is largest, exactly, of a million as of ten: one product of all queries
// with all vectors on the device.
//
//   VectorSearch search(device, count, width);
//   search.write([&](int64_t place, std::span<float> vector) { .. });
//   const std::vector<std::vector<VectorHit>> hits = search.find(queries, 10);
//
// The scores, n a query, stay on the device: it adds up what they are largest in, group by group of 64 vectors (one
// number in 64 comes to the host). A vector that is among the k best lies in one of the k groups whose largest is best,
// so the host asks for the scores of those groups alone and sorts k * 64 numbers. Of equal scores the lower place comes
// first, in groups as in vectors, so that this holds for ties too.
//
// A score is the same sum in the same order whatever is asked beside it: the same bits.
#pragma once

#include "engine/session.h"

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

namespace surtsey::experiments {

struct VectorHit {
  int64_t place = 0;  // of the vector, from 0
  float score = 0;    // the dot product
};

struct VectorSearchOptions {
  // How many queries a program takes, ascending; what is asked for together goes through the smallest that has room, or
  // the largest again and again.
  std::vector<int64_t> rows = {1, 8, 32};
  // Of a tensor of vectors, at most: devices bind no more at once, and the host holds one while it writes it.
  uint64_t tensor_bytes = 256 << 20;
};

class VectorSearch {
 public:
  // `count` vectors of `width` numbers. UserError: no room on the device.
  VectorSearch(engine::Device& device, int64_t count, int64_t width, const VectorSearchOptions& options = {});

  int64_t count() const { return count_; }
  int64_t width() const { return width_; }
  // Whether so many vectors lie in the same memory, all of which would be read.
  bool has_room_for(int64_t count) const {
    return count <= blocks_ * block() && count > (blocks_ - segments_) * block();
  }

  // Fills all of it: `vector` is called for place 0, 1, .. and writes `width` numbers, which are finite (else a
  // UserError). `count`, where has_room_for() it, is how many there are from now on.
  void write(int64_t count, const std::function<void(int64_t place, std::span<float> vector)>& vector);
  void write(const std::function<void(int64_t place, std::span<float> vector)>& vector) { write(count_, vector); }

  // `queries` [n][width], finite; of each the `top` best (all, where there are fewer), best first.
  std::vector<std::vector<VectorHit>> find(std::span<const float> queries, int64_t top);

  // Of the queries a program takes: for measuring it.
  engine::SessionProgram product(int64_t rows) const { return programs_.at(rows).score; }

  static constexpr int64_t kGroup = 64;  // vectors of which the device tells the largest score
  // Room is had in so many vectors.
  int64_t block() const { return columns_ * kGroup; }

 private:
  struct Programs {
    engine::SessionProgram score, pick;
  };
  // Where the score of a vector lies among those of a program with so many rows.
  uint32_t score_at(int64_t place, int64_t row, int64_t rows) const;
  void add_programs(int64_t rows);
  void find_some(std::span<const float> queries, int64_t rows, int64_t top, std::vector<std::vector<VectorHit>>& all);

  int64_t count_, width_;
  std::vector<int64_t> rows_;
  int64_t columns_ = 0;                                     // vectors that lie side by side
  int64_t blocks_ = 0, segments_ = 0, segment_blocks_ = 0;  // blocks of all segments, and of each
  engine::Session session_;
  std::map<int64_t, Programs> programs_;
};

}  // namespace surtsey::experiments
