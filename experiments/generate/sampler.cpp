#include "experiments/generate/sampler.h"

#include "experiments/generate/processors.h"
#include "graph/error.h"
#include "graph/random.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

// Uniform in [0, 1), a multiple of 2^-53, of draw `step` of a text.
double uniform(uint64_t seed, uint32_t stream, uint32_t step) {
  const uint32_t key = graph::random_bits(graph::stream_seed(uint32_t(seed), "sampler"), uint32_t(seed >> 32), stream);
  const uint64_t high = graph::random_bits(key, step, 0), low = graph::random_bits(key, step, 1);
  return double((high << 21) | (low >> 11)) * 0x1p-53;
}

int32_t likeliest(std::span<const float> scores) {
  return int32_t(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

}  // namespace

struct Sampler::Impl {
  Impl(const hub::GenerationConfig& asked, std::span<const int32_t> prompt, int64_t tokens, uint64_t key, uint32_t of)
      : how(asked),
        processors(asked, int64_t(prompt.size()), tokens),
        vocabulary(tokens),
        seed(key),
        stream(of),
        given(prompt.size()),
        text(prompt.begin(), prompt.end()) {
    for (const int32_t token : prompt) check_token("the prompt", token);
  }

  void check_token(const char* what, int32_t token) const {
    check(token >= 0 && token < vocabulary, "{} has token {}, the model has 0 to {}", what, token, vocabulary - 1);
  }

  // What others may add to what the configuration says.
  void add_callers(std::span<float> scores) const {
    if (frequency != 0 || presence != 0)
      for (const auto& [token, count] : counts) scores[size_t(token)] -= float(count * frequency + presence);
    for (const auto& [token, value] : bias) scores[size_t(token)] += value;
    if (!mask) return;
    std::vector<bool> allowed(scores.size(), true);
    mask(allowed);
    ensure(allowed.size() == scores.size(), "a mask of {} tokens for {}", allowed.size(), scores.size());
    for (size_t i = 0; i < scores.size(); ++i)
      if (!allowed[i]) scores[i] = kBanned;
  }

  int32_t choose(std::span<const float> logits) {
    scores.assign(logits.begin(), logits.end());
    processors.process(text, scores);
    add_callers(scores);
    if (how.do_sample) processors.warp(scores);
    const int32_t best = likeliest(scores);
    check(scores[size_t(best)] != kBanned, "every token is banned after {} tokens", text.size());
    return how.do_sample ? inverted(scores[size_t(best)]) : best;
  }

  // Where the cumulative distribution, in the order of the tokens, passes the draw's number.
  int32_t inverted(float largest) {
    double total = 0;
    for (const float score : scores) total += std::exp(double(score - largest));
    const double point = uniform(seed, stream, uint32_t(text.size() - given)) * total;
    double sum = 0;
    int32_t last = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (scores[i] == kBanned) continue;
      sum += std::exp(double(scores[i] - largest));
      last = int32_t(i);
      if (sum > point) break;
    }
    return last;
  }

  void push(int32_t token) {
    text.push_back(token);
    ++counts[token];
  }

  const hub::GenerationConfig how;
  const Processors processors;
  const int64_t vocabulary;
  const uint64_t seed;
  const uint32_t stream;
  const size_t given;
  std::vector<int32_t> text;
  std::map<int32_t, int64_t> counts;  // of what was drawn
  double frequency = 0, presence = 0;
  std::map<int32_t, float> bias;
  std::function<void(std::vector<bool>&)> mask;
  std::vector<float> scores;
};

Sampler::Sampler(const hub::GenerationConfig& how, std::span<const int32_t> prompt, int64_t vocabulary, uint64_t seed,
                 uint32_t stream)
    : impl_(std::make_unique<Impl>(how, prompt, vocabulary, seed, stream)) {}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

void Sampler::set_openai_penalties(double frequency, double presence) {
  check(std::isfinite(frequency) && std::isfinite(presence), "penalties of {} and {}: they are numbers", frequency,
        presence);
  impl_->frequency = frequency;
  impl_->presence = presence;
}

void Sampler::set_logit_bias(std::map<int32_t, float> bias) {
  for (const auto& [token, value] : bias) {
    impl_->check_token("logit_bias", token);
    check(std::isfinite(value), "logit_bias adds {} to token {}: it adds numbers", value, token);
  }
  impl_->bias = std::move(bias);
}

void Sampler::set_mask(std::function<void(std::vector<bool>&)> mask) { impl_->mask = std::move(mask); }

Drawn Sampler::draw(std::span<const float> logits, int64_t top_logprobs) {
  ensure(int64_t(logits.size()) == impl_->vocabulary, "{} logits, {} tokens", logits.size(), impl_->vocabulary);
  const int32_t token = impl_->choose(logits);
  impl_->push(token);
  return top_logprobs >= 0 ? log_probabilities(logits, token, top_logprobs) : Drawn{.token = token};
}

void Sampler::push(int32_t token) {
  impl_->check_token("the text", token);
  impl_->push(token);
}

bool Sampler::ends(int32_t token) const {
  const std::vector<int64_t>& ends = impl_->how.tokens.eos;
  return std::find(ends.begin(), ends.end(), token) != ends.end();
}

int64_t Sampler::left() const {
  return std::max<int64_t>(0, impl_->processors.max_length() - int64_t(impl_->text.size()));
}

const std::vector<int32_t>& Sampler::text() const { return impl_->text; }

Drawn log_probabilities(std::span<const float> logits, int32_t token, int64_t count) {
  std::vector<float> scores(logits.begin(), logits.end());
  log_softmax(scores);
  Drawn drawn{.token = token, .logprob = scores.at(size_t(token))};
  if (count <= 0) return drawn;
  std::vector<int32_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = int32_t(i);
  const auto end = order.begin() + std::ptrdiff_t(std::min<size_t>(order.size(), size_t(count)));
  std::partial_sort(order.begin(), end, order.end(), [&](int32_t a, int32_t b) {
    const float x = scores[size_t(a)], y = scores[size_t(b)];
    return x != y ? x > y : a < b;
  });
  for (auto best = order.begin(); best != end; ++best) drawn.top.push_back({*best, scores[size_t(*best)]});
  return drawn;
}

}  // namespace surtsey::experiments
