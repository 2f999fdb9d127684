// Whole models against PyTorch, through the double interpreter: what is wrong here is wrong in the
// graph, whatever the device.
#include "tests/golden.h"

#include <catch2/catch_test_macros.hpp>

using namespace surtsey;

TEST_CASE("the interpreter agrees with PyTorch on whole models") {
  for (const char* name : tests::golden_names()) {
    // The references are stored in f32, and the state goes through f32 between steps.
    tests::check_golden(name, graph::interpret, {.tensor = 1e-6, .loss = 1e-6});
  }
}
