// Rows of a layout, written down shortly.
#pragma once

#include "experiments/models/hub/layout.h"

#include <string>
#include <utility>

namespace surtsey::experiments::hub {

// Adds rows whose names begin with a prefix of ours and one of theirs.
class LayoutTable {
 public:
  explicit LayoutTable(Layout& layout) : layout_(layout) {}
  LayoutTable(Layout& layout, std::string ours, std::string theirs, bool required = true)
      : layout_(layout), ours_(std::move(ours)), theirs_(std::move(theirs)), required_(required) {}

  // In a layer, say.
  LayoutTable below(const std::string& ours, const std::string& theirs) const {
    return {layout_, ours_ + ours, theirs_ + theirs, required_};
  }
  // The same table for what a file may leave out.
  LayoutTable where(bool required) const { return {layout_, ours_, theirs_, required}; }

  TensorRow& tensor(const std::string& ours, const std::string& theirs, graph::Shape shape) const {
    TensorRow row{ours_ + ours, std::move(shape), theirs_ + theirs};
    row.file_rows = row.shape[0];
    row.required = required_;
    layout_.push_back(std::move(row));
    return layout_.back();
  }
  void linear(const std::string& ours, const std::string& theirs, int64_t out, int64_t in, bool bias) const {
    tensor(ours + ".weight", theirs + ".weight", {out, in});
    if (bias) tensor(ours + ".bias", theirs + ".bias", {out});
  }
  void norm(const std::string& ours, const std::string& theirs, int64_t width, bool bias) const {
    tensor(ours + ".weight", theirs + ".weight", {width});
    if (bias) tensor(ours + ".bias", theirs + ".bias", {width});
  }
  // Conv1D: [in, out] and a bias. `part` of `parts` equal ones side by side along out.
  void conv1d(const std::string& ours, const std::string& theirs, int64_t out, int64_t in, int64_t part = 0,
              int64_t parts = 1) const {
    TensorRow& weight = tensor(ours + ".weight", theirs + ".weight", {out, in});
    weight.transposed = true;
    weight.first_row = part * out;
    weight.file_rows = parts * out;
    TensorRow& bias = tensor(ours + ".bias", theirs + ".bias", {out});
    bias.first_row = part * out;
    bias.file_rows = parts * out;
  }

 private:
  Layout& layout_;
  std::string ours_, theirs_;
  bool required_ = true;
};

}  // namespace surtsey::experiments::hub
