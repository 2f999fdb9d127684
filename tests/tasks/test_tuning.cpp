// Rows that a model is to learn: their spellings, which tokens are learned, rows of several texts, and what is refused.
#include "experiments/tasks/tuning/tuning_source.h"
#include "experiments/text/tokenizer_json.h"
#include "tests/support/folder.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <fstream>
#include <numeric>
#include <set>

using namespace surtsey;
using namespace surtsey::experiments;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

// A token a character, and one that ends an answer.
const std::string kLetters = "\nABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz .,:?!-#0123456789+";
constexpr const char* kEnd = "<end>";
const auto kEndId = int32_t(kLetters.size());

text::Tokenizer letters() {
  json tokens = json::object();
  for (size_t i = 0; i < kLetters.size(); ++i) tokens[std::string(1, kLetters[i])] = i;
  const json end = {{"id", kEndId},    {"content", kEnd},     {"single_word", false}, {"lstrip", false},
                    {"rstrip", false}, {"normalized", false}, {"special", true}};
  const json all = {{"added_tokens", json::array({end})},
                    {"model", {{"type", "BPE"}, {"vocab", tokens}, {"merges", json::array()}}},
                    {"decoder", {{"type", "Fuse"}}}};
  return text::parse_tokenizer_json(all.dump(), "letters");
}

// Each turn is "user:hello", the end and a line break.
constexpr const char* kChat =
    "{% for m in messages %}{{ m.role }}:{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}";

TuningEncoding chat(const char* source = kChat) {
  return {.end_tokens = {kEndId}, .chat = text::ChatTemplate(source, "chat")};
}

// The text of what is learned, with | between parts that do not stand together.
std::string learned(const text::Tokenizer& tokenizer, const TuningDocument& document) {
  std::string text;
  bool before = false;
  for (size_t i = 0; i < document.tokens.size(); ++i) {
    if (document.learned[i] && !before && !text.empty()) text += "|";
    if (document.learned[i]) text += tokenizer.decode(std::span(document.tokens).subspan(i, 1));
    before = document.learned[i] != 0;
  }
  return text;
}

std::string learned_of(const std::string& line, const TuningEncoding& encoding) {
  const text::Tokenizer tokenizer = letters();
  const TuningEncoder encoder(tokenizer, encoding);
  return learned(tokenizer, encoder.encode(parse_tuning_row(line, "rows:1"), "rows:1"));
}

void write_lines(const std::filesystem::path& path, const std::vector<std::string>& lines) {
  std::ofstream file(path, std::ios::binary);
  for (const std::string& line : lines) file << line << "\n";
}

std::string completion(const std::string& prompt, const std::string& answer) {
  return json({{"prompt", prompt}, {"completion", answer}}).dump();
}

}  // namespace

TEST_CASE("rows of every spelling are learned from where the answer begins to the token that ends it", "[tuning]") {
  CHECK(learned_of(R"({"text": "all of it"})", chat()) == "all of it<end>");
  CHECK(learned_of(R"({"prompt": "1+1 ", "completion": "2"})", chat()) == "2<end>");
  CHECK(learned_of(R"({"prompt": "1+1 ", "completion": "2<end>"})", chat()) == "2<end>");
  const char* two_turns = R"({"messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "Hi"},
      {"role": "assistant", "content": "Ho"}, {"role": "user", "content": "Ho"},
      {"role": "assistant", "content": [{"type": "text", "text": "Hu"}]}]})";
  CHECK(learned_of(two_turns, chat()) == "Ho<end>|Hu<end>");
  CHECK(learned_of(R"({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]})",
                   chat()) == "Ho<end>");
  CHECK(learned_of(R"({"instruction": "Add", "input": "1 2", "output": "3"})", chat()) == "3<end>");
  // A completion of messages: what answers there before the prompt's end is not learned.
  CHECK(learned_of(R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                       {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})",
                   chat()) == "d<end>");
  // Without a template an instruction is Alpaca's text.
  const TuningEncoding plain{.end_tokens = {kEndId}};
  CHECK(learned_of(R"({"instruction": "Add", "output": "3"})", plain) == "3<end>");
  // All of it, where that is asked for; a template that says more where it asks than where it answers.
  TuningEncoding everything = chat();
  everything.assistant_only = everything.completion_only = false;
  CHECK(learned_of(R"({"prompt": "1+1 ", "completion": "2"})", everything) == "1+1 2<end>");
  CHECK(learned_of(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})",
                   everything) == "user:a<end>\nassistant:b<end>\n");
  const char* thinks =
      "{% for m in messages %}{{ m.role }}:{{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}assistant:"
      "think{% endif %}";
  CHECK(learned_of(two_turns, chat(thinks)) == "Ho<end>|Hu<end>");
}

TEST_CASE("a template that leaves out the end of an answer is refused, and so is what says nothing", "[tuning]") {
  const auto refused = [](const std::string& line, const TuningEncoding& encoding, const std::string& words) {
    CAPTURE(line);
    CHECK_THROWS_WITH(learned_of(line, encoding), ContainsSubstring("rows:1: ") && ContainsSubstring(words));
  };
  const char* answer = R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  // Only the user's turns end: the first end behind the answer is another's.
  const char* never =
      "{% for m in messages %}{{ m.role }}:{{ m.content }}"
      "{% if m.role == 'user' %}<end>{% endif %}\n{% endfor %}"
      "{% if add_generation_prompt %}assistant:{% endif %}";
  refused(answer, chat(never), "messages[1]: the chat template does not end an assistant's turn");
  refused(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
              {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})",
          chat(never), "never stops");
  refused(answer, {.end_tokens = {kEndId}}, "needs a chat template");
  refused(answer, {.chat = text::ChatTemplate(kChat, "chat")}, "--eos_token");
  refused(R"({"prompt": "a", "completion": "b"})", {}, "--eos_token");
  // A template that hides what was answered, and one that fails.
  refused(answer, chat("{% for m in messages %}{{ m.role }}<end>{% endfor %}"), "cannot be told");
  refused(answer, chat("{{ raise_exception('no assistants') }}"), "no assistants");

  refused(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " \n"}]})", chat(),
          "messages[1]: an assistant's turn is empty");
  refused(R"({"messages": [{"role": "user", "content": "a"}]})", chat(), "no turn is an assistant's");
  refused(R"({"messages": [{"content": "a"}]})", chat(), "messages[0] has no role");
  refused(R"({"messages": [{"role": "assistant"}]})", chat(), "messages[0] has no content");
  refused(R"({"prompt": "a", "completion": ""})", chat(), "completion is empty");
  refused(R"({"prompt": "a", "completion": 3})", chat(), "completion is number, not a text");
  refused(R"({"text": " "})", chat(), "text is empty");
  refused(R"({"instruction": "a", "output": ""})", chat(), "output is empty");
  refused(R"({"conversations": [{"from": "bird", "value": "a"}]})", chat(), "from is \"bird\"");
  refused(R"({"question": "a", "answer": "b"})", chat(), "this one has question, answer");
  refused(R"({"text": "a", "text": "b"})", chat(), "text");
  refused(R"(["text"])", chat(), "rows:1");
  refused(R"({"text": "cut)", chat(), "rows:1");
}

TEST_CASE("a prompt whose last token is the completion's first is learned from that token on, and noted", "[tuning]") {
  const json all = {
      {"model",
       {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}, {"c", 3}, {"$", 4}}}, {"merges", {"a b"}}}}};
  const text::Tokenizer tokenizer = text::parse_tokenizer_json(all.dump(), "pairs");
  const TuningEncoder encoder(tokenizer, {.end_tokens = {4}});
  const TuningDocument joined = encoder.encode(parse_tuning_row(completion("ca", "bc"), "r:1"), "r:1");
  CHECK(joined.tokens == std::vector<int32_t>{3, 2, 3, 4});
  CHECK(joined.learned == std::vector<uint8_t>{0, 1, 1, 1});
  CHECK(joined.joined);
  const TuningDocument apart = encoder.encode(parse_tuning_row(completion("c", "ab"), "r:1"), "r:1");
  CHECK(apart.learned == std::vector<uint8_t>{0, 1, 1});
  CHECK_FALSE(apart.joined);
}

TEST_CASE("documents are made once, cut where there is no room, and name the lines", "[tuning]") {
  const tests::Folder folder;
  const auto rows = folder / "rows.jsonl", tokens = folder / "rows.tokens";
  const text::Tokenizer tokenizer = letters();
  const TuningEncoder encoder(tokenizer, chat());
  write_lines(rows, {"\xEF\xBB\xBF" + completion("a", "bcd"), "", completion("aaaaaaaaaaaa", "b"),
                     completion("b", "cdefghijklm"), completion("c", "d")});
  const TuningNotes notes = TuningDocuments::make(rows, encoder, {.most_tokens = 9}, 7, tokens);
  CHECK(notes.cut == std::vector<int64_t>{3, 4});
  CHECK(notes.dropped == std::vector<int64_t>{3});  // only its prompt is left
  CHECK(notes.longest == 14);
  CHECK(TuningDocuments::is_made(tokens, rows, 7));
  CHECK_FALSE(TuningDocuments::is_made(tokens, rows, 8));
  CHECK_FALSE(TuningDocuments::is_made(folder / "none", rows, 7));
  const TuningDocuments documents(tokens);
  REQUIRE(documents.count() == 3);
  CHECK(documents.line(1) == 4);
  CHECK(documents.length(1) == 9);
  CHECK(documents.tokens() == 5 + 9 + 3);
  CHECK(documents.learned(0) == 4);
  CHECK(learned(tokenizer, documents.read(0)) == "bcd<end>");
  CHECK(learned(tokenizer, documents.read(1)) == "cdefghij");
  // Other rows, or half a file, are not what was made.
  write_lines(rows, {completion("a", "bce")});
  CHECK_FALSE(TuningDocuments::is_made(tokens, rows, 7));
  std::filesystem::resize_file(tokens, std::filesystem::file_size(tokens) - 4);
  CHECK_FALSE(TuningDocuments::is_made(tokens, rows, 7));
  CHECK_THROWS_WITH(TuningDocuments(tokens), ContainsSubstring("no whole file of tokens"));

  const auto refused = [&](const std::vector<std::string>& lines, TuningLimits limits, const std::string& words) {
    write_lines(rows, lines);
    const auto out = folder / "refused.tokens";
    CHECK_THROWS_WITH(TuningDocuments::make(rows, encoder, limits, 7, out), ContainsSubstring(words));
    CHECK_FALSE(std::filesystem::exists(out));
  };
  // One bad line among many is named, and nothing of the file is left.
  std::vector<std::string> many(3000, completion("a", "b"));
  many[2345] = R"({"prompt": "a", "completion": "b")";
  refused(many, {.most_tokens = 9}, "rows.jsonl:2346: ");
  refused({}, {.most_tokens = 9}, "has no rows");
  refused({" ", ""}, {.most_tokens = 9}, "has no rows");
  refused({completion("a", "bcdefghijklm")}, {.most_tokens = 9, .truncation = Truncation::refuse},
          "rows.jsonl:1: its 14 tokens are more than the 9");
  refused({completion("aaaaaaaaaaaa", "b")}, {.most_tokens = 9}, "nothing of its 1 texts is left");
  CHECK_THROWS_WITH(TuningDocuments::make(folder / "none.jsonl", encoder, {.most_tokens = 9}, 7, tokens),
                    ContainsSubstring("there is no such file"));
}

TEST_CASE("texts are packed by best fit into few rows, each once", "[tuning]") {
  const std::vector<uint32_t> lengths = {3, 9, 4, 6, 1, 10, 5, 2};
  const auto rows = pack_best_fit(lengths, 10);
  CHECK(rows.size() == 4);  // 40 positions, and no room is left in any
  std::multiset<uint32_t> seen;
  for (const auto& row : rows) {
    uint32_t used = 0;
    for (const uint32_t document : row) {
      used += lengths[document];
      seen.insert(document);
    }
    CHECK(used == 10);
  }
  CHECK(seen.size() == lengths.size());
  CHECK(std::set(seen.begin(), seen.end()).size() == lengths.size());
}

TEST_CASE("an epoch has every place once, in an order of its own", "[tuning]") {
  for (const uint32_t count : {1u, 2u, 5u, 64u, 1000u}) {
    std::set<uint32_t> places;
    for (uint32_t i = 0; i < count; ++i) places.insert(shuffled_place(3, 1, i, count));
    CHECK(places.size() == count);
    CHECK(*places.rbegin() == count - 1);
  }
  const auto order = [](uint32_t seed, uint32_t epoch) {
    std::vector<uint32_t> places;
    for (uint32_t i = 0; i < 100; ++i) places.push_back(shuffled_place(seed, epoch, i, 100));
    return places;
  };
  CHECK(order(1, 0) == order(1, 0));
  CHECK(order(1, 0) != order(1, 1));
  CHECK(order(1, 0) != order(2, 0));
}

TEST_CASE("rows in batches: every text an epoch, weights that sum to the micro-batches of a step", "[tuning]") {
  const tests::Folder folder;
  const text::Tokenizer tokenizer = letters();
  const TuningEncoder encoder(tokenizer, chat());
  std::vector<std::string> lines;
  for (size_t i = 0; i < 11; ++i) lines.push_back(completion(std::string(1 + i % 4, 'q'), std::string(1 + i % 3, 'a')));
  write_lines(folder / "rows.jsonl", lines);
  TuningDocuments::make(folder / "rows.jsonl", encoder, {.most_tokens = 13}, 0, folder / "tokens");
  const auto documents = std::make_shared<const TuningDocuments>(folder / "tokens");
  std::vector<uint32_t> all(11);
  std::iota(all.begin(), all.end(), 0u);
  for (const bool packing : {false, true}) {
    CAPTURE(packing);
    const TuningSource source(tokenizer, kEndId + 1, {documents, all}, {documents, {0, 1}},
                              {.block_size = 12, .batch_size = 2, .accumulation = 2, .packing = packing});
    CHECK(source.packs() == packing);
    if (packing) CHECK(source.train_rows() < 8);
    if (!packing) CHECK(source.train_rows() == 11);
    for (uint32_t step = 0; step < 6; step += 2) {
      double sum = 0;
      for (uint32_t micro = step; micro < step + 2; ++micro)
        for (const float weight : source.sample(Split::kTrain, 5, micro, 2).weights) sum += double(weight);
      CHECK(sum == Catch::Approx(2));
    }
    // What stands in the rows of an epoch is every text, each learned token once.
    std::multiset<std::string> learned_texts;
    int64_t tokens = 0;
    for (uint32_t row = 0; row < uint32_t(source.train_rows()); ++row) {
      const Batch batch = source.sample(Split::kTrain, 5, row / 2, 1, row % 2);
      for (size_t t = 0; t < batch.weights.size(); ++t) tokens += batch.weights[t] > 0;
      if (!packing) continue;
      for (size_t t = 0; t < batch.starts.size(); ++t) {
        CHECK(batch.starts[t] <= int32_t(t));
        if (t > 0) CHECK(batch.starts[t] >= batch.starts[t - 1]);
        // A text begins with its prompt.
        if (batch.starts[t] == int32_t(t) && batch.tokens[t] != 0)
          CHECK(tokenizer.decode({&batch.tokens[t], 1}) == "q");
      }
    }
    CHECK(tokens == documents->learned());
    const Batch held_out = source.sample(Split::kValidation, 0, 0, int32_t(source.held_out_rows()));
    CHECK(std::accumulate(held_out.weights.begin(), held_out.weights.end(), 0.0f) ==
          float(documents->learned(0) + documents->learned(1)));
  }
}
