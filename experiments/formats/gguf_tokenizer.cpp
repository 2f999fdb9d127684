#include "experiments/formats/gguf_tokenizer.h"

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kTokenizerPrefix = "tokenizer.ggml.";
constexpr const char* kWhole = "tokenizer.huggingface.json";

// Null where there is no such array.
const GgufValue* array(const Gguf& file, const std::string& where, const std::string& key) {
  const GgufValue* value = file.find(key);
  check(value == nullptr || value->array, "{}: key {} is no array", where, key);
  return value;
}

std::vector<std::string> texts(const Gguf& file, const std::string& where, const std::string& key) {
  const GgufValue* value = array(file, where, key);
  if (value == nullptr) return {};
  check(value->kind == GgufKind::text, "{}: key {} has no texts", where, key);
  return value->texts;
}

std::optional<bool> flag(const Gguf& file, const std::string& where, const std::string& key) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) return std::nullopt;
  check(value->kind == GgufKind::boolean && !value->array, "{}: key {} is no boolean", where, key);
  return value->integers[0] != 0;
}

struct Index {
  const char* key;
  int64_t GgufTokenizer::* member;
};
constexpr Index kIndices[] = {
    {"bos_token_id", &GgufTokenizer::bos},
    {"eos_token_id", &GgufTokenizer::eos},
    {"eot_token_id", &GgufTokenizer::end_of_turn},
    {"unknown_token_id", &GgufTokenizer::unknown},
    {"seperator_token_id", &GgufTokenizer::separator},  // spelt so
    {"padding_token_id", &GgufTokenizer::padding},
    {"mask_token_id", &GgufTokenizer::mask},
};

struct Flag {
  const char* key;
  std::optional<bool> GgufTokenizer::* member;
};
constexpr Flag kFlags[] = {
    {"add_bos_token", &GgufTokenizer::add_bos},
    {"add_eos_token", &GgufTokenizer::add_eos},
    {"add_space_prefix", &GgufTokenizer::add_space_prefix},
    {"remove_extra_whitespaces", &GgufTokenizer::remove_extra_whitespaces},
};

}  // namespace

std::optional<GgufTokenizer> gguf_tokenizer(const Gguf& file, const std::string& where) {
  const auto key = [](const char* name) { return kTokenizerPrefix + std::string(name); };
  if (file.find(key("model")) == nullptr && file.find(kWhole) == nullptr) return std::nullopt;
  GgufTokenizer tokenizer;
  tokenizer.model = gguf_text(file, where, key("model"), "");
  tokenizer.pre = gguf_text(file, where, key("pre"), "");
  tokenizer.tokens = texts(file, where, key("tokens"));
  tokenizer.merges = texts(file, where, key("merges"));
  if (const GgufValue* scores = array(file, where, key("scores"))) {
    check(scores->kind == GgufKind::f32, "{}: key {} has no f32", where, key("scores"));
    tokenizer.scores.assign(scores->floats.begin(), scores->floats.end());
  }
  if (const GgufValue* types = array(file, where, key("token_type"))) {
    check(types->kind == GgufKind::i32 || types->kind == GgufKind::u32, "{}: key {} has no i32", where,
          key("token_type"));
    for (const int64_t type : types->integers) tokenizer.types.push_back(int32_t(type));
  }
  for (const size_t size : {tokenizer.scores.size(), tokenizer.types.size()}) {
    check(size == 0 || size == tokenizer.tokens.size(), "{}: {} tokens have {} scores and {} types", where,
          tokenizer.tokens.size(), tokenizer.scores.size(), tokenizer.types.size());
  }
  for (const Index& index : kIndices) {
    int64_t& token = tokenizer.*index.member;
    token = gguf_integer(file, where, key(index.key), -1);
    // All bits set stands for none, signed or not.
    if (token == UINT32_MAX) token = -1;
    check(token >= -1 && token < int64_t(tokenizer.tokens.size()), "{}: {} is {} of {} tokens", where, key(index.key),
          token, tokenizer.tokens.size());
  }
  for (const Flag& row : kFlags) tokenizer.*row.member = flag(file, where, key(row.key));
  if (const GgufValue* map = array(file, where, key("precompiled_charsmap"))) {
    check(map->kind == GgufKind::u8 || map->kind == GgufKind::i8, "{}: key {} has no bytes", where,
          key("precompiled_charsmap"));
    for (const int64_t byte : map->integers) tokenizer.precompiled_charsmap.push_back(char(byte));
  }
  tokenizer.chat_template = gguf_text(file, where, "tokenizer.chat_template", "");
  tokenizer.hugging_face_json = gguf_text(file, where, kWhole, "");
  return tokenizer;
}

void add_tokenizer(GgufMetadata& metadata, const GgufTokenizer& tokenizer) {
  const auto add = [&](const std::string& name, GgufValue value) {
    metadata.emplace_back(kTokenizerPrefix + name, std::move(value));
  };
  const auto add_texts = [&](const char* name, const std::vector<std::string>& texts) {
    if (!texts.empty()) add(name, {.kind = GgufKind::text, .array = true, .texts = texts});
  };
  if (!tokenizer.model.empty()) add("model", GgufValue::of(tokenizer.model));
  if (!tokenizer.pre.empty()) add("pre", GgufValue::of(tokenizer.pre));
  add_texts("tokens", tokenizer.tokens);
  if (!tokenizer.scores.empty()) {
    add("scores", {.kind = GgufKind::f32,
                   .array = true,
                   .floats = std::vector<double>(tokenizer.scores.begin(), tokenizer.scores.end())});
  }
  if (!tokenizer.types.empty()) {
    add("token_type", {.kind = GgufKind::i32,
                       .array = true,
                       .integers = std::vector<int64_t>(tokenizer.types.begin(), tokenizer.types.end())});
  }
  add_texts("merges", tokenizer.merges);
  for (const Index& index : kIndices) {
    if (tokenizer.*index.member >= 0) add(index.key, GgufValue::of(uint32_t(tokenizer.*index.member)));
  }
  for (const Flag& row : kFlags) {
    if (tokenizer.*row.member) add(row.key, GgufValue::of(*(tokenizer.*row.member)));
  }
  if (!tokenizer.precompiled_charsmap.empty()) {
    GgufValue bytes{.kind = GgufKind::u8, .array = true};
    for (const char byte : tokenizer.precompiled_charsmap) bytes.integers.push_back(uint8_t(byte));
    add("precompiled_charsmap", std::move(bytes));
  }
  if (!tokenizer.chat_template.empty()) {
    metadata.emplace_back("tokenizer.chat_template", GgufValue::of(tokenizer.chat_template));
  }
  if (!tokenizer.hugging_face_json.empty()) {
    metadata.emplace_back(kWhole, GgufValue::of(tokenizer.hugging_face_json));
  }
}

}  // namespace surtsey::experiments
