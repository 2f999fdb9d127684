// Where texts stand in the rows of a batch: one a row with padding behind it, or several behind each other.
#pragma once

#include "experiments/models/model.h"
#include "graph/functions.h"

namespace surtsey::experiments {

// The activations [B, C] of the last token of each text: hidden [B, T, C], lengths u32 [B] (empty: all columns).
inline graph::Value last_of(graph::Value hidden, graph::Value lengths) {
  const graph::Shape row = {hidden.dim(0), hidden.dim(2)};
  if (!lengths) return reshape(slice(hidden, 1, hidden.dim(1) - 1, hidden.dim(1)), row);
  const graph::Value last = lengths - graph::scalar(*hidden.graph, 1, graph::DType::u32);
  return reshape(gather(hidden, reshape(last, {hidden.dim(0), 1}), 1, 1), row);
}

// Which tokens [B, T] are there, boolean [B, T]; empty: all. Padding behind a text is seen by an encoder alone: a
// decoder has read its text before it.
inline graph::Value mask_of(const Model& model, graph::Value tokens, const ForwardOptions& options) {
  if (!options.lengths || options.token_mask || model.config().architecture != Architecture::encoder)
    return options.token_mask;
  const graph::Value place = iota(*tokens.graph, {graph::DType::u32, {1, tokens.dim(1)}}, 1);
  return less(place, reshape(options.lengths, {tokens.dim(0), 1}));
}

// Texts behind each other in a row have the positions that follow from where each begins. UserError: not of a decoder
// that reads whole rows.
inline ForwardOptions with_positions(const Model& model, graph::Value tokens, ForwardOptions options) {
  if (!options.starts) return options;
  check(model.config().architecture == Architecture::decoder && options.cache_length == 0 && !options.positions,
        "[model] texts behind each other are read by decoders, without a cache and without positions of their own");
  options.positions = iota(*tokens.graph, {graph::DType::u32, {1, tokens.dim(1)}}, 1) - options.starts;
  return options;
}

}  // namespace surtsey::experiments
