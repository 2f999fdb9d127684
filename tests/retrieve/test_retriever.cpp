// An index asked by words, vectors and both; passages before prompts.
#include "experiments/retrieve/prompts.h"
#include "experiments/retrieve/write.h"
#include "tests/retrieve/letters.h"
#include "tests/support/folder.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::WithinRel;
using tests::Folder;

namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

const std::vector<Document> kDocuments = {
    {"a", "", "aaa bee"}, {"b", "", "bbb aab"}, {"c", "Sea", "ccc"}, {"d", "", "aaa bee"}, {"e", "", "eee"}};

fs::path letters_index(const Folder& folder, const std::vector<Document>& documents = kDocuments) {
  const TextEncoder encoder = tests::letters_encoder();
  build_index(folder / "index", {.passage_tokens = 64}, documents, &encoder);
  return folder / "index";
}

Names names_of(const std::vector<FoundPassage>& found) {
  Names names;
  for (const FoundPassage& one : found) names.push_back(one.passage.id);
  return names;
}

}  // namespace

TEST_CASE("passages are found by words, by vectors and by both") {
  tests::open_test_device();  // or skipped
  const Folder folder;
  Retriever retriever(letters_index(folder), tests::letters_encoder(), "");
  const auto ask = [&](const std::string& text, RetrieveBy by, int64_t top = 10) {
    return retriever.find({text}, {.top = top, .by = by}).front();
  };
  CHECK(names_of(ask("bee", RetrieveBy::bm25)) == Names{"a", "d"});
  const auto dense = ask("aaa bee", RetrieveBy::dense);
  CHECK(names_of(dense) == Names{"a", "d", "b", "e", "c"});
  CHECK_THAT(dense[0].score, WithinRel(1., 1e-6));
  // (3a 1b 2e) by (2a 4b), and by 3e.
  CHECK_THAT(dense[2].score, WithinRel((3 * 2 + 1 * 4) / std::sqrt(14. * 20), 1e-6));
  CHECK_THAT(dense[3].cosine, WithinRel(2 / std::sqrt(14.), 1e-6));
  CHECK((dense[0].bm25_rank == 0 && dense[0].dense_rank == 1 && dense[1].dense_rank == 2));

  const auto fused = ask("bee", RetrieveBy::fused);
  // By vectors of 1b 2e: e (2 / sqrt 5), a and d (5 / sqrt 70), b (4 / 10), c (2 / sqrt 60, with its title); by words a
  // and d.
  CHECK(names_of(fused) == Names{"a", "d", "e", "b", "c"});
  CHECK(fused[0].bm25_rank == 1);
  CHECK(fused[0].dense_rank == 2);
  CHECK_THAT(fused[0].score, WithinRel(1 / 61. + 1 / 62., 1e-12));
  CHECK_THAT(fused[2].score, WithinRel(1 / 61., 1e-12));
  CHECK(names_of(ask("bee", RetrieveBy::automatic, 2)) == Names{"a", "d"});

  // The same whatever is asked at once.
  const auto together = retriever.find({"bee", "ccc", "aaa bee"}, {.by = RetrieveBy::dense});
  REQUIRE(together.size() == 3);
  for (size_t i = 0; i < dense.size(); ++i) {
    CHECK(together[2][i].passage.id == dense[i].passage.id);
    CHECK(together[2][i].score == dense[i].score);
  }
}

TEST_CASE("what another process changes is found by the next question") {
  tests::open_test_device();
  const Folder folder;
  const fs::path path = letters_index(folder);
  const TextEncoder encoder = tests::letters_encoder();
  Retriever retriever(path, encoder, "");
  const auto ask = [&](RetrieveBy by) { return names_of(retriever.find({"zz"}, {.top = 1, .by = by}).front()); };
  CHECK(ask(RetrieveBy::bm25).empty());
  CHECK(ask(RetrieveBy::dense) == Names{"a"});  // all are 0: the first id
  add_to_index(path, {{"c", "", "zz"}, {"n", "", "zz y"}}, &encoder);
  for (const RetrieveBy by : {RetrieveBy::bm25, RetrieveBy::dense, RetrieveBy::fused}) CHECK(ask(by) == Names{"c"});
  delete_from_index(path, {"c"});
  for (const RetrieveBy by : {RetrieveBy::bm25, RetrieveBy::dense, RetrieveBy::fused}) CHECK(ask(by) == Names{"n"});
  letters_index(folder, {{"x", "", "zz"}});  // another file of the name
  for (const RetrieveBy by : {RetrieveBy::bm25, RetrieveBy::dense, RetrieveBy::fused}) CHECK(ask(by) == Names{"x"});
  delete_from_index(path, {"x"});
  for (const RetrieveBy by : {RetrieveBy::bm25, RetrieveBy::dense, RetrieveBy::fused}) CHECK(ask(by).empty());
  const TextEncoder other = tests::letters_encoder(64, "other");
  build_index(path, {.passage_tokens = 64}, kDocuments, &other);
  CHECK_THROWS_WITH(ask(RetrieveBy::bm25), ContainsSubstring("made with another model"));
  fs::remove(path);
  CHECK_THROWS_WITH(ask(RetrieveBy::bm25), ContainsSubstring("no such index"));
}

TEST_CASE("what cannot be asked is refused") {
  tests::open_test_device();
  const Folder folder;
  const fs::path path = letters_index(folder);
  CHECK_THROWS_WITH(Retriever(path, tests::letters_encoder(64, "other"), ""), ContainsSubstring("another model"));
  Retriever retriever(path, tests::letters_encoder(), "");
  CHECK_THROWS_WITH(retriever.find({" \n"}, {}), ContainsSubstring("what is asked is empty"));
  CHECK_THROWS_WITH(retriever.find({"\xc3("}, {}), ContainsSubstring("what is asked"));
  CHECK_THROWS_WITH(retriever.find({"a"}, {.top = 0}), ContainsSubstring("at least one"));
  const std::string text = std::string(100, 'b') + " " + std::string(50, 'e');
  CHECK_THROWS_WITH(retriever.find({text}, {}), ContainsSubstring("has 152 tokens") && ContainsSubstring("reads 64"));
  const auto found = retriever.find({text}, {.top = 1, .by = RetrieveBy::dense, .cut_queries = true});
  CHECK(names_of(found.front()) == Names{"e"});  // of which the end counts

  Retriever words(path, std::nullopt, "");
  CHECK(names_of(words.find({"bee"}, {.by = RetrieveBy::bm25}).front()) == Names{"a", "d"});
  CHECK_THROWS_WITH(words.find({"bee"}, {}), ContainsSubstring("no model to make them"));
  build_index(folder / "words", {.passage_tokens = 9}, kDocuments, nullptr);
  CHECK_THROWS_WITH(Retriever(folder / "words", tests::letters_encoder(), ""), ContainsSubstring("without a model"));
  Retriever plain(folder / "words", std::nullopt, "");
  CHECK(names_of(plain.find({"bee"}, {}).front()) == Names{"a", "d"});
  CHECK_THROWS_WITH(plain.find({"bee"}, {.by = RetrieveBy::fused}), ContainsSubstring("by bm25 alone"));
  CHECK_THROWS_WITH(parse_retrieve_by("words"), ContainsSubstring("not by 'words'"));

  // A vector that was written over with other bytes.
  {
    const Database database(path, Database::Mode::write);
    database.run("UPDATE passages SET vector = x'0000c07f' WHERE number = 2");
  }
  CHECK_THROWS_WITH(retriever.find({"bee"}, {}), ContainsSubstring("damaged: a vector of 4 bytes, not 104"));
}

TEST_CASE("passages stand before a prompt as far as there is room") {
  const Folder folder;
  build_index(folder / "index", {.passage_tokens = 9}, kDocuments, nullptr);
  const auto retriever = std::make_shared<Retriever>(folder / "index", std::nullopt, "");
  const PassagePrompts usual(retriever, {});
  const auto any = [](const std::string&) { return true; };
  const PassagePrompt made = usual.make("sea bee?", any);
  CHECK(made.text == "[1] Sea: ccc\n[2] aaa bee\n[3] aaa bee\n\nsea bee?");
  CHECK(names_of(made.used) == Names{"c", "a", "d"});
  CHECK(made.left_out == 0);

  const auto short_one = [](size_t most) { return [most](const std::string& text) { return text.size() <= most; }; };
  const PassagePrompt two = usual.make("sea bee?", short_one(35));
  CHECK(two.text == "[1] Sea: ccc\n[2] aaa bee\n\nsea bee?");
  CHECK((two.used.size() == 2 && two.left_out == 1));
  const PassagePrompt none = usual.make("sea bee?", short_one(8));
  CHECK(none.text == "sea bee?");
  CHECK((none.used.empty() && none.left_out == 3));
  CHECK(usual.make("  ", any).text == "  ");
  CHECK(usual.make("nothing of it", any).text == "nothing of it");

  // What is asked of the index is not all of the prompt.
  const auto list = usual.make({"Q: sea A:", "Q: eee A:"}, {"sea", "eee"}, any);
  CHECK(list[0].text == "[1] Sea: ccc\n\nQ: sea A:");
  CHECK(list[1].text == "[1] eee\n\nQ: eee A:");

  const PassagePrompts own(
      retriever, {.top = 1, .template_text = "{{ prompt }} ({{ passages | map(attribute='id') | join(',') }})"});
  CHECK(own.make("sea bee?", any).text == "sea bee? (c)");
  CHECK_THROWS_WITH(PassagePrompts(retriever, {.template_text = "{{ passages }}"}),
                    ContainsSubstring("leaves out the prompt"));
  CHECK_THROWS_AS(PassagePrompts(retriever, {.template_text = "{% for"}), UserError);

  const nlohmann::ordered_json told = passages_json(made.used);
  CHECK(told[0]["id"] == "c");
  CHECK(told[0]["title"] == "Sea");
  CHECK(told[0]["bm25_rank"] == 1);
  CHECK_FALSE(told[0].contains("cosine"));
}
