#include "engine/quirks.h"

#include "graph/debug.h"
#include "graph/platform.h"

#include <cstdio>
#include <mutex>

namespace surtsey::engine {
namespace {

constexpr uint32_t kVendorIntel = 0x8086;

bool wide_vectors(bool) {
#if defined(__x86_64__) || defined(__i386__)
  return __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

bool is_lavapipe(const Capabilities& c) { return c.driver.driverID == vk::DriverId::eMesaLlvmpipe; }

bool intel_gpu(const Capabilities& c) { return c.properties.vendorID == kVendorIntel && !c.cpu(); }

// "Mesa 26.1.6-1 (LLVM 19.1.7)": {26, 1}; {0, 0} when the text says nothing of the kind.
std::pair<int, int> mesa_version(const Capabilities& c) {
  std::pair<int, int> version{0, 0};
  if (std::sscanf(c.driver.driverInfo.data(), "Mesa %d.%d", &version.first, &version.second) != 2) return {0, 0};
  return version;
}

constexpr ProcessQuirk kProcessQuirks[] = {
    {"LP_NATIVE_VECTOR_WIDTH", "512", wide_vectors, is_lavapipe,
     "lavapipe uses 256-bit vectors on AVX-512 processors unless it is told; 512 is 1.3 to 1.5 "
     "times faster in matmul",
     "https://docs.mesa3d.org/envvars.html#envvar-LP_NATIVE_VECTOR_WIDTH"},
    {"VK_KHRONOS_VALIDATION_SYNCVAL_SHADER_ACCESSES_HEURISTIC", "true", [](bool validation) { return validation; },
     [](const Capabilities&) { return false; },
     "layers of Vulkan 1.4 do not report storage buffer races between dispatches unless this is "
     "on; older ones ignore it",
     "https://github.com/KhronosGroup/Vulkan-ValidationLayers/blob/main/docs/syncval_usage.md"},
};

constexpr Quirk kQuirks[] = {
    {"swiftshader is the last choice",
     [](const Capabilities& c) { return c.driver.driverID == vk::DriverId::eGoogleSwiftshader; },
     [](QuirkEffects& effects) { effects.preference -= 2; },
     "slower than lavapipe, and its tanh is NaN from |x| = 89 on, its sin and cos are off by "
     "1.9e-4",
     "https://swiftshader.googlesource.com/SwiftShader"},
    {"lavapipe first among CPU devices", is_lavapipe, [](QuirkEffects& effects) { effects.preference += 1; },
     "the fastest CPU driver, and the one that is measured", "https://docs.mesa3d.org/drivers/llvmpipe.html"},
    {"intel: subgroups of 16", intel_gpu, [](QuirkEffects& effects) { effects.subgroup_size = 16; },
     "the compiler picks 8, 16 or 32 lanes a shader whatever subgroupSize says (32): a size has to "
     "be asked for, and 32 spills",
     "https://docs.mesa3d.org/drivers/anv.html"},
    // By the width of the matrices: 8 columns on DG2 and what descends from it, 16 from Xe2 on.
    {"intel: cooperative tiles of 8 sums a lane, in subgroups of 8",
     [](const Capabilities& c) { return intel_gpu(c) && c.cooperative.n == 8; },
     [](QuirkEffects& effects) {
       effects.subgroup_size = 8;
       effects.cooperative_floats = 8;
     },
     "DG2's compiler spills 345 registers of our largest tile, 12 to 81 of those of 16 sums or twice the depth; of "
     "tiles of 32x32x32 in subgroups of 8 none, where K is whole runs of 8 (else 3 to 9, so such products go without)",
     "https://docs.mesa3d.org/drivers/anv.html"},
    {"intel: cooperative tiles of 8 sums a lane",
     [](const Capabilities& c) { return intel_gpu(c) && c.cooperative.n > 8; },
     [](QuirkEffects& effects) { effects.cooperative_floats = 8; },
     "the compiler for BMG and LNL spills 465 to 529 registers of a tile of 128 sums a lane; of 32 sums none in Mesa "
     "26.1, "
     "23 to 44 in 26.2; of 8 none",
     "https://docs.mesa3d.org/drivers/anv.html"},
    // Fine in 25.0.7, measured broken in 26.1.6 and 26.2.6; nothing is known of what lies between.
    {"lavapipe from Mesa 25.1 on: no 64-bit words at 512 bits",
     [](const Capabilities& c) {
       return is_lavapipe(c) && c.subgroup.subgroupSize >= 16 && mesa_version(c) >= std::pair(25, 1);
     },
     [](QuirkEffects& effects) {
       effects.without.push_back("int64_words");
       effects.without.push_back("cooperative_matrix");
     },
     "64-bit words put together of two halves (packUint2x32) in 16 lanes overrun a buffer of the driver's compiler, "
     "and cooperative matrices crash it: the process dies",
     "scripts/reproducers/lavapipe_int64_512"},
};

}  // namespace

std::span<const Quirk> quirk_table() { return kQuirks; }
std::span<const ProcessQuirk> process_quirk_table() { return kProcessQuirks; }

void apply_process_quirks(bool validation) {
  // Setting one is not safe next to another thread that reads the environment, so it is done at most
  // once a row.
  static std::mutex mutex;
  std::scoped_lock lock(mutex);
  for (const ProcessQuirk& quirk : kProcessQuirks)
    if (quirk.match(validation) && environment(quirk.variable).empty())
      platform::set_variable(quirk.variable, quirk.value);
}

std::vector<std::string> quirks_in_use(const Capabilities& capabilities) {
  std::vector<std::string> lines;
  for (const ProcessQuirk& quirk : kProcessQuirks)
    if (quirk.concerns(capabilities) && environment(quirk.variable) == quirk.value)
      lines.push_back(fmt::format("{}={}: {}", quirk.variable, quirk.value, quirk.reason));
  for (const Quirk& quirk : kQuirks) {
    QuirkEffects effects;
    if (quirk.match(capabilities)) quirk.effect(effects);
    if (effects.subgroup_size != 0 || effects.cooperative_floats != 0 || !effects.without.empty())
      lines.push_back(fmt::format("{}: {}", quirk.name, quirk.reason));
  }
  return lines;
}

std::vector<WithoutRow> rows_without(const Capabilities& capabilities) {
  std::vector<WithoutRow> rows;
  for (const Quirk& quirk : kQuirks) {
    if (!quirk.match(capabilities)) continue;
    QuirkEffects effects;
    quirk.effect(effects);
    for (const char* row : effects.without) rows.push_back({row, quirk.name});
  }
  return rows;
}

QuirkEffects quirk_effects(const Capabilities& capabilities) {
  QuirkEffects effects;
  for (const Quirk& quirk : kQuirks)
    if (quirk.match(capabilities)) quirk.effect(effects);
  return effects;
}

uint32_t preferred_subgroup_size(const Capabilities& capabilities) {
  uint32_t size = quirk_effects(capabilities).subgroup_size;
  if (size != 0 && capabilities.fixed_subgroup_size(size)) return size;
  return capabilities.subgroup.subgroupSize;
}

}  // namespace surtsey::engine
