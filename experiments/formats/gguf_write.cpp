#include "experiments/base/file.h"
#include "experiments/formats/gguf.h"
#include "graph/error.h"

#include <bit>

namespace surtsey::experiments {
namespace {

template <typename Number>
void put(std::string& bytes, Number number) {
  static_assert(std::endian::native == std::endian::little, "numbers are written as they are");
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

void add_text(std::string& bytes, std::string_view text) {
  put(bytes, uint64_t(text.size()));
  bytes += text;
}

void add_value(std::string& bytes, const GgufValue& value) {
  const size_t count = value.integers.size() + value.floats.size() + value.texts.size();
  ensure(value.array || count == 1, "a GGUF value of {} elements that is no array", count);
  if (value.array) put(bytes, uint32_t(GgufKind::array));
  put(bytes, uint32_t(value.kind));
  if (value.array) put(bytes, uint64_t(count));
  for (const int64_t number : value.integers) {
    switch (value.kind) {
      case GgufKind::u8:
      case GgufKind::i8:
      case GgufKind::boolean:
        put(bytes, uint8_t(number));
        break;
      case GgufKind::u16:
      case GgufKind::i16:
        put(bytes, uint16_t(number));
        break;
      case GgufKind::u32:
      case GgufKind::i32:
        put(bytes, uint32_t(number));
        break;
      default:
        put(bytes, number);
    }
  }
  for (const double number : value.floats) {
    if (value.kind == GgufKind::f32) put(bytes, float(number));
    if (value.kind == GgufKind::f64) put(bytes, number);
  }
  for (const std::string& text : value.texts) add_text(bytes, text);
}

uint32_t type_number(StoredType type) {
  constexpr uint32_t kNumbers[] = {0, 1, 30, 8, 2, 12, 14};
  return kNumbers[size_t(type)];
}

uint64_t padding(uint64_t size, uint64_t alignment) { return (alignment - size % alignment) % alignment; }

}  // namespace

void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors,
                const std::function<std::vector<std::byte>(size_t tensor)>& bytes) {
  std::string header = "GGUF";
  put(header, uint32_t(3));
  put(header, uint64_t(tensors.size()));
  put(header, uint64_t(metadata.size()));
  uint64_t alignment = 32, offset = 0;
  for (const auto& [key, value] : metadata) {
    if (key == "general.alignment") alignment = uint64_t(value.integers.at(0));
    add_text(header, key);
    add_value(header, value);
  }
  std::vector<uint64_t> sizes;
  for (const GgufTensor& tensor : tensors) {
    const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    const int64_t rows = row == 0 ? 0 : graph::element_count(tensor.shape) / row;
    sizes.push_back(uint64_t(rows) * uint64_t(row_bytes(tensor.type, row)));
    add_text(header, tensor.name);
    put(header, uint32_t(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) put(header, uint64_t(*extent));
    put(header, type_number(tensor.type));
    put(header, offset);
    offset += sizes.back() + padding(sizes.back(), alignment);
  }
  header.append(size_t(padding(header.size(), alignment)), '\0');
  write_file_atomic(path, [&](const ContentWriter& write) {
    write(header);
    for (size_t i = 0; i < tensors.size(); ++i) {
      const std::vector<std::byte> content = bytes(i);
      ensure(content.size() == sizes[i], "tensor {} has {} bytes and not {}", tensors[i].name, content.size(),
             sizes[i]);
      write({reinterpret_cast<const char*>(content.data()), content.size()});
      write(std::string(size_t(padding(content.size(), alignment)), '\0'));
    }
  });
}

}  // namespace surtsey::experiments
