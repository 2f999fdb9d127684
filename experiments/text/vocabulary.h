// The tokens of a model by their ids, and back; and a trie of them.
#pragma once

#include "experiments/text/flat_map.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace surtsey::experiments::text {

// An id may be so far beyond the number of tokens that are there, as some files leave ids out.
inline constexpr int64_t kMostMissingIds = 1 << 16;

class Vocabulary {
 public:
  Vocabulary() = default;
  // UserError, which `where` begins: an id twice, one that is negative or far beyond their number. Of a token that is
  // there twice the later id counts, as in the library.
  Vocabulary(std::vector<std::pair<std::string, int64_t>> entries, const std::string& where);

  size_t count() const { return ids_.size(); }              // of different tokens
  int32_t size() const { return int32_t(tokens_.size()); }  // the largest id + 1
  std::optional<int32_t> find(std::string_view token) const;
  // The token of an id; nullptr where it has none.
  const std::string* token(int32_t id) const;
  // The ids of <0x00> to <0xFF> that spell these bytes; nothing where one is missing.
  std::optional<std::vector<int32_t>> byte_tokens(std::string_view bytes) const;

 private:
  std::vector<std::string> tokens_;                    // by id
  std::vector<bool> present_;                          // by id
  std::unordered_map<std::string_view, int32_t> ids_;  // views of tokens_
};

// Strings to numbers from 0, found by their prefixes.
class Trie {
 public:
  Trie() : values_(1, -1) {}
  // The strings must live as long as this constructor runs. An empty one is never found; of two equal ones the later
  // counts.
  explicit Trie(std::vector<std::pair<std::string_view, int32_t>> entries);

  // Calls visit(length, value) for each string that `text` has at `at`, the shortest first.
  template <typename Visit>
  void for_each_prefix(std::string_view text, size_t at, Visit visit) const {
    uint32_t node = 0;
    for (size_t end = at; end < text.size();) {
      const auto next = edges_.find(FlatMap::key(node, static_cast<unsigned char>(text[end])));
      if (!next) return;
      node = uint32_t(*next);
      ++end;
      if (values_[node] >= 0) visit(end - at, values_[node]);
    }
  }

 private:
  FlatMap edges_;                // (node, byte) to node; 0 is the root
  std::vector<int32_t> values_;  // -1: none ends here
};

}  // namespace surtsey::experiments::text
