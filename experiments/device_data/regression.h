// Linear regression in context (E14), made on the device: can one layer of linear attention learn
// to take a step of gradient descent?
//
// A sequence is N examples and a query, tokens (x_i, y_i) and (x, 0) with x, x_i and the weights w
// standard normal in d dimensions and y = w.x without noise; the model's number at the query is
// its prediction of w.x. One step of gradient descent from zero at rate eta predicts
//   eta/N sum_i y_i x_i.x,
// and with the best rate, eta = N/(N + d + 1), its expected squared error is d(d + 1)/(N + d + 1):
// the least that one layer of linear attention can reach (von Oswald et al. 2023; Ahn et al. 2023).
//
// Letters: B sequences, T = N + 1 tokens.
#pragma once

#include "experiments/device_data/generated.h"

namespace surtsey::experiments {

struct RegressionOptions {
  int32_t dimension = 10;            // d
  int32_t context = 10;              // N
  int64_t test_sequences = 262'144;  // whole batches: rounded up
  int64_t validation_sequences = 16'384;
  int64_t evaluation_rows = 4096;  // at once
};

// d(d + 1)/(N + d + 1).
double gradient_step_loss(const RegressionOptions& options);

// Pure attention over vectors: a linear layer into `width` channels, `layers` blocks of one linear
// head without MLP or norm, a linear layer out.
ModelConfig linear_attention_config(const RegressionOptions& options, int32_t layers, int32_t width);

class LinearRegression : public GeneratedData {
 public:
  explicit LinearRegression(RegressionOptions options = {}) : options_(options) {}

  const RegressionOptions& options() const { return options_; }

  struct Draw {
    graph::Value tokens;         // f32 [B, T, d + 1]
    graph::Value target;         // f32 [B]: w.x of the query
    graph::Value gradient_step;  // f32 [B]: the prediction above, at the best rate
  };
  // `stream` keeps training, validation and test apart; seed and step are u32 [].
  Draw draw(graph::Graph& graph, int64_t rows, graph::Value seed, graph::Value step, std::string_view stream) const;

  graph::Value training_loss(const Model& model, graph::Parameters& parameters, graph::Value seed, graph::Value step,
                             int64_t rows) const override;
  void add_programs(engine::Session& session, const Model& model, size_t members) const override;
  std::vector<double> validation_loss(engine::Session& session, size_t members, uint32_t seed) const override;
  //   loss                 mean squared error
  //   loss_over_optimum    the same over the closed form
  //   gradient_step_loss   of the closed form's predictor on the same sequences
  //   cosine               of the model's predictions with that predictor's
  // Standard errors are over batches.
  std::vector<std::vector<Measure>> measure(engine::Session& session, size_t members, uint32_t seed) const override;

 private:
  RegressionOptions options_;
};

}  // namespace surtsey::experiments
