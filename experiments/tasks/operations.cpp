#include "experiments/tasks/operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

constexpr uint32_t kOperationDraw = 0x0b7e15;  // of a sample's operation, apart from those of its digits

PromptedTask::Layout operations_layout(const OperationsOptions& options) {
  check_range("[operations] digits", options.digits, 2, 100);
  check_range("[operations] modulus", options.modulus, 2, 100);
  PromptedTask::Layout layout;
  layout.name = "operations";
  for (int32_t digit = 0; digit < options.modulus; ++digit) layout.symbols.push_back(fmt::to_string(digit));
  layout.symbols.push_back("=");
  for (const Operation& one : options.operations) {
    check(!one.marker.empty(), "[operations] {} has no marker", one.name);
    for (const Operation& other : options.operations)
      check(&one == &other || one.marker != other.marker, "[operations] {} and {} have the same marker '{}'", one.name,
            other.name, one.marker);
    const bool symbol = std::find(layout.symbols.begin(), layout.symbols.end(), one.marker) != layout.symbols.end();
    check(!symbol && one.marker != "_", "[operations] the marker '{}' is a symbol of the prompts", one.marker);
    check(std::gcd(one.b, options.modulus) == 1,
          "[operations] {}: b = {} shares a factor with the modulus {}, so that results are not uniform", one.name,
          one.b, options.modulus);
    layout.arms.push_back({one.name, one.marker, options.digits - 1});
  }
  layout.prompt_length = options.digits + 1;
  layout.chance = 1.0 / options.modulus;
  return layout;
}

}  // namespace

OperationsTask::OperationsTask(OperationsOptions options)
    : PromptedTask(operations_layout(options)), options_(std::move(options)) {
  const size_t count = options_.operations.size();
  if (options_.shares.empty()) options_.shares.assign(count, 1);
  check(options_.shares.size() == count, "[operations] {} shares for {} operations", options_.shares.size(), count);
  double sum = 0;
  for (const double share : options_.shares) {
    check(share >= 0, "[operations] the share {} is negative", share);
    sum += share;
  }
  check(sum > 0, "[operations] all shares are 0: nothing would be trained");
  double before = 0;
  for (const double share : options_.shares) up_to_.push_back((before += share) / sum);
}

int32_t OperationsTask::sampled_arm(uint32_t key, uint32_t) const {
  const double place = graph::uniform_from_bits(graph::random_bits(key, kOperationDraw, 0));
  size_t arm = 0;
  while (arm + 1 < up_to_.size() && (place >= up_to_[arm] || options_.shares[arm] == 0)) ++arm;
  while (options_.shares[arm] == 0) --arm;  // what rounding leaves past the last share that is not 0
  return static_cast<int32_t>(arm);
}

void OperationsTask::write_problem(int32_t arm, Draws& draws, std::span<int32_t> prompt,
                                   std::span<int32_t> answer) const {
  const Operation& operation = options_.operations[static_cast<size_t>(arm)];
  const int32_t m = options_.modulus;
  for (size_t i = 0; i + 1 < prompt.size(); ++i) prompt[i] = draws.below(m);
  prompt.back() = token("=");
  int32_t state = prompt[0];
  for (size_t i = 0; i < answer.size(); ++i)
    answer[i] = state = (operation.a * state + operation.b * prompt[i + 1] + operation.c) % m;
}

}  // namespace surtsey::experiments::tasks
