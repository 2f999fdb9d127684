#include "experiments/results/arms.h"

namespace surtsey::experiments {
namespace {

struct ArmRow {
  std::string_view arm, label, color;
  ArmRole role = ArmRole::none;
};

constexpr ArmRow kArms[] = {
    {"cot", "chain of thought", "c0", ArmRole::steps},
    {"direct", "direct answer", "c1", ArmRole::direct},
    {"filler", "filler tokens", "c2", ArmRole::filler},
    {"permuted", "permuted chain", "c3"},
    {kGivenArm, "right steps given", ""},
};

}  // namespace

ArmKind arm_kind(std::string_view arm) {
  const std::string own = arm.size() % 2 == 0 ? "c4" : "c5";
  for (const ArmRow& row : kArms)
    if (row.arm == arm) return {std::string(row.label), row.color.empty() ? own : std::string(row.color), row.role};
  return {std::string(arm), own};
}

const ArmResult* find_arm(const Cell& cell, ArmRole role) {
  for (const ArmResult& arm : cell.arms)
    if (arm_kind(arm.arm).role == role) return &arm;
  return nullptr;
}

}  // namespace surtsey::experiments
