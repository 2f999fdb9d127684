// A model that others trained, asked through the slots that it generates in.
#pragma once

#include "experiments/evaluate/harness/scorer.h"
#include "experiments/generate/slots.h"

namespace surtsey::experiments {

// Contexts that begin alike are read once as long as they are asked one behind the other.
class SlotsScorer : public Scorer {
 public:
  // `slots`, with SlotOptions::scores, outlives it; `tokens` are the model's.
  SlotsScorer(Slots& slots, hub::SpecialTokens tokens) : slots_(slots), tokens_(std::move(tokens)) {}

  int64_t context() const override;
  bool is_encoder_decoder() const override;
  std::vector<TokenLikelihood> score(std::span<const int32_t> context, std::span<const int32_t> continuation) override;
  void generate(std::span<const Request> requests, const hub::GenerationConfig& how, uint64_t seed,
                const std::function<bool(size_t place, int32_t token)>& token,
                const std::function<void(size_t place)>& done) override;

 private:
  // What the text of an encoder-decoder begins with.
  int32_t start_token() const;

  Slots& slots_;
  hub::SpecialTokens tokens_;
};

}  // namespace surtsey::experiments
