#include "experiments/serve/token_mask.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace surtsey::experiments::serve {
namespace {

constexpr size_t kMostKnown = 128;     // masks that are kept, of a bit a token each
constexpr size_t kLongestToken = 256;  // bytes; a longer one is never allowed

}  // namespace

TokenTrie::TokenTrie(const std::vector<std::string>& bytes) : bytes_(bytes) {
  std::vector<int32_t> order;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (!bytes[i].empty() && bytes[i].size() <= kLongestToken) order.push_back(int32_t(i));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return bytes[size_t(a)] < bytes[size_t(b)]; });
  std::vector<int32_t> path;  // of the token before, a node a byte
  const std::string* before = nullptr;
  const auto leave = [&](size_t depth) {
    while (path.size() > depth) {
      nodes_[size_t(path.back())].after = int32_t(nodes_.size());
      path.pop_back();
    }
  };
  for (const int32_t token : order) {
    const std::string& text = bytes[size_t(token)];
    size_t common = 0;
    if (before != nullptr) {
      while (common < text.size() && common < before->size() && text[common] == (*before)[common]) ++common;
    }
    leave(common);
    for (size_t at = common; at < text.size(); ++at) {
      path.push_back(int32_t(nodes_.size()));
      const auto none = int32_t(tokens_.size());
      nodes_.push_back({.byte = uint8_t(text[at]), .depth = uint16_t(at), .first = none, .last = none});
    }
    // Tokens with the same bytes stand behind each other.
    Node& end = nodes_[size_t(path.back())];
    if (end.first == end.last) end.first = int32_t(tokens_.size());
    tokens_.push_back(token);
    end.last = int32_t(tokens_.size());
    deepest_ = std::max(deepest_, text.size());
    before = &text;
  }
  leave(0);
}

bool TokenMask::StateLess::operator()(const JsonGrammar::State& a, const JsonGrammar::State& b) const {
  const auto key = [](const JsonGrammar::Thread& thread) {
    const JsonGrammar::Frame& f = thread.frame;
    return std::tuple(thread.around, f.node, f.phase, f.detail, f.blanks, f.count, f.low, f.high, f.used);
  };
  return std::lexicographical_compare(
      a.begin(), a.end(), b.begin(), b.end(),
      [&](const JsonGrammar::Thread& left, const JsonGrammar::Thread& right) { return key(left) < key(right); });
}

TokenMask::TokenMask(std::shared_ptr<const TokenTrie> trie, std::shared_ptr<const JsonSchema> schema,
                     std::vector<int32_t> ends)
    : trie_(std::move(trie)), grammar_(std::move(schema)), state_(grammar_.start()), ends_(std::move(ends)) {
  levels_.resize(trie_->deepest_ + 1);
}

const std::vector<bool>& TokenMask::allowed_tokens() {
  const auto found = known_.find(state_);
  if (found != known_.end()) return found->second;
  if (known_.size() >= kMostKnown) known_.clear();
  std::vector<bool> allowed(trie_->vocabulary(), false);
  levels_[0] = state_;
  const auto count = int32_t(trie_->nodes_.size());
  for (int32_t i = 0; i < count;) {
    const TokenTrie::Node& node = trie_->nodes_[size_t(i)];
    if (!grammar_.advance(levels_[node.depth], node.byte, levels_[size_t(node.depth) + 1])) {
      i = node.after;
      continue;
    }
    for (int32_t t = node.first; t < node.last; ++t) allowed[size_t(trie_->tokens_[size_t(t)])] = true;
    ++i;
  }
  return known_.emplace(state_, std::move(allowed)).first->second;
}

void TokenMask::apply(std::vector<bool>& allowed) {
  const std::vector<bool>& now = allowed_tokens();
  for (size_t i = 0; i < allowed.size(); ++i) {
    if (i >= now.size() || !now[i]) allowed[i] = false;
  }
  if (!finished()) return;
  for (const int32_t end : ends_) {
    if (end >= 0 && size_t(end) < allowed.size()) allowed[size_t(end)] = true;
  }
}

bool TokenMask::push(int32_t token) {
  if (std::find(ends_.begin(), ends_.end(), token) != ends_.end()) return finished();
  if (token < 0 || size_t(token) >= trie_->vocabulary() || trie_->bytes(token).empty()) return false;
  for (const char byte : trie_->bytes(token)) {
    if (!grammar_.advance(state_, static_cast<unsigned char>(byte))) return false;
  }
  return true;
}

}  // namespace surtsey::experiments::serve
