// Documents in, passages cut, words found; and that an index is whole whatever happens to who writes it.
#include "experiments/base/interrupt.h"
#include "experiments/retrieve/cut.h"
#include "experiments/retrieve/write.h"
#include "tests/retrieve/letters.h"
#include "tests/support/child.h"
#include "tests/support/folder.h"

#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <array>
#include <cmath>
#include <csignal>
#include <cstdio>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;
using tests::Folder;
using tests::in_child;

namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

const std::vector<Document> kFour = {{"b", "Fish", "the red herring swims"},
                                     {"a", "", "a red fox runs. A red fox sleeps."},
                                     {"d", "", "blue whales sing"},
                                     {"c", "", "the red herring swims"}};

fs::path words_index(const Folder& folder, const std::vector<Document>& documents = kFour) {
  build_index(folder / "index", {.passage_tokens = 20}, documents, nullptr);
  return folder / "index";
}

Names found(const fs::path& path, const std::string& text, int64_t most = 10) {
  const experiments::Index index = experiments::Index::open(path, false);
  Names names;
  for (const WordHit& hit : index.find_words(text, most)) names.push_back(index.passage(hit.number).id);
  return names;
}

}  // namespace

TEST_CASE("rows and folders as documents") {
  const Folder folder;
  tests::write(folder / "rows.jsonl",
               "{\"id\": \"x\", \"text\": \"one\", \"title\": \"T\", \"more\": 1}\n\n{\"id\": 7, \"text\": \"two\"}\r\n"
               "{\"_id\": \"y\", \"text\": \"three\", \"title\": null}");
  const auto rows = read_documents(folder / "rows.jsonl");
  REQUIRE(rows.size() == 3);
  CHECK((rows[0].id == "x" && rows[0].title == "T" && rows[0].text == "one"));
  CHECK((rows[1].id == "7" && rows[1].title.empty()));
  CHECK((rows[2].id == "y" && rows[2].title.empty()));

  fs::create_directories(folder / "texts" / "sub");
  tests::write(folder / "texts" / "b.txt", "bee");
  tests::write(folder / "texts" / "sub" / "a.md", "# A");
  tests::write(folder / "texts" / "left.out", "x");
  const auto files = read_documents(folder / "texts");
  REQUIRE(files.size() == 2);
  CHECK((files[0].id == "b.txt" && files[1].id == "sub/a.md" && files[1].text == "# A"));

  tests::write(
      folder / "bad.jsonl",
      "{\"id\": 1, \"text\": \"fine\"}\n{\"text\": \"x\"}\n{\"id\": 1, \"text\": \"again\"}\n{\"id\": 2, \"text\": "
      "\"  \"}\nnot json\n[1]\n{\"id\": 3, \"text\": 3}\n");
  const auto read_bad = [&] { return read_documents(folder / "bad.jsonl"); };
  CHECK_THROWS_WITH(read_bad(), ContainsSubstring("6 of the documents") && ContainsSubstring("bad.jsonl:2: has no id"));
  CHECK_THROWS_WITH(read_bad(),
                    ContainsSubstring("bad.jsonl:3: id '1' stands in") && ContainsSubstring("jsonl:1 already"));
  CHECK_THROWS_WITH(read_bad(), ContainsSubstring("bad.jsonl:4: text is empty") && ContainsSubstring("and 1 more"));
  tests::write(folder / "none.jsonl", "\n");
  CHECK_THROWS_WITH(read_documents(folder / "none.jsonl"), ContainsSubstring("there are no documents"));
  tests::write(folder / "texts" / "c.txt", "\xff");
  CHECK_THROWS_WITH(read_documents(folder / "texts"), ContainsSubstring("c.txt: its text"));
  CHECK_THROWS_AS(read_documents(folder / "nowhere.jsonl"), UserError);
}

TEST_CASE("long texts are cut at words, at the end of a sentence in their second half") {
  const auto cut = [](std::string_view text, int64_t room, int64_t overlap = 0) {
    return cut_text(text, {.room = room, .overlap = overlap, .tokens = words_between_blanks});
  };
  CHECK(cut("  one two  three\n", 5) == Names{"one two  three"});
  CHECK(cut("a b c d e f g", 3) == Names{"a b c", "d e f", "g"});
  CHECK(cut("a b c d e f g", 3, 1) == Names{"a b c", "c d e", "e f g"});
  CHECK(cut("a b c. d e f g h", 4) == Names{"a b c.", "d e f g", "h"});
  CHECK(cut("a. b c d e f g h", 4) == Names{"a. b c d", "e f g h"});  // the first half ends no passage
  CHECK(cut("a b c\n\nd e f g", 4) == Names{"a b c", "d e f g"});

  // Letters as tokens: a word that is longer than a passage is cut between characters.
  const auto letters = [](std::string_view part) {
    int64_t count = 0;
    for (const char c : part) count += c != ' ' && (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
    return count;
  };
  const Names parts = cut_text("ab ääääää cd", {.room = 3, .tokens = letters});
  std::string all;
  for (const std::string& part : parts) {
    CHECK(letters(part) <= 3);
    all += part;
  }
  CHECK(all.find("äääääa") == all.npos);
  CHECK(letters(all) == 10);
  CHECK_THROWS_AS(cut("a b", 2, 2), UserError);
}

TEST_CASE("passages have room for the title and for what the model wants around a text") {
  const TextEncoder encoder = tests::letters_encoder(20);
  IndexSettings settings{.passage_tokens = 20, .model = "m", .width = 26};
  const Document document{"x", "Title", "abcde fghij klmno pqrst uvwxy"};
  // 20 less 2 around it and 5 of the title: 13 letters, two words.
  CHECK(passages_of(document, settings, &encoder) == Names{"abcde fghij", "klmno pqrst", "uvwxy"});
  // A title of more than half the room is left out of what is embedded.
  CHECK(passages_of({"x", "A very long title", document.text}, settings, &encoder) ==
        Names{"abcde fghij klmno", "pqrst uvwxy"});
  settings.passage_tokens = 2;
  CHECK_THROWS_WITH(passages_of(document, settings, &encoder), ContainsSubstring("leave room for 0"));
}

TEST_CASE("words are found by BM25, ties by id") {
  const Folder folder;
  const fs::path path = words_index(folder);
  CHECK(found(path, "HERRING?") == Names{"c", "b"});  // c is shorter: it has no title
  CHECK(found(path, "whales \"OR\" (sing) NEAR*") == Names{"d"});
  CHECK(found(path, "red") == Names{"a", "c", "b"});
  CHECK(found(path, "red", 1) == Names{"a"});
  CHECK(found(path, "fish") == Names{"b"});
  CHECK(found(path, "nothing of it").empty());
  CHECK(found(path, "...!").empty());
  CHECK(words_expression("Don't stop, don't! x_y 3.5 été") ==
        "\"Don\" OR \"t\" OR \"stop\" OR \"don\" OR \"x\" OR \"y\" OR \"3\" OR \"5\" OR \"été\"");

  // By hand: k1 1.2, b .75, idf = ln((N - n + .5) / (n + .5)), at least 1e-6 (SQLite's documentation of bm25()).
  const experiments::Index index = experiments::Index::open(path, false);
  const auto hits = index.find_words("whales", 10);
  REQUIRE(hits.size() == 1);
  const double idf = std::log((4 - 1 + .5) / (1 + .5)), mean = (5 + 8 + 3 + 4) / 4.;
  CHECK_THAT(hits[0].score, Catch::Matchers::WithinRel(idf * (1 * 2.2) / (1 + 1.2 * (.25 + .75 * 3 / mean)), 1e-12));

  words_index(folder, {{"2", "", "same words"}, {"10", "", "same words"}, {"1", "", "same words"}});
  CHECK(found(path, "words") == Names{"1", "10", "2"});
  build_index(folder / "porter", {.words = "porter", .passage_tokens = 9}, kFour, nullptr);
  CHECK(found(folder / "porter", "run sleeping") == Names{"a"});
}

TEST_CASE("documents are added, replaced and deleted at once") {
  const Folder folder;
  const fs::path path = words_index(folder);
  CHECK(add_to_index(path, {{"e", "", "green herring"}, {"d", "", "a herring again"}}, nullptr).replaced == 1);
  CHECK(found(path, "whales").empty());
  CHECK(found(path, "herring") == Names{"e", "d", "c", "b"});
  const IndexCounts counts = delete_from_index(path, {"c", "e"});
  CHECK((counts.documents == 3 && counts.passages == 3));
  CHECK(found(path, "herring") == Names{"d", "b"});
  CHECK_THROWS_WITH(delete_from_index(path, {"d", "zzz"}), ContainsSubstring("no document 'zzz'"));
  CHECK(found(path, "herring") == Names{"d", "b"});

  // What is found does not depend on how the index came to hold it.
  const fs::path fresh = folder / "fresh";
  build_index(fresh, {.passage_tokens = 20}, {kFour[1], {"d", "", "a herring again"}, kFour[0]}, nullptr);
  const experiments::Index one = experiments::Index::open(path, false), other = experiments::Index::open(fresh, false);
  const auto left = one.find_words("red herring", 9), right = other.find_words("red herring", 9);
  REQUIRE(left.size() == right.size());
  for (size_t i = 0; i < left.size(); ++i) {
    CHECK(left[i].score == right[i].score);
    CHECK(one.passage(left[i].number).id == other.passage(right[i].number).id);
  }
  const Database checked(path, Database::Mode::write);
  CHECK_NOTHROW(checked.run("INSERT INTO words(words) VALUES('integrity-check')"));
}

TEST_CASE("an index says with which model it was made and refuses others") {
  const Folder folder;
  const TextEncoder encoder = tests::letters_encoder(), other = tests::letters_encoder(64, "other");
  const fs::path path = folder / "index";
  build_index(path, {.passage_tokens = 64, .query_prefix = "query: "}, kFour, &encoder);
  const IndexSettings settings = experiments::Index::open(path, false).settings();
  CHECK((settings.model == "/models/letters" && settings.model_hash == "letters" && settings.width == 26));
  CHECK(settings.query_prefix == "query: ");
  CHECK_THROWS_WITH(add_to_index(path, kFour, &other), ContainsSubstring("made with another model"));
  CHECK_THROWS_WITH(add_to_index(path, kFour, nullptr), ContainsSubstring("takes a model"));
  CHECK(add_to_index(path, {kFour[0]}, &encoder).replaced == 1);
  build_index(folder / "words", {.passage_tokens = 20}, kFour, nullptr);
  CHECK_THROWS_WITH(add_to_index(folder / "words", kFour, &encoder), ContainsSubstring("made without a model"));
  CHECK_THROWS_WITH(build_index(path, {.passage_tokens = 65}, kFour, &encoder), ContainsSubstring("reads 64"));
}

TEST_CASE("what is no index is said to be none, and stays") {
  const Folder folder;
  const fs::path path = words_index(folder);
  CHECK_THROWS_WITH(experiments::Index::open(folder / "none", false), ContainsSubstring("no such index"));
  CHECK_THROWS_WITH(experiments::Index::open(folder.path(), false), ContainsSubstring("a folder"));
  tests::write(folder / "text",
               "This is not an index, and never was one. It has more than a hundred bytes, as SQLite reads that"
               " many before it knows what a file is.");
  CHECK_THROWS_WITH(experiments::Index::open(folder / "text", false), ContainsSubstring("damaged, or no index"));
  CHECK_THROWS_WITH(build_index(folder / "text", {.passage_tokens = 9}, kFour, nullptr), ContainsSubstring("no index"));
  CHECK(fs::file_size(folder / "text") > 100);
  {
    const Database other(folder / "other", Database::Mode::create);
    other.run("CREATE TABLE x(y)");
  }
  CHECK_THROWS_WITH(experiments::Index::open(folder / "other", false), ContainsSubstring("another file of SQLite"));
  CHECK_THROWS_WITH(build_index(folder / "none" / "deep", {.passage_tokens = 9}, kFour, nullptr),
                    ContainsSubstring("cannot be opened"));

  // Bytes of every page are turned, one file at a time: an answer or a message, never anything else.
  const std::string whole = tests::slurp(path);
  for (size_t at = 0; at < whole.size(); at += 509) {
    std::string bytes = whole;
    bytes[at] = char(~bytes[at]);
    std::ofstream(folder / "bytes", std::ios::binary) << bytes;
    try {
      const experiments::Index index = experiments::Index::open(folder / "bytes", false);
      for (const WordHit& hit : index.find_words("red herring", 10)) index.passage(hit.number);
    } catch (const UserError& error) {
      CHECK_THAT(error.what(), ContainsSubstring("bytes"));
    }
  }
  std::ofstream(folder / "half", std::ios::binary) << whole.substr(0, whole.size() / 2);
  CHECK_THROWS_AS(
      [&] {
        const experiments::Index index = experiments::Index::open(folder / "half", false);
        index.find_words("red herring", 10);
        index.passages();
      }(),
      UserError);
  // A schema of one's own could have functions run.
  {
    const Database changed(path, Database::Mode::write);
    changed.run("CREATE TRIGGER t AFTER DELETE ON documents BEGIN DELETE FROM passages; END");
  }
  CHECK_THROWS_WITH(experiments::Index::open(path, true), ContainsSubstring("not those of an index"));
}

TEST_CASE("two writers: the second is told, whoever reads is not kept waiting") {
  const Folder folder;
  const fs::path path = words_index(folder);
  std::array<int, 2> began{}, seen{};
  REQUIRE(pipe(began.data()) == 0);
  REQUIRE(pipe(seen.data()) == 0);
  tests::Child other([&] {
    const experiments::Index first = experiments::Index::open(path, true);
    const Transaction writing(first.database(), true);
    first.database().run("UPDATE documents SET title = 'x'");
    char word = 'y';
    if (write(began[1], &word, 1) != 1) return 2;
    close(seen[1]);
    return read(seen[0], &word, 1) == 0 ? 0 : 3;  // until this process has seen enough
  });
  close(began[1]);
  char word = 0;
  CHECK(read(began[0], &word, 1) == 1);
  CHECK(found(path, "whales") == Names{"d"});
  {
    const experiments::Index second = experiments::Index::open(path, true);
    second.database().set_patience(0);
    CHECK_THROWS_WITH(Transaction(second.database(), true), ContainsSubstring("another process is writing to it"));
  }
  close(seen[1]);
  CHECK(other.status() == 0);
  close(seen[0]);
  close(began[0]);
}

TEST_CASE("a build that ends early leaves the old index, and the next one is not in its way") {
  const Folder folder;
  const fs::path path = words_index(folder);
  std::vector<Document> many;
  for (int i = 0; i < 300; ++i) many.push_back({fmt::format("{}", i), "", "herring number " + std::to_string(i)});

  set_interrupted(true);
  CHECK_THROWS_AS(build_index(path, {.passage_tokens = 20}, many, nullptr), Interrupted);
  CHECK_THROWS_AS(add_to_index(path, many, nullptr), Interrupted);
  set_interrupted(false);
  CHECK(found(path, "herring") == Names{"c", "b"});
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);

  // Killed in the middle of it: what is left of it is swept away by the next.
  int64_t asked = 0;
  TextEncoder dying = tests::letters_encoder();
  dying.vectors = [&, inner = dying.vectors](const auto& texts) {
    if (++asked > 2) raise(SIGKILL);
    return inner(texts);
  };
  CHECK(in_child([&] { return build_index(path, {.passage_tokens = 64}, many, &dying), 0; }) == -SIGKILL);
  CHECK(found(path, "herring") == Names{"c", "b"});
  CHECK(fs::exists(folder / ".tmp-index"));
  CHECK(in_child([&] {
          experiments::Index index = experiments::Index::open(path, true);
          Transaction transaction(index.database(), true);
          for (const Document& document : many) index.put(document, std::vector{document.text}, {});
          raise(SIGKILL);
          return 0;
        }) == -SIGKILL);
  CHECK(found(path, "herring") == Names{"c", "b"});

  // On a full disk, as far as a limit of size is one.
  for (const bool adding : {false, true}) {
    CHECK(in_child([&] {
            const rlimit limit{64 << 10, 64 << 10};
            std::signal(SIGXFSZ, SIG_IGN);
            if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
            std::vector<Document> large = many;
            for (Document& document : large) document.text += std::string(2000, 'x') + document.id;
            try {
              adding ? add_to_index(path, large, nullptr) : build_index(path, {.passage_tokens = 20}, large, nullptr);
            } catch (const UserError& error) {
              return std::string(error.what()).find("index: ") == std::string::npos ? 2 : 0;
            }
            return 4;
          }) == 0);
    CHECK(found(path, "herring") == Names{"c", "b"});
  }
  CHECK(build_index(path, {.passage_tokens = 20}, many, nullptr).documents == 300);
  CHECK(found(path, "herring", 500).size() == 300);
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
}
