// Weights that stay on the device as files of models store them: in blocks of small integers with their scales
// (formats/quant.h), unpacked by the product that reads them.
//
// A tensor [.., n] of such a type is kept in these parts, whose bytes are the file's, in the order in which kernels
// read them: number i of a row stands in field i of its words, the lowest bits first.
//   q8_0   .words u32 [.., n/4]  q + 128;  .scale f16 [.., n/32]
//   q4_0   .words u32 [.., n/8];           .scale f16 [.., n/32]
//   q4_k   .words u32 [.., n/8];  .low u32 [.., n/128], .high u32 [.., n/256]: low 4 and high 2 bits of the 8 scales
//          and then the 8 minima of each block;  .scale f16 [.., n/128]: d, m of each block
//   q6_k   .words u32 [.., n/8], .high u32 [.., n/16]: low 4 and high 2 bits of q;  .steps u32 [.., n/64]: the 16
// scales
//          of each block + 128;  .scale f16 [.., n/256]
// The numbers are those of dequantize_row(), bit for bit: its products in its order, in f32.
#pragma once

#include "experiments/formats/quant.h"
#include "experiments/models/hub/source.h"
#include "experiments/models/model.h"
#include "graph/storage.h"

#include <cstddef>
#include <span>
#include <vector>

namespace surtsey::experiments::hub {

// How a type keeps a tensor; f32, f16 and bf16 are graph::whole(). Of block types a graph can write q8_0 alone
// (Storage::keep): the same whole numbers, where the device divides as IEEE 754 has it. UserError from parts(): rows
// that whole blocks do not fill; from pack(): what quantize_row() refuses.
graph::Storage storage_of(StoredType type);

// The parts of a tensor of a block type from the file's bytes, nothing rounded: as the device has them, and as tensors.
std::vector<std::vector<std::byte>> block_part_bytes(StoredType type, const graph::Shape& shape,
                                                     std::span<const std::byte> bytes);
std::vector<graph::HostTensor> block_parts(StoredType type, const graph::Shape& shape,
                                           std::span<const std::byte> bytes);

// Freezes all of a model: its matrices in this type, in q8_0 where their rows are no whole blocks of it, and in f32
// where they are none of that either; what is no matrix as f32.
void freeze_in_blocks(graph::ParameterStore& store, StoredType type);

// Freezes all of a model as its file has it. Tensors in 16 bits are widened where `narrow` is off (a device without
// 16-bit storage).
void freeze_as_stored(Model& model, const Source& source, bool narrow = true);

}  // namespace surtsey::experiments::hub
