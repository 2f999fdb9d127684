// A training run on a device that fails: memory that is not there, pipelines that are not made,
// maps that fail, a device that is lost or hangs. Each leaves one clear message and its exit
// status, never a damaged checkpoint; the run goes on from there and ends with the bits of an
// undisturbed one.
#include "tests/support/layered.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include "experiments/base/exit_status.h"

#include <algorithm>
#include <map>

namespace surtsey::tests {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTurns = 20;  // of each fault, in the whole matrix

// A discrete GPU with little memory at a time: copies are staged, submissions are cut by the clock,
// and there are more than kTurns allocations. And an integrated one, where every submission is of a
// program.
constexpr const char* kDiscrete = "limits=discrete,max_allocation=131072";
constexpr const char* kMobile = "limits=mobile";

// What sanitizers report ends a program with a status of its own.
constexpr int kSanitizerStatus = 99;
const std::string kSanitizers = fmt::format(
    "ASAN_OPTIONS=exitcode={0}:detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:exitcode={0} "
    "LSAN_OPTIONS=suppressions='{1}/tests/layer/drivers.supp':print_suppressions=0:exitcode={0} ",
    kSanitizerStatus, SURTSEY_SOURCE_ROOT);

// One run that fails or not, in a folder of its own.
class FaultyRun {
 public:
  explicit FaultyRun(std::string limits)
      : limits_(std::move(limits)), data_(write_text(folder_).string()), root_((folder_ / "run").string()) {}

  // Begins the run, or goes on with it where one has begun.
  Outcome train(const std::string& settings) {
    fs::remove(report());
    const bool begun = fs::exists(fs::path(root_) / "config.toml");
    const std::string arguments = begun ? fmt::format("train --out {} --resume", root_)
                                        : fmt::format(
                                              "train --out {} --data {} --n_layer=4 --n_embd=16 --n_head=2 "
                                              "--block_size=16 --batch_size=32 --eval_iters=1 --max_iters=12 "
                                              "--eval_interval=4 --log_interval=2",
                                              root_, data_);
    const std::string all =
        fmt::format("{},report={}{}{}", limits_, report().string(), settings.empty() ? "" : ",", settings);
    return run(folder_, arguments, kSanitizers + layered_command(all));
  }

  // A count of the layer's report; -1 when the device was never destroyed.
  int64_t counted(const std::string& name) const {
    const std::string text = slurp(report());
    const size_t at = text.rfind(name + "=");
    return at == std::string::npos ? -1 : std::stoll(text.substr(at + name.size() + 1));
  }

  // The end of the run, as bits.
  std::string result() const {
    const fs::path end = fs::path(root_) / "checkpoint" / "step-00000012";
    return slurp(end / "model.safetensors") + slurp(end / "optimizer.safetensors");
  }
  bool has_checkpoint() const { return fs::exists(fs::path(root_) / "checkpoint" / "latest"); }

 private:
  fs::path report() const { return folder_ / "report"; }
  std::string limits_;
  Folder folder_;
  std::string data_, root_;
};

struct Fault {
  const char* limits;
  const char* key;      // of the layer's settings
  const char* count;    // of its report
  int status;           // of the program
  const char* message;  // part of it
};

constexpr Fault kFaults[] = {
    {kDiscrete, "fail_allocation", "allocations", experiments::kErrorStatus,
     "vkAllocateMemory failed with ErrorOutOfDeviceMemory"},
    {kDiscrete, "fail_pipeline", "pipelines", experiments::kErrorStatus,
     "vkCreateComputePipelines failed with ErrorOutOfHostMemory"},
    {kDiscrete, "fail_map", "maps", experiments::kErrorStatus, "vkMapMemory failed with ErrorMemoryMapFailed"},
    {kMobile, "lose_submit", "submits", experiments::kDeviceLostStatus, "failed with ErrorDeviceLost"},
    {kMobile, "lose_wait", "submits", experiments::kDeviceLostStatus, "failed with ErrorDeviceLost"},
    {kMobile, "hang_submit", "submits", experiments::kDeviceLostStatus, "nothing completed for 600 s"},
};

// The lines of stderr that are the program's last word.
std::vector<std::string> messages(const std::string& err) {
  std::vector<std::string> found;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("surtsey: ")) found.push_back(line);
  return found;
}

// What an undisturbed run leaves, and how often it met what a fault can hit.
struct Undisturbed {
  std::string result;
  std::map<std::string, int64_t> counts;
};

const Undisturbed& undisturbed(const char* limits) {
  static std::map<std::string, Undisturbed> known;
  const auto [found, added] = known.try_emplace(limits);
  if (!added) return found->second;
  // Twice: while the driver's caches are empty dispatches take long, and submissions are cut
  // shorter.
  for (const bool first : {true, false}) {
    FaultyRun training(limits);
    const Outcome whole = training.train("");
    INFO(whole.err);
    REQUIRE(whole.status == 0);
    REQUIRE(training.counted("alive") == 0);
    REQUIRE(training.counted("fired") == 0);
    for (const Fault& fault : kFaults) {
      int64_t& count = found->second.counts[fault.count];
      const int64_t now = training.counted(fault.count);
      count = first ? now : std::min(count, now);
    }
    if (!first) CHECK(training.result() == found->second.result);
    found->second.result = training.result();
  }
  REQUIRE(!found->second.result.empty());
  return found->second;
}

void check_fault(const Fault& fault, int64_t turn) {
  const Undisturbed& whole = undisturbed(fault.limits);
  REQUIRE(whole.counts.at(fault.count) >= turn);
  FaultyRun training(fault.limits);
  INFO(fmt::format("{}={}", fault.key, turn));
  const Outcome failed = training.train(fmt::format("{}={}", fault.key, turn));
  INFO(failed.err);
  CHECK(failed.status == fault.status);
  // Nothing of the device is left alive, and the device itself is destroyed. Of a device that hangs
  // nothing is destroyed: the layer ends the process that tries.
  const bool hangs = fault.key == std::string("hang_submit");
  CHECK(training.counted("fired") == (hangs ? -1 : 1));
  CHECK(training.counted("alive") == (hangs ? -1 : 0));
  const std::vector<std::string> said = messages(failed.err);
  REQUIRE(said.size() == 1);
  const auto says = [&](const char* what) { return said[0].find(what) != std::string::npos; };
  CHECK(says(fault.message));
  CHECK(says("llvmpipe"));
  if (fault.status == experiments::kDeviceLostStatus) {
    // What ran, how much of it, what is left, what to do.
    CHECK(says("under way was program '"));
    CHECK(says(", dispatches "));
    CHECK(says(" GFLOP; "));
    CHECK(
        says(training.has_checkpoint() ? "The newest checkpoint is of step " : "There is no checkpoint to go on from"));
    CHECK(says("--resume") == training.has_checkpoint());
  }
  const Outcome resumed = training.train("");
  INFO(resumed.err);
  CHECK(resumed.status == 0);
  CHECK(training.counted("alive") == 0);
  CHECK(training.result() == whole.result);
}

// Each of the first kTurns of a kind, by its key.
void check_first_twenty(const std::string& key) {
  (void)open_test_device();
  const auto fault =
      std::find_if(std::begin(kFaults), std::end(kFaults), [&](const Fault& row) { return key == row.key; });
  REQUIRE(fault != std::end(kFaults));
  const int64_t turns = undisturbed(fault->limits).counts.at(fault->count);
  if (key != "fail_map") REQUIRE(turns >= kTurns);
  for (int64_t turn = 1; turn <= std::min(kTurns, turns); ++turn) check_fault(*fault, turn);
}

}  // namespace

TEST_CASE("faults: a failing device is one message, and no checkpoint is lost", "[faults]") {
  (void)open_test_device();
  for (const Fault& fault : kFaults) check_fault(fault, 1);
  // Near the end, with a checkpoint to go on from.
  for (const Fault& fault : kFaults) {
    if (fault.status != experiments::kDeviceLostStatus) continue;
    check_fault(fault, undisturbed(fault.limits).counts.at(fault.count) * 2 / 3);
  }
}

// A test each kind, so that shards share them.
TEST_CASE("faults: each of the first twenty allocations", "[.fault_matrix]") { check_first_twenty("fail_allocation"); }

TEST_CASE("faults: each of the first twenty pipelines", "[.fault_matrix]") { check_first_twenty("fail_pipeline"); }

// They are few: an arena is mapped once.
TEST_CASE("faults: each of the maps", "[.fault_matrix]") { check_first_twenty("fail_map"); }

TEST_CASE("faults: each of the first twenty submissions", "[.fault_matrix]") { check_first_twenty("lose_submit"); }

TEST_CASE("faults: each of the first twenty submissions, lost while it runs", "[.fault_matrix]") {
  check_first_twenty("lose_wait");
}

TEST_CASE("faults: each of the first twenty submissions, never done", "[.fault_matrix]") {
  check_first_twenty("hang_submit");
}

}  // namespace surtsey::tests
