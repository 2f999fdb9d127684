// What a head of labels (adapt/adaptation.h) makes of texts: scores before softmax, one a label.
#pragma once

#include "engine/device.h"
#include "experiments/models/hub/source.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

class LabelScores {
 public:
  // `adapter`: a folder with a head. Texts are of at most `tokens` tokens, `rows` of them go through at once.
  // UserError: as Adaptation says of the folder; one without a head; more tokens than the model has positions. All
  // outlive it.
  LabelScores(engine::Device& device, const hub::Source& source, const std::string& adapter, int64_t rows,
              int64_t tokens);
  ~LabelScores();

  int64_t labels() const;
  // [n][labels]. UserError: a text without tokens, or with more than there is room for.
  std::vector<std::vector<float>> of(std::span<const std::vector<int32_t>> texts);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace surtsey::experiments
