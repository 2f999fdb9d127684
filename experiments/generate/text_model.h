// A model that others trained, ready to continue tokens as its generation_config.json says.
//
//   TextModel model(device, source, {.context = 512});
//   model.generate(prompt, source.generation(), 0, [&](int64_t, int32_t token) { stream(token); return true; });
#pragma once

#include "experiments/generate/slots.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace surtsey::experiments {

class TextModel {
 public:
  // As Slots; options.slots: slots_for() of what generate() will be asked.
  TextModel(engine::Device& device, const hub::Source& source, const SlotOptions& options);

  // How many texts stand side by side: the beams, or the texts that are drawn.
  static int64_t slots_for(const hub::GenerationConfig& how);

  const ModelConfig& config() const { return slots_.config(); }
  Slots& slots() { return slots_; }

  // Each token as it comes, with the number of its text; false ends that text.
  using Told = std::function<bool(int64_t text, int32_t token)>;
  // Continues `prompt` (of an encoder-decoder: answers it) until an end token was given (which is told and returned),
  // or the lengths of `how` or the context are reached: num_return_sequences texts of new tokens. Greedy or drawn
  // (sampler.h), text i from stream i of `seed`; with num_beams by beam search (beam_search.h), the best first, and
  // told at the end. What the last prompt has in common with this one is not computed again. UserError: an empty
  // prompt, one that leaves no room in the context, more beams than slots, what Sampler says; NotFinite.
  std::vector<std::vector<int32_t>> generate(const std::vector<int32_t>& prompt, const hub::GenerationConfig& how,
                                             uint64_t seed, const Told& told = {});

 private:
  // Texts `first` and after it, one a slot.
  std::vector<std::vector<int32_t>> draw(const std::vector<int32_t>& given, const hub::GenerationConfig& how,
                                         uint64_t seed, int64_t first, int64_t count, const Told& told);

  std::string where_;
  Slots slots_;
};

}  // namespace surtsey::experiments
