// A product's packed operand as its kernels multiply it: numbers that are linear in fields of words,
//
//   B[k, n] = scale * sum of weight_f field_f + offset
//
// with a scale and an offset that neighbours along K share. The sum over such neighbours then needs no scale for each,
// and no shift: a field is masked where it stands in its word, and the power of two that it is too large by goes into
// the other factor, where it changes no bit.
#pragma once

#include "shaders/matmul_product.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::shaders {

// GLSL; every number is a float.
struct PackedNumber {
  struct Field {
    std::string value;  // float(word & mask): the field times 2^shift
    double factor = 1;  // weight / 2^shift
  };
  std::vector<Field> fields;
  std::string scale, offset;  // empty: 1, 0
};

// Element `at` of the value `operand`; none where it is not of this form. What it is made of is written into the
// current frame.
std::optional<PackedNumber> packed_number(Writer& writer, const graph::Value& operand, const graph::Index& at);

}  // namespace surtsey::shaders
