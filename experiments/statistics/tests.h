// Exact tests. All p-values are two-sided: twice the smaller tail, at most 1.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace surtsey::experiments {

// Exact McNemar test of two prompts on the same items and the same weights: only_first items were
// right under the first prompt alone, only_second under the second alone. Within one model; seeds
// are compared by the tests below.
double mcnemar(int64_t only_first, int64_t only_second);

// Exact permutation test of the difference of means of two groups of seeds, over every way to
// deal the values into groups of these sizes. 3 against 3 cannot go below .10, 4 against 4 not
// below .029, 5 against 5 not below .008. UserError for an empty group or more than 24 values.
double permutation_test(std::span<const double> first, std::span<const double> second);

// Exact sign-flip test that the mean of paired differences is zero, over all 2^n signs: five pairs
// cannot go below .0625. UserError for no pair or more than 24.
double sign_flip_test(std::span<const double> differences);

// Holm's step-down adjustment (1979): adjusted p-values in the order given.
std::vector<double> holm(std::span<const double> p_values);

}  // namespace surtsey::experiments
