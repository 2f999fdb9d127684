// The rows of a file as tokens, made once and kept in a file of their own.
//
//   TOKENS   u32 a token: its id, and bit 31 where it is to be learned; one document behind the other. Of texts with
//            labels bit 31 is the token's type, and behind a document's tokens stand its K numbers, f32
//            u32 a document: its tokens;  u32 a document: its line
//            and at the end what they were made from (a hash of the rows, the tokenizer, the template and the settings)
//
// Of preferences a line is two documents, one behind the other, or none.
//
// Memory holds 20 bytes a document, whatever their length; tokens are read from the file when they are asked for.
#pragma once

#include "experiments/formats/ranged_file.h"
#include "experiments/tasks/tuning/encoder.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::experiments::tasks {

// What becomes of a text that is longer than what a row has room for.
enum class Truncation : uint8_t { keep_start, drop, refuse };
Truncation parse_truncation(std::string_view name);  // UserError lists the names

struct TuningLimits {
  // Of a document: a row's positions and one more, that is predicted only; of a text with labels the positions.
  int64_t most_tokens = 0;
  Truncation truncation = Truncation::keep_start;
};

// Lines of a file with which something was done.
struct TuningNotes {
  std::vector<int64_t> cut, dropped, joined, same;  // lines, the first of them; the counts are below
  int64_t cut_count = 0, dropped_count = 0, joined_count = 0, same_count = 0;
  int64_t longest = 0;  // tokens of the longest text
};

class TuningDocuments {
 public:
  // Reads every row of `rows` into the file `tokens`, whole or not at all. `settings` is a hash of all that decides how
  // a row becomes tokens. UserError as TuningEncoder::encode(), with the line; and: a file without rows; a text that is
  // too long, where that is to be refused; no document with something to learn.
  static TuningNotes make(const std::filesystem::path& rows, const TuningEncoder& encoder, const TuningLimits& limits,
                          uint64_t settings, const std::filesystem::path& tokens);
  // The file, where it is there and was made from these rows (their hash is of the file as it is now) and settings.
  static bool is_made(const std::filesystem::path& tokens, const std::filesystem::path& rows, uint64_t settings);

  explicit TuningDocuments(const std::filesystem::path& tokens);  // UserError: it is no such file

  int64_t count() const { return int64_t(lengths_.size()); }
  int64_t labels() const { return labels_; }        // K of texts with labels; 0: they are none
  int64_t tokens() const { return tokens_; }        // of all documents
  int64_t learned() const { return learned_all_; }  // of them
  int64_t length(int64_t document) const { return lengths_[size_t(document)]; }
  // Tokens that are predicted; 1 of a text with labels.
  int64_t learned(int64_t document) const { return learned_[size_t(document)]; }
  int64_t line(int64_t document) const { return lines_[size_t(document)]; }
  uint64_t hash() const { return hash_; }  // of the rows
  uint64_t memory() const;                 // bytes

  TuningDocument read(int64_t document) const;

 private:
  std::unique_ptr<RangedFile> file_;
  std::vector<uint64_t> begins_;
  std::vector<uint32_t> lengths_, learned_, lines_;
  int64_t tokens_ = 0, learned_all_ = 0, labels_ = 0;
  uint64_t hash_ = 0;
};

}  // namespace surtsey::experiments::tasks
