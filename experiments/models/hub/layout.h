// Where a model's tensors stand in the files that others write: rows of a table, and what they are matched with.
#pragma once

#include "experiments/formats/tensor_directory.h"
#include "experiments/models/hub/config.h"

#include <string>
#include <vector>

namespace surtsey::experiments::hub {

// One tensor of a model: our name for it (README.md has them all) and the file's tensor that has it, or has it as some
// of its rows.
struct TensorRow {
  std::string name;
  graph::Shape shape;          // [out, in], or [n]
  std::string file_name;       // as canonical_file_name() has it
  int64_t first_row = 0;       // of the file's tensor, when [out, in]
  int64_t file_rows = 0;       // how many those are in all
  bool transposed = false;     // the file has [in, out]
  int64_t permuted_heads = 0;  // GGUF: rows of each of so many heads are interleaved (0, D/2, 1, D/2 + 1, ..); 0: not
  bool required = true;

  graph::Shape file_shape() const;
};

using Layout = std::vector<TensorRow>;

// Hugging Face's names, without the prefix that some classes save them with and others do not.
Layout hugging_face_layout(const Config& config);
// A file's name as the layout has it: without "transformer.", "model." or "bert.", weight and bias for gamma and beta.
// Empty for what is not read: masks, tables that are computed, copies of tied tensors.
std::string canonical_file_name(const Config& config, const std::string& name);
// And back, with the prefix that the configuration's class saves it with.
std::string saved_name(const Config& config, const std::string& file_name);

// A tensor of ours in a file, or zeros where from.file is null.
struct Placement {
  TensorRow row;
  FileTensor from;
};
Placement zero_placement(const TensorRow& row);  // in f32

// Every row that there is. `directory` has names as the layout has them. UserError beginning with `where`, in one
// message all that does not fit: missing, left over, of another shape, of a type that is no weight.
std::vector<Placement> place(const Layout& layout, const TensorDirectory& directory, const std::string& where);

// Which of the file's rows, from row.first_row on, has row r of ours.
int64_t file_row(const TensorRow& row, int64_t r);

// The tensor's bytes, rows of [out, in] behind each other, in the type that the file has.
std::vector<std::byte> read_placement(const Placement& placement);

}  // namespace surtsey::experiments::hub
