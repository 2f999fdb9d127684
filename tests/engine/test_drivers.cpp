// What becomes of a driver's words, limits and versions; none of it needs the driver.
#include "engine/features.h"
#include "engine/instance.h"
#include "engine/quirks.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "shaders/emit.h"
#include "tests/support/support_device.h"

#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <cstring>

using namespace surtsey;
using namespace surtsey::engine;
using Catch::Matchers::ContainsSubstring;

namespace {

// A small GPU with all that is required, and buffer addresses.
Capabilities made_up(uint32_t version) {
  Capabilities c;
  c.properties.apiVersion = version;
  c.properties.deviceType = vk::PhysicalDeviceType::eIntegratedGpu;
  vk::PhysicalDeviceLimits& limits = c.properties.limits;
  limits.maxComputeWorkGroupInvocations = 256;
  limits.maxComputeWorkGroupSize[0] = 256;
  limits.maxComputeWorkGroupCount[0] = 65535;
  limits.maxComputeSharedMemorySize = 16384;
  limits.maxPushConstantsSize = 128;
  limits.maxPerStageDescriptorStorageBuffers = limits.maxDescriptorSetStorageBuffers = 8;
  limits.minStorageBufferOffsetAlignment = 32;
  limits.maxStorageBufferRange = 1u << 30;
  c.maintenance3.maxMemoryAllocationSize = 1u << 30;
  c.memory.memoryTypeCount = 1;
  c.queue_family = 0;
  c.features12.timelineSemaphore = c.features12.bufferDeviceAddress = true;
  c.features13.synchronization2 = true;
  return c;
}

bool asks_for(const FeatureSet& set, const char* extension) {
  return std::any_of(set.extensions.begin(), set.extensions.end(),
                     [&](const char* one) { return std::strcmp(one, extension) == 0; });
}

}  // namespace

TEST_CASE("a device of Vulkan 1.2 runs with what it has as extensions", "[engine]") {
  Capabilities c = made_up(VK_API_VERSION_1_3);
  CHECK_FALSE(asks_for(choose_features(c, {}), "VK_KHR_synchronization2"));
  c.properties.apiVersion = VK_API_VERSION_1_2;
  c.extensions = {"VK_EXT_pipeline_creation_feedback"};
  const FeatureSet chosen = choose_features(c, {});
  CHECK(chosen.missing == "");
  CHECK(asks_for(chosen, "VK_KHR_synchronization2"));
  CHECK(asks_for(chosen, "VK_EXT_pipeline_creation_feedback"));
  CHECK_FALSE(asks_for(chosen, "VK_EXT_subgroup_size_control"));

  c.features13.synchronization2 = false;  // as query() leaves it where the extension is missing
  CHECK_THAT(choose_features(c, {}).missing, ContainsSubstring("it lacks synchronization2"));
  c.properties.apiVersion = VK_API_VERSION_1_1;
  CHECK(choose_features(c, {}).missing == "it has Vulkan 1.1, 1.2 is required");
}

TEST_CASE("a device over another API is asked for the subset that it implements", "[engine]") {
  Capabilities c = made_up(VK_API_VERSION_1_3);
  CHECK_FALSE(asks_for(choose_features(c, {}), "VK_KHR_portability_subset"));
  c.extensions = {"VK_KHR_portability_subset"};
  CHECK(asks_for(choose_features(c, {}), "VK_KHR_portability_subset"));
}

TEST_CASE("eight storage buffers a stage bind no kernel that goes by address", "[engine]") {
  // As v3dv says of the Raspberry Pi 5; a sum of twelve tensors is one kernel by address.
  const graph::Target target = choose_features(made_up(VK_API_VERSION_1_3), {}).target;
  CHECK(target.addressing == graph::Addressing::address);
  CHECK(target.max_storage_buffers == 8);
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  const auto parameter = [&](int i) {
    return program.graph->parameter(fmt::format("x{}", i), {graph::DType::f32, {64}});
  };
  graph::Value sum = parameter(0);
  for (int i = 1; i < 12; ++i) sum = sum + parameter(i);
  program.outputs = {{"sum", sum}};
  graph::Target bound = target;
  bound.addressing = graph::Addressing::descriptor;
  for (const graph::Target& one : {target, bound}) {
    const graph::Plan plan = graph::compile(program, one);
    (void)shaders::emit(plan, one);
    CHECK((plan.kernels.size() == 1) == (one.addressing == graph::Addressing::address));
    for (const graph::Dispatch& dispatch : plan.dispatches) CHECK(dispatch.accesses.size() <= one.max_bindings());
  }
}

TEST_CASE("lavapipe does without 64-bit words where its compiler dies of them", "[engine]") {
  Capabilities c = made_up(VK_API_VERSION_1_3);
  c.driver.driverID = vk::DriverId::eMesaLlvmpipe;
  const auto without = [&](const char* version, uint32_t subgroup_size) {
    std::strncpy(c.driver.driverInfo.data(), version, c.driver.driverInfo.size() - 1);
    c.subgroup.subgroupSize = subgroup_size;
    return rows_without(c).size();
  };
  CHECK(without("Mesa 26.1.6-1~bpo13+1 (LLVM 19.1.7)", 16) == 2);
  CHECK(without("Mesa 26.1.6-1~bpo13+1 (LLVM 19.1.7)", 8) == 0);
  CHECK(without("Mesa 25.0.7-2 (LLVM 19.1.7)", 16) == 0);
  CHECK(without("a version of its own", 16) == 0);
  c.features.shaderInt64 = true;
  CHECK(choose_features(c, {}).target.int64_words);
  without("Mesa 26.2.6-1 (LLVM 22.1.8)", 16);
  const FeatureSet chosen = choose_features(c, {});
  CHECK_FALSE(chosen.target.int64_words);
  CHECK_THAT(fmt::format("{}", fmt::join(chosen.off, "; ")), ContainsSubstring("int64_words (lavapipe from Mesa 25.1"));
}

TEST_CASE("messages of validation are whole, whichever layer says them", "[engine]") {
  // Layers of 1.3.239 have the id and the objects' names in the text, those of 1.4 beside it.
  const std::string old = "Validation Error: [ SYNC-HAZARD-READ-AFTER-WRITE ] Object 0: .. [counting [0, 4)] | ..";
  CHECK(whole_message("SYNC-HAZARD-READ-AFTER-WRITE", old, {"counting [0, 4)"}) == old);
  CHECK(whole_message("SYNC-HAZARD-READ-AFTER-WRITE", "READ_AFTER_WRITE hazard detected.", {"counting [0, 4)"}) ==
        "SYNC-HAZARD-READ-AFTER-WRITE: READ_AFTER_WRITE hazard detected. [counting [0, 4)]");
  CHECK(whole_message("", "text", {}) == "text");

  CHECK(about_the_layer("VALIDATION-SETTINGS", "both are set"));
  CHECK(about_the_layer("WARNING-Setting-Limit-Adjusted", "lowered"));
  CHECK(about_the_layer("GPUAV-Compile-time-general-buffer", "this takes long"));
  CHECK(about_the_layer("UNASSIGNED-x", "No buffer device address checking will be attempted"));
  CHECK_FALSE(about_the_layer("SYNC-HAZARD-WRITE-AFTER-WRITE", "hazard"));
  CHECK_FALSE(about_the_layer("VUID-vkCmdDispatch-storageBuffers-06936", "out of bounds"));
}

TEST_CASE("neighbours that descriptors bind with overlap get a barrier between them", "[engine][plan]") {
  // A concat of rows of 28 and 8 bytes: bound at multiples of 16, the second begins within the first.
  graph::Plan plan;
  plan.buffers.push_back({.name = "parts", .type = {graph::DType::f32, {9}}, .bytes = 36});
  plan.kernels.resize(1);
  for (const auto& [offset, bytes] : {std::pair<uint64_t, uint64_t>(0, 28), {28, 8}})
    plan.dispatches.push_back({.accesses = {{.buffer = 0, .offset = offset, .bytes = bytes, .write = true}}});
  graph::Plan bound = plan;
  bound.bound_alignment = 16;
  CHECK_FALSE(graph::uncovered_hazards(bound).empty());
  place_barriers(plan);
  place_barriers(bound);
  CHECK(plan.barriers == std::vector<uint32_t>{2});  // the next replay writes both again
  CHECK(bound.barriers == std::vector<uint32_t>{1, 2});
  CHECK(graph::uncovered_hazards(bound).empty());
}
