// What a head of labels makes of texts: scores before any softmax or sigmoid, one a label. The model is one that
// classifies (HeadKind::classify), an encoder or a decoder.
#pragma once

#include "engine/session.h"
#include "experiments/models/hub/source.h"
#include "experiments/models/model.h"
#include "experiments/text/tokenizer.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

using TextScores = std::vector<std::vector<float>>;  // [n][labels]

// Outputs: scores f32 [rows, labels] of labels.tokens, labels.kinds (of a model with n_types) u32 [rows, tokens] and
// labels.lengths u32 [rows].
graph::Program label_program(const Model& model, int64_t rows, int64_t tokens);

// That program in a session that is not yet allocated, over the "parameters" of it: beside training, of each member.
class LabelProgram {
 public:
  LabelProgram(engine::Session& session, const Model& model, size_t members, int64_t rows, int64_t tokens);

  // [members]. UserError: a text without tokens, or with more than there is room for.
  std::vector<TextScores> of(std::span<const text::EncodedText> texts);

 private:
  engine::Session& session_;
  engine::SessionProgram program_;
  size_t members_, rows_, tokens_, labels_;
};

// A model that others trained, with an adapter (its folder) or as it is.
class LabelScores {
 public:
  // Texts are of at most `tokens` tokens, `rows` of them go through at once. UserError: as Adaptation says of the
  // folder; more tokens than the model has positions. All outlive it.
  LabelScores(engine::Device& device, const hub::Source& source, const std::string& adapter, int64_t rows,
              int64_t tokens);
  ~LabelScores();

  int64_t labels() const;
  TextScores of(std::span<const text::EncodedText> texts);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace surtsey::experiments
