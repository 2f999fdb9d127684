// Rows for a head of labels: which problem a file is, the numbers that its rows become, what is refused with its line;
// texts and pairs as documents, cut between their special tokens.
#include "experiments/tasks/tuning/tuning_source.h"
#include "experiments/text/tokenizer_json.h"
#include "tests/support/bert_model.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace surtsey::experiments;
using namespace surtsey::experiments::tasks;
using Catch::Matchers::ContainsSubstring;
namespace tests = surtsey::tests;

namespace {

std::filesystem::path write_label_lines(const tests::Folder& folder, const std::vector<std::string>& lines) {
  std::ofstream out(folder / "rows.jsonl");
  for (const std::string& line : lines) out << line << "\n";
  return folder / "rows.jsonl";
}

std::vector<float> values_of(const LabelSet& labels, const std::string& line) {
  return labels.values(parse_labelled_row(line, "here:1"), "here:1");
}

}  // namespace

TEST_CASE("the problem of rows is inferred as transformers infers it, and a key overrides", "[tuning][labels]") {
  const tests::Folder folder;
  const auto labels = [&](std::vector<std::string> lines, LabelRequest request) {
    return labels_of(write_label_lines(folder, lines), std::move(request));
  };
  const LabelSet names =
      labels({R"({"text": "a", "label": "wet"})", R"({"sentence": "b", "label": "dry"})"}, {.count = 2});
  CHECK(names.problem == ProblemType::single_label);
  CHECK(names.names == std::vector<std::string>{"dry", "wet"});
  CHECK(values_of(names, R"({"text": "a", "label": "wet"})") == std::vector<float>{0, 1});
  // A number that no row has is a label all the same.
  const LabelSet integers = labels({R"({"text": "a", "label": 0})", R"({"text": "b", "label": 2})"}, {.count = 4});
  CHECK(integers.problem == ProblemType::single_label);
  CHECK(integers.names == std::vector<std::string>{"0", "1", "2", "3"});
  CHECK(values_of(integers, R"({"text": "a", "label": 2})") == std::vector<float>{0, 0, 1, 0});
  // A model's own names, where the rows' are among them or are numbers.
  const LabelRequest known{.count = 2, .known = {"wet", "dry"}};
  CHECK(labels({R"({"text": "a", "label": "dry"})"}, known).names == known.known);
  CHECK(labels({R"({"text": "a", "label": 1})"}, known).names == known.known);
  CHECK(labels({R"({"text": "a", "label": "x"})", R"({"text": "a", "label": "wet"})"}, known).names ==
        std::vector<std::string>{"wet", "x"});
  const LabelSet number = labels({R"({"text": "a", "label": 1.5})", R"({"text": "a", "label": -3})"}, {.count = 1});
  CHECK(number.problem == ProblemType::regression);
  CHECK(values_of(number, R"({"text": "a", "label": -2.5})") == std::vector<float>{-2.5});
  CHECK(values_of(number, R"({"text": "a", "label": [0.25]})") == std::vector<float>{0.25});
  const LabelSet numbers =
      labels({R"({"text": "a", "label": [1, 2.5]})"}, {.count = 2, .problem = ProblemType::regression});
  CHECK(values_of(numbers, R"({"text": "a", "labels": [3, -1]})") == std::vector<float>{3, -1});
  // Lists are several labels: by name, by number, or one place a label.
  const LabelSet some =
      labels({R"({"text": "a", "labels": ["x", "y"]})", R"({"text": "b", "labels": []})"}, {.count = 2});
  CHECK(some.problem == ProblemType::multi_label);
  CHECK(values_of(some, R"({"text": "a", "labels": ["y"]})") == std::vector<float>{0, 1});
  CHECK(values_of(some, R"({"text": "a", "labels": []})") == std::vector<float>{0, 0});
  const LabelSet places =
      labels({R"({"text": "a", "labels": [1, 0, 1]})", R"({"text": "b", "labels": [0, 0, 0]})"}, {.count = 3});
  CHECK(places.zeros_and_ones);
  CHECK(values_of(places, R"({"text": "a", "labels": [1, 0, 1.0]})") == std::vector<float>{1, 0, 1});
  const LabelSet indices =
      labels({R"({"text": "a", "labels": [1, 0, 1]})", R"({"text": "b", "labels": [2]})"}, {.count = 3});
  CHECK_FALSE(indices.zeros_and_ones);
  CHECK(values_of(indices, R"({"text": "a", "labels": [0, 2]})") == std::vector<float>{1, 0, 1});
}

TEST_CASE("labels that are none are refused with their line", "[tuning][labels]") {
  const tests::Folder folder;
  const auto refused = [&](std::vector<std::string> lines, LabelRequest request, const std::string& words) {
    CAPTURE(lines);
    CHECK_THROWS_WITH(labels_of(write_label_lines(folder, lines), std::move(request)), ContainsSubstring(words));
  };
  const std::string row = R"({"text": "a", "label": "x"})";
  refused({row, R"({"text": "a", "label": 1})"}, {.count = 2}, "rows.jsonl:2: its label is a number, and before it");
  refused({row, R"({"text": "a", "labels": ["x"]})"}, {.count = 2}, "rows.jsonl:2: its labels are a list");
  refused({R"({"text": "a", "labels": ["x"]})", row}, {.count = 2},
          "rows.jsonl:2: its label is no list, which that of");
  refused({R"({"text": "a"})"}, {.count = 2}, "rows.jsonl:1: for a head of labels");
  refused({R"({"text": "a", "label": true})"}, {.count = 2}, "rows.jsonl:1: label is true");
  refused({R"({"text": "a", "label": {"x": 1}})"}, {.count = 2}, "rows.jsonl:1: label is {");
  refused({R"({"text": "a", "label": 1e999})"}, {.count = 1}, "rows.jsonl:1");
  refused({R"({"text": "a", "label": NaN})"}, {.count = 1}, "rows.jsonl:1");
  refused({R"({"text": "a", "label": 0})", R"({"text": "a", "label": 0.5})"}, {.count = 2},
          "rows.jsonl:2: its label is no whole number");
  refused({row}, {.count = 3}, "has 1 labels, num_labels is 3 (x)");
  refused({}, {.count = 2}, "there is nothing to learn");
  LabelSet set{.names = {"a", "b"}};
  const auto wrong = [&](const std::string& line, const std::string& words) {
    CAPTURE(line);
    CHECK_THROWS_WITH(values_of(set, line), ContainsSubstring("here:1: " + words));
  };
  wrong(R"({"text": "t", "label": "c"})", "label 'c' is none of the 2 (a, b)");
  wrong(R"({"text": "t", "label": 2})", "label is 2; numbers of labels are 0 to 1");
  wrong(R"({"text": "t", "label": -1})", "label is -1; numbers of labels");
  set.problem = ProblemType::multi_label;
  wrong(R"({"text": "t", "label": "a"})", "label is no list");
  wrong(R"({"text": "t", "label": ["a", "c"]})", "label 'c' is none");
  set.zeros_and_ones = true;
  wrong(R"({"text": "t", "label": [1, 0, 1]})", "labels is no list of 2 zeros and ones");
  set.problem = ProblemType::regression;
  wrong(R"({"text": "t", "label": [1]})", "has 1 numbers, num_labels is 2");
  wrong(R"({"text": "t", "label": "a"})", "label is 'a', not a number");
}

TEST_CASE("texts and pairs become documents with their labels, cut between their special tokens", "[tuning][labels]") {
  const tests::Folder folder;
  const text::Tokenizer tokenizer = text::load_tokenizer(tests::write_bert_model(folder, "BertModel"));
  const auto ids = [&](const std::string& words) {
    std::vector<int32_t> list;
    for (const char letter : words)
      list.push_back(letter == '^' ? 1 : letter == '$' ? 2 : *tokenizer.id(std::string(1, letter)));
    return list;
  };
  const text::EncodedText pair = tokenizer.encode("abc", std::string_view("de"));
  CHECK(pair.ids == ids("^abc$de$"));
  CHECK(pair.kinds == std::vector<uint8_t>{0, 0, 0, 0, 0, 1, 1, 1});
  // The longer text is cut first, and at most to an even share.
  CHECK(tokenizer.encode("abcdef", std::string_view("gh"), 8).ids == ids("^abc$gh$"));
  CHECK(tokenizer.encode("ab", std::string_view("cdefgh"), 8).ids == ids("^ab$cde$"));
  CHECK(tokenizer.encode("abcdef", std::string_view("ghijkl"), 8).ids == ids("^ab$ghi$"));
  CHECK(tokenizer.encode("abcdef", {}, 4).ids == ids("^ab$"));
  CHECK(tokenizer.encode("abcdef", {}, 4).whole == 8);
  CHECK_THROWS_WITH(tokenizer.encode("a", {}, 1), ContainsSubstring("no room for the 2 special ones"));

  const auto rows = write_label_lines(
      folder, {R"({"text": "abcd", "label": "x"})", R"({"text": "ab", "text_pair": "efghijk", "label": "y"})",
               R"({"text": "c", "label": "x"})"});
  const TuningEncoder encoder(tokenizer, {.labels = labels_of(rows, {.count = 2})});
  const TuningNotes notes = TuningDocuments::make(rows, encoder, {.most_tokens = 9}, 7, folder / "tokens");
  CHECK(notes.cut == std::vector<int64_t>{2});
  CHECK(notes.longest == 12);
  const auto documents = std::make_shared<const TuningDocuments>(folder / "tokens");
  CHECK(documents->labels() == 2);
  CHECK(documents->count() == 3);
  CHECK(documents->tokens() == 6 + 9 + 3);
  CHECK(documents->learned() == 3);
  const TuningDocument second = documents->read(1);
  CHECK(second.tokens == ids("^ab$efgh$"));
  CHECK(second.kinds == std::vector<uint8_t>{0, 0, 0, 0, 1, 1, 1, 1, 1});
  CHECK(second.values == std::vector<float>{0, 1});
  CHECK(documents->read(2).values == std::vector<float>{1, 0});
  CHECK_THROWS_WITH(
      TuningDocuments::make(rows, encoder, {.most_tokens = 9, .truncation = Truncation::refuse}, 7, folder / "other"),
      ContainsSubstring("rows.jsonl:2: its 12 tokens are more than the 9"));
  CHECK(TuningDocuments::make(rows, encoder, {.most_tokens = 9, .truncation = Truncation::drop}, 7, folder / "other")
            .dropped == std::vector<int64_t>{2});

  const TuningSource source(tokenizer, 64, {documents, {0, 1, 2}}, {documents, {1}},
                            {.block_size = 9, .batch_size = 2, .accumulation = 2, .packing = false});
  CHECK(source.labels() == 2);
  LabelledBatch held_out(1, 9, 2);
  source.fill_labelled(Split::kValidation, 0, 0, 0, held_out.spans());
  CHECK(held_out.tokens == second.tokens);
  CHECK(held_out.lengths == std::vector<int32_t>{9});
  CHECK(held_out.labels == second.values);
  double sum = 0;
  for (uint32_t micro = 0; micro < 2; ++micro) {
    LabelledBatch batch(2, 9, 2);
    source.fill_labelled(Split::kTrain, 3, micro, 0, batch.spans());
    for (size_t row = 0; row < 2; ++row) {
      sum += double(batch.weights[row]);
      CHECK(batch.labels[2 * row] + batch.labels[2 * row + 1] == 1);
      for (size_t t = size_t(batch.lengths[row]); t < 9; ++t) CHECK(batch.tokens[row * 9 + t] == 0);
    }
  }
  CHECK(std::abs(sum - 2) < 1e-6);
}
