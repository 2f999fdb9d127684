// Tokenizers against the tokenizers library of Hugging Face (../shared/goldens), and their stages by hand.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include "experiments/base/file.h"
#include "experiments/text/byte_bpe_training.h"
#include "experiments/text/tokenizer_gguf.h"
#include "experiments/text/tokenizer_json.h"
#include "graph/error.h"
#include "tests/support/mutate.h"

using namespace surtsey;
using namespace surtsey::experiments;
using namespace surtsey::experiments::text;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

const fs::path kShared = SURTSEY_SOURCE_ROOT "/../shared";

// A word-level tokenizer over `tokens`, which shows what reaches the model.
json word_level(const std::vector<std::string>& tokens) {
  json vocabulary = json::object();
  for (size_t i = 0; i < tokens.size(); ++i) vocabulary[tokens[i]] = i;
  return {{"version", "1.0"}, {"model", {{"type", "WordLevel"}, {"vocab", vocabulary}, {"unk_token", tokens[0]}}}};
}

Tokenizer tokenizer_of(const json& file) { return parse_tokenizer_json(file.dump(), "tokenizer.json"); }

std::vector<std::string> parts(const json& pre_tokenizer, const std::string& text,
                               const std::vector<std::string>& tokens) {
  std::vector<std::string> all = {"?"};
  all.insert(all.end(), tokens.begin(), tokens.end());
  json file = word_level(all);
  file["pre_tokenizer"] = pre_tokenizer;
  std::vector<std::string> result;
  const Tokenizer tokenizer = tokenizer_of(file);
  for (const int32_t id : tokenizer.encode(text)) result.push_back(tokenizer.token(id));
  return result;
}

std::string normalized(const json& normalizer, const std::string& text, const std::string& expected) {
  json file = word_level({"?", expected});
  file["normalizer"] = normalizer;
  const Tokenizer tokenizer = tokenizer_of(file);
  const Ids ids = tokenizer.encode(text);
  return ids.size() == 1 ? tokenizer.token(ids[0]) : "";
}

std::string streamed(const Tokenizer& tokenizer, const Ids& ids) {
  DecodeStream stream(tokenizer, {.skip_special_tokens = true});
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = stream.push(id);
    CHECK(piece.find("\uFFFD") == piece.npos);
    text += piece;
  }
  return text + stream.finish();
}

}  // namespace

TEST_CASE("tokenizers give the ids and the text of the reference implementation", "[text][shared]") {
  const std::string name = GENERATE("bert-base-uncased", "phi-3", "roberta-base", "t5-small", "vocab.txt");
  const bool vocabulary = name == "vocab.txt";
  const std::string model = vocabulary ? "bert-base-uncased" : name;
  const fs::path folder = kShared / "data/tokenizers" / model;
  if (!fs::exists(folder)) SKIP(folder << " is not there: no golden tokenizer was checked");
  const Tokenizer tokenizer = load_tokenizer(vocabulary ? folder / "vocab.txt" : folder);
  const json golden = json::parse(read_file(kShared / "goldens/tokenizers" / (model + ".json")));
  REQUIRE(golden["cases"].size() == 57);
  for (const json& item : golden["cases"]) {
    const auto given = item["text"].get<std::string>();
    CAPTURE(name, given);
    const Ids ids = tokenizer.encode(given);
    CHECK(ids == item["ids"].get<Ids>());
    CHECK(tokenizer.encode(given, {.special_tokens = false}) == item["ids_plain"].get<Ids>());
    CHECK(tokenizer.decode(ids, {.skip_special_tokens = true}) == item["decoded"].get<std::string>());
    if (item["decoded"].get<std::string>().find("\uFFFD") == std::string::npos) {
      CHECK(streamed(tokenizer, ids) == item["decoded"].get<std::string>());
    }
  }
}

TEST_CASE("pre-tokenizers cut text by their rules", "[text]") {
  using Texts = std::vector<std::string>;
  const auto by = [](const char* behavior, bool invert = false) {
    return json{{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}};
  };
  const Texts all = {"the", "final", "-", "--", "the-", "final-", "-final", "-countdown", "countdown", "-c"};
  CHECK(parts(by("Removed"), "the-final--countdown", all) == Texts{"the", "final", "countdown"});
  CHECK(parts(by("Isolated"), "the-final--countdown", all) == Texts{"the", "-", "final", "-", "-", "countdown"});
  CHECK(parts(by("MergedWithPrevious"), "the-final--countdown", all) == Texts{"the-", "final-", "-", "countdown"});
  CHECK(parts(by("MergedWithNext"), "the-final--countdown", all) == Texts{"the", "-final", "-", "-countdown"});
  CHECK(parts(by("Contiguous"), "the-final--countdown", all) == Texts{"the", "-", "final", "--", "countdown"});
  CHECK(parts(by("Removed", true), "the-final", all) == Texts{"-"});
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  CHECK(parts(digits, "a12", {"a", "1", "2"}) == Texts{"a", "1", "2"});
  CHECK(parts({{"type", "Digits"}}, "a12", {"a", "12"}) == Texts{"a", "12"});
  CHECK(parts({{"type", "Punctuation"}}, "a!?b", {"a", "!", "?", "b"}) == Texts{"a", "!", "?", "b"});
  CHECK(parts({{"type", "Whitespace"}}, "Hey man!?", {"Hey", "man", "!?"}) == Texts{"Hey", "man", "!?"});
  CHECK(parts({{"type", "ByteLevel"}}, "a  b", {"\u0120a", "\u0120", "\u0120b"}) ==
        Texts{"\u0120a", "\u0120", "\u0120b"});
  json metaspace = {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}};
  CHECK(parts(metaspace, "a b", {"\u2581a", "\u2581b"}) == Texts{"\u2581a", "\u2581b"});
  metaspace["prepend_scheme"] = "never";
  CHECK(parts(metaspace, "a b", {"a", "\u2581b"}) == Texts{"a", "\u2581b"});
}

TEST_CASE("normalizers change text by their rules", "[text]") {
  CHECK(normalized({{"type", "BertNormalizer"}}, "H\u00C9\tllo", "he llo") == "he llo");
  CHECK(normalized({{"type", "NFKC"}}, "\uFB01", "fi") == "fi");
  CHECK(normalized({{"type", "NFD"}}, "\u00E9", "e\u0301") == "e\u0301");
  CHECK(normalized({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}, " \u3000a ", "a") == "a");
  CHECK(normalized({{"type", "Replace"}, {"pattern", {{"Regex", "\\s+"}}}, {"content", "_"}}, "a \u0085b", "a_b") ==
        "a_b");
  const json steps = {{"type", "Sequence"},
                      {"normalizers", {{{"type", "Lowercase"}}, {{"type", "Prepend"}, {"prepend", "<"}}}}};
  CHECK(normalized(steps, "AB", "<ab") == "<ab");
}

TEST_CASE("added tokens are found before anything else happens to the text", "[text]") {
  json file = word_level({"?", "a", "b", "<x>", "ab"});
  file["pre_tokenizer"] = {{"type", "WhitespaceSplit"}};
  const auto ids_with = [&](json token, const std::string& text) {
    token["id"] = 3;
    token["content"] = "<x>";
    file["added_tokens"] = json::array({token});
    return tokenizer_of(file).encode(text);
  };
  CHECK(ids_with({{"special", true}}, "a<x>b") == Ids{1, 3, 2});
  CHECK(ids_with({{"single_word", true}}, "a<x>b") == Ids{0});
  CHECK(ids_with({{"single_word", true}}, "a <x> b") == Ids{1, 3, 2});
  file.erase("pre_tokenizer");
  CHECK(ids_with({{"lstrip", true}, {"rstrip", true}}, "a  <x>  b") == Ids{1, 3, 2});
  CHECK(ids_with({{"lstrip", false}}, "a  <x>") == Ids{0, 3});
}

TEST_CASE("what a tokenizer cannot do is refused by name and place", "[text]") {
  json file = word_level({"?"});
  file["decoder"] = {{"type", "CTC"}};
  CHECK_THROWS_WITH(tokenizer_of(file),
                    ContainsSubstring("tokenizer.json.decoder: the decoder 'CTC' is not supported"));
  file = word_level({"?"});
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array({json{{"type", "NFQ"}}})}};
  CHECK_THROWS_WITH(tokenizer_of(file), ContainsSubstring("normalizer.normalizers[0]: the normalizer 'NFQ'"));
  file = {{"model", {{"type", "BPE"}, {"dropout", 0.1}, {"vocab", {{"a", 0}}}, {"merges", json::array()}}}};
  CHECK_THROWS_WITH(tokenizer_of(file), ContainsSubstring("dropout"));
  file["model"] = {{"vocab", {{"a", 0}, {"b", 1}}}, {"merges", json::array({"a b"})}};
  CHECK_THROWS_WITH(tokenizer_of(file), ContainsSubstring("'ab', which the vocabulary does not have"));
  file["model"]["vocab"] = {{"a", 0}, {"b", 7000000}};
  CHECK_THROWS_WITH(tokenizer_of(file), ContainsSubstring("7000000"));
  CHECK_THROWS_WITH(parse_tokenizer_json("{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}}", "t"),
                    ContainsSubstring("names 'a' twice"));
  CHECK_THROWS_WITH(load_tokenizer("/nowhere"), ContainsSubstring("/nowhere"));
}

TEST_CASE("a byte-level encoding that is trained here reads any text back", "[text]") {
  std::string corpus;
  for (int i = 0; i < 50; ++i) corpus += "the cat sat on the mat, the cat ate the rat\n";
  const TrainedTokenizer trained = train_byte_bpe(corpus, 300);
  CHECK(trained.vocab_size <= 300);
  CHECK(train_byte_bpe(corpus, 300).json == trained.json);
  const Tokenizer tokenizer = parse_tokenizer_json(trained.json, "trained");
  CHECK(tokenizer.vocab_size() == trained.vocab_size);
  for (const std::string text : {"the cat", "\u4F60\u597D \U0001F600", "\tx\n\n  y "}) {
    const Ids ids = tokenizer.encode(text);
    CHECK(tokenizer.decode(ids) == text);
    CHECK(streamed(tokenizer, ids) == text);
  }
  CHECK(tokenizer.encode(" the").size() == 1);
  CHECK(tokenizer.is_special(*tokenizer.id(kEndOfText)));
  CHECK_THROWS_WITH(train_byte_bpe("\xFF", 300), ContainsSubstring("byte 0 is not UTF-8"));
  CHECK_THROWS_WITH(train_byte_bpe("a", 256), ContainsSubstring("257"));
}

TEST_CASE("GGUF's arrays make the same tokenizers", "[text]") {
  GgufVocabulary llama{.model = "llama"};
  llama.tokens = {"<unk>", "<s>", "</s>", "\u2581", "h", "i", "\u2581h", "hi", "\u2581hi"};
  llama.types = {2, 3, 3, 1, 1, 1, 1, 1, 1};
  llama.scores = {0, 0, 0, -9, -8, -7, -3, -2, -1};
  for (int byte = 0; byte < 256; ++byte) {
    llama.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    llama.types.push_back(6);
    llama.scores.push_back(0);
  }
  llama.bos_token_id = 1;
  llama.unknown_token_id = 0;
  const Tokenizer spm = gguf_tokenizer(llama, "test.gguf");
  CHECK(spm.encode("hi") == Ids{1, 8});
  CHECK(spm.encode("hi\u00E9", {.special_tokens = false}) == Ids{8, 9 + 0xC3, 9 + 0xA9});
  CHECK(spm.decode(spm.encode("hi\u00E9"), {.skip_special_tokens = true}) == "hi\u00E9");
  GgufVocabulary gpt2{.model = "gpt2", .pre = "qwen2"};
  gpt2.tokens = {"a", "b", "ab", "1", "<|im_end|>"};
  gpt2.types = {1, 1, 1, 1, 3};
  gpt2.merges = {"a b"};
  CHECK(gguf_tokenizer(gpt2, "t").encode("ab11<|im_end|>") == Ids{2, 3, 3, 4});
  gpt2.pre = "martian";
  CHECK_THROWS_WITH(gguf_tokenizer(gpt2, "t"), ContainsSubstring("'martian'"));
}

TEST_CASE("mutated tokenizers are tokenizer_of or refused", "[text][fuzz]") {
  std::vector<std::string> files = {train_byte_bpe("a rose is a rose is a rose", 262).json};
  json wordpiece = word_level({"[UNK]", "a", "##b"});
  wordpiece["model"]["type"] = "WordPiece";
  wordpiece["normalizer"] = {{"type", "BertNormalizer"}};
  wordpiece["decoder"] = {{"type", "WordPiece"}};
  files.push_back(wordpiece.dump());
  files.push_back(R"({"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["a",-1.5],["ab",-2.0]]},
    "pre_tokenizer":{"type":"Metaspace","replacement":"_","add_prefix_space":true},
    "decoder":{"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}})");
  tests::Draw draw(7);
  int errors = 0;
  for (size_t i = 0; i < 300; ++i) {
    const std::string file = tests::mutated(files[i % files.size()], tests::tokenizer_words(), draw);
    try {
      const Tokenizer tokenizer = parse_tokenizer_json(file, "mutated");
      const Ids ids = tokenizer.encode("a rose\u00E9 ab [UNK]");
      tokenizer.decode(ids);
    } catch (const UserError&) {
      ++errors;
    }
  }
  CHECK(errors > 0);
}
