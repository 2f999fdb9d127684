// `surtsey generate` as a process: its keys, several texts, and conversations.
#include "tests/support/letters_model.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

using namespace surtsey;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using tests::Folder;
using tests::Outcome;

namespace {

std::string write_generator(const Folder& folder) { return tests::write_letters_model(folder, "\n", 60).string(); }

json record(const Folder& folder, const std::string& model, const std::string& arguments) {
  const Outcome outcome = tests::run(folder, "generate '" + model + "' --context 60 -o json " + arguments);
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK_THAT(outcome.err, ContainsSubstring("a second"));
  return json::parse(outcome.out);
}

}  // namespace

TEST_CASE("surtsey generate goes on with a text as its keys say", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const std::string model = write_generator(folder);
  const json greedy = record(folder, model, "--prompt 'Once' --max_new_tokens=8");
  CHECK(greedy["prompt_ids"] == json({15, 40, 29, 31}));
  REQUIRE(greedy["ids"].size() == 8);
  CHECK(greedy["text"].get<std::string>().size() == 8);
  const int banned = greedy["ids"][0];
  const json other =
      record(folder, model, fmt::format("--prompt Once --max_new_tokens=8 --suppress_tokens=[{}]", banned));
  for (const json& token : other["ids"]) CHECK(token != banned);
  const json drawn = record(folder, model,
                            "--prompt Once --max_new_tokens=8 --do_sample=True --temperature=2 --min_p=.01 "
                            "--typical_p=.95 --num_return_sequences=3 --seed 4");
  REQUIRE(drawn["sequences"].size() == 3);
  CHECK(drawn["sequences"][0]["ids"] == drawn["ids"]);
  CHECK(drawn["sequences"][1]["ids"] != drawn["ids"]);
  // Keys may stand before the model, and apart from their values.
  CHECK(json::parse(tests::run(folder, "generate --max_new_tokens 8 --do_sample OFF --prompt Once '" + model +
                                           "' --context 60 -o json")
                        .out)["ids"] == greedy["ids"]);
  const json beams = record(folder, model,
                            "--prompt Once --max_new_tokens=8 --num_beams=3 --num_return_sequences=2 "
                            "--early_stopping=never --length_penalty=.5 --repetition_penalty=1.2");
  CHECK(beams["sequences"].size() == 2);
  // Up to a stop string and without it.
  const std::string text = greedy["text"];
  const std::string stop = text.substr(3, 2);
  const Outcome stopped = tests::run(
      folder, fmt::format("generate '{}' --context 60 --prompt Once --max_new_tokens=8 '--stop_strings=[{}]'", model,
                          json(stop).dump()));
  INFO(stopped.err);
  CHECK(stopped.status == 0);
  CHECK(stopped.out == text.substr(0, text.find(stop)) + "\n");

  const auto refused = [&](const std::string& arguments, int status, const std::string& words) {
    const Outcome outcome = tests::run(folder, "generate '" + model + "' --context 60 " + arguments);
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.status == status);
    CHECK_THAT(outcome.err, ContainsSubstring(words));
  };
  refused("", 2, "--prompt or --chat");
  refused("--prompt a --chat", 2, "--prompt or --chat");
  refused("--prompt a --system b", 2, "--chat");
  refused("--prompt a --nonsense=1", 2, "no key of generation");
  refused("--prompt a --bad_words_ids=[[77]]", 1, "bad_words_ids");
  refused("--prompt a --num_return_sequences=2", 1, "num_return_sequences");
  refused("--prompt ''", 1, "no tokens");
  refused("--prompt a --cache_type=q4_0", 1, "cache_type is f32, f16 or q8_0");
  refused("--prompt a --cache_type=q8_0", 1, "wide: f16 or f32");
}

TEST_CASE("surtsey generate and plan keep keys and values as asked", "[device][tool]") {
  if (!tests::open_test_device().target().f16_storage) SKIP("this device does not store 16 bits");
  const Folder folder;
  const std::string model = write_generator(folder);
  const json wide = record(folder, model, "--prompt 'Once' --max_new_tokens=8");
  const json narrow = record(folder, model, "--prompt 'Once' --max_new_tokens=8 --cache_type=f16");
  CHECK(narrow["ids"].size() == 8);
  CHECK(narrow["ids"][0] == wide["ids"][0]);
  const auto plan = [&](const std::string& type) {
    const Outcome outcome = tests::run(folder, "plan '" + model + "' --context 60 -o json --cache_type " + type);
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
    return json::parse(outcome.out);
  };
  const json f32 = plan("f32"), f16 = plan("f16");
  CHECK(f16["cache_type"] == "f16");
  CHECK(2 * f16["cache_bytes"].get<uint64_t>() == f32["cache_bytes"].get<uint64_t>());
  CHECK(f16["total_bytes"].get<uint64_t>() < f32["total_bytes"].get<uint64_t>());
}

TEST_CASE("surtsey generate --chat answers line by line", "[device][tool]") {
  tests::open_test_device();
  const Folder folder;
  const std::string model = write_generator(folder);
  std::ofstream(folder / "lines") << "Hello\n\nAnd then?\n/exit\nnot read\n";
  const std::string keys = " --max_new_tokens=6 --context 60";
  const auto chat = [&](const std::string& more) {
    return tests::run_program(folder, "sh",
                              fmt::format("-c \"'{}' generate '{}' --chat {} {} <'{}'\"", SURTSEY_TOOL, model, keys,
                                          more, (folder / "lines").string()));
  };
  const Outcome outcome = chat("");
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK_THAT(outcome.err, ContainsSubstring("2 answers of 12 tokens"));
  // The same answers as for the prompts that the template makes of the conversation.
  const auto answer = [&](const std::string& prompt) {
    std::ofstream(folder / "prompt") << prompt;
    const Outcome one =
        tests::run_program(folder, "sh",
                           fmt::format("-c \"'{}' generate '{}' {} -o json --prompt \\\"$(cat '{}')\\\"\"",
                                       SURTSEY_TOOL, model, keys, (folder / "prompt").string()));
    INFO(one.err);
    REQUIRE(one.status == 0);
    return json::parse(one.out).at("text").get<std::string>();
  };
  const std::string first = answer("UHello\nA");
  const std::string second = answer("UHello\nA" + first + "\nUAnd then?\nA");
  CHECK(outcome.out == first + "\n" + second + "\n");
  const Outcome system = chat("--system 'Be brief.'");
  CHECK(system.status == 0);
  CHECK(system.out.starts_with(answer("SBe brief.\nUHello\nA") + "\n"));
  // A template of its own; and a conversation that does not fit.
  std::ofstream(folder / "template") << "{{ messages[0].content }}";
  const Outcome own = chat("--template '" + (folder / "template").string() + "'");
  INFO(own.err);
  CHECK(own.status == 0);
  CHECK(own.out.starts_with(answer("Hello") + "\n"));
  std::ofstream(folder / "lines") << std::string(70, 'a') << "\n";
  const Outcome full = chat("");
  CHECK(full.status == 1);
  CHECK_THAT(full.err, ContainsSubstring("leaves no room in a context of 60"));
}
