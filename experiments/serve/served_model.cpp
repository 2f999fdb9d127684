#include "experiments/serve/served_model.h"

#include "experiments/base/utf8.h"
#include "experiments/serve/errors.h"
#include "experiments/text/token_bytes.h"

#include <algorithm>

namespace surtsey::experiments::serve {
namespace {

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint found = code_point_at(text, at);
    if (found.length == 0) return false;
    at += found.length;
  }
  return true;
}

}  // namespace

ServedModel::ServedModel(std::string model_name, text::Tokenizer model_tokenizer, hub::GenerationConfig how)
    : name(std::move(model_name)),
      tokenizer(std::move(model_tokenizer)),
      generation(std::move(how)),
      token_bytes_(text::token_bytes(tokenizer)) {
  const auto written = [&](int64_t id) {
    return id < 0 || id >= tokenizer.vocab_size() ? std::string() : tokenizer.token(int32_t(id));
  };
  bos_token = written(generation.tokens.bos);
  if (!generation.tokens.eos.empty()) eos_token = written(generation.tokens.eos.front());
}

std::shared_ptr<const TokenTrie> ServedModel::trie() const {
  std::call_once(trie_once_, [&] { trie_ = std::make_shared<const TokenTrie>(token_bytes_); });
  return trie_;
}

std::string ServedModel::token_name(int32_t token) const {
  const bool known = token >= 0 && size_t(token) < token_bytes_.size();
  const std::string& bytes = known ? token_bytes_[size_t(token)] : std::string();
  if (bytes.empty()) {
    const std::string written = known ? tokenizer.token(token) : "";
    return written.empty() ? fmt::format("<token {}>", token) : written;
  }
  if (is_utf8(bytes)) return bytes;
  std::string result = "bytes:";
  for (const char byte : bytes) result += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return result;
}

int32_t ServedModel::adapter_of(const std::string& wanted) const {
  if (adapters.empty() || wanted.empty() || wanted == name || wanted == kBaseName) return 0;
  const auto found = std::find(adapters.begin(), adapters.end(), wanted);
  if (found == adapters.end())
    throw not_found(fmt::format("there is no model '{}', there are {}, {} and without an adapter {}", wanted,
                                fmt::join(adapters, ", "), name, kBaseName));
  return int32_t(found - adapters.begin()) + 1;
}

std::vector<int32_t> ServedModel::encode(const std::string& text, bool special_tokens) const {
  try {
    return tokenizer.encode(text, {.special_tokens = special_tokens});
  } catch (const UserError& error) {
    throw invalid_request("{}", error.what());
  }
}

}  // namespace surtsey::experiments::serve
