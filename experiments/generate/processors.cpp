#include "experiments/generate/processors.h"

#include "graph/error.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

// Of a softmax: the largest score, and the sum of exponentials relative to it.
struct Total {
  explicit Total(std::span<const float> scores) : largest(*std::max_element(scores.begin(), scores.end())) {
    for (const float score : scores) sum += std::exp(double(score - largest));
  }
  double share(float score) const { return std::exp(double(score - largest)) / sum; }
  double log_share(float score) const { return double(score - largest) - std::log(sum); }

  float largest;
  double sum = 0;
};

void ban(std::span<float> scores, std::span<const int64_t> tokens) {
  for (const int64_t token : tokens) scores[size_t(token)] = kBanned;
}

// Only these can follow.
void force(std::span<float> scores, std::span<const int64_t> tokens) {
  std::fill(scores.begin(), scores.end(), kBanned);
  for (const int64_t token : tokens) scores[size_t(token)] = 0;
}

// Tokens that can be drawn, by score, the largest first.
std::vector<int32_t> by_score(std::span<const float> scores) {
  std::vector<int32_t> order;
  for (size_t i = 0; i < scores.size(); ++i)
    if (scores[i] != kBanned) order.push_back(int32_t(i));
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[size_t(a)] > scores[size_t(b)]; });
  return order;
}

// The k largest, and what equals the last of them.
void keep_largest(std::span<float> scores, int64_t k) {
  if (k >= int64_t(scores.size())) return;
  std::vector<float> sorted(scores.begin(), scores.end());
  const auto last = sorted.begin() + std::ptrdiff_t(k - 1);
  std::nth_element(sorted.begin(), last, sorted.end(), std::greater<>());
  const float bound = *last;
  for (float& score : scores)
    if (score < bound) score = kBanned;
}

// Shares are compared in f32, as transformers does: what is equal there is equal here.

// The fewest of the likeliest whose share is p or more: the others, from the least likely on, have 1 - p at most.
void keep_nucleus(std::span<float> scores, double p, int64_t least) {
  const std::vector<int32_t> order = by_score(scores);
  const Total total(scores);
  double others = 0;
  for (size_t i = order.size(); i-- > size_t(least);) {
    float& score = scores[size_t(order[i])];
    others += total.share(score);
    if (float(others) > float(1 - p)) return;
    score = kBanned;
  }
}

// Those that have at least p times the probability of the likeliest.
void keep_above(std::span<float> scores, double p, int64_t least) {
  const float largest = *std::max_element(scores.begin(), scores.end());
  std::vector<int32_t> order;
  if (least > 1) order = by_score(scores);
  std::vector<std::pair<int32_t, float>> kept;
  for (size_t i = 0; i < std::min(size_t(least), order.size()); ++i)
    kept.emplace_back(order[i], scores[size_t(order[i])]);
  for (float& score : scores)
    if (std::exp(score - largest) < float(p)) score = kBanned;
  for (const auto& [token, score] : kept) scores[size_t(token)] = score;
}

// Those whose information is nearest to what is expected, as many as have the share p together (Meister et al. 2023).
void keep_typical(std::span<float> scores, double p, int64_t least) {
  const Total total(scores);
  double entropy = 0;
  for (const float score : scores)
    if (score != kBanned) entropy -= total.share(score) * total.log_share(score);
  struct Candidate {
    float distance;
    size_t token;
  };
  std::vector<Candidate> order;
  for (size_t i = 0; i < scores.size(); ++i)
    if (scores[i] != kBanned) order.push_back({float(std::abs(-total.log_share(scores[i]) - entropy)), i});
  std::stable_sort(order.begin(), order.end(),
                   [](const Candidate& a, const Candidate& b) { return a.distance < b.distance; });
  double share = 0;
  size_t last = 0;  // of those that stay
  for (; last + 1 < order.size(); ++last) {
    share += total.share(scores[order[last].token]);
    if (float(share) >= float(p)) break;
  }
  const float bound = order[last].distance;
  for (size_t i = size_t(least); i < order.size(); ++i)
    if (order[i].distance > bound) scores[order[i].token] = kBanned;
}

void check_tokens(const char* key, std::span<const int64_t> tokens, int64_t vocabulary) {
  for (const int64_t token : tokens) {
    check(token >= 0 && token < vocabulary, "{}: the model has tokens 0 to {}, not {}", key, vocabulary - 1, token);
  }
}

// Of what the model cannot give, nothing can come: transformers' lists for several models have such tokens.
std::vector<int64_t> within(std::span<const int64_t> tokens, int64_t vocabulary) {
  std::vector<int64_t> result;
  for (const int64_t token : tokens)
    if (token >= 0 && token < vocabulary) result.push_back(token);
  return result;
}

hub::GenerationConfig checked(hub::GenerationConfig how, int64_t vocabulary) {
  how.tokens.eos = within(how.tokens.eos, vocabulary);
  how.suppress_tokens = within(how.suppress_tokens, vocabulary);
  how.begin_suppress_tokens = within(how.begin_suppress_tokens, vocabulary);
  if (how.forced_bos_token_id) check_tokens("forced_bos_token_id", {&*how.forced_bos_token_id, 1}, vocabulary);
  check_tokens("forced_eos_token_id", how.forced_eos_token_id, vocabulary);
  // A word that is an end token alone is none: the text could not end.
  std::erase_if(how.bad_words_ids, [&](const std::vector<int64_t>& word) {
    return word.size() == 1 && std::find(how.tokens.eos.begin(), how.tokens.eos.end(), word[0]) != how.tokens.eos.end();
  });
  for (const auto& word : how.bad_words_ids) check_tokens("bad_words_ids", word, vocabulary);
  check(how.repetition_penalty > 0, "repetition_penalty is above 0, not {}", how.repetition_penalty);
  if (!how.do_sample) return how;
  check(how.temperature > 0, "temperature is above 0, not {}; do_sample=false takes the likeliest token",
        how.temperature);
  check(how.top_p >= 0 && how.top_p <= 1, "top_p is from 0 to 1, not {}", how.top_p);
  check(how.typical_p > 0, "typical_p is above 0, not {}", how.typical_p);
  check(how.min_p.value_or(0) >= 0 && how.min_p.value_or(0) <= 1, "min_p is from 0 to 1, not {}",
        how.min_p.value_or(0));
  return how;
}

}  // namespace

Processors::Processors(const hub::GenerationConfig& how, int64_t given, int64_t vocabulary)
    : how_(checked(how, vocabulary)),
      vocabulary_(vocabulary),
      max_length_(how.max_new_tokens ? given + *how.max_new_tokens : how.max_length) {
  min_length_ = std::max(how.min_length, how.min_new_tokens.value_or(0) > 0 ? given + *how.min_new_tokens : 0);
  begin_index_ = given > 1 || !how.forced_bos_token_id ? given : given + 1;
}

void Processors::process(std::span<const int32_t> text, std::span<float> scores) const {
  ensure(int64_t(scores.size()) == vocabulary_, "{} scores, {} tokens", scores.size(), vocabulary_);
  const auto length = int64_t(text.size());
  if (how_.repetition_penalty != 1) repetition(text, scores);
  if (how_.no_repeat_ngram_size > 0) ngrams(text, scores);
  bad_words(text, scores);
  if (length < min_length_) ban(scores, how_.tokens.eos);
  if (how_.forced_bos_token_id && length == 1) force(scores, {&*how_.forced_bos_token_id, 1});
  if (!how_.forced_eos_token_id.empty() && length == max_length_ - 1) force(scores, how_.forced_eos_token_id);
  ban(scores, how_.suppress_tokens);
  if (length == begin_index_) ban(scores, how_.begin_suppress_tokens);
}

void Processors::warp(std::span<float> scores, int64_t least) const {
  if (how_.temperature != 1) {
    for (float& score : scores) score /= float(how_.temperature);
  }
  if (how_.top_k > 0) keep_largest(scores, std::max(how_.top_k, least));
  if (std::all_of(scores.begin(), scores.end(), [](float score) { return score == kBanned; })) return;
  if (how_.top_p < 1) keep_nucleus(scores, how_.top_p, least);
  if (how_.min_p.value_or(0) > 0) keep_above(scores, *how_.min_p, least);
  if (how_.typical_p < 1) keep_typical(scores, how_.typical_p, least);
}

// A token that the text has is made less likely, once.
void Processors::repetition(std::span<const int32_t> text, std::span<float> scores) const {
  std::vector<bool> seen(scores.size(), false);
  const auto penalty = float(how_.repetition_penalty);
  for (const int32_t token : text) {
    if (seen[size_t(token)]) continue;
    seen[size_t(token)] = true;
    float& score = scores[size_t(token)];
    score = score < 0 ? score * penalty : score / penalty;
  }
}

// The text has no n tokens twice.
void Processors::ngrams(std::span<const int32_t> text, std::span<float> scores) const {
  const auto n = size_t(how_.no_repeat_ngram_size);
  if (text.size() + 1 < n) return;
  const auto last = text.subspan(text.size() + 1 - n);
  for (size_t i = 0; i + n <= text.size(); ++i)
    if (std::equal(last.begin(), last.end(), text.begin() + std::ptrdiff_t(i)))
      scores[size_t(text[i + n - 1])] = kBanned;
}

// A word is banned where all of it but its last token stands at the end, and the text is no shorter than it.
void Processors::bad_words(std::span<const int32_t> text, std::span<float> scores) const {
  for (const std::vector<int64_t>& word : how_.bad_words_ids) {
    if (word.size() > 1 && word.size() > text.size()) continue;
    const auto end = text.last(word.size() - 1);
    if (std::equal(end.begin(), end.end(), word.begin())) scores[size_t(word.back())] = kBanned;
  }
}

void log_softmax(std::span<float> scores) {
  const Total total(scores);
  for (float& score : scores) score = float(total.log_share(score));
}

}  // namespace surtsey::experiments
