// Real text, one token per character, as nanoGPT's character-level data set has it, or the tokens of a tokenizer.
//
// Without a tokenizer the vocabulary is the sorted set of Unicode code points of the file (UTF-8). The first 90 percent
// of the characters are for training, the rest for validation and test, however they are cut into tokens. A sample is a
// window of T + 1 tokens at a random place, drawn by (split, seed, step, index); every position has weight 1.
#pragma once

#include <filesystem>
#include <memory>

#include "experiments/tasks/task.h"
#include "experiments/text/tokenizer.h"

namespace surtsey::experiments::tasks {

class TextSource : public DataSource {
 public:
  static constexpr double kTrainShare = 0.9;

  // Throws UserError when the text is not UTF-8 or either part is shorter than a window.
  TextSource(std::string_view text, int32_t block_size, std::shared_ptr<const text::Tokenizer> tokenizer = nullptr);

  // A source with a known vocabulary (of a checkpoint) and no text: encode and decode only.
  // `characters` is what vocabulary() gave.
  static TextSource from_vocabulary(std::string_view characters, int32_t block_size);

  int32_t vocab_size() const override {
    return tokenizer_ ? tokenizer_->vocab_size() : static_cast<int32_t>(vocabulary_.size());
  }
  int32_t block_size() const override { return block_size_; }

  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;

  // The same with the tokenizer of a checkpoint.
  static TextSource from_tokenizer(std::shared_ptr<const text::Tokenizer> tokenizer, int32_t block_size);

  // Every character of the vocabulary once, in token order, as UTF-8; empty where there is a tokenizer.
  std::string vocabulary() const;

  size_t train_size() const { return train_size_; }  // tokens
  size_t validation_size() const { return tokens_.size() - train_size_; }

  // A loss in nats a token of the validation part as bits a byte of its text, which compares across tokenizers.
  double bits_per_byte(double loss) const;

  // Whole validation part in consecutive windows, for an exact validation loss: window `index` of
  // validation_windows(). Spans have length T.
  size_t validation_windows() const;
  void write_validation_window(size_t index, std::span<int32_t> tokens, std::span<int32_t> targets,
                               std::span<float> weights) const;

 private:
  TextSource() = default;
  void copy_window(size_t start, std::span<int32_t> tokens, std::span<int32_t> targets, std::span<float> weights) const;

  int32_t block_size_ = 0;
  std::shared_ptr<const text::Tokenizer> tokenizer_;  // null: characters
  std::vector<char32_t> vocabulary_;                  // sorted
  std::vector<int32_t> tokens_;
  size_t train_size_ = 0;
  size_t validation_bytes_ = 0;
};

}  // namespace surtsey::experiments::tasks
