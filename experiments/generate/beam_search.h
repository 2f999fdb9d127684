// Beam search: the texts with the largest log-probability, as transformers 4.48 looks for them (BeamSearchScorer).
#pragma once

#include "experiments/generate/slots.h"

#include <cstdint>
#include <span>
#include <vector>

namespace surtsey::experiments {

// Continues `given` in how.num_beams slots: from each beam the 2 num_beams best tokens (more with several end tokens)
// by processed log-probability; those that end a text become hypotheses, scored by their sum over
// length^length_penalty, and the best num_beams of the others go on. With do_sample the candidates are drawn without
// replacement from what temperature, top_k and so on leave. early_stopping: off, when no beam can become better than
// the worst hypothesis at its present length; on, when there are num_beams hypotheses; never, when none can at any
// length. Returns the new tokens of the num_return_sequences best, the best first. UserError: fewer slots than beams,
// more texts than beams, no room; NotFinite.
std::vector<std::vector<int32_t>> beam_search(Slots& slots, std::span<const int32_t> given,
                                              const hub::GenerationConfig& how, uint64_t seed);

}  // namespace surtsey::experiments
