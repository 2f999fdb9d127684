// A driver that dies of our first kernels: it is survived, told and remembered.
#include "engine/trial.h"
#include "graph/debug.h"
#include "tests/support/folder.h"
#include "tests/support/layered.h"
#include "tests/support/support_device.h"

#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>

using namespace surtsey;
using namespace surtsey::engine;
using namespace surtsey::tests;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

const DeviceInfo kGpu{
    .name = "gpu", .driver = "driver 1.0", .features = {"buffer_address", "cooperative_matrix", "int64_words"}};

// A driver that dies at that step until all those rows are left out.
struct Fragile {
  std::string step;
  std::vector<std::string> deadly;
  int attempts = 0;
  ChildResult operator()(const std::vector<std::string>& without) {
    ++attempts;
    for (const std::string& row : deadly)
      if (std::find(without.begin(), without.end(), row) == without.end())
        return {.progress = step, .death = "signal 11 (Segmentation fault)"};
    return {.finished = true};
  }
};

// The cache folder of a test's own.
class OwnCache {
 public:
  OwnCache() : before_(environment("SURTSEY_CACHE")) { setenv("SURTSEY_CACHE", folder_.path().c_str(), 1); }
  ~OwnCache() {
    if (before_.empty())
      unsetenv("SURTSEY_CACHE");
    else
      setenv("SURTSEY_CACHE", before_.c_str(), 1);
  }

 private:
  Folder folder_;
  std::string before_;
};

bool in_use(const Device& device, const std::string& row) {
  const std::vector<std::string>& on = device.info().features;
  return std::find(on.begin(), on.end(), row) != on.end();
}

}  // namespace

TEST_CASE("a driver that dies of a path is used without it", "[engine]") {
  Fragile sound{};
  CHECK(survive(kGpu, std::ref(sound)).without.empty());
  CHECK(sound.attempts == 1);

  Fragile words{kFirstKernels, {"int64_words"}};
  const Trial trial = survive(kGpu, std::ref(words));
  CHECK(trial.without == std::vector<std::string>{"int64_words"});
  for (const char* part : {"gpu", "driver 1.0", "signal 11", kFirstKernels, "without int64_words it does not"})
    CHECK_THAT(trial.told, ContainsSubstring(part));

  Fragile matrices{kCheckingMatrices, {"cooperative_matrix"}};
  CHECK(survive(kGpu, std::ref(matrices)).without == std::vector<std::string>{"cooperative_matrix"});
  CHECK(matrices.attempts == 2);

  Fragile hopeless{kFirstKernels, {"fusion"}};
  CHECK_THROWS_MATCHES(
      survive(kGpu, std::ref(hopeless)), DeviceError,
      MessageMatches(ContainsSubstring("whatever it does without") && ContainsSubstring("SURTSEY_DEVICE")));
  // A row that is off already cannot be the reason.
  DeviceInfo plain = kGpu;
  plain.features = {"buffer_address"};
  Fragile addresses{kFirstKernels, {"buffer_address"}};
  CHECK(survive(plain, std::ref(addresses)).without == std::vector<std::string>{"buffer_address"});
}

TEST_CASE("what was found out about a driver is kept for its version", "[engine]") {
  const Folder folder;
  const std::string at = folder.path().string();
  CHECK_FALSE(kept_trial(at, kGpu).has_value());
  keep_trial(at, kGpu, {.without = {"int64_words", "cooperative_matrix"}, .told = "it died"});
  const auto kept = kept_trial(at, kGpu);
  REQUIRE(kept.has_value());
  CHECK(kept->without == std::vector<std::string>{"int64_words", "cooperative_matrix"});
  CHECK(kept->told == "it died");
  DeviceInfo newer = kGpu;
  newer.driver = "driver 1.1";
  CHECK_FALSE(kept_trial(at, newer).has_value());
  keep_trial(at, newer, {});
  REQUIRE(kept_trial(at, newer).has_value());
  CHECK(kept_trial(at, newer)->without.empty());
  CHECK_FALSE(kept_trial("", kGpu).has_value());
}

TEST_CASE("a device whose driver dies of 64-bit integers opens without them, and the next time at once",
          "[engine][device]") {
  {
    const OwnCache cache;
    const Device whole = open_test_device();
    if (!in_use(whole, "int64_words") || !whole.target().stores_pairs()) SKIP("the device makes no 64-bit words");
  }
  const OwnCache cache;
  const Folder folder;
  const std::string report = (folder / "report").string();
  for (int time = 0; time < 2; ++time) {
    const Layered layered("die_of_int64=1,report=" + report);
    Device device = open_test_device();
    CHECK_FALSE(in_use(device, "int64_words"));
    CHECK_THAT(print_paths(device.info()), ContainsSubstring("int64_words (this version of the driver dies of it)"));
    run_first_kernels(device);
  }
  CHECK_THAT(slurp(report), ContainsSubstring("alive=0"));
}

TEST_CASE("a device whose driver dies whatever is left out is refused with a message", "[engine][device]") {
  (void)open_test_device();
  const OwnCache cache;
  const Layered layered("die_of_pipelines=1");
  CHECK_THROWS_MATCHES(Device::open({.quiet = true}), DeviceError,
                       MessageMatches(ContainsSubstring("signal 6") && ContainsSubstring(kFirstKernels)));
}
