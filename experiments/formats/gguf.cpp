#include "experiments/formats/gguf.h"

#include "graph/error.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>

namespace surtsey::experiments {
namespace {

constexpr uint64_t kMostEntries = 65536;
constexpr uint32_t kMostAxes = 4;
constexpr size_t kMostKeyLength = 1024;  // so that a message can have it
constexpr uint32_t kDefaultAlignment = 32;
constexpr uint32_t kMostAlignment = 1u << 20;

struct KindRow {
  const char* name;
  uint64_t bytes;  // the least that one takes
};
constexpr KindRow kKinds[] = {{"u8", 1},   {"i8", 1},   {"u16", 2},   {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
                              {"bool", 1}, {"text", 8}, {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8}};

struct TypeRow {
  uint32_t number;
  const char* name;
  std::optional<StoredType> type;
};
const TypeRow kGgufTypes[] = {
    {0, "F32", StoredType::f32},
    {1, "F16", StoredType::f16},
    {2, "Q4_0", StoredType::q4_0},
    {3, "Q4_1", {}},
    {6, "Q5_0", {}},
    {7, "Q5_1", {}},
    {8, "Q8_0", StoredType::q8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {12, "Q4_K", StoredType::q4_k},
    {13, "Q5_K", {}},
    {14, "Q6_K", StoredType::q6_k},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", {}},
    {25, "I16", {}},
    {26, "I32", {}},
    {27, "I64", {}},
    {28, "F64", {}},
    {29, "IQ1_M", {}},
    {30, "BF16", StoredType::bf16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
    {40, "NVFP4", {}},
};

// The file from its beginning, through a window.
class Cursor {
 public:
  explicit Cursor(const RangedFile& file) : file_(file), window_(size_t(std::min<uint64_t>(file.size(), 1 << 16))) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return file_.size() - position_; }

  template <typename Number>
  Number number() {
    std::array<std::byte, sizeof(Number)> bytes;
    take(bytes);
    return std::bit_cast<Number>(bytes);
  }

  std::string text(const char* what, uint64_t most) {
    const auto length = number<uint64_t>();
    check(length <= left() && length <= most, "{}: {} is said to have {} bytes, {} are left", file_.path(), what,
          length, left());
    std::string text(size_t(length), ' ');
    take(std::as_writable_bytes(std::span(text)));
    return text;
  }

 private:
  void take(std::span<std::byte> target) {
    check(target.size() <= left(), "{}: the file is truncated at byte {}", file_.path(), position_);
    while (!target.empty()) {
      const bool inside = position_ >= start_ && position_ < start_ + filled_;
      if (!inside) {
        start_ = position_;
        filled_ = size_t(std::min<uint64_t>(window_.size(), left()));
        file_.read(start_, std::span(window_).first(filled_));
      }
      const size_t at = size_t(position_ - start_), count = std::min(target.size(), filled_ - at);
      std::memcpy(target.data(), window_.data() + at, count);
      target = target.subspan(count);
      position_ += count;
    }
  }

  const RangedFile& file_;
  std::vector<std::byte> window_;
  uint64_t position_ = 0, start_ = 0;
  size_t filled_ = 0;
};

GgufKind read_kind(Cursor& cursor, const std::string& path, const std::string& key) {
  const auto number = cursor.number<uint32_t>();
  check(number < std::size(kKinds), "{}: key {} has the kind {}, of which there is none", path, key, number);
  return GgufKind(number);
}

void read_element(Cursor& cursor, const std::string& path, const std::string& key, GgufValue& value) {
  switch (value.kind) {
    case GgufKind::u8:
      return value.integers.push_back(cursor.number<uint8_t>());
    case GgufKind::i8:
      return value.integers.push_back(cursor.number<int8_t>());
    case GgufKind::u16:
      return value.integers.push_back(cursor.number<uint16_t>());
    case GgufKind::i16:
      return value.integers.push_back(cursor.number<int16_t>());
    case GgufKind::u32:
      return value.integers.push_back(cursor.number<uint32_t>());
    case GgufKind::i32:
      return value.integers.push_back(cursor.number<int32_t>());
    case GgufKind::u64:
    case GgufKind::i64:
      return value.integers.push_back(cursor.number<int64_t>());
    case GgufKind::boolean: {
      const auto word = cursor.number<uint8_t>();
      check(word <= 1, "{}: key {} has {} where 0 or 1 belongs", path, key, word);
      return value.integers.push_back(word);
    }
    case GgufKind::f32:
      return value.floats.push_back(double(cursor.number<float>()));
    case GgufKind::f64:
      return value.floats.push_back(cursor.number<double>());
    case GgufKind::text:
      return value.texts.push_back(cursor.text("a text", UINT64_MAX));
    case GgufKind::array:
      break;
  }
  ensure(false, "an array in an array");
}

GgufValue read_value(Cursor& cursor, const std::string& path, const std::string& key) {
  GgufValue value;
  value.kind = read_kind(cursor, path, key);
  value.array = value.kind == GgufKind::array;
  uint64_t count = 1;
  if (value.array) {
    value.kind = read_kind(cursor, path, key);
    check(value.kind != GgufKind::array, "{}: key {} is an array of arrays, which is not supported", path, key);
    count = cursor.number<uint64_t>();
  }
  const KindRow& row = kKinds[size_t(value.kind)];
  check(count <= cursor.left() / row.bytes, "{}: key {} is said to have {} times {}, {} bytes are left", path, key,
        count, row.name, cursor.left());
  if (value.kind == GgufKind::text) {
    value.texts.reserve(size_t(count));
  } else if (value.kind == GgufKind::f32 || value.kind == GgufKind::f64) {
    value.floats.reserve(size_t(count));
  } else {
    value.integers.reserve(size_t(count));
  }
  for (uint64_t i = 0; i < count; ++i) read_element(cursor, path, key, value);
  return value;
}

StoredType read_type(Cursor& cursor, const std::string& path, const std::string& tensor) {
  const auto number = cursor.number<uint32_t>();
  std::string named = fmt::format("with the number {}", number), supported;
  for (const TypeRow& row : kGgufTypes) {
    if (row.type) supported += (supported.empty() ? "" : ", ") + std::string(row.name);
    if (row.number != number) continue;
    if (row.type) return *row.type;
    named = row.name;
  }
  throw UserError(fmt::format("{}: tensor {} has the type {}, which is not supported; there are {}", path, tensor,
                              named, supported));
}

uint64_t padded(uint64_t size, uint64_t alignment) { return (size + alignment - 1) / alignment * alignment; }

struct Entry {
  std::string name;
  StoredType type = StoredType::f32;
  graph::Shape shape;
  uint64_t bytes = 0, offset = 0;
};

Entry read_entry(Cursor& cursor, const std::string& path) {
  Entry entry;
  entry.name = cursor.text("the name of a tensor", kMostKeyLength);
  const auto axes = cursor.number<uint32_t>();
  check(axes <= kMostAxes, "{}: tensor {} has {} axes, at most {} are allowed", path, entry.name, axes, kMostAxes);
  uint64_t count = 1;
  for (uint32_t i = 0; i < axes; ++i) {
    const auto extent = cursor.number<uint64_t>();
    check(extent <= uint64_t(INT64_MAX) && !__builtin_mul_overflow(count, extent, &count),
          "{}: the shape of tensor {} overflows", path, entry.name);
    entry.shape.insert(entry.shape.begin(), int64_t(extent));
  }
  entry.type = read_type(cursor, path, entry.name);
  const int64_t row = entry.shape.empty() ? 1 : entry.shape.back();
  check(row % block_size(entry.type) == 0, "{}: a row of tensor {} has {} numbers, blocks of {} have {}", path,
        entry.name, row, name(entry.type), block_size(entry.type));
  check(!__builtin_mul_overflow(count / uint64_t(block_size(entry.type)), uint64_t(block_bytes(entry.type)),
                                &entry.bytes),
        "{}: the shape of tensor {} overflows", path, entry.name);
  entry.offset = cursor.number<uint64_t>();
  return entry;
}

uint32_t alignment_of(const Gguf& content, const std::string& path) {
  const GgufValue* value = content.find("general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  check(value->kind == GgufKind::u32 && !value->array, "{}: general.alignment is no u32", path);
  const int64_t alignment = value->integers[0];
  check(alignment > 0 && alignment <= kMostAlignment && std::has_single_bit(uint64_t(alignment)),
        "{}: general.alignment {} is no power of 2 up to {}", path, alignment, kMostAlignment);
  return uint32_t(alignment);
}

}  // namespace

const GgufValue* Gguf::find(std::string_view key) const {
  const auto found =
      std::find_if(metadata.begin(), metadata.end(), [&](const auto& pair) { return pair.first == key; });
  return found == metadata.end() ? nullptr : &found->second;
}

bool is_gguf(const std::filesystem::path& path) {
  const RangedFile file(path);
  std::array<char, 4> magic = {};
  if (file.size() >= magic.size()) file.read(0, std::as_writable_bytes(std::span(magic)));
  return std::string_view(magic.data(), magic.size()) == "GGUF";
}

Gguf open_gguf(const std::filesystem::path& where) {
  const auto file = std::make_shared<const RangedFile>(where);
  const std::string& path = file->path();
  Cursor cursor(*file);
  check(cursor.left() >= 24 && cursor.number<uint32_t>() == 0x46554747u, "{}: this is no GGUF file", path);
  const auto version = cursor.number<uint32_t>();
  check((version & 0xffffu) != 0, "{}: big-endian GGUF is not supported", path);
  check(version == 2 || version == 3, "{}: version {} of GGUF is not supported; there are 2 and 3", path, version);
  const auto tensors = cursor.number<uint64_t>(), keys = cursor.number<uint64_t>();
  check(tensors <= kMostEntries && keys <= kMostEntries, "{}: {} tensors and {} keys, at most {} are read", path,
        tensors, keys, kMostEntries);

  Gguf content;
  std::set<std::string> names;
  for (uint64_t i = 0; i < keys; ++i) {
    std::string key = cursor.text("a key", kMostKeyLength);
    check(!key.empty() && names.insert(key).second, "{}: key '{}' is empty or there twice", path, key);
    GgufValue value = read_value(cursor, path, key);
    content.metadata.emplace_back(std::move(key), std::move(value));
  }
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < tensors; ++i) entries.push_back(read_entry(cursor, path));

  const uint64_t alignment = alignment_of(content, path), data = padded(cursor.position(), alignment);
  const uint64_t available = file->size() > data ? file->size() - data : 0;
  uint64_t expected = 0, end = 0;
  for (Entry& entry : entries) {
    check(entry.offset == expected, "{}: tensor {} begins at {} of the data, not at {}: a gap or an overlap", path,
          entry.name, entry.offset, expected);
    check(entry.bytes <= available && expected <= available - entry.bytes,
          "{}: the file is truncated: tensor {} has {} bytes at {} of {}", path, entry.name, entry.bytes, expected,
          available);
    end = expected + entry.bytes;
    expected = padded(end, alignment);
    content.order.push_back(entry.name);
    const FileTensor tensor{file, data + entry.offset, entry.bytes, entry.type, name(entry.type), entry.shape};
    check(content.tensors.emplace(std::move(entry.name), tensor).second, "{}: tensor {} is there twice", path,
          content.order.back());
  }
  check(available <= expected, "{}: {} bytes follow the last tensor", path, available - std::min(available, expected));
  return content;
}

namespace {

// The one value of a key, or null where there is none.
const GgufValue* single(const Gguf& file, const std::string& where, const std::string& key, bool required) {
  const GgufValue* value = file.find(key);
  check(value != nullptr || !required, "{}: key {} is missing", where, key);
  check(value == nullptr || !value->array, "{}: key {} is an array, where one value is read", where, key);
  return value;
}

}  // namespace

int64_t gguf_integer(const Gguf& file, const std::string& where, const std::string& key,
                     std::optional<int64_t> fallback) {
  const GgufValue* value = single(file, where, key, !fallback);
  if (value == nullptr) return *fallback;
  const bool fits = !value->integers.empty() && (value->kind != GgufKind::u64 || value->integers[0] >= 0);
  check(fits, "{}: key {} is no whole number", where, key);
  return value->integers[0];
}

double gguf_number(const Gguf& file, const std::string& where, const std::string& key, std::optional<double> fallback) {
  const GgufValue* value = single(file, where, key, !fallback);
  if (value == nullptr) return *fallback;
  check(!value->floats.empty() || !value->integers.empty(), "{}: key {} is no number", where, key);
  return value->floats.empty() ? double(value->integers[0]) : value->floats[0];
}

std::string gguf_text(const Gguf& file, const std::string& where, const std::string& key,
                      std::optional<std::string> fallback) {
  const GgufValue* value = single(file, where, key, !fallback);
  if (value == nullptr) return *fallback;
  check(!value->texts.empty(), "{}: key {} is no text", where, key);
  return value->texts[0];
}

}  // namespace surtsey::experiments
