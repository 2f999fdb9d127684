// What the test layer is asked to do, from one environment variable:
//
//   SURTSEY_LAYER="limits=mobile,fail_allocation=3,report=/tmp/report"
//
// Keys, all optional:
//   limits           minimum | mobile | discrete: the device reports less than it has (limits.h)
//   max_allocation   bytes: the largest allocation that the device reports
//   vulkan12         1: the device has Vulkan 1.2, and what it uses of 1.3 as extensions
//   no_timestamps    1: queues have no timestamps, as Vulkan allows
//   fail_allocation  n: the n-th vkAllocateMemory finds no memory
//   fail_pipeline    n: the n-th compute pipeline is not created
//   fail_map         n: the n-th vkMapMemory fails
//   lose_submit      n: the device is lost at the n-th submission
//   lose_wait        n: the n-th submission is taken and never runs; waiting loses the device
//   hang_submit      n: the n-th submission runs, but is never seen to complete: waits for it time
//                    out at once. What destroys an object from then on ends the process
//   pipeline_cache   1: pipelines are kept in VkPipelineCache, and damaged data ends the process,
//                    as with drivers that trust what they are given
//   grow_cache       1: with pipeline_cache, its data never fits the size that was told
//   die_of_int64     1: a pipeline whose shader has 64-bit integers ends the process
//   die_of_pipelines 1: any pipeline does
//   wait_idle        1: a submission is waited for before it returns, and timeline semaphores are
//                    kept by this layer. For GPU-assisted validation below it: layers of 1.3.239
//                    do not follow submissions in that mode, and wait ten seconds for each value
//                    (KhronosGroup/Vulkan-ValidationLayers#4968)
//   report           a file: a line of counts is appended when the device is destroyed
//
// n counts from 1 within a device; 0 is never.
#pragma once

#include <cstdint>
#include <string>

namespace surtsey::layer {

struct Settings {
  std::string limits;
  uint64_t max_allocation = 0;
  uint64_t vulkan12 = 0;
  uint64_t no_timestamps = 0;
  uint64_t fail_allocation = 0;
  uint64_t fail_pipeline = 0;
  uint64_t fail_map = 0;
  uint64_t lose_submit = 0;
  uint64_t lose_wait = 0;
  uint64_t hang_submit = 0;
  uint64_t pipeline_cache = 0;
  uint64_t grow_cache = 0;
  uint64_t die_of_int64 = 0;
  uint64_t die_of_pipelines = 0;
  uint64_t wait_idle = 0;
  std::string report;
};

// False, after a line on stderr, when the text is not understood.
bool parse_settings(const std::string& text, Settings& settings);

// The only place that reads the environment.
bool read_settings(Settings& settings);

}  // namespace surtsey::layer
