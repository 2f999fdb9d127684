// Prompt kinds that several tasks have: what a page calls them, their colour, and what part they play in a comparison.
// A kind that is not in the table has its own name, a colour by it, and no part.
#pragma once

#include <string>
#include <string_view>

#include "experiments/results/result.h"

namespace surtsey::experiments {

enum class ArmRole {
  steps,   // asks for the steps, then the answer
  direct,  // asks the same weights for the answer at once
  filler,  // as many tokens as the steps, without them: a control with a budget and a loss of its own
  none,
};

struct ArmKind {
  std::string label;
  std::string color;  // CSS class, the same in every figure of every report
  ArmRole role = ArmRole::none;
};
ArmKind arm_kind(std::string_view arm);

// The arm of a cell that plays this part; null where it has none.
const ArmResult* find_arm(const Cell& cell, ArmRole role);

}  // namespace surtsey::experiments
