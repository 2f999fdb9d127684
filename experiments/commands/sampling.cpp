#include "experiments/commands/sampling.h"

#include "graph/error.h"
#include "graph/random.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace surtsey::experiments::commands {

int32_t choose_token(std::span<const float> logits, const TokenChoice& choice, uint32_t step,
                     uint32_t index) {
  for (const float logit : logits) {
    check(!std::isnan(logit), "the model's output is not a number: its training diverged");
  }
  // Most likely first; equal ones by token, so that the order is the same everywhere.
  std::vector<int32_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  std::stable_sort(tokens.begin(), tokens.end(),
                   [&](int32_t a, int32_t b) { return logits[size_t(a)] > logits[size_t(b)]; });
  if (choice.temperature == 0) return tokens[0];
  if (choice.top_k > 0 && size_t(choice.top_k) < tokens.size()) tokens.resize(size_t(choice.top_k));

  std::vector<double> weights;
  const double most = logits[size_t(tokens[0])];
  for (const int32_t token : tokens) {
    weights.push_back(std::exp((double(logits[size_t(token)]) - most) / choice.temperature));
  }
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double kept = 0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < choice.top_p * total)) {
    kept += weights[count++];
  }
  const uint32_t key = graph::stream_seed(choice.seed, "sample");
  double left = double(graph::random_uniform(key, step, index)) * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    left -= weights[i];
    if (left < 0) return tokens[i];
  }
  return tokens[count - 1];
}

}  // namespace surtsey::experiments::commands
