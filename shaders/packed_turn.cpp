#include "shaders/packed_turn.h"

#include "shaders/packed_operand.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

bool has_packed_numbers(Writer& writer, const MatmulProduct& product) {
  if (product.batch > 1 || !product.sides[0].sums.empty() || !product.sides[1].sums.empty()) return false;
  // Written to no file: fields must lie along K, so that which one it is does not depend on the lane.
  Writer trial(writer.kernel(), writer.graph(), writer.target());
  MatmulProduct tried(trial);
  const Affine column = trial.context.variable("column", tried.n);
  trial.define(column, "0u");
  return packed_number(trial, tried.b, tried.b_index(Affine(0), column)).has_value();
}

void PackedTurn::open_group(std::vector<Shared> shared, const RowOperand& own) {
  shared_ = std::move(shared);
  open_ = true;
  ++group_;
  const int64_t sums = own.is_spread() ? rows_ : int64_t(own.register_count());
  for (int64_t r = 0; r < sums; ++r) w_.line(fmt::format("float factors{}_{} = 0.0;", group_, r));
  for (int64_t i = 0; i < rows_; ++i)
    for (size_t c = 0; c < columns_.size(); ++c) w_.line(fmt::format("float sum{}_{}_{} = 0.0;", group_, i, c));
}

// The sum of a row's factors, which an offset is multiplied by.
std::string PackedTurn::factors_of(int64_t i, const RowOperand& own) const {
  if (own.is_spread()) return fmt::format("factors{}_{}", group_, i);
  return own.of_row(fmt::format("factors{}_{}", group_, i / w_.target().subgroup_size), i);
}

void PackedTurn::add_factors(int64_t u, RowOperand& own) {
  const auto add = [&](int64_t r, const std::string& factor) {
    w_.line(fmt::format("factors{0}_{1} = factors{0}_{1} + {2};", group_, r, factor));
  };
  if (own.is_spread()) {
    for (int64_t i = 0; i < rows_; ++i) add(i, own.at(i, u));
  } else {
    for (size_t r = 0; r < own.register_count(); ++r) add(int64_t(r), own.registers(u, r));
  }
}

void PackedTurn::close_group(const RowOperand& own) {
  if (!open_) return;
  const auto add = [&](int64_t i, size_t c, const std::string& sum, const std::string& by) {
    w_.line(fmt::format("c{0}_{1} = fma({2}, {3}, c{0}_{1});", i, c, sum, by));
  };
  for (int64_t i = 0; i < rows_; ++i)
    for (size_t c = 0; c < columns_.size(); ++c) {
      const auto& [scale, offset] = shared_[c];
      add(i, c, fmt::format("sum{}_{}_{}", group_, i, c), scale.empty() ? "1.0" : scale);
      if (!offset.empty()) add(i, c, factors_of(i, own), offset);
    }
  open_ = false;
}

void PackedTurn::write(const Affine& k, int64_t count, RowOperand& own) {
  own.begin(k, count);
  for (int64_t u = 0; u < count; ++u) {
    std::vector<PackedNumber> mine;
    std::vector<Shared> needed;
    for (const auto& [b, column] : columns_) {
      mine.push_back(packed_number(w_, b, p_.b_index(w_.context.add(k, Affine(u)), column)).value());
      needed.push_back({mine.back().scale, mine.back().offset});
    }
    if (needed != shared_) close_group(own);
    if (!open_) open_group(std::move(needed), own);
    add_factors(u, own);
    for (size_t f = 0; f < mine[0].fields.size(); ++f) {
      const double factor = mine[0].fields[f].factor;
      const std::string by = factor == 1 ? "" : " * " + glsl_constant(DType::f32, factor);
      std::vector<std::string> scaled;  // the registers, each times the factor
      for (size_t r = 0; r < own.register_count() && !own.is_spread(); ++r) {
        const std::string plain = own.registers(u, r);
        scaled.push_back(by.empty() ? plain : w_.keep("float", plain + by));
      }
      for (int64_t i = 0; i < rows_; ++i) {
        const std::string s =
            own.is_spread() ? own.at(i, u) + by : own.of_row(scaled[size_t(i / w_.target().subgroup_size)], i);
        std::string text = fmt::format("{{ float s = {};", s);
        for (size_t c = 0; c < columns_.size(); ++c)
          text += fmt::format(" sum{0}_{1}_{2} = fma(s, {3}, sum{0}_{1}_{2});", group_, i, c, mine[c].fields[f].value);
        w_.line(text + " }");
      }
    }
  }
  close_group(own);
}

}  // namespace surtsey::shaders
