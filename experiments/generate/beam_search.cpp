#include "experiments/generate/beam_search.h"

#include "experiments/generate/processors.h"
#include "graph/random.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

constexpr float kUnlikely = -1e9f;  // of the beams that are copies of the first, before they differ
using EarlyStopping = hub::GenerationConfig::EarlyStopping;
using Tokens = std::vector<int32_t>;

// Texts that came to their end, as many as there are beams at most.
class Hypotheses {
 public:
  Hypotheses(const hub::GenerationConfig& how, int64_t given, int64_t max_length)
      : how_(how), given_(given), max_length_(max_length) {}

  // `tokens` with what was given, without an end token.
  void add(Tokens tokens, double sum, bool ended) {
    const double score = scored(sum, int64_t(tokens.size()) + (ended ? 1 : 0));
    const bool full = int64_t(list_.size()) >= how_.num_beams;
    if (full && score <= list_[worst()].score) return;
    list_.push_back({std::move(tokens), score, ended});
    if (full) list_.erase(list_.begin() + std::ptrdiff_t(worst()));
  }

  // Whether no beam, of which the best has this sum at this length, can become better.
  bool done(double best_sum, int64_t length) const {
    if (int64_t(list_.size()) < how_.num_beams) return false;
    if (how_.early_stopping == EarlyStopping::on) return true;
    // A sum that is divided by more is larger, as it is below 0.
    const bool longest = how_.early_stopping == EarlyStopping::never && how_.length_penalty > 0;
    return list_[worst()].score >= scored(best_sum, longest ? max_length_ : length);
  }

  // New tokens of the best ones; of equals the last.
  std::vector<Tokens> best(int64_t count) const {
    std::vector<const Hypothesis*> order;
    for (const Hypothesis& one : list_) order.push_back(&one);
    std::stable_sort(order.begin(), order.end(),
                     [](const Hypothesis* a, const Hypothesis* b) { return a->score < b->score; });
    std::vector<Tokens> result;
    for (auto one = order.rbegin(); one != order.rend() && int64_t(result.size()) < count; ++one) {
      Tokens tokens((*one)->tokens.begin() + given_, (*one)->tokens.end());
      if ((*one)->ended) tokens.push_back(int32_t(how_.tokens.eos.front()));
      result.push_back(std::move(tokens));
    }
    return result;
  }

 private:
  struct Hypothesis {
    Tokens tokens;
    double score = 0;
    bool ended = false;
  };

  double scored(double sum, int64_t length) const {
    return sum / std::pow(double(length - given_), how_.length_penalty);
  }
  size_t worst() const {
    const auto least = std::min_element(list_.begin(), list_.end(),
                                        [](const Hypothesis& a, const Hypothesis& b) { return a.score < b.score; });
    return size_t(least - list_.begin());
  }

  const hub::GenerationConfig& how_;
  const int64_t given_, max_length_;
  std::vector<Hypothesis> list_;
};

struct Candidate {
  float score = 0;  // of the text with this token
  int32_t beam = 0;
  int32_t token = 0;
};

class Search {
 public:
  Search(Slots& slots, std::span<const int32_t> given, const hub::GenerationConfig& how, uint64_t seed)
      : slots_(slots),
        how_(how),
        processors_(how, int64_t(given.size()), slots.vocabulary()),
        hypotheses_(how, int64_t(given.size()), processors_.max_length()),
        beams_(size_t(how.num_beams)),
        vocabulary_(size_t(slots.vocabulary())),
        key_(graph::random_bits(graph::stream_seed(uint32_t(seed), "beam"), uint32_t(seed >> 32), 0)),
        texts_(beams_, Tokens(given.begin(), given.end())),
        sums_(beams_, kUnlikely) {
    sums_[0] = 0;
  }

  std::vector<Tokens> run() {
    if (int64_t(texts_[0].size()) >= processors_.max_length()) return std::vector<Tokens>(wanted());
    read();
    for (;;) {
      const std::vector<Candidate> candidates = best_candidates();
      const bool done = advance(candidates);
      if (done) break;
      if (int64_t(texts_[0].size()) >= processors_.max_length()) {
        for (size_t b = 0; b < beams_; ++b) hypotheses_.add(texts_[b], sums_[b], false);
        break;
      }
      step();
    }
    return hypotheses_.best(how_.num_return_sequences);
  }

 private:
  size_t wanted() const { return size_t(how_.num_return_sequences); }

  // The prompt, in every beam.
  void read() {
    slots_.read(0, texts_[0], int64_t(texts_[0].size()) - 1, [&](int64_t, std::span<const float> logits) {
      for (size_t b = 0; b < beams_; ++b) scores_.insert(scores_.end(), logits.begin(), logits.end());
    });
    // Slots that are no beams stay as they are.
    for (size_t slot = 0; slot < size_t(slots_.slots()); ++slot) parents_.push_back(slot < beams_ ? 0 : int32_t(slot));
    slots_.reorder(parents_);
  }

  void step() {
    std::vector<SlotToken> next;
    for (size_t b = 0; b < beams_; ++b) next.push_back({int32_t(b), texts_[b].back()});
    slots_.reorder(parents_);
    const std::span<const float> logits = slots_.step(next);
    scores_.assign(logits.begin(), logits.end());
  }

  // The best, or those that are drawn, best first. scores_ are logits before it.
  std::vector<Candidate> best_candidates() {
    const size_t ends = how_.tokens.eos.size();
    for (size_t b = 0; b < beams_; ++b) {
      const std::span<float> scores = std::span(scores_).subspan(b * vocabulary_, vocabulary_);
      log_softmax(scores);
      processors_.process(texts_[b], scores);
      if (how_.do_sample) processors_.warp(scores, int64_t(ends) + 1);
      for (float& score : scores) score += sums_[b];
    }
    const size_t kept = std::min(scores_.size(), std::max<size_t>(2, 1 + ends) * beams_);
    if (how_.do_sample) return drawn(kept);
    return largest(kept, [&](size_t i) { return scores_[i]; });
  }

  template <typename Rank>
  std::vector<Candidate> largest(size_t count, Rank&& rank) const {
    std::vector<uint32_t> order(scores_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = uint32_t(i);
    const auto before = [&](uint32_t a, uint32_t b) {
      const auto x = rank(a), y = rank(b);
      return x != y ? x > y : a < b;
    };
    const auto end = order.begin() + std::ptrdiff_t(count);
    std::nth_element(order.begin(), end - 1, order.end(), before);
    std::sort(order.begin(), end, before);
    std::vector<Candidate> result;
    for (auto i = order.begin(); i != end; ++i)
      result.push_back({scores_[*i], int32_t(*i / vocabulary_), int32_t(*i % vocabulary_)});
    return result;
  }

  // Without replacement, by softmax of the scores: the largest of score + Gumbel noise (Kool et al. 2019).
  std::vector<Candidate> drawn(size_t count) {
    const auto step = uint32_t(texts_[0].size());
    std::vector<double> ranks(scores_.size());
    size_t possible = 0;
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (scores_[i] != kBanned) ++possible;
      const double u = (double(graph::random_bits(key_, step, uint32_t(i))) + .5) * 0x1p-32;
      ranks[i] = scores_[i] == kBanned ? double(kBanned) : double(scores_[i]) - std::log(-std::log(u));
    }
    std::vector<Candidate> result = largest(std::min(count, possible), [&](size_t i) { return ranks[i]; });
    std::stable_sort(result.begin(), result.end(),
                     [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    return result;
  }

  bool ends(int32_t token) const {
    return std::find(how_.tokens.eos.begin(), how_.tokens.eos.end(), token) != how_.tokens.eos.end();
  }

  // The beams take the best candidates that do not end; whether the search is done.
  bool advance(const std::vector<Candidate>& candidates) {
    std::vector<Tokens> texts;
    std::vector<float> sums;
    for (size_t rank = 0; rank < candidates.size() && texts.size() < beams_; ++rank) {
      const Candidate& one = candidates[rank];
      const Tokens& text = texts_[size_t(one.beam)];
      if (ends(one.token)) {
        if (rank < beams_) hypotheses_.add(text, double(one.score), true);
        continue;
      }
      parents_[texts.size()] = one.beam;
      texts.push_back(text);
      texts.back().push_back(one.token);
      sums.push_back(one.score);
    }
    check(texts.size() == beams_, "too few tokens are left for {} beams after {} tokens", beams_, texts_[0].size());
    texts_ = std::move(texts);
    sums_ = std::move(sums);
    return hypotheses_.done(double(candidates.front().score), int64_t(texts_[0].size()));
  }

  Slots& slots_;
  const hub::GenerationConfig& how_;
  const Processors processors_;
  Hypotheses hypotheses_;
  const size_t beams_;
  const size_t vocabulary_;
  const uint32_t key_;
  std::vector<Tokens> texts_;
  std::vector<float> sums_;       // of log-probabilities
  std::vector<float> scores_;     // [beams, V]
  std::vector<int32_t> parents_;  // the slot that each goes on from
};

}  // namespace

std::vector<std::vector<int32_t>> beam_search(Slots& slots, std::span<const int32_t> given,
                                              const hub::GenerationConfig& how, uint64_t seed) {
  check(how.num_beams <= slots.slots(), "num_beams is {}, there are {} slots", how.num_beams, slots.slots());
  check(how.num_return_sequences <= how.num_beams, "num_return_sequences is {}, above num_beams, which is {}",
        how.num_return_sequences, how.num_beams);
  return Search(slots, given, how, seed).run();
}

}  // namespace surtsey::experiments
