// How long training steps take: a start that does not depend on size, and a rate.
#pragma once

#include <algorithm>

namespace surtsey::experiments {

struct StepMeasurement {
  double flops = 0, seconds = 0;  // of one step
};

struct StepTime {
  double start = 0;     // seconds a step
  double per_flop = 0;  // seconds

  double seconds(double steps, double flops) const { return steps * start + flops * per_flop; }
};

// The line through two measurements; noise makes neither part of it negative. Steps that are about
// as large as each other give a rate alone.
inline StepTime fit_step_time(const StepMeasurement& small, const StepMeasurement& large) {
  StepTime time{0, large.seconds / large.flops};
  if (large.flops <= 1.5 * small.flops || large.seconds <= small.seconds) return time;
  const double slope = (large.seconds - small.seconds) / (large.flops - small.flops);
  time.start = std::max(0.0, small.seconds - slope * small.flops);
  time.per_flop = (large.seconds - time.start) / large.flops;
  return time;
}

}  // namespace surtsey::experiments
