// Where the time of a step goes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace surtsey::engine {

struct DispatchTime {
  std::string kernel;  // matmul_nt_64x32x512_gelu
  std::string scope;   // of the model
  uint64_t ns = 0;     // device time, the dispatch alone between two barriers
  uint64_t flops = 0;
  uint64_t bytes = 0;
};

struct KernelTime {
  std::string kernel;
  uint32_t calls = 0;
  uint64_t ns = 0;
  uint64_t flops = 0;
  uint64_t bytes = 0;
};

// By kernel, the one that takes longest first.
std::vector<KernelTime> by_kernel(const std::vector<DispatchTime>& dispatches);

// A table: calls, ms, share, GFLOP/s, GB/s.
std::string print(const std::vector<KernelTime>& kernels);

}  // namespace surtsey::engine
