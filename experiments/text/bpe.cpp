#include <algorithm>
#include <mutex>
#include <queue>

#include "experiments/text/models.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

constexpr size_t kCacheLimit = 1 << 14;   // parts
constexpr size_t kCachedPartLimit = 128;  // bytes

// Ids of parts that were encoded before. Text has few different words.
class PartCache {
 public:
  bool find(std::string_view part, std::vector<int32_t>& ids) {
    if (part.size() > kCachedPartLimit) return false;
    const std::lock_guard lock(mutex_);
    const auto found = ids_.find(std::string(part));
    if (found == ids_.end()) return false;
    ids.insert(ids.end(), found->second.begin(), found->second.end());
    return true;
  }
  void keep(std::string_view part, std::vector<int32_t> ids) {
    if (part.size() > kCachedPartLimit) return;
    const std::lock_guard lock(mutex_);
    if (ids_.size() < kCacheLimit) ids_.emplace(part, std::move(ids));
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::vector<int32_t>> ids_;
};

// A token of a part on the way, and its neighbours that are left; a joined one has length 0.
struct Symbol {
  int32_t id;
  int32_t before, after;  // -1: none
  size_t length;          // bytes
};

// A pair that may be joined, by what comes first. It is out of date when its symbols have changed since.
struct PossibleJoin {
  uint32_t rank;
  int32_t left;
  int32_t joined;
  bool operator>(const PossibleJoin& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
};

class Bpe : public TokenModel {
 public:
  Bpe(SharedVocabulary vocabulary, const Merges& merges, BpeOptions options, const std::string& where)
      : vocabulary_(std::move(vocabulary)), options_(std::move(options)), merges_(merges.size()) {
    const auto id_of = [&](const std::string& token) {
      const auto id = vocabulary_->find(token);
      check(id.has_value(), "{}: a merge names the token '{}', which the vocabulary does not have", where, token);
      return *id;
    };
    const std::string& prefix = options_.continuing_subword_prefix;
    std::unordered_map<uint64_t, uint64_t> last;  // of a pair that is listed twice the later rank counts
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      const auto& [left, right] = merges[rank];
      const int32_t left_id = id_of(left), right_id = id_of(right);
      check(right.size() >= prefix.size(), "{}: merge {}: '{}' does not begin with '{}'", where, rank, right, prefix);
      const int32_t joined = id_of(left + right.substr(prefix.size()));
      const uint64_t key = FlatMap::key(uint32_t(left_id), uint32_t(right_id));
      const uint64_t value = uint64_t(rank) << 32 | uint32_t(joined);
      if (!merges_.insert(key, value)) last[key] = value;
    }
    if (!last.empty()) replace(merges, last);
    if (options_.unk_token) unk_id_ = vocabulary_->find(*options_.unk_token);
  }

  void encode(std::string_view part, std::vector<int32_t>& ids) const override {
    if (options_.ignore_merges) {
      if (const auto whole = vocabulary_->find(part)) {
        ids.push_back(*whole);
        return;
      }
    }
    if (cache_.find(part, ids)) return;
    std::vector<Symbol> symbols = characters_of(part);
    join(symbols);
    std::vector<int32_t> result;
    for (const Symbol& symbol : symbols) {
      if (symbol.length > 0) result.push_back(symbol.id);
    }
    ids.insert(ids.end(), result.begin(), result.end());
    cache_.keep(part, std::move(result));
  }

 private:
  void replace(const Merges& merges, const std::unordered_map<uint64_t, uint64_t>& last) {
    FlatMap all(merges.size());
    for (const auto& [key, value] : last) all.insert(key, value);
    for (const auto& [left, right] : merges) {
      const uint64_t key = FlatMap::key(uint32_t(*vocabulary_->find(left)), uint32_t(*vocabulary_->find(right)));
      all.insert(key, *merges_.find(key));
    }
    merges_ = std::move(all);
  }

  std::vector<Symbol> characters_of(std::string_view part) const {
    std::vector<Symbol> symbols;
    symbols.reserve(part.size());
    const auto add = [&](int32_t id, size_t length) {
      const auto place = int32_t(symbols.size());
      if (place > 0) symbols.back().after = place;
      symbols.push_back({id, place - 1, -1, length});
    };
    size_t unknown = 0;  // bytes of the unknown token that is still open
    const auto end_unknown = [&] {
      if (unknown > 0) add(*unk_id_, unknown);
      unknown = 0;
    };
    std::string token;
    for (size_t at = 0; at < part.size();) {
      const std::string_view character = part.substr(at, character_length(part, at));
      token = at > 0 ? options_.continuing_subword_prefix : "";
      token += character;
      at += character.size();
      if (at >= part.size()) token += options_.end_of_word_suffix;
      if (const auto id = vocabulary_->find(token)) {
        end_unknown();
        add(*id, character.size());
        continue;
      }
      if (options_.byte_fallback) {
        // The library leaves an unknown token open here, so that it comes after the bytes.
        if (const auto bytes = vocabulary_->byte_tokens(token)) {
          for (const int32_t id : *bytes) add(id, 1);
          continue;
        }
      }
      if (!options_.unk_token) continue;
      check(unk_id_.has_value(), "'{}' is not in the vocabulary, nor is a token for what is not ('{}')", token,
            *options_.unk_token);
      if (!options_.fuse_unk) end_unknown();
      unknown += character.size();
    }
    end_unknown();
    return symbols;
  }

  void join(std::vector<Symbol>& symbols) const {
    std::vector<PossibleJoin> room;
    room.reserve(symbols.size());
    std::priority_queue<PossibleJoin, std::vector<PossibleJoin>, std::greater<>> queue(std::greater<>{},
                                                                                       std::move(room));
    const auto consider = [&](int32_t left, int32_t right) {
      const auto merge =
          merges_.find(FlatMap::key(uint32_t(symbols[size_t(left)].id), uint32_t(symbols[size_t(right)].id)));
      if (merge) queue.push({uint32_t(*merge >> 32), left, int32_t(uint32_t(*merge))});
    };
    for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(int32_t(i), int32_t(i + 1));
    while (!queue.empty()) {
      const PossibleJoin best = queue.top();
      queue.pop();
      Symbol& left = symbols[size_t(best.left)];
      if (left.length == 0 || left.after < 0) continue;
      Symbol& right = symbols[size_t(left.after)];
      const auto merge = merges_.find(FlatMap::key(uint32_t(left.id), uint32_t(right.id)));
      if (!merge || int32_t(uint32_t(*merge)) != best.joined) continue;
      left.id = best.joined;
      left.length += right.length;
      right.length = 0;
      left.after = right.after;
      if (right.after >= 0) symbols[size_t(right.after)].before = best.left;
      if (left.before >= 0) consider(left.before, best.left);
      if (left.after >= 0) consider(best.left, left.after);
    }
  }

  SharedVocabulary vocabulary_;
  BpeOptions options_;
  std::optional<int32_t> unk_id_;
  FlatMap merges_;  // a pair of ids to rank << 32 | id
  mutable PartCache cache_;
};

}  // namespace

std::unique_ptr<TokenModel> make_bpe(SharedVocabulary vocabulary, const Merges& merges, BpeOptions options,
                                     const std::string& where) {
  return std::make_unique<Bpe>(std::move(vocabulary), merges, std::move(options), where);
}

}  // namespace surtsey::experiments::text
