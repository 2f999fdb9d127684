#include "experiments/models/hub/layout.h"

#include "graph/error.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace surtsey::experiments::hub {
namespace {

constexpr size_t kMostListed = 16;

std::string listed(const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string text = fmt::format("\n  {}: ", what);
  for (size_t i = 0; i < std::min(names.size(), kMostListed); ++i) text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kMostListed) text += fmt::format(" and {} more", names.size() - kMostListed);
  return text;
}

int64_t columns(const TensorRow& row) { return row.shape.size() == 2 ? row.shape[1] : 1; }

}  // namespace

graph::Shape TensorRow::file_shape() const {
  if (shape.size() < 2) return {file_rows};
  return transposed ? graph::Shape{shape[1], file_rows} : graph::Shape{file_rows, shape[1]};
}

std::vector<Placement> place(const Layout& layout, const TensorDirectory& directory, const std::string& where) {
  std::vector<std::string> missing, left_over, misshapen, untyped;
  std::vector<Placement> placements;
  std::set<std::string> known;
  for (const TensorRow& row : layout) {
    const bool first = known.insert(row.file_name).second;
    const auto found = directory.find(row.file_name);
    if (found == directory.end()) {
      if (row.required && first) missing.push_back(row.file_name);
      continue;
    }
    const FileTensor& from = found->second;
    const bool fits = from.shape == row.file_shape();
    // Blocks are cut along rows: a vector has none, and columns cannot be taken out of them.
    const bool typed = from.type && (!is_block_type(*from.type) || (row.shape.size() == 2 && !row.transposed));
    if (!fits && first) {
      misshapen.push_back(fmt::format("{} is {} and not {}", row.file_name, graph::to_string(from.shape),
                                      graph::to_string(row.file_shape())));
    }
    if (!typed && first) untyped.push_back(fmt::format("{} is {}", row.file_name, from.type_name));
    if (fits && typed) placements.push_back({row, from});
  }
  for (const auto& [name, tensor] : directory) {
    if (!known.contains(name)) left_over.push_back(name);
  }
  const std::string faults = listed("missing", missing) + listed("left over", left_over) +
                             listed("of another shape", misshapen) + listed("of a type that is not read", untyped);
  check(faults.empty(), "{}: the tensors are not those of the configuration{}", where, faults);
  return placements;
}

int64_t file_row(const TensorRow& row, int64_t r) {
  if (row.permuted_heads == 0) return r;
  const int64_t width = row.shape[0] / row.permuted_heads, half = width / 2;
  const int64_t head = r / width, i = r % width;
  return head * width + 2 * (i % half) + i / half;
}

Placement zero_placement(const TensorRow& row) {
  Placement placement{row, {}};
  placement.from.type = StoredType::f32;
  placement.from.type_name = name(StoredType::f32);
  return placement;
}

std::vector<std::byte> read_placement(const Placement& placement) {
  const TensorRow& row = placement.row;
  const FileTensor& from = placement.from;
  const int64_t rows = row.shape[0], width = columns(row);
  const size_t row_size = size_t(row_bytes(*from.type, width));
  std::vector<std::byte> bytes(size_t(rows) * row_size);
  if (from.file == nullptr) return bytes;
  if (!row.transposed && row.permuted_heads == 0) {
    from.file->read(from.offset + uint64_t(row.first_row) * row_size, bytes);
    return bytes;
  }
  if (!row.transposed) {
    std::vector<std::byte> file_rows(bytes.size());
    from.file->read(from.offset + uint64_t(row.first_row) * row_size, file_rows);
    for (int64_t r = 0; r < rows; ++r) {
      const size_t source = size_t(file_row(row, r)) * row_size;
      std::memcpy(bytes.data() + size_t(r) * row_size, file_rows.data() + source, row_size);
    }
    return bytes;
  }
  // [in, out] in the file: of each of its rows the part that is ours becomes a column.
  const size_t element = size_t(block_bytes(*from.type));
  std::vector<std::byte> part(size_t(rows) * element);
  for (int64_t c = 0; c < width; ++c) {
    from.file->read(from.offset + (uint64_t(c) * uint64_t(row.file_rows) + uint64_t(row.first_row)) * element, part);
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(bytes.data() + size_t(r * width + c) * element, part.data() + size_t(r) * element, element);
    }
  }
  return bytes;
}

}  // namespace surtsey::experiments::hub
