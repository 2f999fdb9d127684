// What several sampled answers to one question are worth: voting (Wang et al. 2022) and the chance
// that one of them is right. pass@k is in statistics/curves.h.
#pragma once

#include <cstdint>
#include <span>

namespace surtsey::experiments {

// The most frequent answer, of equals the one that came first. UserError for none.
int32_t majority(std::span<const int32_t> answers);

// Share of groups of k consecutive answers whose majority is `right`; what is left over at the end
// is not used. UserError unless 1 <= k <= answers.
double majority_at_k(std::span<const int32_t> answers, int32_t right, int32_t k);

}  // namespace surtsey::experiments
