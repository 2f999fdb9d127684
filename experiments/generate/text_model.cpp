#include "experiments/generate/text_model.h"

#include "experiments/adapt/packed.h"
#include "experiments/base/join.h"
#include "experiments/models/hub/import.h"

#include <algorithm>

namespace surtsey::experiments {
namespace {

constexpr int64_t kPrefill = 64;  // columns of a prompt at once
constexpr int32_t kTogether = 4;  // tokens between two looks at them: a replay and a copy take longer than some tokens

int64_t tokens_at_most(const hub::GenerationConfig& how, int64_t given) {
  return how.max_new_tokens.value_or(std::max<int64_t>(0, how.max_length - given));
}

}  // namespace

TextModel::TextModel(engine::Device& device, const hub::Source& source, const TextModelOptions& options)
    : where_(source.path().string()),
      model_(hub::model_config(source, {options.context, options.source})),
      session_(device, {.quiet = true}) {
  check(model_.config().head == HeadKind::language, "{}: no language model's head, so it continues no text", where_);
  freeze_weights(model_, source, options.weights, device.target());
  DecodeConfig config;
  config.columns = model_.config().block_size;
  config.prefill = std::min(kPrefill, std::max<int64_t>(1, config.columns - 1));
  config.filter = options.filter;
  decoder_.emplace(session_, model_, 1, config);
  session_.allocate();
  const auto write = [&](const std::string& name, const graph::HostTensor& tensor) {
    if (session_.has_state(name)) session_.write(name, tensor);
  };
  hub::read_weights(source, model_, write);
  for (const auto& [name, tensor] : model_.constants()) write(name, tensor);
}

std::vector<std::string> TextModel::unsupported(const hub::GenerationConfig& how) {
  std::vector<std::string> names;
  const auto add = [&](bool asked, const char* name) {
    if (asked) names.emplace_back(name);
  };
  add(how.min_new_tokens.value_or(0) > 0, "min_new_tokens");
  add(how.min_length > 0, "min_length");
  add(how.do_sample && how.min_p.value_or(0) > 0, "min_p");
  add(how.do_sample && how.typical_p < 1, "typical_p");
  add(how.repetition_penalty != 1, "repetition_penalty");
  add(how.no_repeat_ngram_size > 0, "no_repeat_ngram_size");
  add(how.num_beams > 1, "num_beams");
  add(how.num_return_sequences > 1, "num_return_sequences");
  add(how.forced_bos_token_id.has_value(), "forced_bos_token_id");
  add(!how.forced_eos_token_id.empty(), "forced_eos_token_id");
  add(!how.suppress_tokens.empty(), "suppress_tokens");
  add(!how.begin_suppress_tokens.empty(), "begin_suppress_tokens");
  add(!how.bad_words_ids.empty(), "bad_words_ids");
  return names;
}

TokenFilter TextModel::filter(const hub::GenerationConfig& how) {
  if (!how.do_sample) return {};
  return {.top_k = how.top_k, .top_p = how.top_p};
}

std::vector<int32_t> TextModel::generate(const std::vector<int32_t>& prompt, const hub::GenerationConfig& how,
                                         uint32_t seed, const std::function<bool(int32_t token)>& told) {
  const std::vector<std::string> missing = unsupported(how);
  check(missing.empty(), "{}: not supported yet: {}; give them their default (--{}=..) to do without", where_,
        join(missing, ", "), missing.empty() ? "" : missing.front());
  check(!prompt.empty(), "{}: the prompt has no tokens", where_);
  const int64_t vocabulary = model_.config().vocab_size;
  for (const int32_t token : prompt) {
    check(token >= 0 && token < vocabulary, "{}: the prompt has token {}, there are 0 to {}", where_, token,
          vocabulary - 1);
  }
  const bool answers = model_.config().architecture == Architecture::encoder_decoder;
  const int64_t columns = decoder_->config().columns;
  DecodeRow row;
  if (answers) {
    check(how.tokens.decoder_start >= 0, "{}: names no decoder_start_token_id", where_);
    check(int64_t(prompt.size()) <= model_.config().source_length(), "{}: a source of {} tokens, there is room for {}",
          where_, prompt.size(), model_.config().source_length());
    row = {{int32_t(how.tokens.decoder_start)}, 1, prompt};
  } else {
    check(int64_t(prompt.size()) < columns, "{}: a prompt of {} tokens leaves no room in a context of {}", where_,
          prompt.size(), columns);
    row = {prompt, int32_t(prompt.size())};
  }
  const auto given = int64_t(row.length);
  const int64_t most = std::min(tokens_at_most(how, given), columns - given);
  decoder_->set_sampling(how.do_sample ? how.temperature : 0, seed);

  std::vector<int32_t> fresh;
  bool first = true;
  while (int64_t(fresh.size()) < most) {
    const auto at = int32_t(given + int64_t(fresh.size()));
    // The first one comes alone: somebody waits for it.
    const auto count = int32_t(first ? 1 : std::min<int64_t>(kTogether, most - int64_t(fresh.size())));
    const std::vector<int32_t> columns_now =
        first ? decoder_->decode({{row}}, at, at + 1, 0)[0] : decoder_->go_on(count)[0];
    first = false;
    check(decoder_->finite(), "{}: the model's logits are not finite", where_);
    for (int32_t i = 0; i < count; ++i) {
      const int32_t token = columns_now[size_t(at + i)];
      fresh.push_back(token);
      const auto& ends = how.tokens.eos;
      const bool ended = std::find(ends.begin(), ends.end(), token) != ends.end();
      if ((told && !told(token)) || ended) return fresh;
    }
  }
  return fresh;
}

}  // namespace surtsey::experiments
