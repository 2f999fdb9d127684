// Configuration: precedence, strictness, messages, echo; run directories; progress lines.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "experiments/base/progress.h"
#include "experiments/results/record.h"
#include "experiments/train/options.h"
#include "graph/error.h"
#include "tests/support/folder.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

struct Everything {
  bool flag = false;
  int32_t count = 3;
  int64_t big = 1;
  uint32_t seed = 7;
  double rate = 0.5;
  std::string kind = "learned";
  std::vector<int32_t> sizes = {4, 8};
  std::vector<double> rates = {};
  std::vector<std::string> arms = {"cot"};
  ConfigTable table;

  Everything() {
    table.add("flag", &flag, "a switch");
    table.add("count", &count, "a number").at_least(1).at_most(100);
    table.add("big", &big, "a large number");
    table.add("seed", &seed, "a seed");
    table.add("rate", &rate, "a rate").at_least(0);
    table.add("kind", &kind, "a choice").one_of({"learned", "rotary", "none"});
    table.add("sizes", &sizes, "some sizes").at_least(1);
    table.add("rates", &rates, "some rates");
    table.add("arms", &arms, "some arms");
  }
};

}  // namespace

TEST_CASE("overrides win over files, files over defaults", "[config]") {
  Everything e;
  e.table.load_text("count = 5\nrate = 2\nkind = 'rotary'\nsizes = [1, 2, 3]\nflag = true\n", "f");
  CHECK(e.count == 5);
  CHECK(e.rate == 2.0);
  CHECK(e.kind == "rotary");
  CHECK(e.sizes == std::vector<int32_t>{1, 2, 3});
  CHECK(e.flag);
  CHECK(e.table.was_set("count"));
  CHECK_FALSE(e.table.was_set("seed"));
  e.table.override_all({"--count=6", "--rate=1e-3", "--flag=False", "--sizes=[16,32]", "--rates=0.1, 2",
                        "--arms=cot,direct", "--big=-5000000000", "--seed=4294967295"});
  CHECK(e.count == 6);
  CHECK(e.rate == 1e-3);
  CHECK_FALSE(e.flag);
  CHECK(e.sizes == std::vector<int32_t>{16, 32});
  CHECK(e.rates == std::vector<double>{0.1, 2});
  CHECK(e.arms == std::vector<std::string>{"cot", "direct"});
  CHECK(e.big == -5000000000);
  CHECK(e.seed == 4294967295u);
}

TEST_CASE("the echo reads back to the same values", "[config]") {
  Everything e;
  e.rate = 0.1 + 0.2;
  e.kind = "none";
  e.rates = {1e-30, 3, 1e22};
  e.arms = {"a \"quoted\" \\ one\n", "ü"};
  Everything back;
  back.table.load_text(e.table.to_toml(), "echo");
  CHECK(back.rate == e.rate);
  CHECK(back.kind == e.kind);
  CHECK(back.rates == e.rates);
  CHECK(back.arms == e.arms);
  CHECK(back.table.to_toml() == e.table.to_toml());
}

TEST_CASE("a slip of the key is answered with the nearest one", "[config]") {
  Everything e;
  CHECK_THROWS_WITH(e.table.override_one("--cuont=5"), ContainsSubstring("unknown key 'cuont', did you mean 'count'?"));
  CHECK_THROWS_WITH(e.table.load_text("rate = 1\n\nsize = [1]\n", "my.toml"),
                    StartsWith("my.toml:3:1: unknown key 'size'"));
  CHECK_THROWS_WITH(e.table.override_one("--quantity=5"), ContainsSubstring("known keys: flag"));
  CHECK_THROWS_WITH(e.table.override_one("count=5"), ContainsSubstring("--key=value"));
  CHECK_THROWS_WITH(e.table.override_one("--count"), ContainsSubstring("--key=value"));
  CHECK(edit_distance("n_layer", "n_lyaer") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("", "abc") == 3);
}

TEST_CASE("a wrong type says what is wanted and where", "[config]") {
  Everything e;
  const auto file = [&](const char* text) { e.table.load_text(text, "my.toml"); };
  CHECK_THROWS_WITH(file("count = 'five'"), StartsWith("my.toml:1:9: count takes an integer from"));
  CHECK_THROWS_WITH(file("count = 5.5"), ContainsSubstring("integer"));
  CHECK_THROWS_WITH(file("flag = 1"), ContainsSubstring("boolean"));
  CHECK_THROWS_WITH(file("sizes = [1, 'two']"), ContainsSubstring("list of integers"));
  CHECK_THROWS_WITH(file("count = 5000000000"), ContainsSubstring("out of range"));
  CHECK_THROWS_WITH(file("seed = -1"), ContainsSubstring("out of range"));
  CHECK_THROWS_WITH(file("[count]\nx = 1"), ContainsSubstring("integer"));
  CHECK_THROWS_WITH(file("count = 1\ncount = 2"), StartsWith("my.toml:2:"));
  CHECK_THROWS_WITH(file("count = "), StartsWith("my.toml:1:"));
  CHECK_THROWS_WITH(e.table.override_one("--count=five"), StartsWith("--count=five: count takes"));
  for (const char* bad : {"--count=", "--count=5x", "--count=1e3", "--seed=-1", "--flag=maybe", "--sizes=1,,2",
                          "--sizes=1,", "--rate=fast"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(e.table.override_one(bad), UserError);
  }
  CHECK(e.count == 3);
  CHECK(e.sizes == std::vector<int32_t>{4, 8});
}

TEST_CASE("a byte order mark is no part of a file of keys", "[config]") {
  Everything e;
  e.table.load_text(
      "\xEF\xBB\xBF"
      "count = 5",
      "my.toml");
  CHECK(e.count == 5);
}

TEST_CASE("yes and no are words of other tools, in any case", "[config]") {
  Everything e;
  for (const char* yes : {"true", "True", "TRUE", "1", "yes", "Yes", "on", "ON"}) {
    e.flag = false;
    e.table.override_one(std::string("--flag=") + yes);
    CHECK(e.flag);
  }
  for (const char* no : {"false", "False", "FALSE", "0", "no", "No", "off", "OFF"}) {
    e.flag = true;
    e.table.override_one(std::string("--flag=") + no);
    CHECK_FALSE(e.flag);
  }
  for (const char* neither : {"", "2", "yess", "t", "never"}) CHECK_FALSE(parse_bool(neither));
}

TEST_CASE("limits and choices hold for files and overrides", "[config]") {
  Everything e;
  CHECK_THROWS_WITH(e.table.override_one("--count=0"), ContainsSubstring("minimum of 1"));
  CHECK_THROWS_WITH(e.table.override_one("--count=101"), ContainsSubstring("maximum of 100"));
  CHECK_THROWS_WITH(e.table.override_one("--sizes=4,0"), ContainsSubstring("minimum of 1"));
  CHECK_THROWS_WITH(e.table.load_text("kind = 'rotery'", "f"), ContainsSubstring("did you mean 'rotary'?"));
  CHECK_THAT(e.table.help(), ContainsSubstring("one of learned, rotary, none"));
  CHECK_THROWS_WITH(e.table.load_file("/nonexistent.toml"), ContainsSubstring("/nonexistent.toml"));
}

TEST_CASE("training options carry nanoGPT's names", "[config]") {
  TrainingKeys options;
  ConfigTable table;
  add_training_fields(table, options);
  table.override_all({"--n_layer=4", "--n_head=4", "--n_embd=128", "--block_size=64", "--batch_size=12",
                      "--max_iters=2000", "--dropout=0.0", "--seed=1"});
  CHECK(options.n_embd == 128);
  CHECK_THROWS_WITH(table.override_one("--n_layers=4"), ContainsSubstring("'n_layer'"));
  CHECK_THROWS_WITH(table.override_one("--n_layer=0"), ContainsSubstring("minimum"));
}

TEST_CASE("a run directory keeps what it was given", "[record]") {
  const tests::Folder scratch;
  const auto directory = scratch / "deep" / "run";
  {
    RunDirectory run(directory, RunDirectory::Mode::kFresh);
    run.write_config("count = 3\n");
    run.write_environment({.device = {{"name", "llvmpipe"}}, .commit = "abc", .command = {"x"}});
    run.append(MetricLine{"a", 10, 640, {{"loss", 2.3025850929940455}}});
    run.append(MetricLine{"b", 10, 640, {{"loss", 1.5}}});
    run.append(SampleLine{.cell = "a",
                          .arm = "cot",
                          .prompt = "C 1 2 =",
                          .target = "1 3",
                          .response = "1 3",
                          .correct = true,
                          .chain_correct = true,
                          .nll = 0.25});
    run.flush();
    run.append(SampleLine{.cell = "b", .arm = "cot", .prompt = "C 1 2 =", .target = "1 3", .response = "1 4"});
  }
  CHECK(tests::slurp(directory / "config.toml") == "count = 3\n");
  CHECK_THAT(tests::slurp(directory / "env.json"), ContainsSubstring("llvmpipe"));
  const auto metrics = load_metrics(directory / "metrics.jsonl");
  REQUIRE(metrics.size() == 2);
  CHECK(metrics[0].values.at(0).second == 2.3025850929940455);
  const auto samples = load_samples(directory / "samples.jsonl");
  REQUIRE(samples.size() == 2);
  CHECK(samples[0].nll == 0.25);
  CHECK(samples[0].correct);
  CHECK_FALSE(samples[1].nll.has_value());

  CHECK_THROWS_WITH(RunDirectory(directory, RunDirectory::Mode::kFresh), ContainsSubstring("already holds a run"));
  CHECK(load_samples(directory / "samples.jsonl").size() == 2);

  // A run that died while writing: the torn line goes, and so does the cell that was not done.
  std::ofstream(directory / "samples.jsonl", std::ios::app) << "{\"cell\": \"a\", \"arm";
  CHECK(load_samples(directory / "samples.jsonl").size() == 2);
  {
    RunDirectory run(directory, RunDirectory::Mode::kResume);
    run.keep_only({"a"});
  }
  REQUIRE(load_samples(directory / "samples.jsonl").size() == 1);
  CHECK(load_samples(directory / "samples.jsonl")[0].cell == "a");
  CHECK(load_metrics(directory / "metrics.jsonl").size() == 1);
  {
    RunDirectory run(directory, RunDirectory::Mode::kReplace);
  }
  CHECK(load_samples(directory / "samples.jsonl").empty());
}

TEST_CASE("an unwritable output directory is one clear message", "[record]") {
  const tests::Folder scratch;
  std::ofstream(scratch / "file") << "x";
  CHECK_THROWS_WITH(
      RunDirectory(scratch / "file" / "run", RunDirectory::Mode::kFresh),
      ContainsSubstring("cannot be made: Not a directory") && ContainsSubstring((scratch / "file" / "run").string()));
  CHECK_THROWS_AS(RunDirectory(scratch / "file", RunDirectory::Mode::kFresh), UserError);
  CHECK_THROWS_WITH(RunDirectory("/proc/surtsey", RunDirectory::Mode::kFresh), ContainsSubstring("/proc/surtsey"));
  CHECK_THROWS_WITH(write_file_atomic(scratch / "no" / "such", "x"), ContainsSubstring("No such file"));
}

TEST_CASE("atomic writes leave no temporary file", "[record]") {
  const tests::Folder scratch;
  write_file_atomic(scratch / "a.json", "old");
  write_file_atomic(scratch / "a.json", "new");
  CHECK(tests::slurp(scratch / "a.json") == "new");
  CHECK_FALSE(std::filesystem::exists(scratch / "a.json.tmp"));
}

TEST_CASE("progress lines", "[progress]") {
  CHECK(format_duration(7.4) == "7 s");
  CHECK(format_duration(185) == "3 min 05 s");
  CHECK(format_duration(8040) == "2 h 14 min");
  CHECK(progress_line("train", 270, 600, 9, "loss 1.23", false) == "train 270/600 (45%), 11 s left, loss 1.23");
  CHECK(progress_line("train", 600, 600, 20, "", false) == "train 600/600 (100%), in 20 s");
  CHECK(progress_line("train", 0, 600, 20, "", false) == "train 0/600 (0%)");
  CHECK(progress_line("train", 300, 600, 10, "", true) == "train [############------------]  50% 300/600  10 s left");
  CHECK(progress_line("train", 300, 600, 10, "", true, 20).size() == 19);

  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  {
    Progress progress("work", 100, file);
    for (int i = 1; i <= 100; ++i) progress.update(i);
    progress.finish("ok");
  }
  const long size = std::ftell(file);
  std::rewind(file);
  std::string text(static_cast<size_t>(size), ' ');
  REQUIRE(std::fread(text.data(), 1, text.size(), file) == text.size());
  std::fclose(file);
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);  // the first line and the last
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK_THAT(text, ContainsSubstring("work 100/100 (100%)") && ContainsSubstring("ok"));
}
