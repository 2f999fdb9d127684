// A change of a known rank under LoRA of that rank and of a smaller one, against the closed form.
#include "experiments/adapt/planted_change.h"
#include "graph/error.h"
#include "tests/support/device_suite.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("LoRA finds a planted change of its rank, and with one less only the least that Eckart and Young allow",
          "[device][adapt]") {
  SURTSEY_NEED_DEVICE();
  const PlantedOptions options{.width = 16, .rank = 2, .size = 2, .rows = 128, .steps = 600};
  const std::vector<PlantedResult> found = recover_planted(device, options, {{3, 1}, {3, 2}, {3, 3}, {4, 1}, {4, 2}});
  REQUIRE(found.size() == 5);
  for (const size_t small : {size_t{0}, size_t{3}}) {
    CHECK(found[small].least == 4.0 / 16);
    // What is learned from 128 rows is not quite what is best for all x.
    CHECK(found[small].loss >= found[small].least * (1 - 1e-6));
    CHECK(found[small].loss <= found[small].least * 1.3);
  }
  for (const size_t enough : {size_t{1}, size_t{2}, size_t{4}}) {
    CHECK(found[enough].least == 0);
    CHECK(found[enough].loss < 1e-7);
  }
  CHECK(found[0].loss != found[3].loss);
  // Nothing learned is the whole change: k s^2 / n.
  const std::vector<PlantedResult> none =
      recover_planted(device, {.width = 16, .rank = 2, .rows = 8, .steps = 1, .learning_rate = 0}, {{3, 1}});
  CHECK(std::abs(none[0].loss - 2.0 / 16) < 1e-6);
  CHECK_THROWS_WITH(recover_planted(device, options, {{3, 17}}), ContainsSubstring("rank 17"));
  CHECK_THROWS_WITH(recover_planted(device, {.width = 4, .rank = 5}, {{3, 1}}), ContainsSubstring("rank 5"));
}
