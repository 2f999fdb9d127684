// Programs on the device against the double interpreter.
#pragma once

#include "engine/session.h"
#include "graph/interpret.h"

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::tests {

// The device of the suite, opened once: SURTSEY_DEVICE and the other variables decide. Null when there is none.
engine::Device* suite_device();

// The test at hand needs a device: skips, loudly, when there is none.
#define SURTSEY_NEED_DEVICE()                                                        \
  surtsey::engine::Device* const device_pointer = surtsey::tests::suite_device();    \
  if (device_pointer == nullptr) SKIP("no Vulkan device: install a driver (mesa-vulkan-drivers has lavapipe)"); \
  surtsey::engine::Device& device = *device_pointer

// A way to compile everything that this device can run: kernel variants, addressing, fusion.
struct Variant {
  std::string name;
  graph::Target target;
};
// The device's defaults first, then every other legal choice, one at a time.
std::vector<Variant> variants(const engine::Device& device);

struct Tolerance {
  double absolute = 0, relative = 0;
};

// Where the device's values leave the reference: empty when they do not. NaN is wrong wherever the reference is a number.
std::string compare(const graph::HostTensor& device, const graph::HostTensor& reference, Tolerance tolerance);

// Runs the program `steps` times on the device, reading back outputs and assigned state ("state NAME").
std::map<std::string, graph::HostTensor> run_on_device(engine::Device& device, const graph::Target& target, const graph::Program& program,
                                                       const graph::State& state, uint32_t steps = 1);

// ||a - b|| / ||b||, Frobenius.
double relative_error(const graph::HostTensor& a, const graph::HostTensor& b);

}  // namespace surtsey::tests
