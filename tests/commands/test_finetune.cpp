// `surtsey finetune` and `surtsey merge` as processes, over a small model of others: it learns a planted mapping and
// says it, goes on to the same bits, and refuses what it cannot learn.
#include "experiments/formats/safetensors.h"
#include "experiments/models/hub/source.h"
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
using tests::json_lines;
using tests::must;
using tests::Outcome;

namespace {

namespace fs = std::filesystem;

// A turn is "Uhello-" or "Ahello-"; the last letter ends an answer.
fs::path write_model(const Folder& folder) { return tests::write_letters_model(folder, "-", 59); }

// What is to be learned: a letter's answer is the one before it and the one after.
std::string answer_to(char letter) { return {char(letter - 1), char(letter + 1)}; }
const std::string kAsked = "bcdefgh";

fs::path write_rows(const Folder& folder) {
  fs::create_directories(folder / "rows");
  std::ofstream train(folder / "rows/train.jsonl"), valid(folder / "rows/valid.jsonl");
  for (const char letter : kAsked) {
    const json row = {{"messages",
                       {{{"role", "user"}, {"content", std::string(1, letter)}},
                        {{"role", "assistant"}, {"content", answer_to(letter)}}}}};
    train << row.dump() << "\n";
    if (letter < 'd') valid << row.dump() << "\n";
  }
  return folder / "rows";
}

std::string keys(const fs::path& model, const fs::path& rows, const fs::path& out) {
  return fmt::format(
      "finetune '{}' --data '{}' --out '{}' --target_modules=all-linear --r=8 --lora_alpha=16 "
      "--batch_size=7 --learning_rate=1e-2 --max_steps=60 --eval_steps=20 --save_steps=20 --samples=2 "
      "--logging_steps=20",
      model.string(), rows.string(), out.string());
}

std::vector<double> logits(const Folder& folder, const std::string& model) {
  std::ofstream(folder / "input.json") << json({{"input_ids", {{3, 9, 27, 21, 2}}}}).dump();
  const Outcome outcome =
      must(folder, fmt::format("logits {} --input '{}' -o json", model, (folder / "input.json").string()));
  std::vector<double> values;
  const json all = json::parse(outcome.out);
  for (const json& row : all.at("logits").at(0))
    for (const json& value : row) values.push_back(value.get<double>());
  return values;
}

}  // namespace

TEST_CASE("tool: a model learns a mapping beside its weights, says it, and is merged with it", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = write_model(folder), rows = write_rows(folder), out = folder / "out";
  const Outcome run = must(folder, keys(model, rows, out));
  CHECK_THAT(run.out, ContainsSubstring("7 texts of") && ContainsSubstring("trainable"));
  // Every line of the log has TRL's names; what is held out is asked before the first step and after the last.
  std::vector<int64_t> asked, logged;
  double before = 0, after = 0;
  for (const json& line : json_lines(out / "metrics.jsonl")) {
    const auto step = line.at("step").get<int64_t>();
    if (line.contains("eval_loss")) {
      asked.push_back(step);
      (step == 0 ? before : after) = line.at("eval_loss").get<double>();
      CHECK(line.contains("eval_mean_token_accuracy"));
    } else {
      logged.push_back(step);
      for (const char* name : {"loss", "grad_norm", "learning_rate", "mean_token_accuracy", "epoch"})
        CHECK(line.contains(name));
    }
  }
  CHECK(asked == std::vector<int64_t>{0, 20, 40, 60});
  CHECK(logged == std::vector<int64_t>{20, 40, 60});
  CHECK(after < before / 10);
  CHECK(fs::exists(out / "report.html"));
  CHECK(json::parse(tests::slurp(out / "adapter_config.json")).at("peft_type") == "LORA");

  // It answers what it was taught, and ends there.
  for (const char letter : kAsked) {
    const Outcome said = must(folder, fmt::format("generate '{}' --adapter '{}' --prompt 'U{}-A' --max_new_tokens=8 "
                                                  "--context 60 --do_sample=false -o json",
                                                  model.string(), out.string(), letter));
    const json ids = json::parse(said.out).at("ids");
    CAPTURE(letter, ids.dump());
    CHECK(ids == json({int(letter - 'a') + 26, int(letter - 'a') + 28, 59}));
  }

  // Merged it says the same without the adapter, also where the model's numbers are rounded again.
  const fs::path merged = folder / "merged";
  must(folder, fmt::format("merge '{}' '{}' --out '{}'", model.string(), out.string(), merged.string()));
  const std::vector<double> beside = logits(folder, fmt::format("'{}' --adapter '{}'", model.string(), out.string()));
  const std::vector<double> inside = logits(folder, fmt::format("'{}'", merged.string()));
  const std::vector<double> base = logits(folder, fmt::format("'{}'", model.string()));
  double apart = 0, learned = 0, largest = 1;
  for (size_t i = 0; i < beside.size(); ++i) {
    apart = std::max(apart, std::abs(beside[i] - inside[i]));
    learned = std::max(learned, std::abs(beside[i] - base[i]));
    largest = std::max(largest, std::abs(beside[i]));
  }
  CHECK(apart < 1e-4 * largest);
  CHECK(learned > .1);
  std::ofstream(folder / "text.txt") << "Ub-AacUc-AbdUd-AceUe-Adf";
  const Outcome told =
      must(folder, fmt::format("merge '{}' '{}' --out '{}' --type f16 --text '{}' --context 16", model.string(),
                               out.string(), (folder / "merged.gguf").string(), (folder / "text.txt").string()));
  CHECK_THAT(told.out, ContainsSubstring("token_perplexity merged / beside: "));
  check_refused(folder, fmt::format("merge '{}' '{}' --out '{}'", model.string(), out.string(), merged.string()),
                "is there already");
}

TEST_CASE("tool: fine-tuning goes on to the same bits, over the same base and rows alone", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = write_model(folder), rows = write_rows(folder), out = folder / "out";
  const std::string command = keys(model, rows, out) +
                              " --packing=true --max_length=16 --gradient_accumulation_steps=2 "
                              "--batch_size=1 --lora_dropout=.1";
  must(folder, command);
  const std::string adapter = tests::slurp(out / "adapter_model.safetensors");
  // As if it had ended after the save before the last.
  fs::remove_all(out / "checkpoint/step-00000060");
  fs::remove(out / "checkpoint/latest");
  fs::remove(out / "adapter_model.safetensors");
  check_refused(folder, command, "holds a run");
  check_refused(folder, command + " --resume --learning_rate=2e-2", "has learning_rate = 0.01, not 0.02");
  // Another row, another number in the base: neither is the run that it was.
  const std::string row = tests::slurp(rows / "train.jsonl");
  std::ofstream(rows / "train.jsonl", std::ios::app) << R"({"text": "abc"})" << "\n";
  check_refused(folder, command + " --resume", "is not what the run in");
  std::ofstream(rows / "train.jsonl") << row;
  const std::string weights = tests::slurp(model / "model.safetensors");
  std::string other = weights;
  other[other.size() - 3] = char(other[other.size() - 3] ^ 1);
  std::ofstream(model / "model.safetensors", std::ios::binary) << other;
  check_refused(folder, command + " --resume", "is not the model that the run in");
  std::ofstream(model / "model.safetensors", std::ios::binary) << weights;
  const Outcome resumed =
      must(folder, fmt::format("finetune --resume --data '{}' --out '{}'", rows.string(), out.string()));
  CHECK_THAT(resumed.out, ContainsSubstring("resumed at step 40"));
  CHECK(tests::slurp(out / "adapter_model.safetensors") == adapter);
  std::vector<int64_t> asked;
  for (const json& line : json_lines(out / "metrics.jsonl"))
    if (line.contains("eval_loss")) asked.push_back(line.at("step"));
  CHECK(asked == std::vector<int64_t>{0, 20, 40, 60});
}

TEST_CASE("tool: texts that are packed are held out as those in rows of their own", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = write_model(folder), rows = write_rows(folder);
  std::vector<double> losses;
  for (const char* packing : {"false", "true"}) {
    const fs::path out = folder / packing;
    must(folder, keys(model, rows, out) + fmt::format(" --max_length=24 --max_steps=1 --packing={}", packing));
    for (const json& line : json_lines(out / "metrics.jsonl"))
      if (line.contains("eval_loss") && line.at("step") == 0) losses.push_back(line.at("eval_loss"));
  }
  REQUIRE(losses.size() == 2);
  CHECK(std::abs(losses[0] - losses[1]) < 1e-5 * losses[0]);
}

TEST_CASE("tool: the base of an adapter lies under a name of any bytes", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = folder / "caf\xE9 \"q\"", rows = write_rows(folder), out = folder / "o\xFFut";
  fs::rename(write_model(folder), model);
  must(folder, keys(model, rows, out) + " --max_steps=2");
  const json config = json::parse(tests::slurp(out / "adapter_config.json"));
  CHECK(config.at("base_model_name_or_path").get<std::string>().find(" \"q\"") != std::string::npos);
  must(folder, fmt::format("finetune --resume --out '{}'", out.string()));
  must(folder, fmt::format("generate '{}' --adapter '{}' --prompt Ub-A --max_new_tokens=2 --context 60", model.string(),
                           out.string()));
}

TEST_CASE("tool: seeds and learning rates are models of one run, of which the best is written", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = write_model(folder), rows = write_rows(folder), out = folder / "out";
  const Outcome run = must(folder, keys(model, rows, out) + " --seeds=1,2 --learning_rates=1e-2,1e-5 --max_steps=20");
  CHECK_THAT(run.out, ContainsSubstring("| 0.01 | 2 |") && ContainsSubstring("| 1e-05 | 2 |"));
  CHECK_THAT(run.out, ContainsSubstring("best: seed-"));
  std::string best = run.out.substr(run.out.find("best: ") + 6);
  best = best.substr(0, best.find('\n'));
  CHECK(best.ends_with("_lr-0.01"));
  for (const char* member : {"seed-1_lr-0.01", "seed-2_lr-0.01", "seed-1_lr-1e-05", "seed-2_lr-1e-05"})
    CHECK(fs::exists(out / "members" / member / "adapter_model.safetensors"));
  CHECK(tests::slurp(out / "members" / best / "adapter_model.safetensors") ==
        tests::slurp(out / "adapter_model.safetensors"));
  // A member has the adapter of a run of its own, up to the order of sums.
  const fs::path alone = folder / "alone";
  must(folder, keys(model, rows, alone) + " --seed=2 --max_steps=20");
  const auto one = experiments::read_safetensors(alone / "adapter_model.safetensors").tensors;
  const auto same = experiments::read_safetensors(out / "members/seed-2_lr-0.01/adapter_model.safetensors").tensors;
  REQUIRE(one.size() == same.size());
  for (const auto& [name, tensor] : one) {
    double apart = 0, largest = 0;
    for (size_t i = 0; i < tensor.values.size(); ++i) {
      apart = std::max(apart, std::abs(tensor.values[i] - same.at(name).values[i]));
      largest = std::max(largest, std::abs(tensor.values[i]));
    }
    CAPTURE(name);
    CHECK(apart <= 1e-3 * largest);
  }
}

TEST_CASE("tool: a whole model is trained, and written as one", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = write_model(folder), rows = write_rows(folder), out = folder / "out";
  must(folder, fmt::format("finetune '{}' --data '{}' --out '{}' --method full --lr=3e-3 --iters=60 --samples=0 "
                           "--micro_batch_size=7",
                           model.string(), rows.string(), out.string()));
  const Outcome said = must(folder, fmt::format("generate '{}' --prompt 'Uc-A' --max_new_tokens=8 --context 60 "
                                                "--do_sample=false -o json",
                                                (out / "model").string()));
  CHECK(json::parse(said.out).at("ids") == json({28, 30, 59}));
}

TEST_CASE("tool: what cannot be learned is refused in a sentence, and nothing is left of it", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const fs::path model = write_model(folder), rows = folder / "rows.jsonl", out = folder / "out";
  const auto refused = [&](const std::string& content, const std::string& more, const std::string& words) {
    std::ofstream(rows, std::ios::binary) << content;
    check_refused(folder, keys(model, rows, out) + " " + more, words);
    CHECK_FALSE(fs::exists(out / "config.toml"));
    CHECK_FALSE(fs::exists(out / "checkpoint"));
  };
  const std::string good = R"({"prompt": "a", "completion": "b"})"
                           "\n";
  refused(good + "{\"prompt\": \"a\n", "", "rows.jsonl:2: ");
  refused("", "", "has no rows");
  refused(good + R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]})", "",
          "rows.jsonl:2: messages[1]: an assistant's turn is empty");
  refused(R"({"text": ")" + std::string(99, 'a') + "\"}\n", "--truncation=refuse --max_length=40",
          "rows.jsonl:1: its 100");
  refused(good, "--max_length=4000", "positions");
  refused(good, "--eos_token=@", "has no token '@'");
  refused(good, "--method=lore", "lora");
  refused(good, "--target_modules=no_such_proj", "no_such_proj");
  refused(good, "--lerning_rate=1", "learning_rate");
  refused(good, "--method=prompt --packing=true --num_virtual_tokens=4", "packing with method prompt");
  refused(good, "--seeds=1,1", "twice");
  refused(good, "--warmup_steps=80", "warmup_steps 80");
  check_refused(folder, keys(model, folder / "none.jsonl", out), "there is no such file");
  check_refused(folder, keys(folder / "none", rows, out), "none");
  check_refused(folder, fmt::format("finetune --resume --out '{}'", out.string()), "there is no run");
  // A whole model is written to OUT/model: not over its base. An adapter goes beside it.
  std::ofstream(rows) << good;
  check_refused(folder, keys(model, rows, model.parent_path()) + " --method=full", "where the base lies");
  // A text that is cut is named, and the run goes on.
  std::ofstream(rows) << good << R"({"text": ")" << std::string(99, 'a') << "\"}\n";
  const Outcome cut = must(folder, keys(model, rows, out) + " --max_length=40 --max_steps=1 --val_set_size=0");
  CHECK_THAT(cut.err, ContainsSubstring("line 2") && ContainsSubstring("the longest has 100"));
}
