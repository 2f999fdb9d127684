#include "experiments/text/tokenizer.h"

#include <algorithm>

#include "experiments/base/utf8.h"
#include "experiments/text/post_processors.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

// Bytes of a character are at most four tokens; more that wait are no character and never will be.
constexpr size_t kMostWaiting = 8;

}  // namespace

std::vector<int32_t> Tokenizer::plain(std::string_view text) const {
  check_utf8(text, "the text");
  Pieces pieces;
  if (!text.empty()) pieces.push_back({std::string(text), -1, true});
  parts_.added.split_raw(pieces);
  if (parts_.normalizer) {
    for (Piece& piece : pieces) {
      if (piece.token >= 0) continue;
      const size_t size = piece.text.size();
      parts_.normalizer(piece.text);
      check_growth(size, piece.text.size(), "the normalizer");
    }
  }
  parts_.added.split_normalized(pieces);
  std::erase_if(pieces, [](const Piece& piece) { return piece.text.empty(); });
  if (parts_.pre_tokenizer) parts_.pre_tokenizer(pieces);
  std::vector<int32_t> ids;
  for (const Piece& piece : pieces) {
    if (piece.token >= 0) {
      ids.push_back(piece.token);
    } else if (!piece.text.empty()) {
      parts_.model->encode(piece.text, ids);
    }
  }
  return ids;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  Encoding encoding{.ids = plain(text)};
  if (options.special_tokens && parts_.post_processor) parts_.post_processor(encoding);
  return std::move(encoding.ids);
}

EncodedText Tokenizer::encode(std::string_view text, std::optional<std::string_view> second, int64_t most) const {
  const auto joined = [&](Encoding encoding) {
    if (parts_.post_processor) parts_.post_processor(encoding);
    join_texts(encoding);
    return encoding;
  };
  Encoding encoding{.ids = plain(text)}, none;
  if (second) encoding.second = plain(*second);
  if (second) none.second.emplace();
  const int64_t special = std::ssize(joined(std::move(none)).ids), room = most - special;
  check(room >= 0, "{} tokens have no room for the {} special ones of a text", most, special);
  int64_t first_length = std::ssize(encoding.ids), second_length = second ? std::ssize(*encoding.second) : 0;
  const int64_t whole = special + first_length + second_length;
  if (first_length + second_length > room) {
    // As the library's "longest_first": the shorter one keeps at least what an even share would leave it.
    const int64_t shorter = std::min(first_length, second_length), half = room / 2;
    int64_t less = shorter, more = room - shorter;
    if (more < less) {
      less = half;
      more = room - half;
    }
    const bool first_is_shorter = first_length <= second_length;
    encoding.ids.resize(size_t(first_is_shorter ? less : more));
    if (second) encoding.second->resize(size_t(first_is_shorter ? more : less));
  }
  encoding = joined(std::move(encoding));
  return {std::move(encoding.ids), std::move(encoding.kinds), whole};
}

std::string Tokenizer::decode(std::span<const int32_t> ids, DecodeOptions options) const {
  std::vector<std::string> tokens;
  for (const int32_t id : ids) {
    const std::string* token = parts_.added.token(id);
    if (token == nullptr) token = parts_.vocabulary->token(id);
    if (token == nullptr || (options.skip_special_tokens && parts_.added.is_special(*token))) continue;
    tokens.push_back(*token);
  }
  if (tokens.empty()) return "";
  if (parts_.decoder) parts_.decoder(tokens);
  std::string text;
  for (const std::string& token : tokens) {
    if (!parts_.decoder && !text.empty()) text += ' ';
    text += token;
  }
  return text;
}

int32_t Tokenizer::vocab_size() const {
  int32_t size = parts_.vocabulary->size();
  for (const AddedToken& token : parts_.added.tokens()) size = std::max(size, token.id + 1);
  return size;
}

std::optional<int32_t> Tokenizer::id(std::string_view token) const {
  const auto added = parts_.added.find(token);
  return added ? added : parts_.vocabulary->find(token);
}

std::string Tokenizer::token(int32_t id) const {
  for (const AddedToken& token : parts_.added.tokens()) {
    if (token.id == id) return token.content;
  }
  const std::string* token = parts_.vocabulary->token(id);
  return token == nullptr ? "" : *token;
}

bool Tokenizer::is_special(int32_t id) const { return parts_.added.is_special(token(id)); }

std::string DecodeStream::push(int32_t id) {
  window_.push_back(id);
  return take(window_.size() - out_ > kMostWaiting);
}

std::string DecodeStream::finish() {
  std::string text = take(true);
  window_.clear();
  out_ = 0;
  return text;
}

std::string DecodeStream::take(bool all) {
  const std::string before = tokenizer_.decode(std::span(window_).first(out_), options_);
  const std::string now = tokenizer_.decode(window_, options_);
  if (now.size() <= before.size()) {
    if (all) window_.resize(out_);  // tokens without text
    return "";
  }
  if (!all && now.ends_with(kReplacementText)) return "";
  std::string text = now.substr(before.size());
  // What is out stays in the window as long as the next token may be read differently after it: one round.
  window_.erase(window_.begin(), window_.begin() + std::ptrdiff_t(out_));
  out_ = window_.size();
  return text;
}

}  // namespace surtsey::experiments::text
