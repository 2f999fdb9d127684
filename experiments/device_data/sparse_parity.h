// Multitask sparse parity (Michaud et al. 2023, "The quantization model of neural scaling"): many
// small tasks of uneven frequency in one stream, made on the device.
//
//   input    one-hot task code [tasks], then bits [bits]
//   target   the parity of the `subset` bits that belong to the task
//   p(task i) proportional to 1 / (i + 1)^exponent
//
// The subset of a task takes one bit from each of `subset` equal blocks of the bits, drawn by
// `subset_seed`; no two tasks have the same one. Each task is learned or not, and how many are
// learned makes the mean loss.
//
// The model is one block of a transformer at a single position: attention over itself is a linear
// map, so it is an MLP with one hidden layer of 4 n_embd and a linear bypass.
#pragma once

#include "experiments/device_data/generated.h"

namespace surtsey::experiments {

struct SparseParityOptions {
  int32_t tasks = 20;
  int32_t bits = 32;
  int32_t subset = 2;  // k; divides bits
  double exponent = 1.4;
  uint32_t subset_seed = 0;
  int32_t items = 1000;               // of each task, in a test
  int32_t validation_samples = 4096;  // of the mixture
};

class SparseParity : public GeneratedData {
 public:
  // UserError naming the option that is out of range.
  explicit SparseParity(SparseParityOptions options);

  const SparseParityOptions& options() const { return options_; }
  double probability(int32_t task) const { return probabilities_.at(static_cast<size_t>(task)); }
  // The bits whose parity a task asks for, rising.
  std::vector<int32_t> subset(int32_t task) const;
  ModelConfig model(int32_t width) const;

  struct Draw {
    graph::Value input;   // f32 [B, 1, tasks + bits]
    graph::Value target;  // u32 [B, 1]
  };
  // Samples of a stream; all of one `task` (u32 []) unless it is empty.
  Draw draw(graph::Graph& graph, int64_t rows, graph::Value seed, graph::Value step, std::string_view stream,
            graph::Value task = {}) const;

  graph::Value training_loss(const Model& model, graph::Parameters& parameters, graph::Value seed, graph::Value step,
                             int64_t rows) const override;
  void add_programs(engine::Session& session, const Model& model, size_t members) const override;
  std::vector<double> validation_loss(engine::Session& session, size_t members, uint32_t seed) const override;
  // "accuracy i" and "loss i" of each task, and "loss" of the mixture from them.
  std::vector<std::vector<Measure>> measure(engine::Session& session, size_t members, uint32_t seed) const override;

 private:
  uint32_t place_key(int32_t part) const;

  SparseParityOptions options_;
  uint32_t salt_ = 0;  // the first with distinct subsets
  std::vector<double> probabilities_;
};

}  // namespace surtsey::experiments
