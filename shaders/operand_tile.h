// One operand of a product on its way from memory through registers into a tile of shared memory.
// The next tile is loaded while the one before is multiplied.
//
// Where the operand is stored, lies contiguous along one axis and begins at a multiple of 16 bytes,
// a lane loads runs of 16 bytes at once. Rows of the tile lie 16 bytes further apart than they are
// long: neighbours start in different banks, and runs stay aligned.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "shaders/matmul_product.h"

namespace surtsey::shaders {

// The kernel defines row_base, column_base and, around fetch(), k_base.
class OperandTile {
 public:
  enum class Keep : uint8_t {
    f32,         // side by side along the side: rows of A or columns of B are neighbours
    f16,         // side by side along the axis that is contiguous in memory
    f16_as_f32,  // the same without 16-bit shared memory; runs of f16 are kept as they come
  };
  // side: rows of A or columns of B in the tile.
  OperandTile(MatmulProduct& product, bool is_a, int64_t side, int64_t depth, int64_t lanes, Keep keep);

  void declare();  // the tile, and the registers of what is loaded ahead
  void fetch();    // of the tile at k_base into registers; past the edges 0
  void store();    // of registers into the tile

  // Neighbours along K lie side by side in the tile, else neighbours along the side.
  bool depth_first() const { return depth_first_; }
  // An element as a float.
  std::string element(const std::string& side, const std::string& depth) const;
  // Where an element lies, and how far apart rows do, in elements of the array `name`: both are
  // multiples of 16 bytes where packed.
  std::string place(const std::string& side, const std::string& depth) const;
  int64_t row() const;
  const std::string& name() const { return name_; }

 private:
  int64_t each() const { return side_ * depth_ / lanes_; }  // elements that a lane loads
  int64_t row_elements() const;
  std::string flat(const std::string& side, const std::string& depth) const;
  std::string base() const { return is_a_ ? "row_base" : "column_base"; }
  void open_runs();

  MatmulProduct& p_;
  Writer& w_;
  bool is_a_;
  int64_t side_, depth_, lanes_;
  Keep keep_;
  std::string name_;
  int64_t extent_;
  std::optional<size_t> stored_;  // the input that the operand is
  bool along_depth_ = false;      // neighbours along K are neighbours in memory
  bool depth_first_ = false;
  bool packed_ = false;  // the array is of uvec4, eight elements in each
  int64_t run_ = 1;      // elements of a load
};

}  // namespace surtsey::shaders
