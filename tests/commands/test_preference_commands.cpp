// `surtsey dpo` and `surtsey reward` as processes, over a small model of others: which of two answers is preferred is
// learned, beside a reference that is the model as it began, and goes on to the same bits.
#include "tests/support/letters_model.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <sstream>

using namespace surtsey;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using tests::Folder;
using tests::Outcome;

namespace {

namespace fs = std::filesystem;

// Of a letter's two neighbours the one behind it is preferred.
fs::path write_preferences(const Folder& folder) {
  fs::create_directories(folder / "pairs");
  std::ofstream train(folder / "pairs/train.jsonl"), valid(folder / "pairs/valid.jsonl");
  for (const char letter : std::string("bcdefghijklm")) {
    const auto said = [](char answer) {
      return json::array({{{"role", "assistant"}, {"content", std::string(1, answer)}}});
    };
    const json row = {{"prompt", {{{"role", "user"}, {"content", std::string(1, letter)}}}},
                      {"chosen", said(char(letter + 1))},
                      {"rejected", said(char(letter - 1))}};
    (letter < 'k' ? train : valid) << row.dump() << "\n";
  }
  return folder / "pairs";
}

std::string asked(const char* command, const fs::path& model, const fs::path& rows, const fs::path& out) {
  return fmt::format(
      "{} '{}' --data '{}' --out '{}' --target_modules=all-linear --r=8 --lora_alpha=16 --batch_size=3 "
      "--learning_rate=1e-2 --max_steps=30 --eval_steps=15 --save_steps=15 --logging_steps=5 --samples=1",
      command, model.string(), rows.string(), out.string());
}

double at_end(const fs::path& out, const char* metric) {
  double last = std::nan("");
  for (const json& line : tests::json_lines(out / "metrics.jsonl")) last = line.value(metric, last);
  return last;
}

}  // namespace

TEST_CASE("tool: a model learns what is preferred, beside itself as it began", "[device][tool][align]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = tests::write_letters_model(folder, "-", 59), rows = write_preferences(folder),
                 out = folder / "out";
  const Outcome run = tests::must(folder, asked("dpo", model, rows, out));
  CHECK_THAT(run.out, ContainsSubstring("in pairs") && ContainsSubstring("dpo, lora"));
  // It begins as its reference: no reward, and the loss of a coin.
  for (const json& line : tests::json_lines(out / "metrics.jsonl")) {
    if (line.at("step") != 0) continue;
    CHECK(line.at("eval_loss").get<double>() == Approx(std::log(2.0)).epsilon(1e-6));
    CHECK(line.at("eval_rewards/margins").get<double>() == Approx(0).margin(1e-6));
  }
  CHECK(at_end(out, "loss") < .3);
  CHECK(at_end(out, "rewards/accuracies") == 1);
  CHECK(at_end(out, "rewards/margins") > 1);
  CHECK(at_end(out, "rewards/margins") ==
        Approx(at_end(out, "rewards/chosen") - at_end(out, "rewards/rejected")).epsilon(1e-4));
  CHECK(at_end(out, "logps/chosen") > at_end(out, "logps/rejected"));
  CHECK(json::parse(tests::slurp(out / "adapter_config.json")).at("peft_type") == "LORA");
  CHECK_THAT(tests::slurp(out / "report.html"), ContainsSubstring("chosen answer has the larger reward"));

  // As if it had ended after the save before the last; the reference is not computed from what was learned.
  const std::string adapter = tests::slurp(out / "adapter_model.safetensors");
  fs::remove_all(out / "checkpoint/step-00000030");
  fs::remove(out / "checkpoint/latest");
  SECTION("with the reference that was kept") {}
  SECTION("computed anew") { fs::remove(out / "data/reference.safetensors"); }
  check_refused(folder, fmt::format("finetune --resume --out '{}'", out.string()), "is of 'surtsey dpo', not of 'sft'");
  const Outcome resumed = tests::must(folder, fmt::format("dpo --resume --out '{}'", out.string()));
  CHECK_THAT(resumed.out, ContainsSubstring("resumed at step 15"));
  CHECK(tests::slurp(out / "adapter_model.safetensors") == adapter);
}

TEST_CASE("tool: rewards are learned from preferences, and told of texts", "[device][tool][align]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = tests::write_letters_model(folder, "-", 59), rows = write_preferences(folder),
                 out = folder / "out";
  tests::must(folder,
              asked("reward", model, rows, out) + " --seeds=1,2 --gradient_accumulation_steps=3 --batch_size=1");
  CHECK(at_end(out, "rewards/accuracies") == 1);
  CHECK(at_end(out, "loss") < .3);
  for (const char* member : {"seed-1_lr-0.01", "seed-2_lr-0.01"})
    CHECK(fs::exists(out / "members" / member / "adapter_model.safetensors"));
  std::ofstream(folder / "texts.jsonl") << R"({"text": "Ud-Ae-"})" << "\n" << R"({"text": "Ud-Ac-"})" << "\n";
  const Outcome told = tests::must(folder, fmt::format("classify '{}' --adapter '{}' --data '{}'", model.string(),
                                                       out.string(), (folder / "texts.jsonl").string()));
  std::istringstream lines(told.out);
  std::string better, worse;
  std::getline(lines, better);
  std::getline(lines, worse);
  CAPTURE(told.out);
  CHECK(json::parse(better).at("score").get<double>() > json::parse(worse).at("score").get<double>() + 1);
}

TEST_CASE("tool: what leaves nothing to prefer is refused in a sentence", "[device][tool][align]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = tests::write_letters_model(folder, "-", 59), rows = write_preferences(folder),
                 out = folder / "out";
  const auto refused = [&](const char* command, const std::string& more, const std::string& words) {
    check_refused(folder, asked(command, model, rows, out) + " " + more, words);
    CHECK_FALSE(fs::exists(out / "config.toml"));
  };
  refused("dpo", "--packing=true", "packing");
  refused("dpo", "--method=prompt --num_virtual_tokens=2", "method prompt");
  refused("dpo", "--num_labels=2", "num_labels");
  refused("dpo", "--beta=0", "beta");
  refused("dpo", "--loss_type=ipo --label_smoothing=.1", "label_smoothing");
  refused("dpo", "--completion_only_loss=false", "completion_only_loss");
  refused("reward", "--num_labels=2", "num_labels is 2");
  refused("reward", "--beta=1", "beta");
  refused("finetune", "--beta=1", "beta");
  refused("finetune", "", "train.jsonl:1: ");
  std::ofstream(rows / "train.jsonl") << R"({"prompt": "a", "chosen": "b", "rejected": "b"})" << "\n";
  refused("dpo", "", "prefer an answer to itself");
}
