// Edit distance (E05): insertions and deletions cost 2, replacements 3.
//
//   cot     a b | b b a <sep> 3 5 4 , 2 3 5 , <sep> 5 <eos>     the table, row by row
//   direct  a b | b b a <sep> 5 <eos>
//
// Row i, column j is the distance of the first i letters of the first string from the first j of
// the second. The first string is the shorter one. Letters are of a random alphabet of 3 to 10. Two
// strings in five are independent of the other; the rest are the other one after up to `length`
// random edits.
#pragma once

#include "experiments/tasks/serial.h"

#include <optional>

namespace surtsey::experiments::tasks {

class EditDistance : public SerialTask {
 public:
  // `length` in [4, 20]: of one string; the other has between 3 letters fewer and 2 more.
  explicit EditDistance(int32_t length, SerialOptions options = {});

  // The problem of two strings of letters "a" .. "z" (0 .. 25), the shorter one first; nothing when
  // a distance is above 59, the largest number that is a token.
  std::optional<Problem> solve(const std::vector<int32_t>& first, const std::vector<int32_t>& second) const;

 protected:
  Problem draw_problem(Split split, int32_t arm, Draws& draws) const override;

 private:
  int32_t length_;
};

}  // namespace surtsey::experiments::tasks
