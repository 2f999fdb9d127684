// `surtsey finetune` with a head of labels and `surtsey classify` as processes: a planted rule is learned by every kind
// of training, what the run says of its held-out rows is what classify says of them, and bad rows are refused.
#include "tests/support/letters_model.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

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
  for (uint32_t i = 0; i < 104; ++i) (i % 4 == 3 ? valid : train) << row_of(i).dump() << "\n";
  return rows;
}

std::string finetune(const fs::path& model, const fs::path& rows, const fs::path& out) {
  return fmt::format(
      "finetune '{}' --data '{}' --out '{}' --num_labels=2 --batch_size=13 --max_steps=60 --eval_steps=60 "
      "--logging_steps=20",
      model.string(), rows.string(), out.string());
}

Outcome classify(const Folder& folder, const fs::path& model, const fs::path& out, const fs::path& rows) {
  return tests::run(
      folder, fmt::format("classify '{}' --adapter '{}' --data '{}'", model.string(), out.string(), rows.string()));
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
    CHECK(json::parse(tests::slurp(out / "labels.json")) == json({"early", "late"}));
    const json config = json::parse(tests::slurp(out / "adapter_config.json"));
    CHECK(config.at("task_type") == "SEQ_CLS");

    const Outcome asked = classify(folder, model, out, rows / "valid.jsonl");
    CAPTURE(asked.err);
    REQUIRE(asked.status == 0);
    std::istringstream lines(asked.out);
    int right = 0, count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      const json said = json::parse(line);
      right += said.at("label") == said.at("expected");
      CHECK(said.at("probability") >= 0.5);
      CHECK(said.at("probability") <= 1);
    }
    CHECK(count == 26);
    CHECK(right >= 24);
    CHECK_THAT(asked.err, ContainsSubstring(fmt::format("{} of 26 right", right)));
    // What the run said of the same rows.
    CHECK_THAT(run.out, ContainsSubstring(fmt::format("{:.1f} % of labels right (26 rows)", 100.0 * right / 26)));
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
  CHECK_THAT(head.out, ContainsSubstring("score.weight"));
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
  refused(R"({"text": "a", "label": 1.5})", "", "rows.jsonl:3: label is 1.5");
  refused(R"({"text": "a", "label": -1})", "", "rows.jsonl:3: label is -1");
  refused(R"({"text": "a", "label": "third"})", "", "has 3 labels, num_labels is 2");
  refused(R"({"text": "a", "label": "late"})", "--num_labels=1", "num_labels 1");
  refused(R"({"text": "a", "label": "late"})", "--problem_type=regression", "problem_type regression");
  std::ofstream(rows / "valid.jsonl", std::ios::app) << R"({"text": "a", "label": "never"})" << "\n";
  check_refused(folder, finetune(model, rows, out), "valid.jsonl:27: label 'never' is none of the 2");
  std::ofstream(folder / "gap.jsonl") << R"({"text": "a", "label": 0})" << "\n"
                                      << R"({"text": "b", "label": 2})" << "\n";
  check_refused(folder, finetune(model, folder / "gap.jsonl", out), "gap.jsonl:2: label 2 where 1 of 2 labels");
  check_refused(folder,
                fmt::format("classify '{}' --adapter '{}' --text a", model.string(), (folder / "none").string()),
                "labels.json");
  check_refused(folder, fmt::format("classify '{}' --adapter '{}'", model.string(), (folder / "none").string()),
                "--data FILE.jsonl or --text");
}
