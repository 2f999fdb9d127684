// How much a lane of attention keeps and writes out. Measured on lavapipe (shaders/README.md).
#pragma once

#include "shaders/archetypes.h"

#include <cstdint>

namespace surtsey::shaders {

inline constexpr int64_t kTileRows = 8;
// Heads up to this width are kept in registers, the lane's rows and the tile, and a lane has two rows: that halves what
// is loaded and broadcast.
inline constexpr int64_t kKeptWidth = 32;
inline constexpr int64_t kWidestChunk = 64;
// The sums of keys and values side by side are more than a GPU's lane has registers for.
inline constexpr int64_t kWidestSharedChunk = 32;
// Sums that a lane works on at a time, in registers; the others wait in memory.
inline constexpr int64_t kDotBlock = 8;
inline constexpr int64_t kSumBlock = 16;
inline constexpr int64_t kUnroll = 4;  // columns
inline constexpr int64_t kSharedLanes = 64;
inline constexpr int64_t kVector = 4;  // floats of a shared vector
// A head per lane: values of the other side that a lane keeps. LLVM spills them to the stack, where they are operands
// of multiply-adds as long as they stay in the first cache (64 bytes each with 16 lanes).
inline constexpr int64_t kMostHeld = 640;
// With few lanes few are idle, and SwiftShader, which has 4, takes 24 GB to compile what LLVM spills.
inline constexpr int64_t kFewestLanes = 8;

inline int64_t round_up(int64_t n, int64_t to) { return divide_up(n, to) * to; }

}  // namespace surtsey::shaders
