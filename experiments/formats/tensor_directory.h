// What tensors a file has, or several files together, and where: none of them is read.
#pragma once

#include "experiments/formats/quant.h"
#include "experiments/formats/ranged_file.h"
#include "graph/types.h"

#include <map>
#include <memory>
#include <optional>
#include <string>

namespace surtsey::experiments {

struct FileTensor {
  std::shared_ptr<const RangedFile> file;
  uint64_t offset = 0;  // of its first byte in the file; all of them are there
  uint64_t bytes = 0;
  std::optional<StoredType> type;  // absent for what is no weight (masks, counters)
  std::string type_name;           // as the file says it
  graph::Shape shape;              // outermost first, rows last
};

using TensorDirectory = std::map<std::string, FileTensor>;

// Of a safetensors file. UserError as read_safetensors_header().
TensorDirectory open_safetensors(const std::filesystem::path& path);

// Of a model in several safetensors files: `index` is its model.safetensors.index.json, {"weight_map": {tensor: file}},
// files beside it. UserError: a file that is named by a path or missing, a tensor that its file does not have, or that
// is in a file and not in the index.
TensorDirectory open_safetensors_index(const std::filesystem::path& index);

}  // namespace surtsey::experiments
