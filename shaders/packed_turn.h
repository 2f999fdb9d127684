// A turn of the loop over K by a packed operand whose numbers are linear in fields of words (packed_operand.h), in a
// product by lane broadcast (matmul.cpp).
#pragma once

#include "shaders/matmul_product.h"
#include "shaders/row_operand.h"

#include <cstdint>
#include <vector>

namespace surtsey::shaders {

// Is B, lying along the lanes, what PackedTurn takes?
bool has_packed_numbers(Writer& writer, const MatmulProduct& product);

// A column of a product's B; those of products side by side have the same form.
struct PackedColumn {
  graph::Value b;
  graph::Affine at;
};

class PackedTurn {
 public:
  // `columns`: those whose sums a lane has, in c{row}_{column}.
  PackedTurn(Writer& writer, MatmulProduct& product, int64_t rows, std::vector<PackedColumn> columns)
      : w_(writer), p_(product), rows_(rows), columns_(std::move(columns)) {}

  // Adds steps k .. k + count - 1. Numbers that share a scale are multiplied as the fields that they are, and their sum
  // is scaled. The steps of a turn do not depend on the number of rows, so neither do bits.
  void write(const graph::Affine& k, int64_t count, RowOperand& own);

 private:
  struct Shared {
    std::string scale, offset;
    bool operator==(const Shared&) const = default;
  };

  void open_group(std::vector<Shared> shared, const RowOperand& own);
  void close_group(const RowOperand& own);
  void add_factors(int64_t u, RowOperand& own);
  std::string factors_of(int64_t i, const RowOperand& own) const;

  Writer& w_;
  MatmulProduct& p_;
  const int64_t rows_;
  const std::vector<PackedColumn> columns_;
  std::vector<Shared> shared_;  // of each column, while they last
  bool open_ = false;
  int group_ = -1;
};

}  // namespace surtsey::shaders
