// Texts as vectors: the mean of a model's last hidden states over a text's tokens, as /v1/embeddings gives them and
// `surtsey index` keeps them. Of encoders and of decoders, whatever head stands on them.
//
//   TextVectors vectors(device, source);
//   const std::vector<std::vector<float>> means = vectors.of({tokenizer.encode("a text")});
//
// A text's vector is the same bits whatever texts are asked beside it: it is padded to a length that is its own (a
// power of two), and padding is masked. Programs are compiled when a length is first asked for; a few are kept.
#pragma once

#include "engine/device.h"
#include "experiments/models/hub/source.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::experiments {

class TextVectors {
 public:
  // UserError: an encoder-decoder. Both outlive it.
  TextVectors(engine::Device& device, const hub::Source& source);
  ~TextVectors();

  static bool has(const hub::Source& source);
  static int64_t context(const hub::Source& source);  // tokens that a text has at most
  int64_t context() const;
  int64_t width() const;  // C

  // [n][C]. UserError: a text without tokens, one of more than context(), a token that there is not, a mean that is not
  // finite.
  std::vector<std::vector<float>> of(const std::vector<std::vector<int32_t>>& texts);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace surtsey::experiments
