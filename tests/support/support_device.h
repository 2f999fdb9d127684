// Devices for tests, and plans written by hand.
#pragma once

#include "engine/device.h"
#include "engine/offline.h"
#include "engine/session.h"

#include <catch2/catch_test_macros.hpp>

#include <optional>
#include <string>
#include <vector>

namespace surtsey::tests {

// Opens the device of the environment (SURTSEY_DEVICE, or the best one). A machine without any
// skips the test, and says so.
inline engine::Device open_test_device(engine::DeviceOptions options = {}) {
  options.quiet = true;
  std::string why;
  try {
    return engine::Device::open(options);
  } catch (const engine::DeviceError& error) {
    why = error.what();
  }
  fmt::print(stderr, "SKIPPED for want of a device: {}\n", why);
  SKIP(why);
  throw InternalError("SKIP does not return");
}

// Skips the test on a machine without the driver that compiles for AMD's GPUs.
inline void need_offline_driver() {
  try {
    engine::with_offline_device("amd:navi21", [](auto&) { return std::string(); });
  } catch (const UserError& error) {
    fmt::print(stderr, "SKIPPED for want of a null device: {}\n", error.what());
    SKIP(error.what());
  }
}

// Each addressing mode that the device has.
inline std::vector<graph::Addressing> addressing_modes(const engine::Device& device) {
  if (!device.target().buffer_address) return {graph::Addressing::descriptor};
  return {graph::Addressing::address, graph::Addressing::descriptor};
}

inline engine::SessionOptions quiet(const graph::Target& target) {
  return {.target = target, .cache = std::string(), .quiet = true};
}

// A kernel of one statement over f32 arrays, in either addressing mode. `statement` reads and
// writes a0[i], a1[i], ... for i < count, one per binding.
inline shaders::Shader hand_shader(const std::string& name, const graph::Target& target, uint32_t bindings,
                                   uint32_t count, const std::string& statement) {
  constexpr uint32_t kLocalSize = 32;
  std::string text = "#version 460\n";
  bool address = target.addressing == graph::Addressing::address;
  if (address) {
    text +=
        "#extension GL_EXT_buffer_reference : require\n#extension GL_EXT_buffer_reference_uvec2 : "
        "require\n"
        "layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float v[]; "
        "};\n"
        "layout(push_constant) uniform Arguments { uvec2 address[14]; uint base; uint reserved; "
        "};\n";
    for (uint32_t b = 0; b < bindings; ++b) text += fmt::format("#define a{0} Floats(address[{0}]).v\n", b);
  } else {
    text += "layout(push_constant) uniform Arguments { uint first[14]; uint base; uint reserved; };\n";
    for (uint32_t b = 0; b < bindings; ++b)
      text += fmt::format(
          "layout(set = 0, binding = {0}, std430) buffer B{0} {{ float v[]; }} b{0};\n"
          "#define a{0}(i) b{0}.v[first[{0}] + i]\n",
          b);
  }
  text += fmt::format("layout(local_size_x = {}) in;\nvoid main() {{\n", kLocalSize);
  text += fmt::format(
      "  uint i = (gl_WorkGroupID.x + base) * {} + gl_LocalInvocationID.x;\n  if (i >= {}u) "
      "return;\n",
      kLocalSize, count);
  std::string body = statement;
  if (!address)
    for (size_t at = 0; (at = body.find("[i]", at)) != std::string::npos;) body.replace(at, 3, "(i)");
  text += fmt::format("  {}\n}}\n", body);
  return {.name = name,
          .glsl = text,
          .workgroups = (count + kLocalSize - 1) / kLocalSize,
          .local_size = kLocalSize,
          .bindings = bindings};
}

inline graph::Buffer float_buffer(graph::BufferKind kind, const std::string& name, int64_t count, uint64_t offset = 0) {
  return {
      .kind = kind, .name = name, .type = {graph::DType::f32, {count}}, .bytes = uint64_t(count) * 4, .offset = offset};
}

inline graph::Access access(uint32_t buffer, uint64_t first, uint64_t count, bool read, bool write) {
  return {.buffer = buffer, .offset = first * 4, .bytes = count * 4, .read = read, .write = write};
}

struct HandMade {
  graph::Plan plan;
  std::vector<shaders::Shader> shaders;
};

// counter += 1; scratch = counter * 2; total += scratch; out = scratch - 1, of `count` elements: a
// hazard between any two neighbours and between replays.
inline HandMade counting_plan(const graph::Target& target, uint32_t count) {
  using graph::BufferKind;
  HandMade made;
  graph::Plan& plan = made.plan;
  plan.name = "counting";
  plan.buffers = {float_buffer(BufferKind::state, "counter", count), float_buffer(BufferKind::state, "total", count),
                  float_buffer(BufferKind::transient, "scratch", count),
                  float_buffer(BufferKind::output, "out", count)};
  plan.transient_bytes = uint64_t(count) * 4;
  const char* kNames[] = {"increment", "twice", "accumulate", "minus_one"};
  const char* kStatements[] = {"a0[i] = a0[i] + 1.0;", "a1[i] = a0[i] * 2.0;", "a1[i] = a1[i] + a0[i];",
                               "a1[i] = a0[i] - 1.0;"};
  for (uint32_t k = 0; k < 4; ++k) {
    graph::Kernel kernel;
    kernel.name = kNames[k];
    kernel.flops = count;
    kernel.bytes = uint64_t(count) * 8;
    plan.kernels.push_back(kernel);
    made.shaders.push_back(hand_shader(kNames[k], target, k == 0 ? 1 : 2, count, kStatements[k]));
  }
  plan.dispatches = {
      {.kernel = 0, .accesses = {access(0, 0, count, true, true)}, .scope = "first"},
      {.kernel = 1, .accesses = {access(0, 0, count, true, false), access(2, 0, count, false, true)}, .scope = ""},
      {.kernel = 2, .accesses = {access(2, 0, count, true, false), access(1, 0, count, true, true)}, .scope = ""},
      {.kernel = 3, .accesses = {access(2, 0, count, true, false), access(3, 0, count, false, true)}, .scope = ""}};
  plan.barriers = {1, 2, 4};
  return made;
}

}  // namespace surtsey::tests
