// `surtsey index`, and `--retrieve` of generate and evaluate, with a model that `surtsey train` made.
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace surtsey::tests {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json answer(const Folder& folder, const std::string& arguments) {
  const Outcome outcome = run(folder, arguments);
  CAPTURE(arguments, outcome.err);
  REQUIRE(outcome.status == 0);
  return json::parse(outcome.out);
}

std::vector<std::string> ids(const json& answer) {
  std::vector<std::string> list;
  for (const json& passage : answer.at("passages")) list.push_back(passage.at("id"));
  return list;
}

}  // namespace

TEST_CASE("tool: an index is built, asked, changed, and put before prompts") {
  const Folder folder;
  (void)open_test_device();
  const auto quoted = [&](const char* name) { return fmt::format("'{}'", (folder / name).string()); };
  const std::string model = quoted("run"), index = quoted("facts.index");
  const auto train = [&](const char* name, int seed) {
    const Outcome trained =
        run(folder, fmt::format("train --data '{}' --out {} --n_layer=1 --n_embd=16 --n_head=2 --block_size=64 "
                                "--batch_size=2 --max_iters=1 --eval_iters=1 --seed={}",
                                write_text(folder).string(), quoted(name), seed));
    CAPTURE(trained.err);
    REQUIRE(trained.status == 0);
  };
  train("run", 1);
  std::ofstream(folder / "facts.jsonl") << R"({"id": "nine", "text": "9 is the square of three."})" << "\n"
                                        << R"({"id": "four", "text": "4 is the square of two."})" << "\n"
                                        << R"({"id": "hue", "text": "a fact."})" << "\n";
  const std::string data = quoted("facts.jsonl");
  const json built =
      answer(folder, fmt::format("index build --out {} --data {} --model {} -o json", index, data, model));
  CHECK(built["documents"] == 3);
  CHECK(built["passages"] == 3);

  const std::string query = fmt::format("index query {} -o json --top 2 --text ", index);
  CHECK(ids(answer(folder, query + "'square of two' --by bm25")) == std::vector<std::string>{"four", "nine"});
  const json dense = answer(folder, query + "'9 is the square of three.' --by dense");
  CHECK(ids(dense)[0] == "nine");
  CHECK(std::abs(dense["passages"][0]["cosine"].get<double>() - 1) < 1e-5);
  const json fused = answer(folder, query + "'9 is the square of three.'");
  CHECK(std::abs(fused["passages"][0]["score"].get<double>() - 2 / 61.) < 1e-9);

  // A decoder that others than the one of the index made vectors with.
  train("other", 2);
  check_refused(folder, query + "'square' --model " + quoted("other"), "made with another model");
  check_refused(folder, query + "''", "what is asked is empty");
  check_refused(folder, query + fmt::format("'{}'", std::string(70, 'a')), "reads 64: shorten it");
  check_refused(folder, query + "a --by words", "not by 'words'");
  check_refused(folder, fmt::format("index query {}", index), "either --text or --queries");
  check_refused(folder, "index query nowhere --text a", "no such index");
  check_refused(folder, fmt::format("index query {} --text a", data), "no index");
  check_refused(folder,
                fmt::format("index build --out {} --data {} --passage_tokens 65 --model {}", index, data, model),
                "reads 64");
  check_refused(folder, fmt::format("generate {} --prompt a --retrieve_top 1", model), "--retrieve INDEX says where");

  // A changed fact is what is found, and what stands before a prompt, at once.
  std::ofstream(folder / "new.jsonl") << R"({"id": "four", "text": "4 is two twice."})" << "\n";
  CHECK(answer(folder, fmt::format("index add {} --data {} -o json", index, quoted("new.jsonl")))["replaced"] == 1);
  const std::string generate =
      fmt::format("generate {} --retrieve {} --retrieve_top 1 --max_new_tokens=4 -o json ", model, index);
  const json text = answer(folder, generate + "--prompt 'two'");
  CHECK(text["prompt"] == "[1] 4 is two twice.\n\ntwo");
  CHECK(text["retrieved"][0]["id"] == "four");
  CHECK(text["prompt_ids"].size() == 18);  // six of its letters are none that the model has
  // 64 tokens have no room for the passage beside this.
  const json full = answer(folder, generate + fmt::format("--prompt 'two {}'", std::string(50, 'a')));
  CHECK(full["retrieved"].empty());
  CHECK(full["left_out"] == 1);

  std::ofstream(folder / "items.jsonl") << R"({"context": "two", "continuation": "twice"})" << "\n";
  answer(folder, fmt::format("evaluate {} --tasks {} --retrieve {} --retrieve_top 1 --out {} -o json", model,
                             quoted("items.jsonl"), index, quoted("out")));
  const json sample = json::parse(slurp(folder / "out" / "samples_items.jsonl"));
  CHECK(sample["arguments"]["gen_args_0"]["arg_0"] == "[1] 4 is two twice.\n\ntwo");
  CHECK(sample["retrieved"][0]["text"] == "4 is two twice.");
  CHECK(json::parse(slurp(folder / "out" / "config.json"))["retrieve"].get<std::string>().find("facts.index") !=
        std::string::npos);

  CHECK(answer(folder, fmt::format("index delete {} --id four --id hue -o json", index))["documents"] == 1);
  check_refused(folder, fmt::format("index delete {} --id four", index), "no document 'four'");
  const json info = answer(folder, fmt::format("index info {} -o json", index));
  CHECK(info["passages"] == 1);
  CHECK(info["width"] == 16);
  CHECK(info["passage_tokens"] == 64);
}

}  // namespace surtsey::tests
