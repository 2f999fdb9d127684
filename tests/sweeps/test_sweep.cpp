// Sweeps as a user meets them: planned, killed, resumed, failed, collected; and what comes with
// every run.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/crc.hpp>
#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "experiments/results/metrics_export.h"
#include "experiments/sweeps/sweep_directory.h"
#include "experiments/train/checkpoint.h"
#include "experiments/train/train.h"
#include "tests/support/folder.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

using namespace surtsey;
using namespace surtsey::experiments;

namespace {

namespace fs = std::filesystem;

tests::Outcome sweep(const tests::Folder& folder, const std::string& arguments) {
  return tests::run(folder, "sweep " + arguments);
}

pid_t start(std::vector<std::string> words) {
  words.insert(words.begin(), SURTSEY_TOOL);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    execv(SURTSEY_TOOL, arguments.data());
    _exit(127);
  }
  return child;
}

// Eight cells in four packs.
constexpr const char* kKeys =
    "--no-measure --lengths=3 --modulus=5 --widths=4,8 --seeds=0,1 --learning_rates=0.16,0.08 "
    "--steps=120 --batch_size=16 --test_items=20 --validation_items=16 --evaluation_rows=20 "
    "--log_interval=10 --checkpoint_interval=10 --ensemble_size=2";

}  // namespace

TEST_CASE("sweep: killed and resumed it ends with the table of one left alone", "[sweep]") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const tests::Folder scratch;
  const std::string whole = scratch / "whole", parts = scratch / "parts";
  for (const std::string& directory : {whole, parts}) {
    const tests::Outcome plan = sweep(scratch, fmt::format("plan --out '{}' {}", directory, kKeys));
    CAPTURE(plan.err);
    REQUIRE(plan.status == 0);
    REQUIRE(plan.out.find("8 cells in 4 packs") != std::string::npos);
  }
  REQUIRE(sweep(scratch, fmt::format("run '{}' --all", whole)).status == 0);

  // The first kill waits for a checkpoint, the second for a finished pack; both hit work.
  const auto kill_when = [&](auto ready) {
    const pid_t child = start({"sweep", "run", parts, "--all"});
    for (int i = 0; i < 60000 && !ready() && waitpid(child, nullptr, WNOHANG) == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    REQUIRE(kill(child, SIGKILL) == 0);
    waitpid(child, nullptr, 0);
  };
  kill_when([&] { return fs::exists(fs::path(parts) / "runs/000/checkpoints/member-000/latest"); });
  const SweepDirectory directory = SweepDirectory::open(parts);
  REQUIRE(directory.state(directory.pack(0)) == PackState::kStopped);
  REQUIRE(directory.state(directory.pack(3)) == PackState::kWaiting);
  kill_when([&] { return fs::exists(fs::path(parts) / "runs/001/result.json"); });
  REQUIRE(directory.state(directory.pack(0)) == PackState::kFinished);
  const auto first = fs::last_write_time(fs::path(parts) / "runs/000/result.json");
  REQUIRE(sweep(scratch, fmt::format("run '{}' --index 3", parts)).status == 0);
  REQUIRE(sweep(scratch, fmt::format("run '{}' --all", parts)).status == 0);
  REQUIRE(fs::last_write_time(fs::path(parts) / "runs/000/result.json") == first);

  const tests::Outcome left_alone = sweep(scratch, fmt::format("collect '{}'", whole));
  const tests::Outcome killed = sweep(scratch, fmt::format("collect '{}'", parts));
  REQUIRE(std::count(left_alone.out.begin(), left_alone.out.end(), '\n') == 1 + 8 * 2);
  REQUIRE(killed.out == left_alone.out);
  REQUIRE(tests::slurp(fs::path(parts) / "table.csv") == tests::slurp(fs::path(whole) / "table.csv"));
  REQUIRE(tests::slurp(fs::path(parts) / "table.jsonl") == tests::slurp(fs::path(whole) / "table.jsonl"));
  REQUIRE(load_result(fs::path(parts) / "result.json").cells.size() == 8);
  // The curve too: saves fall on logging intervals here.
  REQUIRE(tests::slurp(fs::path(parts) / "runs/000/metrics.csv") ==
          tests::slurp(fs::path(whole) / "runs/000/metrics.csv"));
  for (const char* file : {"metrics.jsonl", "samples.jsonl", "env.json"}) {
    REQUIRE(fs::file_size(fs::path(parts) / "runs/002" / file) > 0);
  }
  REQUIRE_FALSE(fs::exists(fs::path(parts) / "runs/000/checkpoints"));
  REQUIRE(directory.seconds_left() == 0.0);
}

TEST_CASE("sweep: plans are fixed, failures are kept and run again, packs have one owner", "[sweep]") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const tests::Folder scratch;
  const std::string path = scratch / "sweep";
  const std::string plan = fmt::format("plan --out '{}' {}", path, kKeys);
  REQUIRE(sweep(scratch, plan).status == 0);
  REQUIRE(sweep(scratch, plan).status == 0);
  REQUIRE(sweep(scratch, plan + " --steps=130").err.find("another plan") != std::string::npos);
  REQUIRE(sweep(scratch, plan + " --stps=130").err.find("did you mean 'steps'") != std::string::npos);
  REQUIRE(sweep(scratch, plan + " --widths=4,4").status == 1);
  REQUIRE(sweep(scratch, fmt::format("run '{}' --index 4", path)).err.find("no pack 4") != std::string::npos);
  REQUIRE(sweep(scratch, fmt::format("run '{}'", path)).status == 1);
  REQUIRE(sweep(scratch, fmt::format("run '{}' --all", (scratch / "none").string())).err.find("no plan") !=
          std::string::npos);

  SweepDirectory directory = SweepDirectory::open(path);
  std::set<std::string> hashes, cells;
  double flops = 1e300;
  for (const SweepPack& pack : directory.packs()) {
    hashes.insert(pack.hash);
    for (const std::string& cell : pack.cells()) cells.insert(cell);
    REQUIRE(pack.cost.flops <= flops);  // the largest first
    REQUIRE(pack.cost.flops > 0);
    REQUIRE(pack.cost.bytes > 0);
    flops = pack.cost.flops;
  }
  REQUIRE(hashes.size() == 4);
  REQUIRE(cells.size() == 8);
  {
    const auto lock = directory.lock(directory.pack(3));
    REQUIRE(lock.has_value());
    REQUIRE_FALSE(directory.lock(directory.pack(3)).has_value());
    REQUIRE(directory.state(directory.pack(3)) == PackState::kRunning);
    REQUIRE(sweep(scratch, fmt::format("run '{}' --index 3", path)).err.find("another process") != std::string::npos);
  }
  REQUIRE(directory.state(directory.pack(3)) == PackState::kWaiting);

  // A folder stands where a file must go.
  fs::create_directories(fs::path(path) / "runs/003/metrics.csv");
  REQUIRE(sweep(scratch, fmt::format("run '{}' --index 3", path)).status == 1);
  REQUIRE(directory.state(directory.pack(3)) == PackState::kFailed);
  REQUIRE(directory.failure(directory.pack(3)).find("metrics.csv") != std::string::npos);
  REQUIRE(sweep(scratch, fmt::format("status '{}'", path)).out.find("failed") != std::string::npos);
  fs::remove(fs::path(path) / "runs/003/metrics.csv");
  REQUIRE(sweep(scratch, fmt::format("run '{}' --only-failed", path)).status == 0);
  REQUIRE(directory.state(directory.pack(3)) == PackState::kFinished);
  REQUIRE(directory.state(directory.pack(0)) == PackState::kWaiting);
  REQUIRE(directory.seconds_left() > 0.0);
  const auto status = nlohmann::json::parse(sweep(scratch, fmt::format("status '{}' --json", path)).out);
  REQUIRE(status["packs"][3]["state"] == "finished");
  REQUIRE(status["packs"].size() == 4);

  // The job array has what is left.
  REQUIRE(sweep(scratch, fmt::format("submit '{}' --dry", path)).status == 1);
  REQUIRE(sweep(scratch, fmt::format("submit '{}' --slurm --dry --most 2 --time 10 --sbatch=--mem=1G", path)).status ==
          0);
  const std::string job = tests::slurp(fs::path(path) / "slurm/job.sh");
  for (const char* line : {"#SBATCH --array=0,1,2%2\n", "#SBATCH --requeue\n", "#SBATCH --time=10\n",
                           "#SBATCH --mem=1G\n", "--signal=B:TERM@"}) {
    CAPTURE(line);
    REQUIRE(job.find(line) != std::string::npos);
  }
  REQUIRE(std::system(fmt::format("bash -n '{}/slurm/job.sh'", path).c_str()) == 0);

  // Two processes share what is left; none of it runs twice.
  REQUIRE(sweep(scratch, fmt::format("run '{}' --all --device llvmpipe,llvmpipe", path)).status == 0);
  for (const SweepPack& pack : directory.packs()) {
    REQUIRE(directory.state(pack) == PackState::kFinished);
  }

  // A changed specification is not run.
  std::string text = tests::slurp(fs::path(path) / "packs/001.json");
  text.replace(text.find("\"steps\": 120"), 12, "\"steps\": 121");
  std::ofstream(fs::path(path) / "packs/001.json") << text;
  REQUIRE(sweep(scratch, fmt::format("run '{}' --all", path)).err.find("changed") != std::string::npos);
}

TEST_CASE("sweep: a plan is taken out of its directory, and nothing else", "[sweep]") {
  const tests::Folder scratch;
  const std::filesystem::path path = scratch / "sweep";
  const auto put = [](const std::filesystem::path& file) {
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << "x";
  };
  // No plan: what lies in folders of these names is somebody's own.
  SweepDirectory::forget(scratch / "none");
  CHECK_FALSE(std::filesystem::exists(scratch / "none"));
  put(path / "runs" / "mine.txt");
  SweepDirectory::forget(path);
  CHECK(std::filesystem::exists(path / "runs" / "mine.txt"));

  std::filesystem::remove_all(path);
  const SweepDirectory planned = SweepDirectory::create(path, "steps = 1\n", {});
  put(path / "runs" / "000" / "result.json");
  put(path / "thesis" / "text");
  put(path / "result.json");
  SweepDirectory::forget(path);
  for (const char* gone : {"plan.json", "sweep.toml", "packs", "runs"})
    CHECK_FALSE(std::filesystem::exists(path / gone));
  for (const char* kept : {"thesis/text", "result.json"}) CHECK(std::filesystem::exists(path / kept));
}

TEST_CASE("sweep: members killed between two saves go on from the save that all have", "[sweep]") {
  const tests::Folder scratch;
  const auto save = [&](int member, int step) {
    const fs::path directory = checkpoint_directory(scratch / fmt::format("member-{:03}", member), step);
    fs::create_directories(directory);
    std::ofstream(directory / "config.json") << "{}";
  };
  REQUIRE_FALSE(Trainer::has_save(scratch.path().string(), 2));
  save(0, 10);
  REQUIRE_FALSE(Trainer::has_save(scratch.path().string(), 2));
  save(1, 10);
  save(0, 20);
  REQUIRE(Trainer::newest_save(scratch.path().string(), 2, 1).ends_with("member-001/step-00000010"));
  save(1, 20);
  REQUIRE(Trainer::newest_save(scratch.path().string(), 2, 0).ends_with("member-000/step-00000020"));
  // A save that was being written has no place among them.
  fs::create_directories(checkpoint_directory(scratch / "member-000", 30));
  fs::create_directories(checkpoint_directory(scratch / "member-001", 30));
  REQUIRE(Trainer::newest_save(scratch.path().string(), 2, 0).ends_with("member-000/step-00000020"));
}

TEST_CASE("metrics come as CSV and as TensorBoard events", "[sweep]") {
  std::vector<MetricLine> metrics = {{"a", 10, 100, {{"loss", 1.5}}},
                                     {"a", 300, 3000, {{"loss", 0.25}, {"grad_norm", 2}}}};
  metrics[0].time = 0;  // of a file that does not say it: the time of the export
  metrics[1].time = 1000.75;
  REQUIRE(metrics_csv(metrics) == "cell,step,tokens,loss,grad_norm\na,10,100,1.5,\na,300,3000,0.25,2\n");

  const std::string file = event_file(metrics, 1234.5);
  // CRC-32C of RFC 3720's check string, then of every record.
  const auto crc = [](std::string_view bytes) {
    boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> sum;
    sum.process_bytes(bytes.data(), bytes.size());
    return static_cast<uint32_t>(sum.checksum());
  };
  REQUIRE(crc("123456789") == 0xE3069283u);
  const auto masked = [&](std::string_view bytes) {
    const uint32_t sum = crc(bytes);
    return ((sum >> 15) | (sum << 17)) + 0xa282ead8u;
  };
  std::vector<std::string> events;
  for (size_t at = 0; at < file.size();) {
    uint64_t length = 0;
    uint32_t length_crc = 0, event_crc = 0;
    REQUIRE(at + 16 <= file.size());
    std::memcpy(&length, file.data() + at, 8);
    std::memcpy(&length_crc, file.data() + at + 8, 4);
    REQUIRE(length_crc == masked(std::string_view(file).substr(at, 8)));
    REQUIRE(at + 16 + length <= file.size());
    events.push_back(file.substr(at + 12, length));
    std::memcpy(&event_crc, file.data() + at + 12 + length, 4);
    REQUIRE(event_crc == masked(events.back()));
    at += 16 + length;
  }
  REQUIRE(events.size() == 3);
  REQUIRE(events[0].ends_with("brain.Event:2"));
  // Event {1: seconds, 2: 300, 5: {1: {1: "loss", 2: 0.25f}, 1: {1: "grad_norm", 2: 2.0f}}}
  const std::string time = events[2].substr(0, 9);  // field 1, a double: when the line was written
  REQUIRE(time[0] == '\x09');
  const auto seconds = [](const std::string& event) {
    double value = 0;
    std::memcpy(&value, event.data() + 1, 8);
    return value;
  };
  REQUIRE(seconds(events[1]) == 1234.5);
  REQUIRE(seconds(events[2]) == 1000.75);
  const std::string loss = std::string("\x0a\x0b\x0a\x04loss\x15\0\0\x80\x3e", 13);
  const std::string norm = std::string("\x0a\x10\x0a\x09grad_norm\x15\0\0\0\x40", 18);
  REQUIRE(events[2] == time + "\x10\xac\x02" + "\x2a\x1f" + loss + norm);
}

TEST_CASE("sweep: a result that is empty or torn is none, and blocks no other pack", "[sweep]") {
  {
    const engine::Device device = tests::open_test_device();
  }
  const tests::Folder scratch;
  const std::string path = scratch / "sweep";
  REQUIRE(sweep(scratch, fmt::format("plan --out '{}' {}", path, kKeys)).status == 0);
  REQUIRE(sweep(scratch, fmt::format("run '{}' --index 1", path)).status == 0);
  const fs::path torn = fs::path(path) / "runs/000/result.json", whole = fs::path(path) / "runs/001/result.json";
  fs::create_directories(torn.parent_path());
  const std::string text = tests::slurp(whole);
  for (const std::string& content : {std::string(), text.substr(0, text.size() / 2)}) {
    std::ofstream(torn) << content;
    const tests::Outcome status = sweep(scratch, fmt::format("status '{}'", path));
    CAPTURE(content.size(), status.err);
    CHECK(status.status == 0);
    CHECK(status.out.find("1 of 4 packs are finished") != std::string::npos);
    CHECK(status.err.find("pack 0 counts as not done") != std::string::npos);
    CHECK(status.err.find("runs/000/result.json") != std::string::npos);
  }
  REQUIRE(sweep(scratch, fmt::format("run '{}' --all", path)).status == 0);
  CHECK(tests::slurp(whole) == text);
  const SweepDirectory directory = SweepDirectory::open(path);
  for (const SweepPack& pack : directory.packs()) CHECK(directory.state(pack) == PackState::kFinished);
}

TEST_CASE("sweep: what a pack failed of first is kept beside what it failed of last", "[sweep]") {
  const tests::Folder scratch;
  engine::Device device = tests::open_test_device();
  SweepPack pack;
  pack.spec = nlohmann::json{{"number", 0}};
  pack.hash = spec_hash(*pack.spec);
  SweepDirectory directory = SweepDirectory::create(scratch / "sweep", "", {pack});
  const auto fail = [&](const char* why) {
    const auto lock = directory.lock(directory.pack(0));
    CHECK_THROWS_AS(
        directory.run(directory.pack(0), device, {}, [&](const fs::path&) -> PackResult { throw UserError(why); }),
        UserError);
    return directory.failure(directory.pack(0));
  };
  CHECK(fail("no room") == "no room");
  CHECK(fail("no room") == "no room");
  CHECK(fail("no device") == "no room (the last of 3 times: no device)");
  std::ofstream(directory.run_path(directory.pack(0)) / "failed.json") << "";
  CHECK(directory.failure(directory.pack(0)) == "unknown");
}

TEST_CASE("sweep: a task of a job array saves and queues itself again, whatever signal asks for it", "[sweep]") {
  const tests::Folder scratch;
  SweepPack pack;
  pack.spec = nlohmann::json{{"number", 0}};
  pack.hash = spec_hash(*pack.spec);
  const std::string path = (scratch / "sweep").string();
  SweepDirectory::create(path, "", {pack});
  REQUIRE(sweep(scratch, fmt::format("submit '{}' --slurm --dry '--sbatch=--comment=hello world' '--sbatch=-p debug' "
                                     "'--sbatch=--mail-user=\"a b\"'",
                                     path))
              .status == 0);
  std::string job = tests::slurp(fs::path(path) / "slurm/job.sh");
  for (const char* line :
       {"#SBATCH --comment=\"hello world\"\n", "#SBATCH -p debug\n", "#SBATCH --mail-user=\"a b\"\n"}) {
    CAPTURE(line);
    CHECK(job.find(line) != std::string::npos);
  }
  // A tool that ends with the status of an interrupt when it is asked to, and well when it may.
  const auto script = [&](const char* name, const std::string& text) {
    std::ofstream(scratch / name) << "#!/bin/bash\n" << text;
    fs::permissions(scratch / name, fs::perms::owner_all);
  };
  const std::string folder = scratch.path().string();
  script("tool", fmt::format("cd '{}'\ntrap 'exit 130' USR1\ntouch started\n"
                             "for i in {{1..200}}; do [[ -e done ]] && exit 0; sleep .05; done\nexit 1\n",
                             folder));
  script("scontrol", fmt::format("echo \"$@\" >> '{}/asked'\n", folder));
  const size_t tool = job.find(" sweep run "), start = job.rfind('\n', tool) + 1;
  REQUIRE(tool != std::string::npos);
  job.replace(start, tool - start, fmt::format("'{}/tool'", folder));
  script("job", job);
  const auto run = [&](const std::string& before, const char* signal, const std::string& after) {
    for (const char* file : {"started", "done", "asked"}) fs::remove(scratch / file);
    const std::string command = fmt::format(
        "cd '{}'; export PATH=\"$PWD:$PATH\" SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=0\n{}\n./job & job=$!\n"
        "for i in {{1..200}}; do [[ -e started ]] && break; sleep .05; done\nkill -{} $job\n{}\nwait $job\n",
        folder, before, signal, after);
    script("run", command);
    const int status = std::system(fmt::format("'{}/run' 2>'{}/err'", folder, folder).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  for (const char* signal : {"TERM", "HUP", "USR1", "USR2"}) {
    CAPTURE(signal, tests::slurp(scratch / "err"));
    CHECK(run("", signal, "") == 130);
    REQUIRE(fs::exists(scratch / "asked"));
    CHECK(tests::slurp(scratch / "asked") == "requeue 7_0\n");
  }
  // Under nohup a terminal that goes asks for nothing.
  CHECK(run("trap '' HUP", "HUP", "sleep .2; touch done") == 0);
  CHECK_FALSE(fs::exists(scratch / "asked"));
}
