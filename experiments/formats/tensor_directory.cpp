#include "experiments/formats/tensor_directory.h"

#include "experiments/base/file.h"
#include "experiments/formats/safetensors.h"
#include "experiments/formats/strict_json.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <cctype>

namespace surtsey::experiments {
namespace {

constexpr int kIndexDepth = 8;  // "metadata" is anybody's

std::optional<StoredType> weight_type(const std::string& dtype) {
  if (dtype == "F32") return StoredType::f32;
  if (dtype == "F16") return StoredType::f16;
  if (dtype == "BF16") return StoredType::bf16;
  return std::nullopt;
}

// A file beside the index, and nothing else: an index comes from anywhere.
bool is_plain_name(const std::string& name) {
  if (name.empty() || name.front() == '.') return false;
  for (const char letter : name) {
    if (letter == '/' || letter == '\\' || std::iscntrl(static_cast<unsigned char>(letter))) return false;
  }
  return true;
}

}  // namespace

TensorDirectory open_safetensors(const std::filesystem::path& path) {
  const auto file = std::make_shared<const RangedFile>(path);
  const SafetensorsHeader header = read_safetensors_header(*file);
  TensorDirectory directory;
  for (const SafetensorsEntry& entry : header.entries) {
    directory.emplace(entry.name, FileTensor{file, header.data + entry.begin, entry.end - entry.begin,
                                             weight_type(entry.dtype), entry.dtype, entry.shape});
  }
  return directory;
}

TensorDirectory open_safetensors_index(const std::filesystem::path& index) {
  const std::string where = index.string();
  const nlohmann::json content = parse_strict_json(read_file(index), where, kIndexDepth);
  const auto map = content.find("weight_map");
  check(map != content.end() && map->is_object(), "{}: there is no object \"weight_map\"", where);
  std::map<std::string, TensorDirectory> files;
  for (const auto& [tensor, file] : map->items()) {
    check(file.is_string() && is_plain_name(file.get_ref<const std::string&>()),
          "{}: tensor {} is said to be in {}, which is no file beside the index", where, tensor, file.dump());
    files.emplace(file.get<std::string>(), TensorDirectory());
  }
  check(!files.empty(), "{}: weight_map names no tensor", where);
  for (auto& [file, content_of_file] : files) content_of_file = open_safetensors(index.parent_path() / file);

  TensorDirectory directory;
  for (const auto& [tensor, file] : map->items()) {
    TensorDirectory& from = files.at(file.get_ref<const std::string&>());
    const auto found = from.find(tensor);
    check(found != from.end(), "{}: tensor {} is said to be in {}, which does not have it", where, tensor, file.dump());
    directory.insert(from.extract(found));
  }
  for (const auto& [file, rest] : files) {
    check(rest.empty(), "{}: {} has tensor {}, which weight_map does not place there", where, file,
          rest.empty() ? "" : rest.begin()->first);
  }
  return directory;
}

}  // namespace surtsey::experiments
