#include "experiments/report/abilities.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "experiments/base/numbers.h"
#include "experiments/report/html.h"
#include "experiments/report/report_figures.h"

namespace surtsey::experiments {
namespace {

struct Ability {
  const char* name;
  // From what size it is commonly said to appear.
  const char* quoted;
  // Wei et al. 2022 (Emergent abilities of large language models), table 1: the smallest model
  // above chance, and its training compute.
  const char* published;
  // Task, arm and variant of models here. A task without a name is told by its variant; else any variant will do.
  struct Source {
    const char *task, *arm, *variant = "";
  };
  std::vector<Source> sources;
};

const std::array<Ability, 5>& all_abilities() {
  static const std::array<Ability, 5> kAbilities = {{
      {"arithmetic",
       "~10B",
       "2.3e22 FLOP, 13B (GPT-3, addition and subtraction of three digits)",
       {{"addition", ""}, {"direct_sum", ""}}},
      {"chain of thought",
       "~60B",
       "2.9e23 FLOP, 62B (questions that need a strategy, StrategyQA)",
       {{"", "cot", "joint"}, {"chain", "cot"}}},
      {"word unscrambling", "~60B", "–", {{"unscramble", ""}}},
      {"multi-step mathematics",
       "~100B",
       "1.3e23 FLOP, 68B (LaMDA, word problems by chain of thought)",
       {{"variables", ""}}},
      {"code", "~100B", "–", {{"postfix", ""}}},
  }};
  return kAbilities;
}

// The first prompt kind that a cell was asked with, or the one of that name.
const ArmResult* arm_of(const Cell& cell, const std::string& arm) {
  if (arm.empty()) return cell.arms.empty() ? nullptr : &cell.arms.front();
  return cell.find_arm(arm);
}

MeasuredAbility measure(const TaskGroup& group, const std::string& arm) {
  MeasuredAbility found;
  found.task = group.task;
  found.arm = arm;
  std::map<int64_t, std::vector<const Cell*>> sizes;
  for (const Cell* cell : group.cells) {
    if (cell->variant == group.variants.front() && arm_of(*cell, arm) != nullptr && !diverged(*cell)) {
      sizes[cell->parameters].push_back(cell);
    }
  }
  if (sizes.empty()) return found;
  found.smallest = sizes.begin()->second.front();
  found.largest = sizes.rbegin()->second.front();
  for (auto size = sizes.rbegin(); size != sizes.rend(); ++size) {
    const bool solved = std::all_of(size->second.begin(), size->second.end(),
                                    [&](const Cell* cell) { return arm_of(*cell, arm)->exact_match >= kSolved; });
    if (!solved) break;
    found.solved = size->second.front();
  }
  return found;
}

std::string number(double value, const std::string& text) {
  return fmt::format("<data value=\"{}\">{}</data>", value, text);
}

std::string size_text(const Cell& cell) {
  const auto parameters = static_cast<double>(cell.parameters);
  return number(parameters, whole_number(parameters)) + " parameters";
}

std::string measured_text(const MeasuredAbility& found, const std::filesystem::path& link) {
  const std::string title = found.task.empty() ? found.result->study : fmt::format("{}", found.task);
  std::string text = fmt::format("<a href=\"{}\">{}</a>: ", link_to(link), escape_html(title));
  if (found.solved == nullptr) {
    return text + "not in every seed up to " + size_text(*found.largest);
  }
  text +=
      fmt::format("{}, {}", size_text(*found.solved), number(found.solved->flops, flop_number(found.solved->flops)));
  return found.solved->parameters == found.smallest->parameters ? text + ", the smallest tried" : text;
}

}  // namespace

std::vector<MeasuredAbility> measured(const std::string& ability, const std::vector<StudyResult>& results) {
  std::vector<MeasuredAbility> all;
  for (const Ability& one : all_abilities()) {
    if (one.name != ability) continue;
    for (size_t run = 0; run < results.size(); ++run) {
      for (const TaskGroup& group : group_by_task(results[run])) {
        for (const auto& [task, arm, variant] : one.sources) {
          if (group.task != task || group.variants.empty()) continue;
          if (*variant != 0 && group.variants.front() != variant) continue;
          MeasuredAbility found = measure(group, arm);
          found.result = &results[run];
          found.run = run;
          if (found.largest != nullptr) all.push_back(found);
        }
      }
    }
  }
  return all;
}

std::string abilities_section(const std::vector<StudyResult>& results,
                              const std::vector<std::filesystem::path>& links) {
  std::string rows;
  bool any = false;
  for (const Ability& ability : all_abilities()) {
    std::string here;
    for (const MeasuredAbility& found : measured(ability.name, results)) {
      here += (here.empty() ? "" : "<br>") + measured_text(found, links[found.run]);
      any = true;
    }
    rows += fmt::format(
        "<tr><td class=\"text\">{}</td><td class=\"text\">{}</td><td class=\"text wrap\">{}</td>"
        "<td class=\"text wrap\">{}</td></tr>\n",
        ability.name, ability.quoted, ability.published, here.empty() ? "not measured in these runs" : here);
  }
  if (!any) return "";
  return fmt::format(
      "<section class=\"abilities\"><h2>Abilities and sizes</h2>\n<div class=\"scroll\"><table>"
      "<thead><tr><th class=\"text\">ability</th><th class=\"text\">often quoted for language "
      "models</th><th class=\"text\">first above chance in Wei et al. 2022</th><th "
      "class=\"text\">solved here from</th></tr></thead><tbody>\n{}</tbody></table></div>\n"
      "<p class=\"note\">Solved: exact match of at least {} in every seed, at this size and every "
      "larger one of the run; FLOPs are those of training one such model. The models here learn "
      "one task from data without end, the quoted ones meet it among everything else: six to "
      "seven orders of magnitude in size lie between them. What can be compared is the shape of "
      "the curves "
      "and the order of the tasks under one recipe; that a task needs so many parameters cannot "
      "be read from either column, as more steps, another learning rate or another format move "
      "it.</p></section>\n",
      rows, kSolved);
}

}  // namespace surtsey::experiments
