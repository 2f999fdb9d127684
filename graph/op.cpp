#include "graph/op.h"

#include "graph/ops/rows.h"

#include <algorithm>

namespace surtsey::graph {

namespace {

std::vector<OpDef> assemble() {
  std::vector<OpDef> table;
  for (auto* rows : {leaf_rows, elementwise_rows, movement_rows, reduce_rows, matmul_rows, index_rows}) {
    for (OpDef& row : rows()) table.push_back(std::move(row));
  }
  std::sort(table.begin(), table.end(), [](const OpDef& a, const OpDef& b) { return a.op < b.op; });
  ensure(table.size() == static_cast<size_t>(Op::count_), "the op table has {} rows for {} ops", table.size(),
         static_cast<size_t>(Op::count_));
  for (size_t i = 0; i < table.size(); ++i) {
    ensure(table[i].op == static_cast<Op>(i), "the op table has no row for op {}", i);
  }
  return table;
}

const std::vector<OpDef>& table() {
  static const std::vector<OpDef> rows = assemble();
  return rows;
}

}  // namespace

const OpDef& definition(Op op) { return table()[static_cast<size_t>(op)]; }

bool is_view(Op op) { return definition(op).family == Family::movement && op != Op::concat; }

std::span<const OpDef> op_table() { return table(); }

const OpDef* find_op(std::string_view name) {
  for (const OpDef& row : table()) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

}  // namespace surtsey::graph
