#include "experiments/formats/safetensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "experiments/base/file.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::HostTensor;
using graph::Shape;
using graph::Type;
using nlohmann::json;

constexpr uint64_t kHeaderLimit = 100'000'000;
constexpr int kDepthLimit = 3;  // header, tensor, shape

struct Format {
  const char* name;
  DType dtype;
  uint64_t bytes;
};
constexpr std::array<Format, 6> kFormats = {{
    {"F32", DType::f32, 4},
    {"F16", DType::f16, 2},
    {"BF16", DType::bf16, 2},
    {"I32", DType::i32, 4},
    {"U32", DType::u32, 4},
    {"BOOL", DType::boolean, 1},
}};

const Format& format_of(DType dtype) {
  for (const Format& format : kFormats) {
    if (format.dtype == dtype) return format;
  }
  ensure(false, "no safetensors name for {}", name(dtype));
  return kFormats[0];
}

json parse_header(const std::string& text, const std::string& path) {
  std::vector<std::set<std::string>> keys;
  std::string fault;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (depth > kDepthLimit && fault.empty()) fault = "is nested too deeply";
    if (event == json::parse_event_t::key && !keys.empty() && !keys.back().insert(value.get<std::string>()).second &&
        fault.empty()) {
      fault = fmt::format("names {} twice", value.dump());
    }
    return true;
  };
  // The parser itself recurses no deeper than the brackets, which are counted before it runs.
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char letter = text[i];
    if (quoted) {
      if (letter == '\\') ++i;
      if (letter == '"') quoted = false;
    } else if (letter == '"') {
      quoted = true;
    } else if (letter == '{' || letter == '[') {
      check(++depth <= kDepthLimit, "{}: the header is nested too deeply", path);
    } else if (letter == '}' || letter == ']') {
      --depth;
    }
  }
  const json header = json::parse(text, watch, false);
  check(!header.is_discarded() && header.is_object(), "{}: the header is not a JSON object", path);
  check(fault.empty(), "{}: the header {}", path, fault);
  return header;
}

uint64_t whole_number(const json& value, const std::string& path, const std::string& tensor) {
  check(value.is_number_unsigned(), "{}: tensor {} has {} where a whole number belongs", path, tensor, value.dump());
  return value.get<uint64_t>();
}

struct Entry {
  std::string name;
  Type type;
  uint64_t begin = 0;
  uint64_t end = 0;
};

Entry read_entry(const std::string& name, const json& value, const std::string& path) {
  Entry entry{name};
  check(value.is_object() && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
            value.contains("data_offsets"),
        "{}: tensor {} must have exactly dtype, shape and data_offsets", path, name);
  const json& dtype = value.at("dtype");
  const auto format = std::find_if(kFormats.begin(), kFormats.end(), [&](const Format& f) { return dtype == f.name; });
  check(format != kFormats.end(), "{}: tensor {} has the dtype {}, which is not supported", path, name, dtype.dump());
  entry.type.dtype = format->dtype;

  const json& shape = value.at("shape");
  check(shape.is_array(), "{}: the shape of tensor {} is not a list", path, name);
  uint64_t bytes = format->bytes;
  for (const json& extent : shape) {
    const uint64_t n = whole_number(extent, path, name);
    check(n <= uint64_t(INT64_MAX) && !__builtin_mul_overflow(bytes, n, &bytes), "{}: the shape of tensor {} overflows",
          path, name);
    entry.type.shape.push_back(int64_t(n));
  }
  const json& offsets = value.at("data_offsets");
  check(offsets.is_array() && offsets.size() == 2, "{}: tensor {} must have two data_offsets", path, name);
  entry.begin = whole_number(offsets[0], path, name);
  entry.end = whole_number(offsets[1], path, name);
  check(entry.begin <= entry.end && entry.end - entry.begin == bytes,
        "{}: tensor {} is {} and needs {} bytes, its offsets are [{}, {}]", path, name, to_string(entry.type), bytes,
        entry.begin, entry.end);
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

HostTensor read_tensor(const Entry& entry, const std::byte* data) {
  const std::byte* first = data + entry.begin;
  const std::byte* last = data + entry.end;
  if (entry.type.dtype != DType::boolean) {
    return HostTensor::from_bytes(entry.type, std::vector<std::byte>(first, last));
  }
  std::vector<double> values;
  for (const std::byte* at = first; at != last; ++at) values.push_back(*at == std::byte{0} ? 0 : 1);
  return HostTensor(entry.type, std::move(values));
}

}  // namespace

Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& path) {
  check(file.size() >= 8, "{}: {} bytes are too few for a safetensors file", path, file.size());
  const uint64_t header_size = read_length(file, file.size(), path);
  const std::string text(reinterpret_cast<const char*>(file.data()) + 8, header_size);
  const json header = parse_header(text, path);

  Safetensors content;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(read_entry(name, value, path));
      continue;
    }
    check(value.is_object(), "{}: __metadata__ is not an object", path);
    for (const auto& [key, word] : value.items()) {
      check(word.is_string(), "{}: __metadata__ {} is not a string", path, key);
      content.metadata[key] = word.get<std::string>();
    }
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  const uint64_t available = file.size() - 8 - header_size;
  uint64_t position = 0;
  for (const Entry& entry : entries) {
    check(entry.begin == position, "{}: tensor {} begins at {}, not at {}: a gap or an overlap", path, entry.name,
          entry.begin, position);
    check(entry.end <= available, "{}: the file is truncated: tensor {} ends at {} of {} bytes", path, entry.name,
          entry.end, available);
    position = entry.end;
  }
  check(position == available, "{}: {} bytes follow the last tensor", path, available - position);
  const std::byte* data = file.data() + 8 + header_size;
  for (const Entry& entry : entries) {
    content.tensors.emplace(entry.name, read_tensor(entry, data));
  }
  return content;
}

Safetensors read_safetensors(const std::string& path) {
  const std::string file = read_file(path);
  return parse_safetensors(std::as_bytes(std::span(file)), path);
}

void check_safetensors_size(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  check(stream.is_open() && !error, "'{}' cannot be read: {}", path, error ? error.message() : std::strerror(errno));
  std::array<char, 8> length = {};
  stream.read(length.data(), length.size());
  check(stream.good(), "{}: {} bytes are too few for a safetensors file", path, size);
  const uint64_t header_size = read_length(std::as_bytes(std::span(length)), size, path);
  std::string text(header_size, ' ');
  stream.read(text.data(), std::streamsize(header_size));
  check(stream.good(), "{}: the header cannot be read", path);
  const json header = parse_header(text, path);  // items() refers to it, and would not keep a temporary alive
  uint64_t end = 0;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") end = std::max(end, read_entry(name, value, path).end);
  }
  check(end == size - 8 - header_size, "{}: the tensors need {} bytes, {} are there", path, end,
        size - 8 - header_size);
}

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
