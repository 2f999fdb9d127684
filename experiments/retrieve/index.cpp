#include "experiments/retrieve/index.h"

#include "experiments/text/unicode.h"
#include "graph/error.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kApplication = 0x53727479;  // "Srty"
constexpr int64_t kIndexFormat = 1;
constexpr int64_t kMostVectorWidth = 1 << 16, kMostTokens = 1 << 24;

// Tokenizers of FTS5 by the name of the setting.
const std::map<std::string, std::string>& tokenizers() {
  static const std::map<std::string, std::string> all = {
      {"unicode61", "unicode61"}, {"porter", "porter unicode61"}, {"trigram", "trigram"}};
  return all;
}

constexpr const char* kSettings = "CREATE TABLE settings(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID";
constexpr const char* kDocuments =
    "CREATE TABLE documents(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL)";
constexpr const char* kPassages =
    "CREATE TABLE passages(number INTEGER PRIMARY KEY, document INTEGER NOT NULL, part INTEGER NOT NULL, "
    "text TEXT NOT NULL, vector BLOB, UNIQUE(document, part))";

std::string words_table(const std::string& words) {
  const auto found = tokenizers().find(words);
  check(found != tokenizers().end(), "words are cut by unicode61, porter or trigram, not by '{}'", words);
  return fmt::format("CREATE VIRTUAL TABLE words USING fts5(title, text, content='', tokenize='{}')", found->second);
}

void check_settings(const IndexSettings& s) {
  words_table(s.words);
  check(s.passage_tokens > 0 && s.passage_tokens <= kMostTokens, "passages of {} tokens", s.passage_tokens);
  check(s.overlap >= 0 && s.overlap < s.passage_tokens, "passages of {} tokens, of which the next one repeats {}",
        s.passage_tokens, s.overlap);
  check(s.width >= 0 && s.width <= kMostVectorWidth, "vectors of {} numbers", s.width);
  check((s.width > 0) == !s.model.empty(), "vectors without a model");
}

// Each setting by its name in the file, as text and back.
template <class Settings, class Visit>
void visit_settings(Settings& s, const Visit& visit) {
  visit("words", s.words);
  visit("passage_tokens", s.passage_tokens);
  visit("overlap", s.overlap);
  visit("model", s.model);
  visit("model_hash", s.model_hash);
  visit("width", s.width);
  visit("passage_prefix", s.passage_prefix);
  visit("query_prefix", s.query_prefix);
}

std::string as_text(const std::string& value) { return value; }
std::string as_text(int64_t value) { return fmt::format("{}", value); }

void from_text(const std::string& text, const std::string&, std::string& value) { value = text; }
void from_text(const std::string& text, const std::string& where, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(error == std::errc() && end == text.data() + text.size(), "{} is no number: '{}'", where, text);
}

IndexSettings read_settings(const Database& database) {
  std::map<std::string, std::string> values;
  Statement rows = database.prepare("SELECT name, value FROM settings");
  while (rows.step()) values.emplace(rows.text(0), rows.text(1));
  IndexSettings settings;
  visit_settings(settings, [&](const char* name, auto& value) {
    const auto found = values.find(name);
    check(found != values.end(), "{}: damaged: the setting {} is missing", database.path(), name);
    from_text(found->second, fmt::format("{}: the setting {}", database.path(), name), value);
  });
  try {
    check_settings(settings);
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: damaged: {}", database.path(), error.what()));
  }
  return settings;
}

// The tables are ours to the letter: a file that is not made here could have others run when it is asked.
void check_tables(const Database& database, const IndexSettings& settings) {
  std::set<std::string> made;
  Statement rows = database.prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'words_%'");
  while (rows.step()) made.emplace(rows.text(0));
  const std::set<std::string> expected = {kSettings, kDocuments, kPassages, words_table(settings.words)};
  check(made == expected, "{}: damaged: its tables are not those of an index", database.path());
}

std::span<const std::byte> bytes_of(std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little);
  return std::as_bytes(values);
}

}  // namespace

Index Index::create(const fs::path& path, const IndexSettings& settings) {
  check_settings(settings);
  check(!fs::exists(path), "{}: there is such a file already", path.string());
  Database database(path, Database::Mode::create);
  // Nobody else sees this file yet, and whoever makes it syncs it.
  database.run("PRAGMA locking_mode = EXCLUSIVE");
  database.run("PRAGMA journal_mode = OFF");
  database.run("PRAGMA synchronous = OFF");
  database.run(fmt::format("PRAGMA application_id = {}", kApplication));
  database.run(fmt::format("PRAGMA user_version = {}", kIndexFormat));
  for (const std::string& table :
       {std::string(kSettings), std::string(kDocuments), std::string(kPassages), words_table(settings.words)})
    database.run(table);
  Statement row = database.prepare("INSERT INTO settings VALUES(?, ?)");
  visit_settings(settings, [&](const char* name, const auto& value) {
    row.bind(1, std::string_view(name)).bind(2, std::string_view(as_text(value))).run();
  });
  return Index(std::move(database), settings);
}

Index Index::open(const fs::path& path, bool writes) {
  Database database(path, writes ? Database::Mode::write : Database::Mode::read);
  check(database.integer("PRAGMA application_id") == kApplication,
        "{}: no index of `surtsey index build`, but another file of SQLite", database.path());
  const int64_t format = database.integer("PRAGMA user_version");
  check(format == kIndexFormat, "{}: an index of format {}; this program reads format {}: build it again",
        database.path(), format, kIndexFormat);
  IndexSettings settings = read_settings(database);
  check_tables(database, settings);
  // What is changed waits in memory until it is committed, so that readers are kept waiting no longer than that takes.
  if (writes) database.run("PRAGMA cache_spill = OFF");
  return Index(std::move(database), std::move(settings));
}

bool Index::put(const Document& document, std::span<const std::string> passages,
                std::span<const std::vector<float>> vectors) {
  check(!document.id.empty() && !passages.empty(), "{}: a document without id, or without text", database_.path());
  check(vectors.empty() != settings_.has_vectors() && (vectors.empty() || vectors.size() == passages.size()),
        "{}: {} passages with {} vectors", database_.path(), passages.size(), vectors.size());
  const bool replaced = erase(document.id);
  database_.prepare("INSERT INTO documents(id, title) VALUES(?, ?)")
      .bind(1, std::string_view(document.id))
      .bind(2, std::string_view(document.title))
      .run();
  const int64_t number = database_.last_inserted();
  Statement passage = database_.prepare("INSERT INTO passages(document, part, text, vector) VALUES(?, ?, ?, ?)");
  Statement words = database_.prepare("INSERT INTO words(rowid, title, text) VALUES(?, ?, ?)");
  for (size_t part = 0; part < passages.size(); ++part) {
    passage.bind(1, number).bind(2, int64_t(part)).bind(3, std::string_view(passages[part]));
    if (!vectors.empty()) {
      check(std::ssize(vectors[part]) == settings_.width, "{}: a vector of {} numbers, the index has {}",
            database_.path(), vectors[part].size(), settings_.width);
      passage.bind(4, bytes_of(vectors[part]));
    }
    passage.run();
    words.bind(1, database_.last_inserted())
        .bind(2, std::string_view(document.title))
        .bind(3, std::string_view(passages[part]))
        .run();
  }
  return replaced;
}

bool Index::erase(std::string_view id) {
  Statement found = database_.prepare("SELECT number, title FROM documents WHERE id = ?");
  if (!found.bind(1, id).step()) return false;
  const int64_t number = found.integer(0);
  // FTS5 takes words out again by the text that they were in.
  database_
      .prepare(
          "INSERT INTO words(words, rowid, title, text) SELECT 'delete', number, ?, text FROM passages WHERE document "
          "= ?")
      .bind(1, found.text(1))
      .bind(2, number)
      .run();
  found.reset();
  database_.prepare("DELETE FROM passages WHERE document = ?").bind(1, number).run();
  database_.prepare("DELETE FROM documents WHERE number = ?").bind(1, number).run();
  return true;
}

std::string words_expression(std::string_view text) {
  // What FTS5's tokenizers take for words are runs of letters, marks and numbers.
  std::set<std::string> seen;
  std::string expression, word;
  const auto end_word = [&] {
    if (!word.empty() && seen.insert(word).second) {
      expression += fmt::format("{}\"{}\"", expression.empty() ? "" : " OR ", word);
    }
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const size_t length = text::character_length(text, at);
    const char32_t point = text::character_at(text, at);
    const bool part = (text::is_word_character(point) && !text::is_punctuation(point)) || text::is_numeric(point);
    if (part) {
      word += text.substr(at, length);
    } else {
      end_word();
    }
    at += length;
  }
  end_word();
  return expression;
}

std::vector<WordHit> Index::find_words(std::string_view text, int64_t most) const {
  std::vector<WordHit> hits;
  const std::string expression = words_expression(text);
  if (expression.empty()) return hits;
  Statement rows = database_.prepare(
      "SELECT words.rowid, bm25(words) AS score FROM words JOIN passages ON passages.number = words.rowid "
      "JOIN documents ON documents.number = passages.document "
      "WHERE words MATCH ? ORDER BY score, documents.id, passages.part LIMIT ?");
  rows.bind(1, std::string_view(expression)).bind(2, most);
  while (rows.step()) hits.push_back({rows.integer(0), -rows.number(1)});
  return hits;
}

Passage Index::passage(int64_t number) const {
  Statement row = database_.prepare(
      "SELECT id, part, title, text FROM passages JOIN documents ON documents.number = document "
      "WHERE passages.number = ?");
  check(row.bind(1, number).step(), "{}: damaged: there is no passage {}", database_.path(), number);
  return {std::string(row.text(0)), row.integer(1), std::string(row.text(2)), std::string(row.text(3))};
}

VectorRows::VectorRows(const Index& index)
    : rows_(index.database().prepare(
          "SELECT passages.number, vector FROM documents JOIN passages ON document = documents.number "
          "ORDER BY id, part")),
      path_(index.database().path()) {}

int64_t VectorRows::next(std::span<float> vector) {
  check(rows_.step(), "{}: damaged: passages are missing", path_);
  const std::span<const std::byte> bytes = rows_.bytes(1);
  check(bytes.size() == vector.size_bytes(), "{}: damaged: a vector of {} bytes, not {}", path_, bytes.size(),
        vector.size_bytes());
  std::memcpy(vector.data(), bytes.data(), bytes.size());
  for (const float value : vector) check(std::isfinite(value), "{}: damaged: a vector has {}", path_, value);
  return rows_.integer(0);
}

}  // namespace surtsey::experiments
