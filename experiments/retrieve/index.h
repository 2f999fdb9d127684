// The file of an index: documents, cut into passages; the words of each (SQLite's FTS5), and a vector where a model was
// given. One SQLite file; a reader sees it as it was before a change or as it is after it.
//
//   settings(name, value)                      how it was made: IndexSettings
//   documents(number, id, title)               id is unique
//   passages(number, document, part, text, vector)   part counts from 0; vector: f32, of length 1, little-endian
//   words                                      FTS5 over title and text, by passage, without a copy of either
//
// Among equals the document whose id comes first in bytes comes first, then its earlier part: what is found depends on
// what the index holds, and not on the order in which it came to hold it.
#pragma once

#include "experiments/retrieve/database.h"
#include "experiments/retrieve/documents.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

// What texts went through on their way in: what is asked goes the same way.
struct IndexSettings {
  std::string words = "unicode61";           // of FTS5: unicode61, porter (English word stems), trigram
  int64_t passage_tokens = 0;                // of a passage, at most; words where there is no model
  int64_t overlap = 0;                       // that two neighbouring passages have in common, at most
  std::string model;                         // path; empty: no vectors
  std::string model_hash;                    // of its configuration, weights and tokenizer
  int64_t width = 0;                         // numbers of a vector
  std::string passage_prefix, query_prefix;  // before what is embedded, as the model was trained ("query: ")

  bool has_vectors() const { return width > 0; }
  bool operator==(const IndexSettings&) const = default;
};

struct Passage {
  std::string id;    // of the document
  int64_t part = 0;  // of it
  std::string title, text;
};

struct WordHit {
  int64_t number = 0;  // of the passage
  double score = 0;    // BM25 as FTS5 has it (k1 1.2, b .75), larger is better
};

class Index {
 public:
  // A new file. UserError: there is something of that name; an impossible setting.
  static Index create(const std::filesystem::path& path, const IndexSettings& settings);
  // UserError: there is none, it is damaged, or of another format.
  static Index open(const std::filesystem::path& path, bool writes);

  const IndexSettings& settings() const { return settings_; }
  const Database& database() const { return database_; }
  int64_t documents() const { return database_.integer("SELECT count(*) FROM documents"); }
  int64_t passages() const { return database_.integer("SELECT count(*) FROM passages"); }
  // Another number after another connection has changed something.
  int64_t version() const { return database_.integer("PRAGMA data_version"); }

  // ---- within a transaction that writes ----
  // A document in place of the one with its id, if there is one (then true). `vectors`: one a passage, of length 1, or
  // none at all.
  bool put(const Document& document, std::span<const std::string> passages,
           std::span<const std::vector<float>> vectors);
  // Whether there was one.
  bool erase(std::string_view id);

  // ---- within any transaction ----
  // The best by BM25. Of `text` every word counts once, in any order; a passage has at least one of them. Nothing where
  // it has no word.
  std::vector<WordHit> find_words(std::string_view text, int64_t most) const;
  Passage passage(int64_t number) const;

 private:
  Index(Database database, IndexSettings settings) : database_(std::move(database)), settings_(std::move(settings)) {}

  Database database_;
  IndexSettings settings_;
};

// The vectors of all passages, in the order of ids and parts. Within a transaction; the index outlives it.
class VectorRows {
 public:
  explicit VectorRows(const Index& index);
  // Writes the next vector, of the index's width, and returns the number of its passage. UserError: there are no more,
  // or it is damaged.
  int64_t next(std::span<float> vector);

 private:
  Statement rows_;
  std::string path_;
};

// The expression of FTS5 that asks for any of a text's words; empty: it has none.
std::string words_expression(std::string_view text);

}  // namespace surtsey::experiments
