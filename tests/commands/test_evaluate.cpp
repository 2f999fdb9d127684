// `surtsey evaluate` and `surtsey quantize --text` of a model that `surtsey train` made.
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace surtsey::tests {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

}  // namespace

TEST_CASE("tool: evaluate says of a trained model what its training said, and more") {
  const Folder folder;
  (void)open_test_device();  // skips without one
  const fs::path text = write_text(folder), model = folder / "run", out = folder / "out";
  const Outcome trained =
      run(folder,
          fmt::format("train --data '{}' --out '{}' --n_layer=1 --n_embd=32 --n_head=2 --block_size=16 "
                      "--batch_size=8 --max_iters=60 --eval_interval=60 --learning_rate=1e-2 --activation=gelu_tanh",
                      text.string(), model.string()));
  CAPTURE(trained.err);
  REQUIRE(trained.status == 0);
  const double loss = json_lines(model / "metrics.jsonl").back().at("val_loss").get<double>();

  // The last tenth is what was validated, in windows of 16 as here.
  const std::string all = slurp(text);
  const fs::path rest = folder / "rest.txt";
  std::ofstream(rest) << all.substr(size_t(.9 * double(all.size())));
  const std::string arguments =
      fmt::format("evaluate '{}' --tasks '{}' --window 16 --out '{}'", model.string(), rest.string(), out.string());
  const Outcome asked = run(folder, arguments);
  CAPTURE(asked.err);
  REQUIRE(asked.status == 0);
  CHECK(asked.out.find("bits_per_byte") != std::string::npos);
  const json sample = json_lines(out / "samples_rest.jsonl").at(0);
  double nats = 0, tokens = 0, every_token = 0;
  for (const json& window : sample.at("windows")) {
    every_token += window.at(1).get<double>();
    if (window.at(1) != 16) continue;  // training left the last, short one out
    nats -= window.at(0).get<double>();
    tokens += 16;
  }
  CHECK(nats / tokens == Catch::Approx(loss).epsilon(1e-5));
  const json results = json::parse(slurp(out / "results.json"));
  const json& scores = results.at("results").at("rest");
  const double total = std::stod(sample.at("resps").at(0).at(0).get<std::string>());
  CHECK(scores.at("token_perplexity,none").get<double>() == Catch::Approx(std::exp(-total / every_token)));
  CHECK(scores.at("bits_per_byte_stderr,none").get<double>() > 0);
  CHECK(results.at("config").at("model_args") == "pretrained=" + model.string());
  CHECK(fs::exists(out / "env.json"));
  check_refused(folder, arguments, "--resume");
  CHECK(run(folder, arguments + " --resume").out == asked.out);
  check_refused(folder, arguments + " --resume --limit 1", "another limit");

  // Choices and written answers, with examples from the items; every square ends with a line break.
  std::ofstream(folder / "squares.jsonl") << R"({"n": 3, "square": "9", "wrong": "8"})" << "\n"
                                          << R"({"n": 12, "square": "144", "wrong": "145"})" << "\n"
                                          << R"({"n": 20, "square": "400", "wrong": "401"})" << "\n";
  std::ofstream(folder / "choice.toml") << "dataset = 'squares.jsonl'\noutput_type = 'multiple_choice'\n"
                                           "doc_to_text = '{square}'\ndoc_to_choice = [' is', '.is']\n"
                                           "doc_to_target = '0'\ntarget_delimiter = ''\nfewshot_delimiter = '.'\n";
  std::ofstream(folder / "write.toml") << "dataset = 'squares.jsonl'\noutput_type = 'generate_until'\n"
                                          "doc_to_text = '{square} is the square of'\ndoc_to_target = 'n'\n"
                                          "until = ['.']\nmax_gen_toks = 6\n";
  const Outcome both = run(folder, fmt::format("evaluate '{}' --tasks '{}' '{}' -o json --context 16", model.string(),
                                               (folder / "choice.toml").string(), (folder / "write.toml").string()));
  CAPTURE(both.err);
  REQUIRE(both.status == 0);
  const json answers = json::parse(both.out);
  CHECK(answers.at("results").at("choice").at("acc,none") == 1);  // a blank follows a number, no point does
  CHECK(answers.at("results").at("write").contains("exact_match_stderr,none"));
  CHECK(answers.at("n-shot").at("write") == 0);
  const Outcome shots = run(folder, fmt::format("evaluate '{}' --tasks '{}' -o json --context 16 --shots 1",
                                                model.string(), (folder / "choice.toml").string()));
  CAPTURE(shots.err);
  REQUIRE(shots.status == 0);
  CHECK(json::parse(shots.out).at("n-shot").at("choice") == 1);

  // Rounded weights say less of the text, and by how much.
  const Outcome rounded = run(folder, fmt::format("quantize '{}' --type q8_0 --out '{}' --text '{}'", model.string(),
                                                  (folder / "small.gguf").string(), rest.string()));
  CAPTURE(rounded.err, rounded.out);
  CHECK(rounded.status == 0);
  CHECK(rounded.out.find("token_perplexity q8_0 / before: ") != std::string::npos);
  CHECK(rounded.out.find("rest.txt before") != std::string::npos);
  CHECK(rounded.out.find("rest.txt q8_0") != std::string::npos);

  check_refused(folder, fmt::format("evaluate '{}' --tasks /no/such.toml", model.string()), "/no/such.toml");
  check_refused(folder, fmt::format("evaluate '{}' --tasks '{}' --window 17", model.string(), rest.string()),
                "a window of 17 tokens");
  check_refused(folder, fmt::format("evaluate '{}' --tasks '{}' '{}'", model.string(), rest.string(), rest.string()),
                "two tasks 'rest'");
  check_refused(folder,
                fmt::format("evaluate '{}' --tasks '{}' --shots 3", model.string(), (folder / "choice.toml").string()),
                "3 items");
  check_refused(folder, fmt::format("evaluate /no/model --tasks '{}'", rest.string()), "/no/model");
  check_refused(folder, fmt::format("evaluate '{}' --tasks '{}' --resume", model.string(), rest.string()), "--out");
}

}  // namespace surtsey::tests
