#include "experiments/formats/safetensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <utility>

#include "experiments/base/file.h"
#include "experiments/formats/strict_json.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Type;
using nlohmann::json;

constexpr uint64_t kHeaderLimit = 100'000'000;
constexpr int kDepthLimit = 3;  // header, tensor, shape

// What tensors of our own are.
struct DTypeName {
  const char* name;
  DType dtype;
};
constexpr std::array<DTypeName, 6> kDTypeNames = {{
    {"F32", DType::f32},
    {"F16", DType::f16},
    {"BF16", DType::bf16},
    {"I32", DType::i32},
    {"U32", DType::u32},
    {"BOOL", DType::boolean},
}};

// What a header may name: a model's file has buffers beside its weights.
constexpr std::pair<const char*, uint64_t> kElementBytes[] = {
    {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I64", 8}, {"I32", 4},
    {"I16", 2}, {"I8", 1},  {"U64", 8}, {"U32", 4},  {"U16", 2},     {"U8", 1},      {"BOOL", 1}};

const DTypeName& format_of(DType dtype) {
  for (const DTypeName& format : kDTypeNames) {
    if (format.dtype == dtype) return format;
  }
  ensure(false, "no safetensors name for {}", name(dtype));
  return kDTypeNames[0];
}

uint64_t whole_number(const json& value, const std::string& path, const std::string& tensor) {
  check(value.is_number_unsigned(), "{}: tensor {} has {} where a whole number belongs", path, tensor, value.dump());
  return value.get<uint64_t>();
}

SafetensorsEntry read_entry(const std::string& name, const json& value, const std::string& path) {
  SafetensorsEntry entry{name};
  check(value.is_object() && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
            value.contains("data_offsets"),
        "{}: tensor {} must have exactly dtype, shape and data_offsets", path, name);
  const json& dtype = value.at("dtype");
  uint64_t bytes = 0;
  for (const auto& [word, width] : kElementBytes) {
    if (dtype == word) bytes = width;
  }
  check(bytes > 0, "{}: tensor {} has the dtype {}, which is not supported", path, name, dtype.dump());
  entry.dtype = dtype.get<std::string>();

  const json& shape = value.at("shape");
  check(shape.is_array(), "{}: the shape of tensor {} is not a list", path, name);
  for (const json& extent : shape) {
    const uint64_t n = whole_number(extent, path, name);
    check(n <= uint64_t(INT64_MAX) && !__builtin_mul_overflow(bytes, n, &bytes), "{}: the shape of tensor {} overflows",
          path, name);
    entry.shape.push_back(int64_t(n));
  }
  const json& offsets = value.at("data_offsets");
  check(offsets.is_array() && offsets.size() == 2, "{}: tensor {} must have two data_offsets", path, name);
  entry.begin = whole_number(offsets[0], path, name);
  entry.end = whole_number(offsets[1], path, name);
  check(entry.begin <= entry.end && entry.end - entry.begin == bytes,
        "{}: tensor {} is {}{} and needs {} bytes, its offsets are [{}, {}]", path, name, entry.dtype,
        graph::to_string(entry.shape), bytes, entry.begin, entry.end);
  return entry;
}

// The length of the header, by the first 8 bytes of a file of `size` bytes.
uint64_t read_length(std::span<const std::byte> first, uint64_t size, const std::string& path) {
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | uint64_t(first[size_t(i)]);
  check(length <= kHeaderLimit, "{}: the header is {} bytes long, at most {} are allowed", path, length, kHeaderLimit);
  check(length <= size - 8, "{}: the file is truncated in its header", path);
  return length;
}

// A header of `text`, before `available` bytes of data.
SafetensorsHeader parse_header(const std::string& text, uint64_t available, const std::string& path) {
  const json header = parse_strict_json(text, path + ": the header", kDepthLimit);
  SafetensorsHeader content;
  content.data = 8 + text.size();
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      content.entries.push_back(read_entry(name, value, path));
      continue;
    }
    check(value.is_object(), "{}: __metadata__ is not an object", path);
    for (const auto& [key, word] : value.items()) {
      check(word.is_string(), "{}: __metadata__ {} is not a string", path, key);
      content.metadata[key] = word.get<std::string>();
    }
  }
  std::sort(content.entries.begin(), content.entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t position = 0;
  for (const SafetensorsEntry& entry : content.entries) {
    check(entry.begin == position, "{}: tensor {} begins at {}, not at {}: a gap or an overlap", path, entry.name,
          entry.begin, position);
    check(entry.end <= available, "{}: the file is truncated: tensor {} ends at {} of {} bytes", path, entry.name,
          entry.end, available);
    position = entry.end;
  }
  check(position == available, "{}: {} bytes follow the last tensor", path, available - position);
  return content;
}

HostTensor read_tensor(const SafetensorsEntry& entry, const std::byte* data, const std::string& path) {
  const auto format =
      std::find_if(kDTypeNames.begin(), kDTypeNames.end(), [&](const DTypeName& f) { return entry.dtype == f.name; });
  check(format != kDTypeNames.end(), "{}: tensor {} has the dtype {}, which is not supported here", path, entry.name,
        entry.dtype);
  const Type type{format->dtype, entry.shape};
  const std::byte* first = data + entry.begin;
  const std::byte* last = data + entry.end;
  if (type.dtype != DType::boolean) {
    return HostTensor::from_bytes(type, std::vector<std::byte>(first, last));
  }
  std::vector<double> values;
  for (const std::byte* at = first; at != last; ++at) values.push_back(*at == std::byte{0} ? 0 : 1);
  return HostTensor(type, std::move(values));
}

}  // namespace

SafetensorsHeader read_safetensors_header(const RangedFile& file) {
  std::array<std::byte, 8> first = {};
  check(file.size() >= first.size(), "{}: {} bytes are too few for a safetensors file", file.path(), file.size());
  file.read(0, first);
  std::string text(read_length(first, file.size(), file.path()), ' ');
  file.read(first.size(), std::as_writable_bytes(std::span(text)));
  return parse_header(text, file.size() - first.size() - text.size(), file.path());
}

Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& path) {
  check(file.size() >= 8, "{}: {} bytes are too few for a safetensors file", path, file.size());
  const std::string text(reinterpret_cast<const char*>(file.data()) + 8, read_length(file, file.size(), path));
  SafetensorsHeader header = parse_header(text, file.size() - 8 - text.size(), path);
  Safetensors content;
  content.metadata = std::move(header.metadata);
  for (const SafetensorsEntry& entry : header.entries) {
    content.tensors.emplace(entry.name, read_tensor(entry, file.data() + header.data, path));
  }
  return content;
}

Safetensors read_safetensors(const std::string& path) {
  const std::string file = read_file(path);
  return parse_safetensors(std::as_bytes(std::span(file)), path);
}

void check_safetensors_size(const std::string& path) { read_safetensors_header(RangedFile(path)); }

std::vector<std::byte> format_safetensors(const Safetensors& content) {
  json header = json::object();
  if (!content.metadata.empty()) header["__metadata__"] = content.metadata;
  std::vector<std::byte> data;
  for (const auto& [name, tensor] : content.tensors) {
    check(name != "__metadata__", "a tensor cannot be named __metadata__");
    const size_t begin = data.size();
    if (tensor.type.dtype == DType::boolean) {
      for (const double value : tensor.values) data.push_back(std::byte(value != 0));
    } else {
      const std::vector<std::byte> bytes = tensor.to_bytes();
      data.insert(data.end(), bytes.begin(), bytes.end());
    }
    header[name] = {{"dtype", format_of(tensor.type.dtype).name},
                    {"shape", tensor.type.shape},
                    {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  check(text.size() <= kHeaderLimit, "the header of a safetensors file exceeds {} bytes", kHeaderLimit);
  std::vector<std::byte> file;
  file.reserve(8 + text.size() + data.size());
  for (int i = 0; i < 8; ++i) file.push_back(std::byte(uint64_t(text.size()) >> (8 * i) & 0xff));
  for (const char letter : text) file.push_back(std::byte(letter));
  file.insert(file.end(), data.begin(), data.end());
  return file;
}

}  // namespace surtsey::experiments
