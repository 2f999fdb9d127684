// Which tokens of a vocabulary may come next by a grammar: all of them are walked at once, as a trie of their bytes.
#pragma once

#include "experiments/serve/json_grammar.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::experiments::serve {

// The bytes of all tokens as a trie, its nodes in the order of a walk in depth.
class TokenTrie {
 public:
  // `bytes` by id: what each token adds to a text; of an empty one, nothing is known and it is never allowed.
  explicit TokenTrie(const std::vector<std::string>& bytes);

  size_t vocabulary() const { return bytes_.size(); }
  const std::string& bytes(int32_t token) const { return bytes_[size_t(token)]; }

 private:
  friend class TokenMask;
  struct Node {
    uint8_t byte = 0;
    uint16_t depth = 0;           // of its byte, from 0
    int32_t after = 0;            // the first node that is not below this one
    int32_t first = 0, last = 0;  // of tokens_, those that end here
  };
  std::vector<std::string> bytes_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  size_t deepest_ = 0;
};

// One text's way through a grammar.
class TokenMask {
 public:
  // `ends`: tokens that end a text; they are allowed where a whole value was read.
  TokenMask(std::shared_ptr<const TokenTrie> trie, std::shared_ptr<const JsonSchema> schema, std::vector<int32_t> ends);

  // Makes false what may not come next; `allowed` has an entry a logit, which may be more than there are tokens.
  void apply(std::vector<bool>& allowed);
  // The token that was drawn. False: it was not allowed.
  bool push(int32_t token);
  bool finished() const { return grammar_.finished(state_); }
  bool closed() const { return grammar_.closed(state_); }

 private:
  struct StateLess {
    bool operator()(const JsonGrammar::State& a, const JsonGrammar::State& b) const;
  };
  const std::vector<bool>& allowed_tokens();

  std::shared_ptr<const TokenTrie> trie_;
  JsonGrammar grammar_;
  JsonGrammar::State state_;
  std::vector<int32_t> ends_;
  // In the same place of a value the same tokens are allowed: texts stay in few places for long.
  std::map<JsonGrammar::State, std::vector<bool>, StateLess> known_;
  std::vector<JsonGrammar::State> levels_;  // by depth of the walk
};

}  // namespace surtsey::experiments::serve
