// GGUF files (ggml): keys with values, a directory of tensors, their bytes. Little-endian, versions 2 and 3.
//
//   "GGUF", u32 version, u64 tensors, u64 keys
//   keys: text key, u32 kind, value; a text is u64 length and bytes, an array u32 kind, u64 count and elements
//   tensors: text name, u32 axes, u64 extents (innermost first), u32 type, u64 offset in the data
//   padding to general.alignment (32 where it is not said), then the data, each tensor padded to the same
//
// The reader takes nothing on trust: every length and count is held against what is left of the file before anything is
// allocated; at most 65,536 keys and tensors, none twice; arrays are not nested; tensors follow each other without gaps
// in the order of the directory, and the file ends behind the last one or its padding. Types that are not in quant.h
// are refused by name.
#pragma once

#include "experiments/formats/tensor_directory.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace surtsey::experiments {

// As the file numbers them.
enum class GgufKind : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

// A value or an array of them: `elements` has one member for each kind of content, and one of these is in use.
struct GgufValue {
  GgufKind kind = GgufKind::u32;  // of the elements; never array
  bool array = false;             // otherwise there is exactly one
  std::vector<int64_t> integers;  // u8 to i32, boolean (0 or 1), i64, and u64 as its bits
  std::vector<double> floats;     // f32, f64
  std::vector<std::string> texts;

  static GgufValue of(uint32_t value) { return {.kind = GgufKind::u32, .integers = {int64_t(value)}}; }
  static GgufValue of(bool value) { return {.kind = GgufKind::boolean, .integers = {value ? 1 : 0}}; }
  static GgufValue of(float value) { return {.kind = GgufKind::f32, .floats = {double(value)}}; }
  static GgufValue of(std::string value) { return {.kind = GgufKind::text, .texts = {std::move(value)}}; }
  bool operator==(const GgufValue&) const = default;
};

using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;  // in the order of the file

struct Gguf {
  GgufMetadata metadata;
  std::vector<std::string> order;  // of the tensors
  TensorDirectory tensors;

  const GgufValue* find(std::string_view key) const;  // null where there is none
};

bool is_gguf(const std::filesystem::path& path);  // by its first bytes
// UserError, with the path, for a file that breaks a rule above.
Gguf open_gguf(const std::filesystem::path& path);

// One value, with the type that is asked for; numbers of any width. UserError beginning with `where` where a key has
// another type, or a fallback is absent and the key too.
int64_t gguf_integer(const Gguf& file, const std::string& where, const std::string& key,
                     std::optional<int64_t> fallback = {});
double gguf_number(const Gguf& file, const std::string& where, const std::string& key,
                   std::optional<double> fallback = {});
std::string gguf_text(const Gguf& file, const std::string& where, const std::string& key,
                      std::optional<std::string> fallback = {});

struct GgufTensor {
  std::string name;
  StoredType type = StoredType::f32;
  graph::Shape shape;  // outermost first
};

// Writes a file (version 3) that is whole or not there. `bytes` gives each tensor's as they are written, one after the
// other: none but that one is in memory. The alignment is general.alignment of the metadata, else 32.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors,
                const std::function<std::vector<std::byte>(size_t tensor)>& bytes);

}  // namespace surtsey::experiments
