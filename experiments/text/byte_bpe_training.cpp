#include "experiments/text/byte_bpe_training.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <queue>
#include <set>
#include <unordered_map>
#include <vector>

#include "experiments/base/json_text.h"
#include "experiments/base/utf8.h"
#include "experiments/text/byte_level.h"
#include "experiments/text/regex.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

using nlohmann::json;
using Pair = std::pair<int32_t, int32_t>;

struct Word {
  std::vector<int32_t> ids;
  int64_t count = 0;
};

// The most frequent pair first, of equal ones the smaller. It is out of date when its count has changed.
struct CountedPair {
  int64_t count;
  Pair pair;
  bool operator<(const CountedPair& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Trainer {
 public:
  explicit Trainer(std::string_view text) {
    std::vector<char32_t> alphabet;
    for (unsigned byte = 0; byte < 256; ++byte) alphabet.push_back(character_of_byte(static_cast<unsigned char>(byte)));
    std::sort(alphabet.begin(), alphabet.end());
    std::array<int32_t, 256> id_of_byte{};
    for (const char32_t character : alphabet) {
      id_of_byte[*byte_of_character(character)] = int32_t(tokens_.size());
      append_utf8(tokens_.emplace_back(), character);
    }
    std::unordered_map<std::string_view, size_t> places;
    Regex(kGpt2Pattern, "training").for_each_match(text, [&](size_t begin, size_t end) {
      const std::string_view part = text.substr(begin, end - begin);
      const auto [place, is_new] = places.emplace(part, words_.size());
      if (is_new) {
        Word& word = words_.emplace_back();
        for (const char byte : part) word.ids.push_back(id_of_byte[static_cast<unsigned char>(byte)]);
      }
      ++words_[place->second].count;
    });
    for (size_t w = 0; w < words_.size(); ++w) {
      for (size_t i = 0; i + 1 < words_[w].ids.size(); ++i) change(w, {words_[w].ids[i], words_[w].ids[i + 1]}, 1);
    }
    for (const auto& [pair, count] : counts_) queue_.push({count, pair});
  }

  // Whether there was a pair left that occurs twice.
  bool join_one() {
    while (!queue_.empty()) {
      const CountedPair best = queue_.top();
      queue_.pop();
      if (best.count < 2) return false;
      if (counts_[best.pair] != best.count) continue;
      const auto joined = int32_t(tokens_.size());
      merges_.push_back(best.pair);
      tokens_.push_back(tokens_[size_t(best.pair.first)] + tokens_[size_t(best.pair.second)]);
      changed_.clear();
      const std::set<size_t> words = std::move(where_[best.pair]);
      for (const size_t w : words) join(w, best.pair, joined);
      counts_.erase(best.pair);
      where_.erase(best.pair);
      for (const Pair& pair : changed_) {
        const auto found = counts_.find(pair);
        if (found != counts_.end() && found->second > 0) queue_.push({found->second, pair});
      }
      return true;
    }
    return false;
  }

  const std::vector<std::string>& tokens() const { return tokens_; }
  const std::vector<Pair>& merges() const { return merges_; }

 private:
  void change(size_t word, Pair pair, int64_t sign) {
    counts_[pair] += sign * words_[word].count;
    if (sign > 0) where_[pair].insert(word);
  }

  void join(size_t w, Pair pair, int32_t joined) {
    std::vector<int32_t>& ids = words_[w].ids;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      if (ids[i] != pair.first || ids[i + 1] != pair.second) continue;
      const auto note = [&](Pair changed, int64_t sign) {
        change(w, changed, sign);
        changed_.insert(changed);
      };
      if (i > 0) note({ids[i - 1], pair.first}, -1), note({ids[i - 1], joined}, 1);
      if (i + 2 < ids.size()) note({pair.second, ids[i + 2]}, -1), note({joined, ids[i + 2]}, 1);
      ids[i] = joined;
      ids.erase(ids.begin() + std::ptrdiff_t(i) + 1);
    }
  }

  std::vector<std::string> tokens_;
  std::vector<Pair> merges_;
  std::vector<Word> words_;
  std::map<Pair, int64_t> counts_;
  std::map<Pair, std::set<size_t>> where_;  // words that have, or had, a pair
  std::set<Pair> changed_;
  std::priority_queue<CountedPair> queue_;
};

}  // namespace

TrainedTokenizer train_byte_bpe(std::string_view text, int32_t vocab_size) {
  check_utf8(text, "the text");
  check(vocab_size >= kSmallestVocabulary,
        "vocab_size {} is too small: every byte is a token, and the end of a text: {}", vocab_size,
        kSmallestVocabulary);
  Trainer trainer(text);
  while (int32_t(trainer.tokens().size()) + 1 < vocab_size && trainer.join_one()) {
  }
  json vocabulary = json::object(), merges = json::array();
  for (size_t id = 0; id < trainer.tokens().size(); ++id) vocabulary[trainer.tokens()[id]] = id;
  for (const auto& [left, right] : trainer.merges()) {
    merges.push_back({trainer.tokens()[size_t(left)], trainer.tokens()[size_t(right)]});
  }
  const auto end = int32_t(trainer.tokens().size());
  vocabulary[kEndOfText] = end;
  const json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  json file = json::object();
  file["version"] = "1.0";
  for (const char* key : {"truncation", "padding", "normalizer"}) file[key] = nullptr;
  json added = {{"id", end}, {"content", kEndOfText}, {"special", true}};
  for (const char* key : {"single_word", "lstrip", "rstrip", "normalized"}) added[key] = false;
  file["added_tokens"] = json::array({added});
  for (const char* key : {"pre_tokenizer", "post_processor", "decoder"}) file[key] = byte_level;
  json& model = file["model"] = json::object();
  model["type"] = "BPE";
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
    model[key] = nullptr;
  }
  for (const char* key : {"fuse_unk", "byte_fallback", "ignore_merges"}) model[key] = false;
  model["vocab"] = std::move(vocabulary);
  model["merges"] = std::move(merges);
  return {json_text(file, 2) + "\n", end + 1};
}

}  // namespace surtsey::experiments::text
