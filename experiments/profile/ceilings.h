// What a device does at best, measured on it and not taken from a data sheet: what a profile holds
// kernels against.
//
// Each ceiling is the best of several runs of a kernel written for nothing else, through the same
// path as every other kernel: a plan, a shader, timestamps around the whole. Best and not typical,
// as a ceiling that a busy machine lowers would make kernels look better than they are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/device.h"

namespace surtsey::experiments {

struct CopyRate {
  uint64_t working_set = 0;  // bytes, source and destination together
  double gbs = 0;            // read plus written, GB/s
};

struct Ceilings {
  double f32_gflops = 0;         // multiply-adds, two operations each
  double f16_gflops = 0;         // the same in packed halves; 0 where the device has no such arithmetic
  std::vector<CopyRate> copies;  // the working set grows
  double read_gbs = 0;           // sums over more than any cache holds
  double broadcast_gbs = 0;      // all lanes read one address, bytes counted for every lane
  double shared_gbs = 0;         // loads from shared memory
  double dispatch_us = 0;        // an empty dispatch with a barrier to the next one
  uint32_t runs = 1;             // measurements that these are the best of
  bool from_cache = false;

  double copy_gbs() const;  // of the largest working set: memory
  // Of the smallest measured working set that holds so many bytes: small kernels live in caches.
  double copy_gbs(double bytes) const;
};

// A line a ceiling: "f32 multiply-add", "41.2 GFLOP/s", how it was measured.
struct CeilingLine {
  std::string name, value, how;
};
std::vector<CeilingLine> describe(const Ceilings& ceilings);

// Measures for about a second, or reads what an earlier process measured for this device, driver
// and addressing mode. `folder` is a cache directory, empty for none; a file that is not whole or
// of another device is measured again and replaced. `again` measures in any case.
Ceilings measure_ceilings(engine::Device& device, const std::string& folder, bool again = false);

// Measures again for a kernel that beats what an earlier process measured, on a busy machine
// perhaps: the better of both, ceiling by ceiling, also on disk. Not when `known` are the best of
// kMostRuns: what still beats them lives in a cache or in luck, and false is returned.
inline constexpr uint32_t kMostRuns = 3;
bool raise_ceilings(engine::Device& device, const std::string& folder, Ceilings& known);

// The file of this device, driver and addressing mode.
std::string ceilings_file(const engine::DeviceInfo& info, const std::string& folder);

}  // namespace surtsey::experiments
