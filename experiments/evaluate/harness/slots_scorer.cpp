#include "experiments/evaluate/harness/slots_scorer.h"

#include "experiments/generate/sampler.h"

#include <algorithm>
#include <optional>

namespace surtsey::experiments {
namespace {

TokenLikelihood likelihood(std::span<const float> logits, int32_t token) {
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  return {log_probabilities(logits, token, 0).logprob, best == token};
}

}  // namespace

int64_t SlotsScorer::context() const {
  // Of an encoder-decoder sources and answers alike.
  return is_encoder_decoder() ? std::min(slots_.context() - 1, slots_.config().source_length()) : slots_.context();
}

bool SlotsScorer::is_encoder_decoder() const { return slots_.config().architecture == Architecture::encoder_decoder; }

int32_t SlotsScorer::start_token() const {
  check(tokens_.decoder_start >= 0, "this model's configuration has no decoder_start_token_id");
  return int32_t(tokens_.decoder_start);
}

std::vector<TokenLikelihood> SlotsScorer::score(std::span<const int32_t> context,
                                                std::span<const int32_t> continuation) {
  std::vector<int32_t> whole;
  if (is_encoder_decoder()) {
    slots_.set_source(0, context);
    whole.push_back(start_token());
  } else {
    whole.assign(context.begin(), context.end());
  }
  const auto first = std::ssize(whole) - 1;
  whole.insert(whole.end(), continuation.begin(), continuation.end());
  std::vector<TokenLikelihood> result;
  slots_.read(0, std::span(whole).first(whole.size() - 1), first, [&](int64_t position, std::span<const float> logits) {
    result.push_back(likelihood(logits, whole[size_t(position) + 1]));
  });
  return result;
}

void SlotsScorer::generate(std::span<const Request> requests, const hub::GenerationConfig& how, uint64_t seed,
                           const std::function<bool(size_t, int32_t)>& token, const std::function<void(size_t)>& done) {
  // What stands in a slot, and the token that its text goes on with.
  struct Text {
    size_t place = 0;
    Sampler sampler;
    int64_t length = 0;  // that is read
    int32_t next = 0;
  };
  std::vector<std::optional<Text>> texts(size_t(slots_.slots()));
  // A text whose next token is drawn goes on, or leaves its slot.
  const auto draw = [&](size_t slot, std::span<const float> logits) {
    Text& text = *texts[slot];
    text.next = text.sampler.draw(logits).token;
    const bool more = token(text.place, text.next) && text.sampler.left() > 0 && text.length < slots_.context();
    if (more) return;
    const size_t place = text.place;
    texts[slot].reset();
    done(place);
  };
  const auto begin = [&](size_t slot, size_t place) {
    const Request& request = requests[place];
    hub::GenerationConfig own = how;
    own.max_new_tokens = request.most;
    std::vector<int32_t> prompt = request.prompt;
    if (is_encoder_decoder()) {
      slots_.set_source(int32_t(slot), prompt);
      prompt = {start_token()};
    }
    texts[slot].emplace(
        Text{place, Sampler(own, prompt, slots_.vocabulary(), seed, uint32_t(place)), std::ssize(prompt)});
    slots_.read(int32_t(slot), prompt, std::ssize(prompt) - 1,
                [&](int64_t, std::span<const float> logits) { draw(slot, logits); });
  };
  size_t begun = 0;
  std::vector<SlotToken> next;
  do {
    next.clear();
    for (size_t slot = 0; slot < texts.size(); ++slot) {
      while (!texts[slot] && begun < requests.size()) begin(slot, begun++);
      if (texts[slot]) next.push_back({int32_t(slot), texts[slot]->next});
    }
    if (next.empty()) break;
    const std::span<const float> logits = slots_.step(next);
    const auto vocabulary = size_t(slots_.vocabulary());
    for (size_t i = 0; i < next.size(); ++i) {
      texts[size_t(next[i].slot)]->length += 1;
      draw(size_t(next[i].slot), logits.subspan(i * vocabulary, vocabulary));
    }
  } while (true);
}

}  // namespace surtsey::experiments
