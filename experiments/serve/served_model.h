// What is served beside the weights: tokenizer, chat template, defaults of generation.
#pragma once

#include "experiments/models/hub/generation.h"
#include "experiments/serve/token_mask.h"
#include "experiments/text/chat_template.h"
#include "experiments/text/tokenizer.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::serve {

inline constexpr const char* kBaseName = "base";  // a request's "model" that wants no adapter

// A prompt with passages of an index before it.
struct RetrievedPrompt {
  std::string text;
  std::string passages;  // that stand there, a list in JSON
};

struct ServedModel {
  ServedModel(std::string name, text::Tokenizer tokenizer, hub::GenerationConfig generation);

  std::string name;
  std::vector<std::string> adapters = {};  // names of those that requests may ask for instead, see Slots::choose()
  text::Tokenizer tokenizer;
  hub::GenerationConfig generation;        // its eos tokens end every answer
  std::optional<text::ChatTemplate> chat;  // empty: no chat
  std::string chat_source;                 // the template as text, "" where it is not known
  // As they are written; "" where the model has none.
  std::string bos_token, eos_token;
  bool generates = true;  // false: a model without a language model's head
  // Mean-pooled last hidden states [n][C] of n texts of any lengths, each of 1 to embedding_context tokens; empty: the
  // model has none. Called by one thread at a time.
  std::function<std::vector<std::vector<float>>(const std::vector<std::vector<int32_t>>&)> embed;
  int64_t embedding_context = 0;
  // Puts before a prompt what an index has on it, as far as there is room: `fits` says whether a text has. Empty: there
  // is no index. Called by several threads; UserError, ApiError.
  std::function<RetrievedPrompt(const std::string& prompt, const std::function<bool(const std::string& text)>& fits)>
      retrieve;

  // What each token adds to a text; "" of special ones.
  const std::vector<std::string>& token_bytes() const { return token_bytes_; }
  // The same as a trie, made when a grammar first asks for it.
  std::shared_ptr<const TokenTrie> trie() const;
  // A token as log-probabilities name it: its text, "bytes:\xe2\x82" where it is part of a character, its name where it
  // is special.
  std::string token_name(int32_t token) const;

  // The adapter that a request's "model" names, from 1 on; 0: the model without one, by its name, "base" or none. Where
  // there are no adapters any name is the model's. ApiError (404): no such adapter.
  int32_t adapter_of(const std::string& wanted) const;
  const std::string& name_of(int32_t adapter) const { return adapter == 0 ? name : adapters[size_t(adapter - 1)]; }

  // Prompts as tokens; ApiError (400) for text that is not UTF-8.
  std::vector<int32_t> encode(const std::string& text, bool special_tokens) const;

 private:
  std::vector<std::string> token_bytes_;
  mutable std::once_flag trie_once_;
  mutable std::shared_ptr<const TokenTrie> trie_;
};

}  // namespace surtsey::experiments::serve
