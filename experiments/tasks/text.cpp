#include "experiments/tasks/text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "experiments/base/utf8.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

std::u32string code_points(std::string_view text) {
  std::u32string points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint found = code_point_at(text, at);
    check(found.length > 0, "[text] byte {} is not UTF-8", at + found.fault);
    points.push_back(found.point);
    at += found.length;
  }
  return points;
}

// For a message: control characters would not be seen.
std::string shown(char32_t point) {
  switch (point) {
    case U'\n':
      return "a line break";
    case U'\r':
      return "a carriage return";
    case U'\t':
      return "a tab";
    case U' ':
      return "a blank";
    default:
      break;
  }
  std::string symbol;
  append_utf8(symbol, point);
  return point < 0x20 || point == 0x7F || point == 0xFEFF ? fmt::format("U+{:04X}", static_cast<uint32_t>(point))
                                                          : fmt::format("'{}'", symbol);
}

std::vector<char32_t> sorted_set(const std::u32string& points) {
  std::vector<char32_t> set(points.begin(), points.end());
  std::sort(set.begin(), set.end());
  set.erase(std::unique(set.begin(), set.end()), set.end());
  return set;
}

}  // namespace

TextSource::TextSource(std::string_view text, int32_t block_size, std::shared_ptr<const text::Tokenizer> tokenizer)
    : block_size_(block_size), tokenizer_(std::move(tokenizer)) {
  check(block_size > 0, "[text] block size {} must be positive", block_size);
  const std::u32string points = code_points(text);
  // Both parts by themselves, so that no token lies across the cut.
  const auto train_characters = static_cast<size_t>(kTrainShare * static_cast<double>(points.size()));
  const size_t cut = text::to_utf8(std::u32string_view(points).substr(0, train_characters)).size();
  validation_bytes_ = text.size() - cut;
  if (!tokenizer_) vocabulary_ = sorted_set(points);
  tokens_ = encode(text.substr(0, cut));
  train_size_ = tokens_.size();
  const std::vector<int32_t> rest = encode(text.substr(cut));
  tokens_.insert(tokens_.end(), rest.begin(), rest.end());
  const auto window = static_cast<size_t>(block_size) + 1;
  check(train_size_ >= window && validation_size() >= window,
        "[text] {} {} are too few: a tenth must hold a window of {}", tokens_.size(),
        tokenizer_ ? "tokens" : "characters", window);
  check(tokens_.size() < std::numeric_limits<uint32_t>::max(), "[text] {} tokens are too many for 32-bit places",
        tokens_.size());
}

TextSource TextSource::from_vocabulary(std::string_view characters, int32_t block_size) {
  TextSource source;
  source.block_size_ = block_size;
  source.vocabulary_ = sorted_set(code_points(characters));
  check(!source.vocabulary_.empty(), "[text] the vocabulary is empty");
  return source;
}

TextSource TextSource::from_tokenizer(std::shared_ptr<const text::Tokenizer> tokenizer, int32_t block_size) {
  TextSource source;
  source.block_size_ = block_size;
  source.tokenizer_ = std::move(tokenizer);
  return source;
}

double TextSource::bits_per_byte(double loss) const {
  return loss / std::numbers::ln2 * static_cast<double>(validation_size()) / static_cast<double>(validation_bytes_);
}

void TextSource::copy_window(size_t start, std::span<int32_t> tokens, std::span<int32_t> targets,
                             std::span<float> weights) const {
  const auto window = std::span(tokens_).subspan(start, tokens.size() + 1);
  std::copy(window.begin(), window.end() - 1, tokens.begin());
  std::copy(window.begin() + 1, window.end(), targets.begin());
  std::fill(weights.begin(), weights.end(), 1.0f);
}

void TextSource::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                              std::span<int32_t> targets, std::span<float> weights) const {
  ensure(!tokens_.empty(), "[text] a source made from a vocabulary has no text to sample");
  const bool training = split == Split::kTrain;
  const size_t first = training ? 0 : train_size_;
  const size_t size = training ? train_size_ : validation_size();
  const auto places = static_cast<uint32_t>(size - static_cast<size_t>(block_size_));
  const uint32_t key = graph::stream_seed(seed, split_name(split));
  copy_window(first + graph::random_range(key, step, index, places), tokens, targets, weights);
}

size_t TextSource::validation_windows() const {
  return tokens_.empty() ? 0 : (validation_size() - 1) / static_cast<size_t>(block_size_);
}

void TextSource::write_validation_window(size_t index, std::span<int32_t> tokens, std::span<int32_t> targets,
                                         std::span<float> weights) const {
  ensure(index < validation_windows(), "[text] validation window {} of {}", index, validation_windows());
  copy_window(train_size_ + index * static_cast<size_t>(block_size_), tokens, targets, weights);
}

std::string TextSource::decode(std::span<const int32_t> tokens) const {
  if (tokenizer_) return tokenizer_->decode(tokens);
  std::string text;
  for (const int32_t token : tokens) {
    check(0 <= token && token < vocab_size(), "[text] token {} is not in a vocabulary of {}", token, vocab_size());
    append_utf8(text, vocabulary_[static_cast<size_t>(token)]);
  }
  return text;
}

std::vector<int32_t> TextSource::encode(std::string_view text) const {
  if (tokenizer_) return tokenizer_->encode(text, {.special_tokens = false});
  std::vector<int32_t> tokens;
  for (const char32_t point : code_points(text)) {
    const auto found = std::lower_bound(vocabulary_.begin(), vocabulary_.end(), point);
    if (found == vocabulary_.end() || *found != point) {
      check(false, "[text] {} does not occur in the training text", shown(point));
    }
    tokens.push_back(static_cast<int32_t>(found - vocabulary_.begin()));
  }
  return tokens;
}

std::string TextSource::vocabulary() const {
  std::string characters;
  for (const char32_t point : vocabulary_) append_utf8(characters, point);
  return characters;
}

}  // namespace surtsey::experiments::tasks
