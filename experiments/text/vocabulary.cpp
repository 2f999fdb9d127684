#include "experiments/text/vocabulary.h"

#include <algorithm>

#include "graph/error.h"

namespace surtsey::experiments::text {

Vocabulary::Vocabulary(std::vector<std::pair<std::string, int64_t>> entries, const std::string& where) {
  const int64_t limit = int64_t(entries.size()) + kMostMissingIds;
  int64_t size = 0;
  for (const auto& [token, id] : entries) {
    check(id >= 0 && id < limit, "{}: the id {} of '{}' does not belong to a vocabulary of {}", where, id, token,
          entries.size());
    size = std::max(size, id + 1);
  }
  tokens_.resize(size_t(size));
  present_.resize(size_t(size));
  for (auto& [token, id] : entries) {
    check(!present_[size_t(id)], "{}: '{}' and '{}' have the same id {}", where, tokens_[size_t(id)], token, id);
    present_[size_t(id)] = true;
    tokens_[size_t(id)] = std::move(token);
  }
  ids_.reserve(entries.size());
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (present_[id]) ids_[tokens_[id]] = int32_t(id);
  }
}

std::optional<int32_t> Vocabulary::find(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Vocabulary::token(int32_t id) const {
  return id >= 0 && id < size() && present_[size_t(id)] ? &tokens_[size_t(id)] : nullptr;
}

std::optional<std::vector<int32_t>> Vocabulary::byte_tokens(std::string_view bytes) const {
  std::vector<int32_t> ids;
  for (const char byte : bytes) {
    const auto id = find(fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte)));
    if (!id) return std::nullopt;
    ids.push_back(*id);
  }
  return ids;
}

Trie::Trie(std::vector<std::pair<std::string_view, int32_t>> entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto common = [](std::string_view a, std::string_view b) {
    return size_t(std::mismatch(a.begin(), a.begin() + std::min(a.size(), b.size()), b.begin()).first - a.begin());
  };
  size_t nodes = 0;
  std::string_view before;
  for (const auto& [text, value] : entries) {
    nodes += text.size() - common(text, before);
    before = text;
  }
  edges_ = FlatMap(nodes);
  values_.assign(1, -1);
  values_.reserve(nodes + 1);
  for (const auto& [text, value] : entries) {
    uint32_t node = 0;
    for (const char byte : text) {
      const uint64_t key = FlatMap::key(node, static_cast<unsigned char>(byte));
      if (edges_.insert(key, values_.size())) values_.push_back(-1);
      node = uint32_t(*edges_.find(key));
    }
    if (!text.empty()) values_[node] = value;
  }
}

}  // namespace surtsey::experiments::text
