#include "experiments/models/hub/export.h"

#include "experiments/base/file.h"
#include "experiments/formats/gguf.h"
#include "experiments/formats/strict_json.h"
#include "experiments/models/hub/gguf_model.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <map>

namespace surtsey::experiments::hub {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kTokenizerFiles[] = {"tokenizer.json",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "vocab.txt",
                                           "vocab.json",
                                           "merges.txt",
                                           "tokenizer.model",
                                           "spiece.model",
                                           "chat_template.jinja"};

int64_t row_width(const TensorRow& row) { return row.shape.size() == 2 ? row.shape[1] : 1; }

// A tensor's rows in another type: the bytes themselves where it is the same.
std::vector<std::byte> converted(Stored stored, StoredType type) {
  if (stored.type == type) return std::move(stored.bytes);
  std::vector<float> numbers(size_t(graph::element_count(stored.shape)));
  dequantize_row(stored.type, stored.bytes, numbers);
  stored.bytes.clear();
  const int64_t width = stored.shape.size() == 2 ? stored.shape[1] : int64_t(numbers.size());
  std::vector<std::byte> bytes(width == 0 ? 0 : numbers.size() / size_t(width) * size_t(row_bytes(type, width)));
  quantize_row(type, numbers, bytes);
  return bytes;
}

// One tensor of the file that is written, with the rows of ours that it is made of.
struct FilePart {
  std::string name;
  StoredType type = StoredType::f32;
  graph::Shape shape;
  std::vector<TensorRow> rows;
};

// The inverse of read_placement(), of one row of the layout after the other.
std::vector<std::byte> file_bytes(const Source& source, const FilePart& part) {
  const int64_t width = row_width(part.rows[0]);
  const size_t row_size = size_t(row_bytes(part.type, width));
  std::vector<std::byte> bytes(size_t(part.rows[0].file_rows) * row_size);
  for (const TensorRow& row : part.rows) {
    std::vector<std::byte> ours;
    try {
      ours = converted(source.read_stored(row.name), part.type);
    } catch (const UserError& error) {
      throw UserError(fmt::format("{}: {}", row.name, error.what()));
    }
    const int64_t rows = row.shape[0];
    for (int64_t r = 0; r < rows; ++r) {
      if (!row.transposed) {
        const int64_t at = row.first_row + file_row(row, r);
        std::memcpy(bytes.data() + size_t(at) * row_size, ours.data() + size_t(r) * row_size, row_size);
        continue;
      }
      const size_t element = size_t(block_bytes(part.type));
      for (int64_t c = 0; c < width; ++c) {
        std::memcpy(bytes.data() + size_t(c * row.file_rows + row.first_row + r) * element,
                    ours.data() + size_t(r * width + c) * element, element);
      }
    }
  }
  return bytes;
}

// The file's tensors in the order of the layout; rows that the model does not have are left out.
std::vector<FilePart> file_parts(const Source& source, const Layout& layout,
                                 const std::function<StoredType(const TensorRow&, StoredType)>& choose) {
  std::map<std::string, StoredType> types;
  for (const TensorInfo& info : source.tensors()) types[info.name] = info.type;
  std::vector<FilePart> parts;
  std::map<std::string, size_t> place;
  for (const TensorRow& row : layout) {
    const auto type = types.find(row.name);
    if (type == types.end()) continue;
    const auto [found, added] = place.emplace(row.file_name, parts.size());
    if (added) parts.push_back({row.file_name, choose(row, type->second), row.file_shape(), {}});
    parts[found->second].rows.push_back(row);
  }
  return parts;
}

void copy_if_there(const fs::path& from, const fs::path& to) {
  if (const std::optional<std::string> content = read_file_if_exists(from)) write_file_atomic(to, *content);
}

std::string config_text(const Source& source, KeptType type) {
  const fs::path own = source.description().folder / "config.json";
  json object = config_json(source.config());
  const Config back = parse_config(object, "the configuration");
  Config config = source.config();
  config.architecture = back.architecture;
  check(back == config, "'{}': its configuration cannot be said in a config.json of {}", source.path().string(),
        back.architecture);
  if (!source.description().folder.empty()) {
    const json made = std::move(object);
    object = json::parse(read_file(own));
    if (!type && !source.description().has_other_head) return read_file(own);
    if (source.description().has_other_head) {
      object.erase("num_labels");  // transformers has it by the names alone
      for (const char* key : {"architectures", "id2label", "label2id", "problem_type"}) {
        object.erase(key);
        if (made.contains(key)) object[key] = made[key];
      }
      if (!object.contains("id2label")) object["num_labels"] = made["num_labels"];
    }
  }
  if (type) {
    constexpr const char* kNames[] = {"float32", "float16", "bfloat16"};
    object["torch_dtype"] = kNames[size_t(*type)];
  }
  return object.dump(2) + "\n";
}

const char* safetensors_name(StoredType type) {
  constexpr const char* kNames[] = {"F32", "F16", "BF16"};
  return kNames[size_t(type)];
}

}  // namespace

void export_folder(const Source& source, const fs::path& folder, KeptType type) {
  check(!type || !is_block_type(*type), "a folder of safetensors has f32, f16 or bf16 and not {}; GGUF has",
        type ? name(*type) : "");
  std::error_code error;
  check(!fs::exists(folder, error) || (fs::is_directory(folder, error) && fs::is_empty(folder, error)),
        "'{}' is there already", folder.string());
  const std::string config = config_text(source, type);
  const std::vector<FilePart> parts =
      file_parts(source, hugging_face_layout(source.config()), [&](const TensorRow&, StoredType stored) {
        return type ? *type : is_block_type(stored) ? StoredType::f32 : stored;
      });
  json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t end = 0;
  for (const FilePart& part : parts) {
    const uint64_t begin = end;
    end += uint64_t(graph::element_count(part.shape)) * uint64_t(block_bytes(part.type));
    header[saved_name(source.config(), part.name)] = {
        {"dtype", safetensors_name(part.type)}, {"shape", part.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  fs::create_directories(folder, error);
  check(!error, "'{}' cannot be made: {}", folder.string(), error.message());
  write_file_atomic(folder / "model.safetensors", [&](const ContentWriter& write) {
    const uint64_t length = text.size();
    write({reinterpret_cast<const char*>(&length), sizeof(length)});
    write(text);
    for (const FilePart& part : parts) {
      const std::vector<std::byte> bytes = file_bytes(source, part);
      write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
  });
  write_file_atomic(folder / "config.json", config);
  const fs::path& from = source.description().folder;
  const json generation = generation_json(source.generation());
  if (from.empty() || !fs::exists(from / "generation_config.json", error)) {
    if (!generation.empty()) write_file_atomic(folder / "generation_config.json", generation.dump(2) + "\n");
  } else {
    copy_if_there(from / "generation_config.json", folder / "generation_config.json");
  }
  for (const char* file : kTokenizerFiles) {
    if (!from.empty()) copy_if_there(from / file, folder / file);
  }
  const std::optional<GgufTokenizer>& tokenizer = source.description().tokenizer;
  if (tokenizer && !tokenizer->hugging_face_json.empty()) {
    write_file_atomic(folder / "tokenizer.json", tokenizer->hugging_face_json);
  }
}

void export_gguf(const Source& source, const fs::path& file, KeptType type,
                 const std::function<void(const std::string&)>& told) {
  GgufMetadata metadata = gguf_metadata(source.config());
  const auto choose = [&](const TensorRow& row, StoredType stored) {
    if (row.shape.size() < 2 || row.name == "embedding.position") return StoredType::f32;
    const StoredType wanted = type.value_or(stored);
    if (row.shape[1] % block_size(wanted) == 0) return wanted;
    const StoredType other = row.shape[1] % block_size(StoredType::q8_0) == 0 ? StoredType::q8_0 : StoredType::f16;
    if (told) {
      told(fmt::format("{}: rows of {} are no blocks of {}, stored as {}", row.name, row.shape[1], name(wanted),
                       name(other)));
    }
    return other;
  };
  const std::vector<FilePart> parts = file_parts(source, gguf_layout(source.config()), choose);
  std::vector<GgufTensor> tensors;
  const std::vector<RopeFactors> factors = gguf_rope_factors(source.config());
  for (const RopeFactors& list : factors) {
    tensors.push_back({list.name, StoredType::f32, {int64_t(list.factors.size())}});
  }
  for (const FilePart& part : parts) tensors.push_back({part.name, part.type, part.shape});

  // What ggml's tools call the mixture: by its most frequent type of matrices.
  std::map<StoredType, size_t> counts;
  for (const FilePart& part : parts) counts[part.type] += part.shape.size() > 1 ? 1 : 0;
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  constexpr uint32_t kFileTypes[] = {0, 1, 32, 7, 2, 14, 18};
  metadata.emplace_back("general.file_type", GgufValue::of(kFileTypes[size_t(most->first)]));
  metadata.emplace_back("general.quantization_version", GgufValue::of(uint32_t(2)));
  GgufTokenizer tokenizer = source.description().tokenizer.value_or(GgufTokenizer());
  if (!source.description().folder.empty()) {
    tokenizer.hugging_face_json = read_file_if_exists(source.description().folder / "tokenizer.json").value_or("");
  }
  add_tokenizer(metadata, tokenizer);
  write_gguf(file, metadata, tensors, [&](size_t i) {
    if (i >= factors.size()) return file_bytes(source, parts[i - factors.size()]);
    const auto bytes = std::as_bytes(std::span(factors[i].factors));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  });
}

}  // namespace surtsey::experiments::hub
