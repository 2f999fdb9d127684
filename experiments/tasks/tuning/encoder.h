// A row as tokens, and which of them are to be learned.
//
// Learned are a text; a completion; every turn of an assistant from where its answer begins to the token that ends it,
// as the model's chat template writes them. The end token is always among them, or the row is refused: a model that
// learned answers without their end never stops.
//
// A prompt's tokens are what the text begins with, up to where the whole text's tokens and those of the prompt alone
// part: a token that spans both counts as learned.
#pragma once

#include "experiments/tasks/tuning/labels.h"
#include "experiments/tasks/tuning/preferences.h"
#include "experiments/tasks/tuning/rows.h"
#include "experiments/text/chat_template.h"
#include "experiments/text/tokenizer.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::tasks {

struct TuningDocument {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> learned;  // one a token: whether it is to be predicted from those before it
  bool joined = false;           // the prompt's last token and the completion's first are one
  // Of a text with labels: its tokens' types, the numbers that it is to be given, and how many tokens it would have
  // if it were not cut. Nothing of its tokens is learned.
  std::vector<uint8_t> kinds = {};
  std::vector<float> values = {};
  int64_t whole = 0;
};

struct TuningEncoding {
  std::vector<int32_t> end_tokens;  // what ends an answer; the first is put behind texts and completions
  bool completion_only = true;      // of prompt and completion the latter alone is learned ..
  bool assistant_only = true;       // .. and of conversations the assistant's turns
  std::optional<text::ChatTemplate> chat = {};
  std::optional<LabelSet> labels = {};  // rows are texts with these, which alone are learned
  // Rows are preferences: two documents a line, what is chosen first. With `labels`, of one number, they are texts for
  // a model of rewards: the number of what is chosen is the margin, that of the other 0.
  bool pairs = false;
};

class TuningEncoder {
 public:
  // The tokenizer outlives it.
  TuningEncoder(const text::Tokenizer& tokenizer, TuningEncoding encoding)
      : tokenizer_(tokenizer), encoding_(std::move(encoding)) {}

  // UserError beginning with `where`: completions of a model without an end token, a conversation without a template,
  // a template that fails, leaves the end token out or writes a turn where it cannot be found.
  TuningDocument encode(const TuningRow& row, const std::string& where) const;
  // A text or a pair with its labels' numbers, cut between the special tokens to what has room. UserError as
  // LabelSet::values().
  TuningDocument encode(const LabelledRow& row, const std::string& where, int64_t most_tokens) const;
  // A line of a file, of the kind that is learned; of texts with labels at most `most_tokens`. Two documents of a pair,
  // none of one whose answers are the same.
  std::vector<TuningDocument> encode_line(std::string_view line, const std::string& where, int64_t most_tokens) const;

  // K of a text with labels; 0: rows are no such texts.
  int64_t labels() const { return encoding_.labels ? encoding_.labels->count() : 0; }
  bool pairs() const { return encoding_.pairs; }

 private:
  TuningDocument scored(TuningDocument document, float number, int64_t most_tokens) const;
  TuningDocument encode_text(const std::string& prompt, const std::string& rest, bool all) const;
  TuningDocument encode_conversation(const TuningRow& row, const std::string& where) const;
  bool is_end(int32_t token) const;
  std::string end_names() const;
  bool ends_behind(const std::string& text, size_t position) const;

  const text::Tokenizer& tokenizer_;
  TuningEncoding encoding_;
};

}  // namespace surtsey::experiments::tasks
