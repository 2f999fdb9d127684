// `surtsey finetune` with a head of labels and `surtsey classify` as processes: a planted rule is learned by every kind
// of training on decoders and encoders, what the run says of its held-out rows is what classify says of them, what is
// written gives the same scores, and bad rows are refused.
#include "tests/support/bert_model.h"
#include "tests/support/letters_model.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

using namespace surtsey;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using tests::Folder;
using tests::Outcome;

namespace {

namespace fs = std::filesystem;

// Texts of one to four letters: what they are called says whether the first letter is an early one.
json row_of(uint32_t i) {
  std::string text(1, char('a' + i * 7 % 26));
  for (uint32_t more = 0; more < i % 4; ++more) text += char('a' + (i * 11 + more * 5) % 26);
  return {{"text", text}, {"label", text[0] < 'n' ? "early" : "late"}};
}

fs::path write_labelled(const Folder& folder) {
  const fs::path rows = folder / "labelled";
  fs::create_directories(rows);
  std::ofstream train(rows / "train.jsonl"), valid(rows / "valid.jsonl");
  for (uint32_t i = 0; i < 130; ++i) (i % 5 == 4 ? valid : train) << row_of(i).dump() << "\n";
  return rows;
}

std::string finetune(const fs::path& model, const fs::path& rows, const fs::path& out) {
  return fmt::format(
      "finetune '{}' --data '{}' --out '{}' --num_labels=2 --batch_size=13 --max_steps=60 --eval_steps=60 "
      "--logging_steps=20",
      model.string(), rows.string(), out.string());
}

Outcome classify(const Folder& folder, const fs::path& model, const fs::path& out, const fs::path& rows) {
  return tests::run(folder, fmt::format("classify '{}' {} --data '{}'", model.string(),
                                        out.empty() ? "" : fmt::format("--adapter '{}'", out.string()), rows.string()));
}

std::vector<json> said_lines(const Outcome& outcome) {
  std::vector<json> lines;
  std::istringstream text(outcome.out);
  for (std::string line; std::getline(text, line);) lines.push_back(json::parse(line));
  return lines;
}

void write_label_rows(const fs::path& file, const std::vector<json>& rows) {
  std::ofstream out(file);
  for (const json& row : rows) out << row.dump() << "\n";
}

// A run that must end well.
Outcome taught_labels(const Folder& folder, const fs::path& model, const fs::path& rows, const fs::path& out,
                      const std::string& keys) {
  const Outcome run =
      tests::run(folder, fmt::format("finetune '{}' --data '{}' --out '{}' --eval_steps=1000 --logging_steps=20 {}",
                                     model.string(), rows.string(), out.string(), keys));
  CAPTURE(run.err, run.out);
  REQUIRE(run.status == 0);
  return run;
}

}  // namespace

TEST_CASE("tool: a head of labels is learned beside every method, and gives its labels to texts", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = tests::write_letters_model(folder, "-", 59), rows = write_labelled(folder);
  for (const char* method : {"lora --learning_rate=1e-2 --target_modules=all-linear", "full --learning_rate=3e-3"}) {
    CAPTURE(method);
    const fs::path out = folder / std::string(method).substr(0, 4);
    const Outcome run = tests::run(folder, finetune(model, rows, out) + " --method=" + method);
    CAPTURE(run.err, run.out);
    REQUIRE(run.status == 0);
    const bool whole = std::string(method).starts_with("full");
    if (whole) {
      const json config = json::parse(tests::slurp(out / "model/config.json"));
      CHECK(config.at("architectures").at(0) == "LlamaForSequenceClassification");
      CHECK(config.at("id2label") == json({{"0", "early"}, {"1", "late"}}));
    } else {
      CHECK(json::parse(tests::slurp(out / "labels.json")) ==
            json({{"id2label", {{"0", "early"}, {"1", "late"}}}, {"problem_type", "single_label_classification"}}));
      const json config = json::parse(tests::slurp(out / "adapter_config.json"));
      CHECK(config.at("task_type") == "SEQ_CLS");
      CHECK(config.at("modules_to_save") == json({"score"}));
    }

    const Outcome asked = whole ? classify(folder, out / "model", {}, rows / "valid.jsonl")
                                : classify(folder, model, out, rows / "valid.jsonl");
    CAPTURE(asked.err);
    REQUIRE(asked.status == 0);
    int right = 0, count = 0;
    for (const json& said : said_lines(asked)) {
      ++count;
      right += said.at("label") == said.at("expected");
      CHECK(said.at("probability") >= 0.5);
      CHECK(said.at("probability") <= 1);
      CHECK(said.at("probabilities").at(said.at("label").get<std::string>()) == said.at("probability"));
    }
    CHECK(count == 26);
    CHECK(right >= 24);
    CHECK_THAT(asked.err, ContainsSubstring(fmt::format("{} of 26 right", right)));
    // What the run said of the same rows.
    CHECK_THAT(run.out, ContainsSubstring(fmt::format("| {} of 26 right: ", right)));
  }
  const Outcome one = tests::run(folder, fmt::format("classify '{}' --adapter '{}' --text zz --text ab", model.string(),
                                                     (folder / "lora").string()));
  REQUIRE(one.status == 0);
  CHECK(json::parse(one.out.substr(0, one.out.find('\n'))).at("label") == "late");
  // The head alone trains nothing else.
  const Outcome head =
      tests::run(folder, finetune(model, rows, folder / "head") + " --method=head --learning_rate=1e-2");
  CAPTURE(head.err);
  REQUIRE(head.status == 0);
  CHECK_THAT(head.out, ContainsSubstring("head.weight"));
  CHECK(head.out.find("lora") == std::string::npos);
}

TEST_CASE("tool: labels that cannot be learned or given are refused in a sentence", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = tests::write_letters_model(folder, "-", 59), rows = write_labelled(folder),
                 out = folder / "out";
  const auto refused = [&](const std::string& row, const std::string& more, const std::string& words) {
    const fs::path file = folder / "rows.jsonl";
    std::ofstream(file) << row_of(1).dump() << "\n" << row_of(3).dump() << "\n" << row << "\n";
    check_refused(folder, finetune(model, file, out) + " " + more, words);
    CHECK_FALSE(fs::exists(out / "config.toml"));
  };
  refused(R"({"text": "abc"})", "", "rows.jsonl:3: for a head of labels a row has");
  refused(R"({"text": "", "label": "early"})", "", "rows.jsonl:3: text is no text");
  refused(R"({"text": "a", "label": 1})", "", "rows.jsonl:3: its label is a number, and before it labels are names");
  refused(R"({"text": "a", "label": ["late"]})", "", "rows.jsonl:3: its labels are a list, which the label of");
  refused(R"({"text": "a", "label": ["late", 1]})", "", "rows.jsonl:3: its labels are names and numbers");
  refused(R"({"text": "a", "label": NaN})", "", "rows.jsonl:3");
  refused(R"({"text": "a", "label": null})", "", "rows.jsonl:3: for a head of labels a row has");
  refused(R"({"text": "a", "text_pair": 3, "label": "late"})", "", "rows.jsonl:3: text_pair is number");
  refused(R"({"text": "a", "label": "third"})", "", "has 3 labels, num_labels is 2");
  refused(R"({"text": "a", "label": "late"})", "--num_labels=1", "rows.jsonl:1: label is 'early', not a number");
  refused(R"({"text": "a", "label": "late"})", "--num_labels=1 --problem_type=single_label_classification",
          "num_labels 1 with problem_type single_label_classification");
  refused(R"({"text": "a", "label": "late"})", "--problem_type=regression", "rows.jsonl:1: label is 'early'");
  refused(R"({"text": "a", "label": "late"})", "--problem_type=multi_label_classification",
          "rows.jsonl:1: label is no");
  refused(R"({"text": "a", "label": "late"})", "--problem_type=ranking", "problem_type is 'ranking'");
  refused(R"({"text": "a", "label": "late"})", "--packing=true", "packing with num_labels");
  refused(fmt::format(R"({{"text": "{}", "label": "late"}})", std::string(300, 'a')),
          "--max_length=9 --truncation=refuse", "rows.jsonl:3: its 300 tokens are more than the 9");
  std::ofstream(rows / "valid.jsonl", std::ios::app) << R"({"text": "a", "label": "never"})" << "\n";
  check_refused(folder, finetune(model, rows, out), "valid.jsonl:27: label 'never' is none of the 2 (early, late)");
  std::ofstream(folder / "gap.jsonl") << R"({"text": "a", "label": 0})" << "\n"
                                      << R"({"text": "b", "label": 2})" << "\n";
  check_refused(folder, finetune(model, folder / "gap.jsonl", out),
                "gap.jsonl:2: label is 2; numbers of labels are 0 to 1");
  std::ofstream(folder / "half.jsonl") << R"({"text": "a", "label": 0})" << "\n" << R"({"text": "b", "label": 0.5})";
  check_refused(folder, finetune(model, folder / "half.jsonl", out), "half.jsonl:2: its label is no whole number");
  std::ofstream(folder / "large.jsonl") << R"({"text": "a", "label": 1e60})" << "\n";
  check_refused(folder, finetune(model, folder / "large.jsonl", out) + " --num_labels=1", "beyond what f32 holds");
  check_refused(folder, fmt::format("classify '{}' --text a", model.string()), "has no head of labels");
  const fs::path bert = tests::write_bert_model(folder, "BertModel");
  for (const char* method : {"prompt", "prefix"})
    check_refused(folder, finetune(bert, rows, out) + " --method=" + method,
                  fmt::format("method {}: virtual tokens stand before the text of a decoder", method));
  check_refused(folder, fmt::format("finetune '{}' --data '{}' --out '{}'", bert.string(), rows.string(), out.string()),
                "a head of labels (num_labels) learns on encoders too");
  check_refused(folder,
                fmt::format("classify '{}' --adapter '{}' --text a", model.string(), (folder / "none").string()),
                "labels.json");
  check_refused(folder, fmt::format("classify '{}' --adapter '{}'", model.string(), (folder / "none").string()),
                "--data FILE.jsonl or --text");
}

TEST_CASE("tool: an encoder learns a rule by LoRA and whole, and its files give the same scores", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = tests::write_bert_model(folder, "BertForMaskedLM"), rows = write_labelled(folder);
  const std::string keys = "--num_labels=2 --batch_size=26 --max_steps=90 ";
  struct Way {
    const char* name;
    const char* keys;
    bool learns;
  };
  for (const Way& way : {Way{"lora", "--method=lora --r=8 --learning_rate=2e-2 --target_modules=all-linear", true},
                         Way{"full", "--method=full --learning_rate=3e-3", true},
                         Way{"head", "--method=head --learning_rate=1e-2", false}}) {
    CAPTURE(way.name);
    const fs::path out = folder / way.name;
    const Outcome run = taught_labels(folder, model, rows, out, keys + way.keys);
    const bool whole = std::string(way.name) == "full";
    const Outcome asked =
        classify(folder, whole ? out / "model" : model, whole ? fs::path() : out, rows / "valid.jsonl");
    CAPTURE(run.out, asked.err);
    REQUIRE(asked.status == 0);
    int right = 0;
    for (const json& said : said_lines(asked)) right += said.at("label") == said.at("expected");
    // A head on features that nothing has taught sees a part of the rule.
    CHECK((right >= 24) == way.learns);
    CHECK(right >= 14);
    CHECK_THAT(run.out, ContainsSubstring(fmt::format("| {} of 26 right: ", right)));
    if (!whole) continue;
    CHECK(json::parse(tests::slurp(out / "model/config.json")).at("architectures").at(0) ==
          "BertForSequenceClassification");
  }
  // Merged, the adapter's scores are the model's.
  const fs::path merged = folder / "merged";
  const Outcome merge = tests::run(
      folder, fmt::format("merge '{}' '{}' --out '{}'", model.string(), (folder / "lora").string(), merged.string()));
  CAPTURE(merge.err);
  REQUIRE(merge.status == 0);
  const std::vector<json> beside = said_lines(classify(folder, model, folder / "lora", rows / "valid.jsonl")),
                          inside = said_lines(classify(folder, merged, {}, rows / "valid.jsonl"));
  REQUIRE(beside.size() == inside.size());
  for (size_t i = 0; i < beside.size(); ++i) {
    CHECK(beside[i].at("label") == inside[i].at("label"));
    CHECK(std::abs(beside[i].at("probability").get<double>() - inside[i].at("probability").get<double>()) < 1e-4);
  }
  // Going on from a model that classifies: its head is what this one begins with.
  const Outcome more = taught_labels(folder, merged, rows, folder / "more",
                                     "--num_labels=2 --batch_size=26 --max_steps=1 --learning_rate=1e-6");
  CHECK_THAT(more.err, ContainsSubstring("its head of 2 labels is what this one begins with"));
  CHECK_THAT(more.out, ContainsSubstring("of 26 right: "));
}

TEST_CASE("tool: pairs of texts, several labels a text, and numbers are learned and told", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = tests::write_bert_model(folder, "BertModel");
  const auto letter = [](uint32_t i) { return char('a' + i * 7 % 26); };
  // Which of the labels a text has: its first letter is early, its second one is.
  std::vector<json> several, numbers, pairs;
  for (uint32_t i = 0; i < 78; ++i) {
    const std::string text = {letter(i), letter(i * 3 + i / 26)};
    std::vector<std::string> labels;
    if (text[0] < 'n') labels.emplace_back("first");
    if (text[1] < 'n') labels.emplace_back("second");
    several.push_back({{"text", text}, {"labels", labels}});
    numbers.push_back({{"text", text}, {"label", double(text[0] - 'a') / 13 - 1}});
    // The pair's second text alone says it.
    pairs.push_back({{"text", std::string(1, letter(i * 5))}, {"text_pair", text}, {"label", text[0] < 'n' ? 1 : 0}});
  }
  write_label_rows(folder / "several.jsonl", several);
  write_label_rows(folder / "numbers.jsonl", numbers);
  write_label_rows(folder / "pairs.jsonl", pairs);
  const std::string full = "--method=full --learning_rate=3e-3 --batch_size=26 --max_steps=90 --val_set_size=0 ";

  taught_labels(folder, model, folder / "several.jsonl", folder / "several",
                full + "--num_labels=2 --learning_rate=1e-2");
  const Outcome multi = classify(folder, folder / "several/model", {}, folder / "several.jsonl");
  CAPTURE(multi.err);
  REQUIRE(multi.status == 0);
  CHECK(json::parse(tests::slurp(folder / "several/model/config.json")).at("problem_type") ==
        "multi_label_classification");
  for (const json& said : said_lines(multi)) {
    std::vector<std::string> given;
    for (const auto& [label, probability] : said.at("probabilities").items())
      if (probability >= 0.5) given.push_back(label);
    CHECK(said.at("labels") == json(given));
  }
  const auto f1 = [](const std::string& words) { return std::stod(words.substr(words.find("micro F1 ") + 9)); };
  CHECK(f1(multi.err) > 0.9);
  const Outcome strict =
      tests::run(folder, fmt::format("classify '{}' --data '{}' --threshold 0.9999",
                                     (folder / "several/model").string(), (folder / "several.jsonl").string()));
  CHECK(f1(strict.err) < f1(multi.err));

  const Outcome regression =
      taught_labels(folder, model, folder / "numbers.jsonl", folder / "numbers", full + "--num_labels=1");
  const Outcome numbered = classify(folder, folder / "numbers/model", {}, folder / "numbers.jsonl");
  CAPTURE(numbered.err, regression.out);
  CHECK(json::parse(tests::slurp(folder / "numbers/model/config.json")).at("problem_type") == "regression");
  double error = 0;
  for (const json& said : said_lines(numbered))
    error += std::pow(said.at("score").get<double>() - said.at("expected").get<double>(), 2) / 78;
  CHECK_THAT(numbered.err, ContainsSubstring(fmt::format("mean squared error {:.6g}", error)));
  CHECK(error < 0.05);
  CHECK(std::stod(numbered.err.substr(numbered.err.find("correlation ") + 12)) > 0.9);

  taught_labels(folder, model, folder / "pairs.jsonl", folder / "pairs", full + "--num_labels=2");
  const Outcome paired = classify(folder, folder / "pairs/model", {}, folder / "pairs.jsonl");
  CAPTURE(paired.err);
  int right = 0;
  for (const json& said : said_lines(paired)) right += said.at("label") == said.at("expected");
  CHECK(right >= 74);
  // Rows without a label are told all the same.
  const Outcome told = tests::run(folder, fmt::format("classify '{}' --text i --text_pair my --text r --text_pair tt",
                                                      (folder / "pairs/model").string()));
  REQUIRE(told.status == 0);
  CHECK(said_lines(told).at(0).at("label") == "1");
  CHECK(said_lines(told).at(1).at("label") == "0");
  CHECK(told.err.find("right") == std::string::npos);
}
