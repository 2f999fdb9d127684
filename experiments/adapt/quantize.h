// Weights rounded in place to what few bits can say.
//
// Symmetric, to the nearest, one scale per output channel: with m = 2^(bits-1) - 1 levels on each
// side, a row w of a matrix [out, in] becomes s round(w / s), s = max|w| / m, ties to even. Two
// bits leave -s, 0 and s. The arithmetic stays f32: this shows what the precision costs, not what
// it saves. See packed.h for weights that are kept in few bits.
#pragma once

#include "engine/session.h"
#include "graph/parameters.h"

#include <string>
#include <vector>

namespace surtsey::experiments {

// The s of a row, 0 where all of it is 0, and round(w / s).
float row_scale(const double* row, int64_t count, int bits);
int row_level(double value, float scale, int bits);

struct QuantizeConfig {
  int bits = 8;                         // 2 to 8
  bool embeddings = false;              // embed.* as well (a tied head is one of them)
  std::vector<std::string> names = {};  // these tensors only; empty: every matrix that trains
};

// `parameters` is f32 [P] or, of an ensemble, [E, P]. Returns the names of what was rounded.
// UserError: bits, a name that does not exist or is no matrix, parameters of another layout.
std::vector<std::string> quantize(const graph::ParameterStore& store, graph::HostTensor& parameters,
                                  const QuantizeConfig& config);
// The same with the "parameters" of a session.
std::vector<std::string> quantize(engine::Session& session, const graph::ParameterStore& store,
                                  const QuantizeConfig& config);

}  // namespace surtsey::experiments
