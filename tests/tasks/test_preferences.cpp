// Rows of what is preferred to what: their spellings, what is refused, and pairs in batches.
#include "experiments/tasks/tuning/preferences.h"
#include "experiments/tasks/tuning/tuning_source.h"
#include "experiments/text/tokenizer_json.h"
#include "tests/support/folder.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <fstream>
#include <set>

using namespace surtsey;
using namespace surtsey::experiments;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

namespace {

PreferenceRow parse(const std::string& line) { return parse_preference_row(line, "rows.jsonl:3"); }

std::string message(const TuningRow& row, size_t i) {
  return (*row.variables)["messages"].at(i).at("content").get<std::string>();
}

text::Tokenizer bytes() {
  json tokens = json::object();
  for (char letter = 'a'; letter <= 'z'; ++letter) tokens[std::string(1, letter)] = letter - 'a';
  tokens["."] = 26;
  return text::parse_tokenizer_json(
      json{{"model", {{"type", "BPE"}, {"vocab", tokens}, {"merges", json::array()}}}, {"decoder", {{"type", "Fuse"}}}}
          .dump(),
      "letters");
}

}  // namespace

TEST_CASE("pairs of answers are read with what was asked, or it is what both begin with", "[tuning]") {
  const PreferenceRow plain = parse(R"({"prompt": "2+2=", "chosen": "4", "rejected": "5", "margin": 1.5})");
  CHECK(plain.chosen.kind == TuningRow::Kind::completion);
  CHECK(plain.chosen.text == "2+2=");
  CHECK(plain.chosen.completion == "4");
  CHECK(plain.rejected.completion == "5");
  CHECK(plain.margin == 1.5f);
  // The blank before the first word that differs is the answers'.
  const PreferenceRow common = parse(R"({"chosen": "Human: hi Bot: yes it is", "rejected": "Human: hi Bot: no"})");
  CHECK(common.chosen.text == "Human: hi Bot:");
  CHECK(common.chosen.completion == " yes it is");
  CHECK(common.rejected.completion == " no");
  // A letter of several bytes is not cut.
  const PreferenceRow letters = parse("{\"chosen\": \"a\xC3\xA4x\", \"rejected\": \"a\xC3\xB6x\"}");
  CHECK(letters.chosen.text == "a");
  CHECK(letters.chosen.completion == "\xC3\xA4x");
  const std::string asked = R"({"role": "user", "content": "hi"})";
  const auto said = [](const char* words) { return fmt::format(R"({{"role": "assistant", "content": "{}"}})", words); };
  for (const std::string& line :
       {fmt::format(R"({{"prompt": [{}], "chosen": [{}], "rejected": [{}]}})", asked, said("yes"), said("no")),
        fmt::format(R"({{"chosen": [{0}, {1}], "rejected": [{0}, {2}]}})", asked, said("yes"), said("no"))}) {
    CAPTURE(line);
    const PreferenceRow row = parse(line);
    CHECK(row.chosen.kind == TuningRow::Kind::conversation);
    CHECK(row.chosen.learned_from == 1);
    CHECK(message(row.chosen, 0) == "hi");
    CHECK(message(row.chosen, 1) == "yes");
    CHECK(message(row.rejected, 1) == "no");
  }
  CHECK(parse(R"({"prompt": "a", "chosen": "b", "rejected": "b"})").same);
}

TEST_CASE("a row that prefers nothing to nothing is refused with its line", "[tuning]") {
  const auto refused = [](const std::string& line, const std::string& words) {
    CAPTURE(line);
    CHECK_THROWS_WITH(parse(line), ContainsSubstring("rows.jsonl:3: ") && ContainsSubstring(words));
  };
  refused(R"({"prompt": "a", "completion": "b"})", "\"chosen\" and \"rejected\"");
  refused(R"(["a"])", "not a JSON object");
  refused(R"({"chosen": 1, "rejected": "b"})", "chosen is number");
  refused(R"({"chosen": "a", "rejected": [{"role": "user", "content": "b"}]})", "chosen is string, rejected array");
  refused(R"({"prompt": "a", "chosen": "", "rejected": "b"})", "chosen: completion is empty");
  refused(R"({"chosen": "ab", "rejected": "a"})", "one answer is what the other begins with");
  refused(R"({"prompt": [], "chosen": "b", "rejected": "a"})", "prompt is array, chosen string");
  refused(R"({"prompt": "a", "chosen": "b", "rejected": "c", "margin": "much"})", "margin is no finite number");
  refused(R"({"chosen": [{"role": "user", "content": "b"}], "rejected": [{"role": "user", "content": "c"}]})",
          "no turn is an assistant's");
}

TEST_CASE("pairs stay together in batches of every epoch, with what the reference makes of each", "[tuning]") {
  const tests::Folder folder;
  const text::Tokenizer tokenizer = bytes();
  std::ofstream rows(folder / "rows.jsonl");
  for (const char letter : std::string("abcdefg"))
    rows << json{{"prompt", "x"}, {"chosen", std::string(1, letter)}, {"rejected", std::string(2, letter)}}.dump()
         << "\n";
  rows << R"({"prompt": "x", "chosen": "y", "rejected": "y"})" << "\n";
  rows.close();
  const TuningEncoder encoder(tokenizer, {.end_tokens = {26}, .pairs = true});
  const TuningNotes notes =
      TuningDocuments::make(folder / "rows.jsonl", encoder, {.most_tokens = 5}, 1, folder / "rows.tokens");
  CHECK(notes.same == std::vector<int64_t>{8});
  const auto documents = std::make_shared<const TuningDocuments>(folder / "rows.tokens");
  REQUIRE(documents->count() == 14);
  std::vector<uint32_t> all(14);
  for (uint32_t i = 0; i < 14; ++i) all[i] = i;
  TuningSource source(tokenizer, 27, {documents, all}, {documents, {}},
                      {.block_size = 4, .batch_size = 4, .packing = false, .pairs = true});
  std::vector<float> reference;
  for (int i = 0; i < 14; ++i) reference.push_back(float(-i));
  source.set_reference(Split::kTrain, reference);
  CHECK(source.numbers() == 1);
  // Seven pairs an epoch, two a step: fourteen are two epochs.
  std::multiset<int32_t> seen;
  std::vector<int32_t> order;
  for (uint32_t step = 0; step < 7; ++step) {
    const Batch batch = source.sample(Split::kTrain, 5, step, 4);
    std::vector<float> numbers(4);
    source.fill_numbers(Split::kTrain, 5, step, 0, numbers);
    for (size_t row = 0; row < 4; ++row) {
      const auto at = [&](const auto& of, size_t i) { return of[row * 4 + i]; };
      const int32_t letter = at(batch.targets, 0);
      const bool rejected = row % 2 == 1;
      CHECK(at(batch.targets, 1) == (rejected ? letter : 26));
      CHECK(at(batch.weights, 0) == 1);  // of what is learned, whatever a step has of it
      CHECK(at(batch.weights, 2) == (rejected ? 1 : 0));
      CHECK(numbers[row] == -float(2 * letter + (rejected ? 1 : 0)));
      if (!rejected) order.push_back(letter);
      seen.insert(letter);
    }
  }
  for (int32_t letter = 0; letter < 7; ++letter) CHECK(seen.count(letter) == 4);
  CHECK(std::vector(order.begin(), order.begin() + 7) != std::vector(order.begin() + 7, order.end()));
  // In order they are as the file has them.
  const Batch whole = source.in_order(Split::kTrain, 2, 2);
  CHECK(whole.targets[0] == 1);
  CHECK(whole.targets[4] == 1);
}
