// Linear functions in context, for decoders: x_0, y_0, x_1, y_1, .. with the next y asked at every
// x.
//
//   functions   Garg et al. 2022 (2208.01066): new standard normal weights in every sequence, no
//               noise; dimensions and examples grow from a few at the start of training
//   diversity   E15, Raventos et al. 2023 (2306.15063): the weights of every training sequence are
//               one of M tasks, y has noise. Who learns the tasks predicts as their posterior mean
//               (dMMSE), who learns the family as ridge regression
//
// Tokens are (0, x) and (y, 0, .., 0), d + 1 numbers wide. Inputs are standard normal.
// Letters: B sequences, K examples, T = 2K tokens, M tasks.
#pragma once

#include "experiments/device_data/generated.h"

namespace surtsey::experiments {

struct ContextRegressionOptions {
  int32_t dimension = 20;  // d
  int32_t examples = 41;   // K
  double noise = 0;        // standard deviation, of y
  int64_t tasks = 0;       // M, at most 2^24; 0: new ones in every sequence
  // From so many at the start, one dimension and two examples more every so many steps; 0: all at
  // once.
  int32_t start_dimension = 5;
  int32_t start_examples = 11;
  int32_t curriculum_steps = 0;
  int64_t test_sequences = 1024;  // whole batches: rounded up
  int64_t validation_sequences = 4096;
  int64_t evaluation_rows = 256;  // at once
};

// A pre-norm decoder over these tokens, positions learned.
ModelConfig context_regression_config(const ContextRegressionOptions& options, int32_t layers, int32_t width,
                                      int32_t heads);

class ContextRegression : public GeneratedData {
 public:
  explicit ContextRegression(ContextRegressionOptions options);  // UserError: impossible ones

  const ContextRegressionOptions& options() const { return options_; }

  // [M, d]: the tasks, as the device draws them up to the rounding of f32.
  const std::vector<double>& tasks() const { return tasks_; }

  struct Draw {
    graph::Value x;       // f32 [B, K, d]
    graph::Value y;       // f32 [B, K]
    graph::Value tokens;  // f32 [B, T, d + 1]
  };
  // Of the tasks if `known`, else of new ones. The inputs' dimensions from `dimensions` (f32 []) on
  // are 0; all are drawn when it is empty.
  Draw draw(graph::Graph& graph, int64_t rows, graph::Value seed, graph::Value step, std::string_view stream,
            bool known, graph::Value dimensions = {}) const;

  graph::Value training_loss(const Model& model, graph::Parameters& parameters, graph::Value seed, graph::Value step,
                             int64_t rows) const override;
  void add_programs(engine::Session& session, const Model& model, size_t members) const override;
  std::vector<double> validation_loss(engine::Session& session, size_t members, uint32_t seed) const override;
  // Squared errors are of y, in units of its variance d, on new tasks:
  //   error.K        of the model's prediction after K examples
  //   RULE.K         of a rule: least_squares, averaging and neighbours without noise
  // With tasks, mean squared distances of predictions over all K, in units of d:
  //   to_ridge, to_posterior                on new tasks
  //   known_to_ridge, known_to_posterior    on those of training
  std::vector<std::vector<Measure>> measure(engine::Session& session, size_t members, uint32_t seed) const override;

 private:
  struct Batch;
  std::vector<Batch> run_batches(engine::Session& session, const char* program, size_t members, uint32_t seed) const;

  ContextRegressionOptions options_;
  std::vector<double> tasks_;
};

}  // namespace surtsey::experiments
