// Parity (E02): is the number of ones among n bits odd? Running parities are running sums modulo 2,
// so the task is the chain task over bits:
//
//   cot       C b1 .. bn = p1 p2 .. pn        p1 = b1, p_i = p_{i-1} xor b_i
//   direct    D b1 .. bn = pn                 chance is one half
//
// With the chain every step is a lookup of two bits; without it no subset of the bits says anything
// about the answer (Kim and Suzuki 2024, Wen et al. 2024). Below 20 bits there are fewer than 1e6
// prompts, so a share of them is kept out of training and is what tests ask.
#pragma once

#include <memory>

#include "experiments/tasks/chain.h"

namespace surtsey::experiments::tasks {

// The parity of `bits` bits under these arms of the chain task; throws UserError as that does, naming the key that says
// how many.
std::unique_ptr<ChainTask> make_parity(int32_t bits, std::vector<std::string> arms = {"cot", "direct"},
                                       std::string bits_key = "bits");

}  // namespace surtsey::experiments::tasks
