#include "experiments/generate/text_model.h"

#include "experiments/generate/beam_search.h"
#include "experiments/generate/sampler.h"

#include <algorithm>

namespace surtsey::experiments {

TextModel::TextModel(engine::Device& device, const hub::Source& source, const SlotOptions& options)
    : where_(source.path().string()), slots_(device, source, options) {}

int64_t TextModel::slots_for(const hub::GenerationConfig& how) {
  return how.num_beams > 1 ? how.num_beams : how.num_return_sequences;
}

std::vector<std::vector<int32_t>> TextModel::generate(const std::vector<int32_t>& prompt,
                                                      const hub::GenerationConfig& how, uint64_t seed,
                                                      const Told& told) {
  check(!prompt.empty(), "{}: the prompt has no tokens", where_);
  const bool answers = config().architecture == Architecture::encoder_decoder;
  std::vector<int32_t> given = prompt;
  if (answers) {
    check(how.tokens.decoder_start >= 0, "{}: names no decoder_start_token_id", where_);
    given = {int32_t(how.tokens.decoder_start)};
    for (int64_t slot = 0; slot < slots_.slots(); ++slot) slots_.set_source(int32_t(slot), prompt);
  }
  const auto length = int64_t(given.size()), room = slots_.context() - length;
  check(room > 0, "{}: a prompt of {} tokens leaves no room in a context of {}", where_, length, slots_.context());
  hub::GenerationConfig within = how;
  within.max_new_tokens = std::min(how.max_new_tokens.value_or(std::max<int64_t>(0, how.max_length - length)), room);
  const int64_t wanted = how.num_return_sequences;
  if (how.num_beams > 1) {
    const auto texts = beam_search(slots_, given, within, seed);
    for (size_t i = 0; i < texts.size() && told; ++i)
      for (const int32_t token : texts[i])
        if (!told(int64_t(i), token)) break;
    return texts;
  }
  check(how.do_sample || wanted == 1,
        "num_return_sequences is {}: greedy texts are all the same; do_sample=true or num_beams give several", wanted);
  std::vector<std::vector<int32_t>> texts;
  for (int64_t first = 0; first < wanted; first += slots_.slots()) {
    auto some = draw(given, within, seed, first, std::min(slots_.slots(), wanted - first), told);
    std::move(some.begin(), some.end(), std::back_inserter(texts));
  }
  return texts;
}

std::vector<std::vector<int32_t>> TextModel::draw(const std::vector<int32_t>& given, const hub::GenerationConfig& how,
                                                  uint64_t seed, int64_t first, int64_t count, const Told& told) {
  std::vector<Sampler> samplers;
  for (int64_t i = 0; i < count; ++i) samplers.emplace_back(how, given, slots_.vocabulary(), seed, uint32_t(first + i));
  std::vector<std::vector<int32_t>> texts(static_cast<size_t>(count));
  std::vector<SlotToken> next;
  // Draws a token for the text of a slot; it is read if the text goes on.
  const auto take = [&](int32_t slot, std::span<const float> logits) {
    Sampler& sampler = samplers[size_t(slot)];
    if (sampler.left() == 0) return;
    const int32_t token = sampler.draw(logits).token;
    texts[size_t(slot)].push_back(token);
    const bool goes_on = !told || told(first + slot, token);
    if (goes_on && !sampler.ends(token) && sampler.left() > 0) next.push_back({slot, token});
  };
  slots_.read(0, given, int64_t(given.size()) - 1, [&](int64_t, std::span<const float> logits) {
    for (int64_t i = 0; i < count; ++i) take(int32_t(i), logits);
  });
  if (count > 1) slots_.reorder(std::vector<int32_t>(size_t(slots_.slots()), 0));
  while (!next.empty()) {
    const std::vector<SlotToken> now = std::exchange(next, {});
    const std::span<const float> logits = slots_.step(now);
    const auto V = size_t(slots_.vocabulary());
    for (size_t i = 0; i < now.size(); ++i) take(now[i].slot, logits.subspan(i * V, V));
  }
  return texts;
}

}  // namespace surtsey::experiments
