// Frozen weights in few bits: several numbers in a word, and a scale a row.
//
//   model.store().freeze([](const graph::ParameterSpec& spec) { return spec.shape.size() == 2; }, packed_rows(8));
//
// The numbers are those of quantize.h: symmetric, to the nearest, one scale per output channel. A row w of n numbers is
// kept as ceil(n / (32 / bits)) words, the first number in the lowest bits, biased by 2^(bits-1), and its scale:
//   NAME.words  u32 [.., words]
//   NAME.scale  f32 [.., 1]
// UserError from pack(): a number that is not finite. A product reads them as scale * (field - 2^(bits-1)), in f32.
#pragma once

#include "experiments/models/hub/source.h"
#include "experiments/models/model.h"
#include "graph/parameters.h"
#include "graph/target.h"

#include <string_view>

namespace surtsey::experiments {

// bits: 4 or 8. UserError for others.
graph::Storage packed_rows(int bits);

// Freezes a whole model in a format by name: f32, f16 or bf16 every tensor; int8 or int4 the matrices, and f32 the
// rest; q8_0, q4_0, q4_k or q6_k as models/hub/stored_weights.h does. "trained" leaves it as it is. UserError for other
// names.
void freeze_weights(graph::ParameterStore& store, std::string_view format);
// The same for a model that others trained, and "stored": each tensor as its file has it.
void freeze_weights(Model& model, const hub::Source& source, std::string_view format, const graph::Target& target);

}  // namespace surtsey::experiments
