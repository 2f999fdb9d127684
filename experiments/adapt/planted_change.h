// A matrix with a planted change of a known rank, which LoRA is to find again: where the right answer and the least
// that too small a rank can reach are known in closed form.
//
// The matrix W is [n, n], the change D = s U V^T with U and V [n, k] of orthonormal columns: rank k, every singular
// value s. From x, standard normal, LoRA of rank r learns y = x (W + D)^T beside the frozen W. The expected squared
// error per number of y is |D - (its own change)|^2 / n (Frobenius), which no rank r < k brings below (k - r) s^2 / n
// (Eckart and Young 1936).
//
// Members differ in seed (W, D, x and the adapter's start) and in rank, and train as one ensemble. State beside that of
// optimizer.h, [E, ..] with E members: planted.weight [n, n], planted.x and planted.y [rows, n], lora.scale [R].
#pragma once

#include "engine/session.h"

#include <cstdint>
#include <vector>

namespace surtsey::experiments {

struct PlantedOptions {
  int64_t width = 64;  // n
  int64_t rank = 4;    // k, at most n
  double size = 1;     // s
  int64_t rows = 512;  // x that are learned from, all at every step
  int64_t steps = 1500;
  double learning_rate = 1e-2;  // of Adam; falls to 0 in a line
  double lora_scale = 2;        // s of h + s (x A^T) B^T
};

struct PlantedMember {
  uint32_t seed = 0;
  int64_t rank = 1;  // r
};

struct PlantedResult {
  double loss = 0;   // |D - s B A|^2 / n, by the host in double from what was trained
  double least = 0;  // (k - r) s^2 / n, 0 from r = k on
};

// Trains all members at once. UserError: a rank that is not in [1, n], no member.
std::vector<PlantedResult> recover_planted(engine::Device& device, const PlantedOptions& options,
                                           const std::vector<PlantedMember>& members);

}  // namespace surtsey::experiments
