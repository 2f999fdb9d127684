// A model on a device, ready to be asked.
#pragma once

#include "engine/device.h"
#include "experiments/evaluate/harness/evaluation.h"
#include "experiments/evaluate/harness/slots_scorer.h"

#include <functional>
#include <memory>
#include <string>

namespace surtsey::experiments::commands {

class OpenModel {
 public:
  // `model` as open_source() takes it. `options.slots` texts are written at once.
  OpenModel(engine::Device& device, const std::string& model, SlotOptions options);

  AskedModel asked() { return {scorer_, tokenizer_, tokens_}; }
  // What its chat template makes of a user's only message, up to where the answer begins. UserError: it has none.
  std::function<std::string(const std::string& message)> chat() const;
  // base_fingerprint() of it: another model has another.
  std::string fingerprint() const;

 private:
  std::unique_ptr<hub::Source> source_;
  text::Tokenizer tokenizer_;
  Slots slots_;
  hub::SpecialTokens tokens_;
  SlotsScorer scorer_;
};

}  // namespace surtsey::experiments::commands
