// How weights are stored in files of models, and the arithmetic of their blocks, as ggml defines it.
//
// A row of numbers is cut into blocks, each a few scales and small integers (little-endian, no gaps):
//   type   numbers  bytes  layout and value of number i
//   f32          1      4
//   f16          1      2
//   bf16         1      2
//   q8_0        32     34  f16 d; i8 q[32]: d q[i]
//   q4_0        32     18  f16 d; u4 q[32], number i in the low half of byte i, i + 16 in the high half: d (q[i] - 8)
//   q4_k       256    144  f16 d, m; u6 scale[8], min[8] in 12 bytes; u4 q[256]: d scale[i / 32] q[i] - m min[i / 32]
//   q6_k       256    210  low 4 bits of q, high 2 bits; i8 scale[16]; f16 d: d scale[i / 16] (q[i] - 32)
// Quantizing gives the bits of ggml's reference, searches of scales included, so a file written here is the file that
// its tools write. All arithmetic is f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

enum class StoredType : uint8_t { f32, f16, bf16, q8_0, q4_0, q4_k, q6_k };

const char* name(StoredType type);
std::optional<StoredType> stored_type(std::string_view name);
std::vector<std::string> stored_type_names();

int64_t block_size(StoredType type);   // numbers in a block; 1 where there are none
int64_t block_bytes(StoredType type);  // bytes of one
bool is_block_type(StoredType type);
// Bytes of a row of n numbers. UserError where whole blocks do not fill it.
int64_t row_bytes(StoredType type, int64_t n);

// One row or several behind each other: `bytes` holds exactly what `numbers` takes. UserError from quantize_row(): a
// number that is not finite, or one too large for the type (a scale would be infinite).
void quantize_row(StoredType type, std::span<const float> numbers, std::span<std::byte> bytes);
// Every pattern of bits has a value, scales that are infinite or NaN included.
void dequantize_row(StoredType type, std::span<const std::byte> bytes, std::span<float> numbers);

}  // namespace surtsey::experiments
