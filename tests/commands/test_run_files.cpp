// The files of a run as other people leave them: two writers, lost pointers, odd names, foreign configurations.
#include "experiments/base/exit_status.h"
#include "experiments/report/html.h"
#include "experiments/sweeps/sweep_directory.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

namespace surtsey::tests {
namespace {

namespace fs = std::filesystem;
using namespace surtsey::experiments;

constexpr const char* kTinyRun =
    "--n_layer=1 --n_embd=16 --n_head=2 --block_size=16 --batch_size=4 --eval_iters=1 --log_interval=5";

Outcome train(const Folder& folder, const std::string& out, const std::string& keys) {
  return run(folder, fmt::format("train --data '{}' --out '{}' {} {}", write_text(folder).string(),
                                 (folder / out).string(), kTinyRun, keys));
}

// The tool in the background until the end of the scope, once `file` is there.
class Background {
 public:
  Background(const std::string& command, const fs::path& file) : child_(fork()) {
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      execl("/bin/bash", "bash", "-c", fmt::format("exec {} >/dev/null 2>&1", command).c_str(), nullptr);
      _exit(127);
    }
    for (int i = 0; i < 60'000 && !fs::exists(file); ++i) {
      REQUIRE(waitpid(child_, nullptr, WNOHANG) == 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    REQUIRE(fs::exists(file));
  }
  ~Background() { kill(child_, SIGKILL), waitpid(child_, nullptr, 0); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

 private:
  pid_t child_;
};

TEST_CASE("run files: a directory has one writer") {
  (void)open_test_device();
  const Folder folder;
  const std::string out = (folder / "run").string();
  const std::string keys = "--max_iters=1000000 --eval_interval=1000000";
  {
    const Background first(fmt::format("'{}' train --data '{}' --out '{}' {} {}", SURTSEY_TOOL,
                                       write_text(folder).string(), out, kTinyRun, keys),
                           folder / "run" / "metrics.jsonl");
    const Outcome second = run(folder, fmt::format("train --resume --out '{}'", out));
    CAPTURE(second.err);
    CHECK(second.status == kErrorStatus);
    CHECK(second.err.find("is being written by process") != std::string::npos);
    CHECK(second.out.empty());
    const Outcome study = run_program(folder, SURTSEY_BUILD_ROOT "/experiments/chain_of_thought",
                                      fmt::format("--out '{}' --replace", out));
    CAPTURE(study.err);
    CHECK(study.status == kErrorStatus);
    CHECK(study.err.find("is being written by process") != std::string::npos);
    const Outcome shards = run_program(folder, SURTSEY_BUILD_ROOT "/experiments/chain_of_thought",
                                       fmt::format("--out '{}' --replace --shards 1 --no-timing", out));
    CAPTURE(shards.err);
    CHECK(shards.status == kErrorStatus);
    CHECK(shards.err.find("is being written by process") != std::string::npos);
    CHECK(slurp(folder / "run" / "config.toml").find("max_iters = 1000000") != std::string::npos);
  }
  // The first is gone, however it went.
  CHECK(train(folder, "other", "--max_iters=10 --eval_interval=5").status == kDoneStatus);
  CHECK(run(folder, fmt::format("train --resume --out '{}'", (folder / "other").string())).status == kDoneStatus);
}

TEST_CASE("run files: saves count without their pointer, and none is lost") {
  (void)open_test_device();
  const Folder folder;
  REQUIRE(train(folder, "run", "--max_iters=40 --eval_interval=10").status == kDoneStatus);
  const fs::path root = folder / "run" / "checkpoint";
  const std::string weights = slurp(root / "step-00000040" / "model.safetensors");
  const auto lines = [&] {
    const std::string text = slurp(folder / "run" / "metrics.jsonl");
    return std::count(text.begin(), text.end(), '\n');
  };
  const auto before = lines();
  const std::string zeros("\0\0\0\0\0\0\0\0\0\0\0\0\0", 13);
  for (const std::string& pointer : {std::string("none"), std::string(), zeros, std::string("step-00000077\n")}) {
    fs::remove(root / "latest");
    if (pointer != "none") std::ofstream(root / "latest", std::ios::binary) << pointer;
    const Outcome resumed = run(folder, fmt::format("train --resume --out '{}'", (folder / "run").string()));
    CAPTURE(pointer, resumed.out, resumed.err);
    CHECK(resumed.status == kDoneStatus);
    CHECK(resumed.out.find("resumed at step 40") != std::string::npos);
    CHECK(resumed.err.find("its newest whole save is taken, step-00000040") != std::string::npos);
    CHECK(fs::exists(root / "step-00000030" / "model.safetensors"));
    CHECK(slurp(root / "step-00000040" / "model.safetensors") == weights);
    CHECK(lines() >= before);
  }
  // A run that begins takes no folder that holds saves, readable or not.
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_directory()) std::ofstream(entry.path() / "config.json") << "{";
  }
  fs::remove(root / "latest");
  fs::remove(folder / "run" / "config.toml");
  const Outcome fresh = train(folder, "run", "--max_iters=40 --eval_interval=10");
  CHECK(fresh.status == kErrorStatus);
  CHECK(fresh.err.find("holds a run") != std::string::npos);
  // One that goes on is told which saves were tried; nothing is wrong with its data.
  std::ofstream(folder / "run" / "config.toml") << fmt::format("data = '{}'\n", write_text(folder).string());
  const Outcome resumed = run(folder, fmt::format("train --resume --out '{}'", (folder / "run").string()));
  CHECK(resumed.status == kErrorStatus);
  CHECK(resumed.err.find("surtsey: " + root.string()) == 0);
  for (const char* save : {"step-00000030", "step-00000040"}) {
    CHECK(resumed.err.find(fmt::format("{}/config.json: is not a JSON object", save)) != std::string::npos);
  }
  CHECK(slurp(root / "step-00000040" / "model.safetensors") == weights);
}

TEST_CASE("run files: names have any bytes") {
  (void)open_test_device();
  const Folder folder;
  const std::string name = (folder / "caf\xE9 \"q\" \\ 50%20.txt").string();
  fs::copy_file(write_text(folder), name);
  const std::string out = (folder / "r\xE9n").string();
  const Outcome whole = run(
      folder, fmt::format("train --data '{}' --out '{}' {} --max_iters=20 --eval_interval=10", name, out, kTinyRun));
  CAPTURE(whole.err);
  REQUIRE(whole.status == kDoneStatus);
  const fs::path last = fs::path(out) / "checkpoint" / "step-00000020";
  const std::string weights = slurp(last / "model.safetensors");
  fs::remove_all(last);
  const Outcome resumed = run(folder, fmt::format("train --resume --out '{}'", out));
  CAPTURE(resumed.err);
  CHECK(resumed.status == kDoneStatus);
  CHECK(slurp(last / "model.safetensors") == weights);
  CHECK(run(folder, fmt::format("sample '{}' --start 1 --max_new_tokens 5", out)).status == kDoneStatus);
  // An evaluation of it goes on, also from another folder.
  std::ofstream(folder / "task.txt") << "9 is the square of 3.\n";
  const std::string evaluate = fmt::format("evaluate 'r\xE9n' --tasks '{}' --out '{}'", (folder / "task.txt").string(),
                                           (folder / "answers").string());
  const Outcome asked = run(folder, evaluate, fmt::format("cd '{}' && ", folder.path().string()));
  CAPTURE(asked.err);
  REQUIRE(asked.status == kDoneStatus);
  fs::create_directories(folder / "below");
  const std::string elsewhere = fmt::format("evaluate '../r\xE9n' --tasks '{}' --out '{}' --resume",
                                            (folder / "task.txt").string(), (folder / "answers").string());
  for (const auto& [again, from] : {std::pair{evaluate + " --resume", folder.path()}, {elsewhere, folder / "below"}}) {
    const Outcome same = run(folder, again, fmt::format("cd '{}' && ", from.string()));
    CAPTURE(same.err);
    CHECK(same.status == kDoneStatus);
    CHECK(same.out == asked.out);
    CHECK(same.err.find("1 of 1 items are answered already") != std::string::npos);
  }
  CHECK(run(folder, fmt::format("train --config '{}/config.toml' --out '{}' --max_iters=1", out, out + "2")).status ==
        kDoneStatus);
}

TEST_CASE("run files: a configuration is read from wherever it comes, or refused") {
  (void)open_test_device();
  const Folder folder;
  std::ofstream(folder / "c.toml") << "learning_rate = 0.5\nbias = true\n";
  const auto learning_rate = [&](const std::string& out) {
    const std::string text = slurp(folder / out / "config.toml");
    return text.find("learning_rate = 0.5\n") != std::string::npos;
  };
  const std::string piped = fmt::format(
      "cat '{}' | '{}' train --config /dev/stdin --data '{}' --out '{}' {} --max_iters=2 >/dev/null 2>&1",
      (folder / "c.toml").string(), SURTSEY_TOOL, write_text(folder).string(), (folder / "piped").string(), kTinyRun);
  REQUIRE(std::system(piped.c_str()) == 0);
  CHECK(learning_rate("piped"));
  const Outcome of_folder = train(folder, "run", fmt::format("--config '{}'", folder.path().string()));
  CHECK(of_folder.status == kErrorStatus);
  CHECK(of_folder.err.find("Is a directory") != std::string::npos);

  const std::pair<const char*, const char*> wrong[] = {
      {"seed = 99999999999", "c.toml:1:8: seed takes an integer from 0 to 4294967295"},
      {"learning_rate = nan", "c.toml:1:17: learning_rate = nan is no finite number"},
      {"\nn_layer = 'x'", "c.toml:2:1: n_layer takes an integer, not 'x'"},
      {"[model]\nn_layer = 2", "c.toml:1:2: 'model' takes one value, not a table"},
      {"max_itres = 2", "c.toml:1:1: unknown key 'max_itres'; did you mean 'max_iters'?"},
  };
  for (const auto& [text, expected] : wrong) {
    std::ofstream(folder / "c.toml") << text << "\n";
    const Outcome outcome = train(folder, "run", fmt::format("--config '{}'", (folder / "c.toml").string()));
    CAPTURE(text, outcome.err);
    CHECK(outcome.status == kErrorStatus);
    CHECK(outcome.err.find(expected) != std::string::npos);
  }
  // So it is for whoever reads one.
  std::ofstream(folder / "c.toml") << "n_layer = 99999999999\n";
  for (const char* command : {"inspect --target=amd --config", "tune --config", "profile"}) {
    check_refused(folder, fmt::format("{} '{}'", command, (folder / "c.toml").string()),
                  "c.toml:1:1: [config] n_layer");
  }
  // A file that is not there is named as what was given.
  const Outcome profile = run(folder, "profile nothere.toml");
  CHECK(profile.err.find("'nothere.toml' cannot be read") != std::string::npos);
  CHECK(profile.err.find("--config") == std::string::npos);
  CHECK_FALSE(fs::exists(folder / "run"));
  // nanoGPT's spelling of true.
  CHECK(train(folder, "python", "--bias=True --max_iters=2").status == kDoneStatus);
  CHECK(slurp(folder / "python" / "config.toml").find("bias = true") != std::string::npos);
}

TEST_CASE("run files: a line of zeros in the metrics costs that line alone") {
  (void)open_test_device();
  const Folder folder;
  REQUIRE(train(folder, "run", "--max_iters=20 --eval_interval=10").status == kDoneStatus);
  const fs::path path = folder / "run" / "metrics.jsonl";
  const std::string before = slurp(path);
  std::ofstream(path, std::ios::binary) << std::string(40, '\0') << '\n' << before;
  const Outcome resumed = run(folder, fmt::format("train --resume --out '{}'", (folder / "run").string()));
  CAPTURE(resumed.err);
  CHECK(resumed.status == kDoneStatus);
  CHECK(resumed.err.find("metrics.jsonl:1") != std::string::npos);
  CHECK(slurp(path).find('\0') == std::string::npos);
  CHECK(slurp(path).find("\"step\":20") != std::string::npos);
}

TEST_CASE("run files: a text of one letter is learned and written") {
  (void)open_test_device();
  const Folder folder;
  std::ofstream(folder / "a.txt") << std::string(1000, 'a');
  REQUIRE(run(folder, fmt::format("train --data '{}' --out '{}' {} --max_iters=5", (folder / "a.txt").string(),
                                  (folder / "run").string(), kTinyRun))
              .status == kDoneStatus);
  const Outcome text =
      run(folder, fmt::format("sample '{}' --start aa --max_new_tokens 30", (folder / "run").string()));
  CAPTURE(text.err);
  CHECK(text.status == kDoneStatus);
  CHECK(text.out == std::string(32, 'a') + "\n");
  // The default begins with a line break, which this text has not.
  const Outcome start = run(folder, fmt::format("sample '{}'", (folder / "run").string()));
  CHECK(start.status == kErrorStatus);
  CHECK(start.err.find("--start") != std::string::npos);
  CHECK(start.err.find("a line break does not occur in the training text") != std::string::npos);
  const Outcome bytes = run(folder, fmt::format("sample '{}' --start 'caf\xE9'", (folder / "run").string()));
  CHECK(bytes.status == kErrorStatus);
  CHECK(bytes.err.find("--start: [text] byte 3 is not UTF-8") != std::string::npos);
  // No letter that the text has not is left out in silence, whoever asks.
  const std::string model = fmt::format("'{}'", (folder / "run").string());
  const Outcome asked = run(folder, "generate " + model + " --prompt abcba --max_new_tokens=1");
  CHECK(asked.status == kDoneStatus);
  CHECK(asked.err.find("warning: --prompt: the model has no token for 'b', 'c', which are left out") !=
        std::string::npos);
  std::ofstream(folder / "ab.txt") << "abababab";
  const Outcome scored = run(folder, fmt::format("evaluate {} --tasks '{}'", model, (folder / "ab.txt").string()));
  CHECK(scored.err.find("warning: ab: the model has no token for 'b', which is left out") != std::string::npos);
}

TEST_CASE("run files: a byte order mark is no letter of a text") {
  (void)open_test_device();
  const Folder folder;
  const std::string text = slurp(write_text(folder)), mark = "\xEF\xBB\xBF";
  const auto quoted = [&](const char* name) { return fmt::format("'{}'", (folder / name).string()); };
  for (const auto& [name, content] : {std::pair{"plain", text}, {"marked", mark + text}}) {
    std::ofstream(folder / (name + std::string(".txt"))) << content;
  }
  // Models, scores, tokens and passages are those of the text without it.
  const auto out_of = [&](const std::string& arguments) {
    const Outcome outcome = run(folder, arguments);
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.status == kDoneStatus);
    return outcome.out;
  };
  std::vector<std::string> weights, scores, vocabularies, tokens, passages;
  for (const std::string name : {"plain", "marked"}) {
    const std::string file = quoted((name + ".txt").c_str());
    const std::string model = quoted(name.c_str());
    out_of(fmt::format("train --data {} --out {} {} --max_iters=2", file, model, kTinyRun));
    weights.push_back(slurp(folder / name / "checkpoint" / "step-00000002" / "model.safetensors"));
    CHECK(slurp(folder / name / "checkpoint" / "step-00000002" / "config.json").find(mark) == std::string::npos);
    std::ofstream(folder / "task.txt") << (name == "marked" ? mark : "") << text.substr(0, 200);
    scores.push_back(out_of(fmt::format("evaluate {} --tasks {}", quoted("plain"), quoted("task.txt"))));
    out_of(fmt::format("tokenizer train --data {} --vocab_size 300 --out {}", file, quoted((name + "-bpe").c_str())));
    vocabularies.push_back(slurp(folder / (name + "-bpe") / "tokenizer.json"));
    tokens.push_back(out_of(fmt::format("tokenize {} --file {}", quoted("plain-bpe"), quoted("task.txt"))));
    std::ofstream(folder / "rows.jsonl") << (name == "marked" ? mark : "") << R"({"id": "a", "text": "nine"})" << "\n";
    const std::string index = quoted((name + ".index").c_str());
    out_of(fmt::format("index build --out {} --data {}", index, quoted("rows.jsonl")));
    std::ofstream(folder / "asked.txt") << (name == "marked" ? mark : "") << "nine\n";
    passages.push_back(out_of(fmt::format("index query {} --queries {} -o json", index, quoted("asked.txt"))));
  }
  for (const auto* both : {&weights, &scores, &vocabularies, &tokens, &passages}) CHECK((*both)[0] == (*both)[1]);
}

TEST_CASE("run files: what is not UTF-8 is told with its option, or its file and line") {
  (void)open_test_device();
  const Folder folder;
  const auto quoted = [&](const char* name) { return fmt::format("'{}'", (folder / name).string()); };
  REQUIRE(train(folder, "run", "--max_iters=2").status == kDoneStatus);
  std::ofstream(folder / "bad.txt") << "one\ntw\xFFo\n";
  REQUIRE(run(folder, fmt::format("tokenizer train --data '{}' --vocab_size 300 --out {}", write_text(folder).string(),
                                  quoted("bpe")))
              .status == kDoneStatus);
  const std::string model = quoted("run"), bad = quoted("bad.txt"), byte = "bad.txt: byte 6 is not UTF-8 (in line 2)";
  const std::pair<std::string, std::string> cases[] = {
      {"generate " + model + " --prompt 'ca\xFF'", "--prompt: the text: byte 2 is not UTF-8"},
      {"generate " + model + " --prompt 1 --stop_strings='\xFF'", "--stop_strings: byte 0 is not UTF-8"},
      {"tokenize " + quoted("bpe") + " --text 'ca\xFF'", "--text: the text: byte 2 is not UTF-8"},
      {"tokenize " + quoted("bpe") + " --file " + bad, byte},
      {"tokenizer train --data " + bad + " --out " + quoted("other"), byte},
      {"evaluate " + model + " --tasks " + bad, byte},
  };
  for (const auto& [arguments, expected] : cases) check_refused(folder, arguments, expected);
}

TEST_CASE("run files: a page is not made of a training run, and the message says what there is") {
  (void)open_test_device();
  const Folder folder;
  REQUIRE(train(folder, "run", "--max_iters=5").status == kDoneStatus);
  const Outcome report = run(folder, fmt::format("report '{}'", (folder / "run").string()));
  CHECK(report.status == kErrorStatus);
  CHECK(report.err.find("metrics.csv") != std::string::npos);
}

TEST_CASE("run files: a diverged member costs its pack nothing but its own numbers") {
  (void)open_test_device();
  const Folder folder;
  const std::string sweep = (folder / "sweep").string();
  REQUIRE(run(folder, fmt::format("sweep plan --out '{}' --no-measure --lengths=4 --modulus=5 --widths=8 --seeds=0 "
                                  "--learning_rates=0.1,1e15 --steps=40 --batch_size=16 --test_items=20 "
                                  "--validation_items=8 --arms=cot",
                                  sweep))
              .status == kDoneStatus);
  const Outcome outcome = run(folder, fmt::format("sweep run '{}' --all", sweep));
  CAPTURE(outcome.err);
  CHECK(outcome.status == kDoneStatus);
  const StudyResult result = SweepDirectory::open(sweep).collect();
  REQUIRE(result.cells.size() == 2);
  size_t healthy = 0;
  for (const Cell& cell : result.cells) {
    const bool number = cell.validation_loss && std::isfinite(*cell.validation_loss);
    healthy += number ? 1 : 0;
    if (!number) CHECK(cell.arms.at(0).exact_match == 0);
  }
  CHECK(healthy == 1);
}

// A sweep of packs that nobody runs.
std::string plan_of(const Folder& folder, const std::string& name, int64_t packs) {
  std::vector<SweepPack> list;
  for (int64_t i = 0; i < packs; ++i) {
    SweepPack& pack = list.emplace_back();
    pack.index = i;
    pack.spec = nlohmann::json{{"number", i}};
    pack.hash = spec_hash(*pack.spec);
  }
  SweepDirectory::create(folder / name, "", list);
  return (folder / name).string();
}

TEST_CASE("run files: a job array's script is one for any name and any number of packs") {
  const Folder folder;
  for (const char* name : {"my sweep", "it's \"q\"", "50%j", "a#b"}) {
    const std::string sweep = plan_of(folder, name, 2);
    const std::string quoted = "'" + std::string(sweep).replace(0, 0, "") + "'";
    std::string argument;
    for (const char letter : sweep) argument += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
    const Outcome outcome = run(folder, fmt::format("sweep submit '{}' --slurm --dry", argument));
    CAPTURE(name, outcome.err);
    REQUIRE(outcome.status == kDoneStatus);
    const std::string script = slurp(fs::path(sweep) / "slurm" / "job.sh");
    REQUIRE(std::system(fmt::format("bash -n '{}/slurm/job.sh'", argument).c_str()) == 0);
    const size_t at = script.find("#SBATCH --output=");
    REQUIRE(at != std::string::npos);
    const std::string line = script.substr(at, script.find('\n', at) - at);
    CAPTURE(line);
    // Quoted where sbatch would split or end the line.
    const bool plain = std::string(name).find_first_of(" #'\"\\") == std::string::npos;
    CHECK((line.find(" --output=\"") != std::string::npos) == !plain);
    CHECK(line.ends_with(plain ? "/slurm/%a.log" : "/slurm/%a.log\""));
    CHECK((std::string(name) != "50%j" || line.find("/50%%j/") != std::string::npos));
    CHECK((std::string(name) != "it's \"q\"" || line.find("it's \\\"q\\\"") != std::string::npos));
  }
  const std::string many = plan_of(folder, "many", 1200);
  const Outcome outcome = run(folder, fmt::format("sweep submit '{}' --slurm --dry", many));
  REQUIRE(outcome.status == kDoneStatus);
  CHECK(std::count(outcome.out.begin(), outcome.out.end(), '\n') == 2);
  const std::string first = slurp(fs::path(many) / "slurm" / "job.sh");
  const std::string second = slurp(fs::path(many) / "slurm" / "job-1000.sh");
  CHECK(first.find(",998,999\n") != std::string::npos);
  CHECK(second.find("--array=0,1,2,") != std::string::npos);
  CHECK(second.find(",198,199\n") != std::string::npos);
  CHECK(second.find("--index \"$((SLURM_ARRAY_TASK_ID + 1000))\"") != std::string::npos);
  CHECK(second.find("/slurm/1000+%a.log") != std::string::npos);
}

}  // namespace
}  // namespace surtsey::tests
