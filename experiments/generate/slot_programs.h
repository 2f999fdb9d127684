// The programs of slots (slots.h), each for one text; for several, vectorize() over slot_member_state().
//
// State tensors, beside a model's frozen tensors, its constants and its caches (models/model.h); R texts side by side
// give those of slot_member_state() a leading axis R:
//   slot.next         u32 [64]       the token that a step reads, where it stands, with which adapter; the rest is room
//   slot.source_mask  boolean [1, S] of an encoder-decoder: which of the source's tokens exist
//   cache.*           f32 [1, K, cache_length, D], of cross-attention [1, K, S, D], or the parts that these are kept
//                     in; virtual tokens stand before a text's columns, with columns of their own
//   read.next         u32 [chunk + 3]  where the columns that are read begin; the column whose logits are asked for;
//                     the adapter; tokens
//   read.source       u32 [1, S]
//   move.from         u32 [E]        for each slot the slot that it becomes a copy of
//   move.position     u32 []         the first column that is copied
//   held.*            [E, 1, K, chunk, ..], the columns on their way, a tensor for each of the cache
#pragma once

#include "experiments/models/model.h"

#include <set>
#include <string>

namespace surtsey::experiments {

struct SlotShape {
  int64_t cache_length = 0;  // columns of the caches: those of a text, and one or more that nothing is kept in
  int64_t chunk = 0;         // columns that are read at once
};

inline constexpr int64_t kSlotWords = 64;  // of slot.next: a text's part begins where devices like it

std::set<std::string> slot_member_state();

// Both for texts that end within the first `depth` columns of the cache.
// Reads one token and remembers it. Output: logits f32 [1, 1, V].
graph::Program step_program(const Model& model, const SlotShape& shape, int64_t depth);
// Reads `chunk` columns. Output: logits f32 [1, 1, V] of the column asked for, or [1, chunk, V] of all.
graph::Program read_program(const Model& model, const SlotShape& shape, int64_t depth, bool all);
// Remembers a source for cross-attention.
graph::Program source_program(const Model& model);
// The virtual tokens before a text into its caches, once before any text is read.
graph::Program virtual_program(const Model& model, const SlotShape& shape);
// Of `slots` texts at once, the columns from move.position on: out of the caches, and into them where they go.
graph::Program hold_program(const Model& model, const SlotShape& shape, int64_t slots);
graph::Program put_program(const Model& model, const SlotShape& shape, int64_t slots);

}  // namespace surtsey::experiments
