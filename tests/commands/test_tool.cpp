// build/surtsey as a user meets it: another process, its output and its exit status.
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace surtsey::tests {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTiny =
    "--n_layer=1 --n_embd=16 --n_head=2 --block_size=16 --batch_size=4 --eval_iters=1 "
    "--dropout=0.1";

TEST_CASE("tool: bad input is one clear message and a non-zero exit") {
  const Folder folder;
  const std::string text = write_text(folder).string();
  const std::string out = (folder / "run").string();
  const std::pair<std::string, const char*> cases[] = {
      {"trian", "did you mean 'train'"},
      {"devices --jsn", "--jsn"},
      {"ops --format=xml", "text, md or html"},
      {"inspect --target=nvidai", "nvidia"},
      {"inspect --target=amd --n_layr=2", "did you mean 'n_layer'"},
      {"inspect --target=amd --show=glls", "no 'glls'"},
      {"bench matmul --m=0", "at least 1"},
      {"bench matmul --layout=xy", "nn, nt, tn"},
      {"bench train -o xml", "json"},
      {"bench attention --pass=sideways", "forward or backward"},
      {"bench attention --D=300", "256"},
      {"bench reduce --op=median", "column_sum"},
      {"train --out " + out, "--data"},
      {"train --data /no/such/file --out " + out, "/no/such/file"},
      {"train --data " + text + " --learnin_rate=1 --out " + out, "did you mean 'learning_rate'"},
      {"train --data " + text + " --n_embd=x --out " + out, "n_embd"},
      {"train --data " + text + " --n_embd=30 --n_head=4 --out " + out, "divide"},
      {"train --data " + text + " --compile=False --out " + out, "unknown key 'compile' of nanoGPT: every model is"},
      {"train --data " + text + " --device=gpu --out " + out, "no device has the name, the type or the UUID 'gpu'"},
      {"sweep plan --no-measure --lengths=2 --modulus=3 --out " + out, "take a greater length or modulus"},
      {"train --resume --out " + out, "no run"},
      {"sample " + out, "run"},
      {"report " + out, "run"},
      {"profile chain_of_thougt", "did you mean 'chain_of_thought'"},
      {"profile /no/such.toml", "/no/such.toml"},
      {"profile --steps=0", "--steps: takes a whole number from 1"},
      {"profile --n_layr=1", "did you mean 'n_layer'"},
      {"profile --compare=/no/such.json", "/no/such.json"},
  };
  for (const auto& [arguments, expected] : cases) {
    const Outcome outcome = run(folder, arguments);
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.status != 0);
    CHECK(outcome.status != -1);
    CHECK(outcome.err.find(expected) != std::string::npos);
    CHECK(outcome.out.empty());
  }
  CHECK_FALSE(fs::exists(out));
  const Outcome hidden = run(folder, "devices", "VK_DRIVER_FILES=/no/driver VK_ICD_FILENAMES= ");
  CHECK(hidden.status == 1);
  CHECK(hidden.err.find("no Vulkan driver was found") != std::string::npos);
}

TEST_CASE("tool: profile writes its page for a configuration and for a study") {
  const Folder folder;
  (void)open_test_device();  // skips without one
  const fs::path config = folder / "small.toml";
  std::ofstream(config) << "n_layer = 1\nn_embd = 8\nn_head = 2\nblock_size = 8\nvocab_size = 5\nmembers = 2\n";
  // A cache of its own: what is measured here is measured beside other tests.
  const std::string environment = fmt::format("SURTSEY_CACHE='{}' ", (folder / "cache").string());
  const auto profile = [&](const std::string& arguments, const std::string& out) {
    const Outcome outcome =
        run(folder, fmt::format("profile {} --steps 4 --out '{}'", arguments, (folder / out).string()), environment);
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.status == 0);
    for (const char* file : {"profile.html", "profile.json", "profile.csv", "trace.json", "speedscope.json"})
      CHECK(fs::file_size(folder / out / file) > 1000);
    for (const char* part : {"f32 multiply-add", "isolated", "the rows add up to", "a timestamp costs"})
      CHECK(outcome.out.find(part) != std::string::npos);
    return outcome.out;
  };
  CHECK(profile("'" + config.string() + "' --batch_size=2", "first").find("2 members") != std::string::npos);
  const std::string again = profile(
      fmt::format("'{}' --batch_size=2 --compare '{}'", config.string(), (folder / "first" / "profile.json").string()),
      "second");
  CHECK(again.find("measured by an earlier run") != std::string::npos);
  CHECK(again.find("slower beyond the spread") != std::string::npos);
  CHECK(profile("chain_of_thought --widths=2,4 --control_widths= --batch_size=4 --ensemble_size=1", "study")
            .find("joint-d4") != std::string::npos);
}

TEST_CASE("tool: ceilings that a kernel beats are measured again, not for ever") {
  const Folder folder;
  (void)open_test_device();
  const fs::path cache = folder / "cache";
  const auto profile = [&] {
    const Outcome outcome = run(folder,
                                fmt::format("profile --n_layer=1 --n_embd=8 --n_head=2 --block_size=8 --vocab_size=5 "
                                            "--batch_size=2 --steps 4 --out '{}'",
                                            (folder / "out").string()),
                                fmt::format("SURTSEY_CACHE='{}' ", cache.string()));
    CAPTURE(outcome.err);
    REQUIRE(outcome.status == 0);
    return outcome.err.find("all were measured again") != std::string::npos;
  };
  CHECK_FALSE(profile());  // measured in this very run
  const auto file = std::find_if(fs::directory_iterator(cache), fs::directory_iterator(), [](const auto& entry) {
    return entry.path().filename().string().starts_with("ceilings-");
  });
  REQUIRE(file != fs::directory_iterator());
  const fs::path path = file->path();
  // What a machine that did something else might have measured; every kernel is bound by arithmetic.
  const auto plant = [&](uint32_t runs) {
    nlohmann::json content = nlohmann::json::parse(std::ifstream(path));
    content["ceilings"]["f32_gflops"] = 1e-6;
    content["ceilings"]["runs"] = runs;
    std::ofstream(path) << content.dump();
  };
  const auto now = [&] { return nlohmann::json::parse(std::ifstream(path))["ceilings"]; };
  plant(1);
  CHECK(profile());
  CHECK(now()["f32_gflops"].get<double>() > 1e-3);
  CHECK(now()["runs"] == 2);
  for (const auto& row : nlohmann::json::parse(std::ifstream(folder / "out" / "profile.json"))["rows"])
    CHECK(row["roof"].get<double>() < 1000);
  plant(3);
  CHECK_FALSE(profile());
  CHECK(now()["f32_gflops"].get<double>() == 1e-6);
}

TEST_CASE("tool: ops and inspect need no device") {
  const Folder folder;
  const std::string none = "VK_DRIVER_FILES=/no/driver VK_ICD_FILENAMES= ";
  for (const char* format : {"text", "md", "html"}) {
    const Outcome page = run(folder, std::string("ops --format ") + format, none);
    CHECK(page.status == 0);
    for (const char* op : {"slice_update", "random_bits", "scatter_add", "bit-equal"}) {
      CHECK(page.out.find(op) != std::string::npos);
    }
  }
  for (const char* target : {"lavapipe", "nvidia"}) {
    const Outcome outcome = run(
        folder,
        fmt::format("inspect --target {} --n_layer=1 --show all --out '{}'", target, (folder / target).string()), none);
    CAPTURE(outcome.err);
    REQUIRE(outcome.status == 0);
    CHECK(slurp(folder / target / "summary.txt").find("every hazard is covered") != std::string::npos);
    CHECK(slurp(folder / target / "graph.txt").find("parameter \"data.tokens\"") != std::string::npos);
    size_t glsl = 0, assembly = 0, modules = 0;
    for (const auto& file : fs::directory_iterator(folder / target)) {
      glsl += file.path().extension() == ".comp";
      assembly += file.path().extension() == ".spvasm";
      modules += file.path().extension() == ".spv" && slurp(file.path()).starts_with("\x03\x02\x23\x07");
    }
    CHECK(glsl > 10);
    CHECK(assembly == glsl);
    CHECK(modules == glsl);
  }
}

TEST_CASE("tool: devices says what a run would take") {
  const engine::Device device = open_test_device();
  const Folder folder;
  const std::string index = fmt::to_string(device.info().index);
  const Outcome chosen = run(folder, "devices", "SURTSEY_DEVICE=" + index + " ");
  CHECK(chosen.status == 0);
  CHECK(chosen.out.find(fmt::format("chosen: {0} (asked for as '{0}')", index)) != std::string::npos);
  const Outcome without = run(folder, "devices", "SURTSEY_WITHOUT=fusion,f16_storage ");
  CHECK(without.out.find("fusion (switched off)") != std::string::npos);
  const Outcome wrong = run(folder, "devices", "SURTSEY_WITHOUT=speed ");
  CHECK(wrong.status == 1);
  CHECK(wrong.err.find("no optional feature 'speed'") != std::string::npos);
  const auto json = nlohmann::json::parse(run(folder, "devices --json").out);
  CHECK(json[device.info().index]["uuid"] == device.info().uuid);
  CHECK(json[device.info().index]["details"]["heaps"].size() > 0);
  // A type is as good as a name, as in nanoGPT's line for a CPU.
  const std::string type = json[device.info().index]["type"];
  const Outcome trained = run(folder, fmt::format("train --data '{}' --out '{}' {} --max_iters=1 --device={}",
                                                  write_text(folder).string(), (folder / "run").string(), kTiny, type));
  CAPTURE(trained.err);
  CHECK(trained.status == 0);
}

TEST_CASE("tool: a device that only compiles is never chosen") {
  const engine::Device device = open_test_device();
  const Folder folder;
  const Outcome list = run(folder, "devices", "RADV_FORCE_FAMILY=navi21 ");
  CAPTURE(list.out, list.err);
  const size_t null = list.out.find(" = Null hardware");
  if (null == std::string::npos || null == 0) SKIP("no driver makes a null device");
  CHECK(list.status == 0);
  CHECK(list.out.find("cannot run: it has no memory") != std::string::npos);
  CHECK(list.out.find("chosen: ") != std::string::npos);
  CHECK(list.out.find(fmt::format("chosen: {} ", list.out[null - 1])) == std::string::npos);
  const Outcome asked = run(folder, "devices --device 'Null hardware'", "RADV_FORCE_FAMILY=navi21 ");
  CHECK(asked.status == 1);
  CHECK(asked.err.find("cannot run") != std::string::npos);
}

TEST_CASE("tool: selftest writes a report") {
  const engine::Device device = open_test_device();
  const Folder folder;
  const Outcome outcome = run(folder, fmt::format("selftest --quick --device {} --out '{}'", device.info().index,
                                                  (folder / "report.md").string()));
  CAPTURE(outcome.out, outcome.err);
  CHECK(outcome.status == 0);
  CHECK(outcome.out.find(": passed") != std::string::npos);
  const std::string report = slurp(folder / "report.md");
  for (const std::string& text :
       {std::string("# surtsey selftest: passed"), device.info().uuid, std::string("| matmul |")})
    CHECK(report.find(text) != std::string::npos);
}

TEST_CASE("tool: analyze says what goes wrong") {
  const Folder folder;
  const std::string hidden = "VK_DRIVER_FILES=/no/driver VK_ICD_FILENAMES= ";
  const auto message = [&](const std::string& arguments, const std::string& text, const std::string& environment = "",
                           int status = 1) {
    const Outcome outcome = run(folder, "analyze " + arguments, environment);
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.status == status);
    CHECK(outcome.err.find(text) != std::string::npos);
    CHECK(outcome.out.empty());
  };
  message("", "--target names no device");
  message("--target amd:navi21", "is not installed", hidden);
  message("--target acme:x", "the vendors are: amd");
  message("--target amd:navi21 -o xml", "json");
  message("--target amd:navi21 --fail-on colour", "spills");
  message("--target amd:navi21 /no/such/file.toml", "/no/such/file.toml");
  message("--target amd:navi21 --n_layr=2", "did you mean 'n_layer'", "", 2);
  message("--target amd:navi21 chain_of_thougt", "did you mean 'chain_of_thought'");
  message("--target amd:navi21 --program forward chain_of_thought", "as it trains");

  const Outcome outcome = run(folder,
                              "analyze --target amd:vega10,amd:navi21 --n_layer 1 "
                              "--n_embd=16 --fail-on spills,scratch_bytes -o json");
  if (outcome.err.find("is not installed") != std::string::npos) SKIP(outcome.err);
  CAPTURE(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK(nlohmann::json::parse(outcome.out).size() == 2);
  // Activations in 16 bits are other kernels.
  const Outcome narrow = run(folder, "analyze --target amd:navi21 --n_layer=1 --n_embd=16 --dtype=f16 -o json");
  CAPTURE(narrow.err);
  REQUIRE(narrow.status == 0);
  CHECK(nlohmann::json::parse(narrow.out)[0] != nlohmann::json::parse(outcome.out)[1]);
  const Outcome study = run(folder,
                            "analyze chain_of_thought --target amd:navi21 --fail-on spills "
                            "--widths=4 --control_widths= --batch_size=4 -o json");
  CAPTURE(study.err);
  REQUIRE(study.status == 0);
  CHECK(nlohmann::json::parse(study.out)[0]["kernels"].size() > 10);
  message("--target amd:navi99 --n_layer=1", "It knows: ");
  const Outcome gate = run(folder, "analyze --target amd:navi21 --n_layer=1 --fail-on shared_bytes");
  CHECK(gate.status == 1);
  CHECK(gate.err.find("amd:navi21: matmul_") != std::string::npos);
}

TEST_CASE("tool: benchmarks write what they promise") {
  const engine::Device device = open_test_device();
  const Folder folder;
  const Outcome matmul = run(folder, "bench matmul --m 33 --n 17,64 --k 5 -r 3 --warmup 1 -o json");
  CAPTURE(matmul.err);
  REQUIRE(matmul.status == 0);
  const auto products = nlohmann::json::parse(matmul.out);
  REQUIRE(products.size() == 6);
  for (const auto& record : products) {
    CHECK(record["samples_ns"].size() == 3);
    CHECK(record["median_ns"].get<double>() > 0);
    CHECK(record["gflops"].get<double>() > 0);
  }
  CHECK(products[0]["layout"] == "nn");
  CHECK(products[0]["n"] == 17);
  CHECK(products[5]["n"] == 64);

  const Outcome train = run(folder,
                            "bench train --n_layer 1 --n_embd 8 --block_size 8 --batch_size 3 "
                            "--members 1,2 -r 2 --warmup 1 --steps 2 -o json");
  CAPTURE(train.err);
  REQUIRE(train.status == 0);
  const auto steps = nlohmann::json::parse(train.out);
  REQUIRE(steps.size() == 2);
  for (const auto& record : steps) {
    CHECK(record["samples_ns"].size() == 2);
    for (const char* name :
         {"median_ns", "tokens_per_second", "parameters", "dispatches", "host_ns_per_submission", "arena_bytes"}) {
      CHECK(record[name].get<double>() > 0);
    }
  }
  // A submission is one, however many dispatches it replays.
  const Outcome depth = run(folder,
                            "bench train --n_layer 1,6 --n_embd 8 --block_size 8 --batch_size 3 "
                            "-r 2 --warmup 0 --steps 16 -o json");
  CAPTURE(depth.err);
  REQUIRE(depth.status == 0);
  const auto depths = nlohmann::json::parse(depth.out);
  REQUIRE(depths.size() == 2);
  CHECK(depths[1]["dispatches"].get<int>() > 2 * depths[0]["dispatches"].get<int>());
  CHECK(depths[1]["submissions"] == depths[0]["submissions"]);
  if (device.target().cpu) CHECK(depths[0]["submissions"] == 2);

  const Outcome startup = run(folder,
                              "bench startup --n_layer 1 --n_embd 8 --n_head 2 --vocab_size 9 "
                              "--block_size 8 -r 1 -o json");
  CAPTURE(startup.err);
  REQUIRE(startup.status == 0);
  const auto starts = nlohmann::json::parse(startup.out);
  REQUIRE(starts.size() == 2);
  CHECK(starts[0]["shaders_compiled"].get<int>() > 0);
  CHECK(starts[1]["shaders_compiled"] == 0);

  const Outcome attention =
      run(folder, "bench attention --B 2 --H 1 --T 9 --D 4 --causal on,off -r 2 --warmup 1 -o json");
  CAPTURE(attention.err);
  REQUIRE(attention.status == 0);
  const auto kernels = nlohmann::json::parse(attention.out);
  REQUIRE(kernels.size() == 4);
  CHECK(kernels[0]["dispatches"] == 1);
  CHECK(kernels[1]["dispatches"] == 3);
  for (const auto& record : kernels) CHECK(record["expanded_ns"].get<double>() > 0);

  const Outcome reduce = run(folder, "bench reduce --rows 9 --width 5,33 -r 2 --warmup 1 -o json");
  CAPTURE(reduce.err);
  REQUIRE(reduce.status == 0);
  const auto rows = nlohmann::json::parse(reduce.out);
  REQUIRE(rows.size() == 22);  // six ops, two widths, two passes, but for the gradient of a sum
  CHECK(rows[0]["bytes"] == 2 * 9 * 5 * 4);
  for (const auto& record : rows) CHECK(record["gbs"].get<double>() > 0);

  // The first member of an ensemble is the single model.
  const double alone = steps[0]["loss"][0], first = steps[1]["loss"][0];
  CHECK(std::abs(alone - first) <= 1e-5);
  CHECK(steps[1]["loss"].size() == 2);

  const std::string size = " --n_layer 1 --n_embd 8 --batch_size 3 -r 2 --warmup 1 -o json";
  const Outcome forward = run(folder, "bench forward --block_size 8 --position=rotary --members 2" + size);
  CAPTURE(forward.err);
  REQUIRE(forward.status == 0);
  const auto passes = nlohmann::json::parse(forward.out);
  REQUIRE(passes.size() == 1);
  CHECK(passes[0]["samples_ns"].size() == 2);
  for (const char* name : {"median_ms", "tokens_per_second", "gflops", "dispatches"}) {
    CHECK(passes[0][name].get<double>() > 0);
  }
  const Outcome generate = run(folder, "bench generate --prompt_length 1,5 --new_tokens 4" + size);
  CAPTURE(generate.err);
  REQUIRE(generate.status == 0);
  const auto texts = nlohmann::json::parse(generate.out);
  REQUIRE(texts.size() == 2);
  for (const auto& record : texts) {
    CHECK(record["samples_ns"].size() == 2);
    for (const char* name : {"decode_tokens_per_second", "decode_median_ns", "arena_bytes"}) {
      CHECK(record[name].get<double>() > 0);
    }
  }
  CHECK(texts[0]["prefill_tokens_per_second"] == 0);
  CHECK(texts[1]["prefill_tokens_per_second"].get<double>() > 0);
  CHECK(run(folder, "bench generate --new_tokens 0").status == 1);
  CHECK(run(folder, "bench forward --positon=rotary").err.find("position") != std::string::npos);
  const auto lines = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  CHECK(lines(run(folder, "bench matmul --m 4 --n 4 --k 4 -r 1 -o md").out) == 5);
  CHECK(lines(run(folder, "bench matmul --m 4 --n 4 --k 4 -r 1 -o csv").out) == 4);
}

// Starts the tool and kills it, without a chance to clean up, when `file` has appeared.
void kill_when(const fs::path& file, const std::vector<std::string>& arguments) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::vector<char*> words;
    for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    // Descriptors, not streams: guarded(), which tests of studies call, has put another stream in the place of stderr.
    const int nowhere = open("/dev/null", O_WRONLY);
    if (dup2(nowhere, STDOUT_FILENO) >= 0 && dup2(nowhere, STDERR_FILENO) >= 0) execv(SURTSEY_TOOL, words.data());
    _exit(127);
  }
  int status = 0;
  for (int i = 0; i < 60'000 && !fs::exists(file); ++i) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    CAPTURE(status);
    REQUIRE(ended == 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  REQUIRE(WIFSIGNALED(status));
}

TEST_CASE("tool: a run that diverges ends early, with a status of its own") {
  (void)open_test_device();
  const Folder folder;
  const std::string data = write_text(folder).string(), out = (folder / "run").string();
  const Outcome outcome = run(folder, fmt::format("train --data {} --out {} {} --max_iters=2000 --eval_interval=1000 "
                                                  "--learning_rate=1e9 --grad_clip=0 --divergence_patience=20",
                                                  data, out, kTiny));
  CAPTURE(outcome.out, outcome.err);
  CHECK(outcome.status == 65);
  CHECK(outcome.err.find("the model diverged") != std::string::npos);
  CHECK(outcome.err.find("learning_rate") != std::string::npos);
  CHECK(outcome.out.find("done:") == std::string::npos);
  CHECK(outcome.out.find("norm nan") != std::string::npos);

  // One that ends before the patience does says so.
  const Outcome brief = run(folder, fmt::format("train --data {} --out {} {} --max_iters=20 --eval_interval=10 "
                                                "--learning_rate=1e9 --grad_clip=0",
                                                data, (folder / "brief").string(), kTiny));
  CAPTURE(brief.out, brief.err);
  CHECK(brief.status == 0);
  CHECK(brief.err.find("steps up to 20 had a finite gradient, so nothing was learned") != std::string::npos);
  // What is not a number is one in no file, and missing in none.
  const std::string csv = slurp(folder / "brief" / "metrics.csv"), head = csv.substr(0, csv.find('\n'));
  CHECK(head.find(",loss") != std::string::npos);
  CHECK(csv.find(",nan") != std::string::npos);
  std::string events;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "brief" / "events")) {
    if (entry.is_regular_file()) events += slurp(entry.path());
  }
  // simple_value: field 2, four bytes.
  CHECK(events.find(std::string("\x15\x00\x00\xC0\x7F", 5)) != std::string::npos);
}

TEST_CASE("tool: a run goes on with its data, wherever that lies, and with no other") {
  (void)open_test_device();
  const Folder folder;
  const std::string data = write_text(folder).string(), out = (folder / "run").string();
  const std::string resume = fmt::format("train --resume --out {}", out);
  // Given as a path from where the run began, it is found from elsewhere.
  const Outcome whole = run(folder, fmt::format("train --data text.txt --out {} {} --max_iters=20", out, kTiny),
                            fmt::format("cd '{}' && ", folder.path().string()));
  CAPTURE(whole.err);
  REQUIRE(whole.status == 0);
  CHECK(run(folder, resume).status == 0);

  fs::rename(data, folder / "moved.txt");
  const Outcome gone = run(folder, resume);
  CHECK(gone.status == 1);
  CHECK(gone.err.find("--data") != std::string::npos);
  const std::string moved = fmt::format(" --data '{}'", (folder / "moved.txt").string());
  CHECK(run(folder, resume + moved).status == 0);
  CHECK(run(folder, resume).status == 0);  // the place is kept

  std::string text = slurp(folder / "moved.txt");
  for (const std::string& other : {std::string(text.rbegin(), text.rend()), text + "Z"}) {
    std::ofstream(folder / "other.txt") << other;
    const Outcome refused = run(folder, resume + fmt::format(" --data '{}'", (folder / "other.txt").string()));
    CAPTURE(refused.err);
    CHECK(refused.status == 1);
    CHECK(refused.err.find("is not the text that the run") != std::string::npos);
  }
  CHECK(run(folder, resume).status == 0);
}

TEST_CASE("tool: numbers of a run that cannot be are told before anything is made") {
  const Folder folder;
  const std::string data = write_text(folder).string(), out = (folder / "run").string();
  const std::pair<const char*, const char*> cases[] = {
      {"--eval_iters=536870912", "eval_iters"},
      {"--eval_iters=1000000 --batch_size=64", "eval_iters 1000000 times batch_size 64 times block_size 16"},
      {"--learning_rate=inf", "learning_rate"},
      {"--learning_rate=1e39", "learning_rate"},
      {"--weight_decay=inf", "weight_decay"},
      {"--learning_rate=0 --min_lr=1e-3", "min_lr is 0.001 where learning_rate is 0"},
      {"--max_iters=1000000000 --gradient_accumulation_steps=1000", "gradient_accumulation_steps"},
  };
  for (const auto& [keys, expected] : cases) {
    std::string own = kTiny;  // eval_iters is among those
    if (std::string(keys).find("eval_iters") != std::string::npos) own.erase(own.find("--eval_iters=1 "), 15);
    const Outcome outcome = run(folder, fmt::format("train --data {} --out {} {} {}", data, out, own, keys));
    CAPTURE(keys, outcome.err);
    CHECK(outcome.status != 0);
    CHECK(outcome.err.find(expected) != std::string::npos);
    CHECK_FALSE(fs::exists(folder / "run" / "metrics.jsonl"));
  }
  for (const char* options : {"--num_samples 9223372036854775807", "--max_new_tokens 9223372036854775807",
                              "--temperature inf", "--top_k 9223372036854775807"}) {
    const Outcome outcome = run(folder, fmt::format("sample {} {}", out, options));
    CAPTURE(options, outcome.err);
    CHECK(outcome.status != 0);
    CHECK(outcome.err.find(std::string(options).substr(0, std::string(options).find(' '))) != std::string::npos);
  }
}

TEST_CASE("tool: a rate may rise, a text may have one letter, a save that is in the way is an error") {
  (void)open_test_device();
  const Folder folder;
  std::ofstream(folder / "a.txt") << std::string(1000, 'a');
  const std::string out = (folder / "run").string();
  const std::string keys = fmt::format("--data '{}' {} --max_iters=6 --learning_rate=1e-4 --min_lr=1e-2",
                                       (folder / "a.txt").string(), kTiny);
  const Outcome trained = run(folder, fmt::format("train --out {} {}", out, keys));
  CAPTURE(trained.err);
  REQUIRE(trained.status == 0);
  const Outcome sampled = run(folder, "sample " + out + " --start aa --max_new_tokens 5");
  CAPTURE(sampled.err);
  CHECK(sampled.status == 0);
  CHECK(sampled.out == "aaaaaaa\n");

  fs::create_directories(folder / "full");
  std::ofstream(folder / "full" / "checkpoint") << "no folder";
  const Outcome full = run(folder, fmt::format("train --out {} {}", (folder / "full").string(), keys));
  CAPTURE(full.out, full.err);
  CHECK(full.status == 1);
  CHECK(full.err.find("the last is not saved") != std::string::npos);
  CHECK(full.out.find("done:") == std::string::npos);
}

TEST_CASE("tool: a run killed in the middle and resumed ends with the same bits") {
  const engine::Device device = open_test_device();
  const Folder folder;
  const std::string data = write_text(folder).string();
  const std::string keys = fmt::format("--data {} {} --max_iters=600 --eval_interval=100", data, kTiny);
  const Outcome whole = run(folder, fmt::format("train --out {} {}", (folder / "whole").string(), keys));
  CAPTURE(whole.err);
  REQUIRE(whole.status == 0);
  CHECK(whole.out.find("step   600/600 | val loss") != std::string::npos);

  const std::string killed = (folder / "killed").string();
  std::vector<std::string> arguments = {SURTSEY_TOOL, "train", "--out", killed};
  std::istringstream words(keys);
  for (std::string word; words >> word;) arguments.push_back(word);
  kill_when(folder / "killed" / "checkpoint" / "latest", arguments);
  REQUIRE_FALSE(fs::exists(folder / "killed" / "checkpoint" / "step-00000600"));

  const Outcome fresh = run(folder, fmt::format("train --out {} {}", killed, keys));
  CHECK(fresh.status != 0);
  CHECK(fresh.err.find("--resume") != std::string::npos);
  const Outcome other = run(folder, fmt::format("train --out {} --resume --learning_rate=1", killed));
  CHECK(other.status != 0);
  CHECK(other.err.find("learning_rate") != std::string::npos);
  const Outcome resumed = run(folder, fmt::format("train --out {} --resume", killed));
  CAPTURE(resumed.err);
  REQUIRE(resumed.status == 0);
  CHECK(resumed.out.find("resumed at step") != std::string::npos);
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    const std::string end = std::string("step-00000600/") + file;
    CHECK(slurp(folder / "whole" / "checkpoint" / end) == slurp(folder / "killed" / "checkpoint" / end));
    CHECK_FALSE(slurp(folder / "whole" / "checkpoint" / end).empty());
  }

  // A fork that learns next to nothing ends where its origin did.
  const Outcome fork =
      run(folder, fmt::format("train --out {} --from {} --data {} {} --max_iters=1 --learning_rate=1e-9",
                              (folder / "fork").string(), (folder / "whole").string(), data, kTiny));
  CAPTURE(fork.err);
  REQUIRE(fork.status == 0);
  CHECK(fork.out.find("starting with the weights of") != std::string::npos);
  const auto last_loss = [](const std::string& text) { return text.substr(text.rfind("val loss"), 15); };
  CHECK(last_loss(fork.out) == last_loss(whole.out));

  const std::string sampling = "sample " + killed + " --start 12 --max_new_tokens 40 --seed 3";
  const Outcome text = run(folder, sampling);
  CAPTURE(text.err);
  REQUIRE(text.status == 0);
  CHECK(text.out.size() == 43);
  CHECK(text.out.starts_with("12"));
  CHECK(run(folder, sampling).out == text.out);
  CHECK(run(folder, sampling + "4").out != text.out);

  fs::resize_file(folder / "killed" / "checkpoint" / "step-00000600" / "model.safetensors", 100);
  const Outcome truncated = run(folder, sampling);
  CHECK(truncated.status == 1);
  CHECK(truncated.err.find("model.safetensors") != std::string::npos);
}

}  // namespace
}  // namespace surtsey::tests
