// Curves and rates with a closed form: isotonic regression and pass@k.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace surtsey::experiments {

// The nondecreasing sequence nearest to `values` in weighted least squares, by pooling adjacent
// violators. No weights: all equal. UserError when sizes differ or a weight is not positive.
std::vector<double> isotonic_fit(std::span<const double> values, std::span<const double> weights = {});

// Share of the variance of `values` that `fitted` explains: 1 - residual / total sum of squares;
// 1 when the values do not vary and are met, 0 when they do not vary and are missed.
double explained_variance(std::span<const double> values, std::span<const double> fitted);

// Unbiased probability that at least one of k samples is right, given that `correct` of `samples`
// drawn ones were: 1 - C(samples - correct, k) / C(samples, k) (Chen et al. 2021). UserError unless
// 0 <= correct <= samples and 1 <= k <= samples.
double pass_at_k(int64_t samples, int64_t correct, int64_t k);

}  // namespace surtsey::experiments
