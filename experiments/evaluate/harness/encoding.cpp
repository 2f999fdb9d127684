#include "experiments/evaluate/harness/encoding.h"

#include "experiments/evaluate/harness/blanks.h"
#include "graph/error.h"

#include <algorithm>

namespace surtsey::experiments {

int32_t PromptEncoder::first_token() const {
  check(tokens_.bos >= 0 || !tokens_.eos.empty(),
        "a text without a context is scored behind the model's first token, or the one that ends texts: this model has "
        "neither bos_token_id nor eos_token_id");
  return int32_t(tokens_.bos >= 0 ? tokens_.bos : tokens_.eos.front());
}

std::vector<int32_t> PromptEncoder::context_tokens(const std::string& text) const {
  if (options_.is_encoder_decoder) return tokenizer_.encode(text, {.special_tokens = true});
  std::vector<int32_t> ids;
  if (options_.add_bos_token) {
    check(tokens_.bos >= 0, "add_bos_token: this model has no bos_token_id");
    ids.push_back(int32_t(tokens_.bos));
  }
  const std::vector<int32_t> rest = tokenizer_.encode(text, {.special_tokens = false});
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

TokenPair PromptEncoder::pair(const std::string& context, const std::string& continuation) const {
  const std::string before(without_blanks_at_end(context));
  const std::string behind = context.substr(before.size()) + continuation;
  TokenPair result;
  if (options_.is_encoder_decoder) {
    result = {context_tokens(before), tokenizer_.encode(behind, {.special_tokens = false})};
  } else if (before.empty()) {
    result = {{first_token()}, tokenizer_.encode(behind, {.special_tokens = false})};
    // One that begins with the first token has it already.
    if (result.continuation.size() > 1 && result.continuation.front() == result.context.front()) {
      result.continuation.erase(result.continuation.begin());
    }
  } else {
    result.context = context_tokens(before);
    const std::vector<int32_t> whole = context_tokens(before + behind);
    const auto more = std::ptrdiff_t(std::min(result.context.size(), whole.size()));
    result.continuation.assign(whole.begin() + more, whole.end());
  }
  check(!result.continuation.empty(), "the continuation '{}' is no token of its own behind its context", continuation);
  return result;
}

std::vector<TokenPair> PromptEncoder::rolling(const std::string& text, int64_t window, int64_t stride) const {
  check(window > 0 && stride > 0 && stride <= window, "a window of {} tokens cannot go on by {}", window, stride);
  std::vector<int32_t> all;
  if (tokens_.bos >= 0 || !tokens_.eos.empty()) all.push_back(first_token());
  const std::vector<int32_t> ids = tokenizer_.encode(text, {.special_tokens = false});
  all.insert(all.end(), ids.begin(), ids.end());
  check(all.size() > 1, "a text of {} tokens has none to score", ids.size());
  std::vector<TokenPair> pairs;
  // all[1 ..] are scored; the text of a window ends before `end`, and it reads `window` tokens at most.
  const auto size = int64_t(all.size());
  for (int64_t begin = 1; begin < size;) {
    const int64_t end = std::min(begin + (begin == 1 ? window : stride), size);
    const int64_t first = std::max<int64_t>(0, end - 1 - window);
    pairs.push_back({{all.begin() + first, all.begin() + begin}, {all.begin() + begin, all.begin() + end}});
    begin = end;
  }
  return pairs;
}

std::vector<int32_t> PromptEncoder::prompt(const std::string& text, int64_t most) const {
  std::vector<int32_t> ids = context_tokens(text);
  if (ids.empty()) ids.push_back(first_token());
  if (std::ssize(ids) > most) ids.erase(ids.begin(), ids.end() - most);
  return ids;
}

}  // namespace surtsey::experiments
