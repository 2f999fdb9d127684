#include <algorithm>
#include <limits>
#include <queue>

#include "experiments/text/models.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

constexpr double kUnknownPenalty = 10;

Trie trie_of(const Vocabulary& vocabulary) {
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (const std::string* token = vocabulary.token(id)) entries.emplace_back(*token, id);
  }
  return Trie(std::move(entries));
}

class Unigram : public TokenModel {
 public:
  Unigram(SharedVocabulary vocabulary, std::vector<double> scores, UnigramOptions options, std::string where)
      : vocabulary_(std::move(vocabulary)),
        scores_(std::move(scores)),
        options_(options),
        where_(std::move(where)),
        trie_(trie_of(*vocabulary_)) {
    ensure(scores_.size() == size_t(vocabulary_->size()), "a unigram model has a score a token");
    check(!options_.unk_id || *options_.unk_id < vocabulary_->size(), "{}: unk_id {} is not in a vocabulary of {}",
          where_, options_.unk_id.value_or(-1), vocabulary_->size());
    double worst = std::numeric_limits<double>::infinity();
    for (const double score : scores_) worst = std::min(worst, score);
    unknown_score_ = worst - kUnknownPenalty;
  }

  void encode(std::string_view part, std::vector<int32_t>& ids) const override {
    // The best way to each end of a character.
    struct Node {
      double score = 0;
      size_t begin = std::string_view::npos;  // of its last token; npos: not reached
      int32_t id = 0;
    };
    std::vector<Node> nodes(part.size() + 1);
    const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
      Node& node = nodes[end];
      if (node.begin == std::string_view::npos || score > node.score) node = {score, begin, id};
    };
    for (size_t at = 0; at < part.size();) {
      const double here = nodes[at].score;
      const size_t length = character_length(part, at);
      bool alone = false;  // whether the character is a token
      trie_.for_each_prefix(part, at, [&](size_t size, int32_t id) {
        offer(at, at + size, here + scores_[size_t(id)], id);
        alone |= size == length;
      });
      if (!alone) offer(at, at + length, here + unknown_score_, unknown());
      at += length;
    }
    std::vector<std::pair<size_t, size_t>> tokens;  // begin, end; from the last
    bool open = false;                              // the last one is unknown
    for (size_t end = part.size(); end > 0;) {
      const Node& node = nodes[end];
      const bool is_unknown = options_.unk_id && node.id == *options_.unk_id;
      if (open && is_unknown) {
        tokens.back().first = node.begin;
      } else {
        tokens.emplace_back(node.begin, end);
      }
      open = is_unknown;
      end = node.begin;
    }
    std::reverse(tokens.begin(), tokens.end());
    for (const auto& [begin, end] : tokens) append(part.substr(begin, end - begin), ids);
  }

 private:
  int32_t unknown() const {
    check(options_.unk_id.has_value(), "{}: the text has a character that is no token, and there is no unk_id", where_);
    return *options_.unk_id;
  }

  void append(std::string_view token, std::vector<int32_t>& ids) const {
    if (const auto id = vocabulary_->find(token)) {
      ids.push_back(*id);
      return;
    }
    if (options_.byte_fallback) {
      if (const auto bytes = vocabulary_->byte_tokens(token)) {
        ids.insert(ids.end(), bytes->begin(), bytes->end());
        return;
      }
    }
    ids.push_back(unknown());
  }

  SharedVocabulary vocabulary_;
  std::vector<double> scores_;
  UnigramOptions options_;
  std::string where_;
  Trie trie_;
  double unknown_score_ = 0;
};

class SentencePieceBpe : public TokenModel {
 public:
  SentencePieceBpe(SharedVocabulary vocabulary, std::vector<float> scores, std::optional<int32_t> unk_id)
      : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), unk_id_(unk_id) {
    ensure(scores_.size() == size_t(vocabulary_->size()), "a sentencepiece model has a score a token");
  }

  void encode(std::string_view part, std::vector<int32_t>& ids) const override {
    struct Symbol {
      size_t begin, size;
      int32_t before, after;
    };
    struct Candidate {
      float score;
      int32_t left, right;
      size_t size;
      bool operator<(const Candidate& other) const {
        return score != other.score ? score < other.score : left > other.left;
      }
    };
    std::vector<Symbol> symbols;
    for (size_t at = 0; at < part.size();) {
      const size_t length = character_length(part, at);
      const auto place = int32_t(symbols.size());
      symbols.push_back({at, length, place - 1, at + length < part.size() ? place + 1 : -1});
      at += length;
    }
    std::priority_queue<Candidate> queue;
    const auto consider = [&](int32_t left, int32_t right) {
      if (left < 0 || right < 0) return;
      const size_t size = symbols[size_t(left)].size + symbols[size_t(right)].size;
      const auto id = vocabulary_->find(part.substr(symbols[size_t(left)].begin, size));
      if (id) queue.push({scores_[size_t(*id)], left, right, size});
    };
    for (int32_t i = 1; i < int32_t(symbols.size()); ++i) consider(i - 1, i);
    while (!queue.empty()) {
      const Candidate best = queue.top();
      queue.pop();
      Symbol& left = symbols[size_t(best.left)];
      Symbol& right = symbols[size_t(best.right)];
      if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
      left.size = best.size;
      right.size = 0;
      left.after = right.after;
      if (right.after >= 0) symbols[size_t(right.after)].before = best.left;
      consider(left.before, best.left);
      consider(best.left, left.after);
    }
    for (const Symbol& symbol : symbols) {
      if (symbol.size > 0) append(part.substr(symbol.begin, symbol.size), ids);
    }
  }

 private:
  void append(std::string_view token, std::vector<int32_t>& ids) const {
    if (const auto id = vocabulary_->find(token)) {
      ids.push_back(*id);
    } else if (const auto bytes = vocabulary_->byte_tokens(token)) {
      ids.insert(ids.end(), bytes->begin(), bytes->end());
    } else if (unk_id_) {
      ids.push_back(*unk_id_);
    }
  }

  SharedVocabulary vocabulary_;
  std::vector<float> scores_;
  std::optional<int32_t> unk_id_;
};

}  // namespace

std::unique_ptr<TokenModel> make_unigram(SharedVocabulary vocabulary, std::vector<double> scores,
                                         UnigramOptions options, const std::string& where) {
  return std::make_unique<Unigram>(std::move(vocabulary), std::move(scores), options, where);
}

std::unique_ptr<TokenModel> make_sentencepiece_bpe(SharedVocabulary vocabulary, std::vector<float> scores,
                                                   std::optional<int32_t> unk_id) {
  return std::make_unique<SentencePieceBpe>(std::move(vocabulary), std::move(scores), unk_id);
}

}  // namespace surtsey::experiments::text
