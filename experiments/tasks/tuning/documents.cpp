#include "experiments/tasks/tuning/documents.h"

#include "experiments/base/file.h"
#include "graph/error.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace surtsey::experiments::tasks {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kLearned = 1u << 31;  // or of the second kind
constexpr size_t kNamed = 3;             // lines of a kind that a message names
constexpr std::pair<const char*, Truncation> kTruncations[] = {
    {"keep_start", Truncation::keep_start}, {"drop", Truncation::drop}, {"refuse", Truncation::refuse}};

struct Trailer {
  std::array<char, 8> magic = {'s', 'u', 'r', 't', 't', 'o', 'k', '2'};
  uint64_t rows = 0;      // hash
  uint64_t settings = 0;  // hash
  uint64_t documents = 0;
  uint64_t tokens = 0;
  uint64_t labels = 0;  // of each document, behind its tokens

  uint64_t words() const { return tokens + documents * labels; }
};

std::string_view bytes_of(const auto& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])};
}

std::optional<Trailer> trailer_of(const RangedFile& file) {
  Trailer trailer;
  if (file.size() < sizeof(Trailer)) return {};
  file.read(file.size() - sizeof(Trailer), std::as_writable_bytes(std::span(&trailer, 1)));
  const bool whole = trailer.magic == Trailer().magic && trailer.documents < file.size() &&
                     trailer.tokens < file.size() && trailer.labels < file.size() &&
                     file.size() == 4 * (trailer.words() + 2 * trailer.documents) + sizeof(Trailer);
  return whole ? std::optional(trailer) : std::nullopt;
}

void note(std::vector<int64_t>& lines, int64_t& count, int64_t line) {
  if (lines.size() < kNamed) lines.push_back(line);
  ++count;
}

}  // namespace

Truncation parse_truncation(std::string_view name) {
  for (const auto& [known, truncation] : kTruncations)
    if (name == known) return truncation;
  throw UserError(fmt::format("truncation is keep_start, drop or refuse, not '{}'", name));
}

TuningNotes TuningDocuments::make(const fs::path& rows, const TuningEncoder& encoder, const TuningLimits& limits,
                                  uint64_t settings, const fs::path& tokens) {
  TuningNotes notes;
  Trailer trailer{.settings = settings, .labels = uint64_t(encoder.labels())};
  JsonLines lines(rows);
  write_file_atomic(tokens, [&](const ContentWriter& write) {
    std::vector<uint32_t> lengths, numbers, words;
    const bool labelled = trailer.labels > 0;
    while (lines.next()) {
      const std::string where = lines.where();
      std::vector<TuningDocument> documents = encoder.encode_line(lines.line(), where, limits.most_tokens);
      if (documents.empty()) note(notes.same, notes.same_count, lines.number());
      bool joined = false, cut = false, teaches = true;
      for (TuningDocument& document : documents) {
        const int64_t length = labelled ? document.whole : int64_t(document.tokens.size());
        notes.longest = std::max(notes.longest, length);
        joined = joined || document.joined;
        if (length > limits.most_tokens) {
          check(limits.truncation != Truncation::refuse,
                "{}: its {} tokens are more than the {} that max_length has room for; truncation keep_start cuts such "
                "texts, drop leaves them out",
                where, length, limits.most_tokens);
          document.tokens.resize(size_t(limits.most_tokens));
          document.learned.resize(size_t(limits.most_tokens));
          cut = true;
        }
        // A first token has nothing before it that predicts it.
        const auto learns = [](uint8_t learned) { return learned != 0; };
        const auto& marks = document.learned;
        teaches = teaches && (labelled || (marks.size() > 1 && std::any_of(marks.begin() + 1, marks.end(), learns)));
      }
      if (joined) note(notes.joined, notes.joined_count, lines.number());
      if (cut) note(notes.cut, notes.cut_count, lines.number());
      if (!teaches || (cut && limits.truncation == Truncation::drop)) {
        note(notes.dropped, notes.dropped_count, lines.number());
        continue;
      }
      for (const TuningDocument& document : documents) {
        words.clear();
        for (size_t i = 0; i < document.tokens.size(); ++i) {
          const bool marked = labelled ? document.kinds[i] != 0 : document.learned[i] && i > 0;
          words.push_back(uint32_t(document.tokens[i]) | (marked ? kLearned : 0));
        }
        trailer.tokens += words.size();
        lengths.push_back(uint32_t(words.size()));
        for (const float value : document.values) words.push_back(std::bit_cast<uint32_t>(value));
        write(bytes_of(words));
        numbers.push_back(uint32_t(lines.number()));
      }
    }
    check(lines.number() == 0 || notes.longest > 0 || notes.same_count == 0,
          "{}: all of its rows prefer an answer to itself: there is nothing to learn", rows.string());
    check(lines.number() > 0 && notes.longest > 0, "{}: has no rows: there is nothing to learn", rows.string());
    check(!lengths.empty(),
          "{}: nothing of its {} texts is left to learn: max_length has room for {} tokens, the "
          "longest has {}",
          rows.string(), notes.dropped_count, limits.most_tokens, notes.longest);
    write(bytes_of(lengths));
    write(bytes_of(numbers));
    trailer.documents = lengths.size();
    trailer.rows = lines.hash();
    write(bytes_of(std::span(&trailer, 1)));
  });
  return notes;
}

bool TuningDocuments::is_made(const fs::path& tokens, const fs::path& rows, uint64_t settings) {
  std::error_code error;
  if (!fs::is_regular_file(tokens, error)) return false;
  const std::optional<Trailer> trailer = trailer_of(RangedFile(tokens));
  if (!trailer || trailer->settings != settings) return false;
  JsonLines lines(rows);
  while (lines.next()) {
  }
  return lines.hash() == trailer->rows;
}

TuningDocuments::TuningDocuments(const fs::path& tokens) : file_(std::make_unique<RangedFile>(tokens)) {
  const std::optional<Trailer> trailer = trailer_of(*file_);
  check(trailer.has_value(), "{}: is no whole file of tokens", tokens.string());
  hash_ = trailer->rows;
  const auto count = size_t(trailer->documents);
  lengths_.resize(count);
  lines_.resize(count);
  labels_ = int64_t(trailer->labels);
  file_->read(4 * trailer->words(), std::as_writable_bytes(std::span(lengths_)));
  file_->read(4 * (trailer->words() + count), std::as_writable_bytes(std::span(lines_)));
  uint64_t all = 0;
  for (const uint32_t length : lengths_) all += length;
  check(all == trailer->tokens, "{}: is no whole file of tokens", tokens.string());
  std::vector<uint32_t> words;
  for (size_t i = 0; i < count; ++i) {
    begins_.push_back(uint64_t(tokens_) + i * trailer->labels);
    if (labels_ > 0) {
      learned_.push_back(1);
    } else {
      words.resize(lengths_[i]);
      file_->read(4 * begins_.back(), std::as_writable_bytes(std::span(words)));
      learned_.push_back(
          uint32_t(std::count_if(words.begin(), words.end(), [](uint32_t word) { return word & kLearned; })));
    }
    tokens_ += lengths_[i];
    learned_all_ += learned_.back();
  }
}

uint64_t TuningDocuments::memory() const { return uint64_t(count()) * (sizeof(uint64_t) + 3 * sizeof(uint32_t)); }

TuningDocument TuningDocuments::read(int64_t document) const {
  const auto at = size_t(document);
  std::vector<uint32_t> words(lengths_.at(at) + size_t(labels_));
  file_->read(4 * begins_[at], std::as_writable_bytes(std::span(words)));
  TuningDocument result;
  for (const uint32_t word : std::span(words).first(lengths_[at])) {
    result.tokens.push_back(int32_t(word & ~kLearned));
    const uint8_t marked = word & kLearned ? 1 : 0;
    result.learned.push_back(labels_ > 0 ? 0 : marked);
    if (labels_ > 0) result.kinds.push_back(marked);
  }
  for (const uint32_t word : std::span(words).subspan(lengths_[at]))
    result.values.push_back(std::bit_cast<float>(word));
  return result;
}

}  // namespace surtsey::experiments::tasks
