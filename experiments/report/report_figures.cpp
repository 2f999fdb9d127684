#include "experiments/report/report_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "experiments/base/join.h"
#include "experiments/results/arms.h"

namespace surtsey::experiments {
namespace {

std::string with_task(const TaskGroup& group, std::string title) {
  return group.task.empty() ? title : fmt::format("{}: {}", group.task, title);
}

std::string size_name(const Cell& cell) {
  return fmt::format("d{} L{}, {} parameters", cell.n_embd, cell.n_layer,
                     whole_number(static_cast<double>(cell.parameters)));
}

std::string tip(const Cell& cell, const ArmResult& arm) {
  return fmt::format("{}\n{}, seed {}, learning rate {:.3g}\nexact match {} [{}, {}] of {}\nloss per token {}",
                     arm_kind(arm.arm).label, size_name(cell), cell.seed, cell.learning_rate,
                     share_number(arm.exact_match), share_number(arm.ci95.low), share_number(arm.ci95.high), arm.n,
                     loss_number(arm.loss_per_token));
}

using Getter = double (*)(const Cell&, const ArmResult&);

double parameters_of(const Cell& cell, const ArmResult&) { return static_cast<double>(cell.parameters); }
double flops_of(const Cell& cell, const ArmResult&) { return cell.flops; }
double loss_of(const Cell&, const ArmResult& arm) { return arm.loss_per_token; }
double match_of(const Cell&, const ArmResult& arm) { return arm.exact_match; }

std::vector<double> collect(const TaskGroup& group, Getter get, bool with_others) {
  std::vector<double> values;
  for (const Cell* cell : group.cells) {
    for (const ArmResult& arm : cell->arms) values.push_back(get(*cell, arm));
  }
  for (const Cell* cell : group.others) {
    if (!with_others) break;
    for (const ArmResult& arm : cell->arms) values.push_back(get(*cell, arm));
  }
  return values;
}

std::string ordered_color(size_t index, size_t count) {
  const double place = count < 2 ? 0.6 : static_cast<double>(index) / static_cast<double>(count - 1);
  return fmt::format("s{}", static_cast<int>(std::lround(1 + place * 5)));
}

// An arm's own, or where several of these arms have the same (as numbered ones have), one of a row of shades each.
std::string color_among(const std::vector<std::string>& arms, const std::string& arm) {
  std::vector<std::string> alike = arms;
  std::erase_if(alike, [&](const std::string& other) { return arm_kind(other).color != arm_kind(arm).color; });
  const auto place = std::find(alike.begin(), alike.end(), arm) - alike.begin();
  return alike.size() < 2 ? arm_kind(arm).color : ordered_color(size_t(place), alike.size());
}

// One series for each variant and arm: a line through the means over seeds of equal size, a mark
// for each seed, faint marks for learning rates that were not chosen.
std::vector<Series> series_by_arm(const TaskGroup& group, Getter get_x, Getter get_y, bool lines, bool whiskers) {
  std::vector<Series> all;
  for (size_t v = 0; v < group.variants.size(); ++v) {
    for (const std::string& arm : group.arms) {
      const std::string& variant = group.variants[v];
      Series series;
      series.color = color_among(group.arms, arm);
      series.dashed = v > 0;
      series.name = arm_kind(arm).label;
      if (group.variants.size() > 1 && !variant.empty()) series.name += ", " + variant;
      const auto add = [&](const Cell* cell, bool chosen) {
        const ArmResult* found = cell->find_arm(arm);
        if (cell->variant != variant || found == nullptr || diverged(*cell)) return;
        Mark mark;
        mark.x = get_x(*cell, *found);
        mark.y = get_y(*cell, *found);
        mark.tip = tip(*cell, *found);
        mark.shape = !chosen ? MarkShape::kFaint : v > 0 ? MarkShape::kDiamond : MarkShape::kDot;
        if (chosen && whiskers) mark.low = found->ci95.low, mark.high = found->ci95.high;
        series.marks.push_back(std::move(mark));
      };
      for (const Cell* cell : group.others) add(cell, false);
      std::map<double, std::vector<double>> by_size;
      for (const Cell* cell : group.cells) {
        add(cell, true);
        const ArmResult* found = cell->find_arm(arm);
        if (cell->variant != variant || found == nullptr || diverged(*cell)) continue;
        by_size[get_x(*cell, *found)].push_back(get_y(*cell, *found));
      }
      if (lines) {
        for (const auto& [x, values] : by_size) series.line.push_back({x, mean(values)});
      }
      if (!series.marks.empty()) all.push_back(std::move(series));
    }
  }
  return all;
}

std::vector<Reference> chance_line(const TaskGroup& group) {
  for (const Cell* cell : group.cells) {
    if (cell->chance > 0) {
      return {{cell->chance, fmt::format("guessing {}", share_number(cell->chance))}};
    }
  }
  return {};
}

std::vector<int64_t> sizes_of(const TaskGroup& group, const std::string& variant) {
  std::set<int64_t> sizes;
  for (const Cell* cell : group.cells) {
    if (cell->variant == variant) sizes.insert(cell->parameters);
  }
  return {sizes.begin(), sizes.end()};
}

// "a, b and c"
std::string listed(const std::vector<std::string>& words) {
  if (words.size() < 2) return words.empty() ? "" : words.front();
  return join(std::span(words).first(words.size() - 1), ", ") + " and " + words.back();
}

// Cells of one task, variant and size: they differ in seed and learning rate only.
using SizeKey = std::tuple<std::string, std::string, int64_t>;

std::map<SizeKey, std::vector<const Cell*>> by_size(const StudyResult& result) {
  std::map<SizeKey, std::vector<const Cell*>> sizes;
  for (const Cell& cell : result.cells) {
    sizes[{cell.task, cell.variant, cell.parameters}].push_back(&cell);
  }
  return sizes;
}

bool counts(const Cell* cell) { return cell->selected && !cell->validation_only; }

void budget_caveats(const StudyResult& result, std::vector<std::string>& caveats) {
  // The filler control, where it is a variant beside the headline, has a budget of its own, and so
  // may the models that choose a learning rate.
  const auto own_budget = [&](const Cell& cell) {
    const bool control = cell.variant != result.cells.front().variant;
    return cell.validation_only || (control && find_arm(cell, ArmRole::filler) != nullptr);
  };
  std::set<int64_t> tokens;
  for (const Cell& cell : result.cells) {
    if (!own_budget(cell)) tokens.insert(cell.tokens);
  }
  if (tokens.size() == 1) {
    caveats.push_back(
        fmt::format("Every model saw the same {} training tokens. A threshold in size at fixed tokens is a "
                    "threshold in sample efficiency: a smaller model may get there with more steps. The figure "
                    "against training FLOPs shows the other view.",
                    whole_number(static_cast<double>(*tokens.begin()))));
  } else if (tokens.size() > 1) {
    caveats.push_back(fmt::format(
        "Models saw between {} and {} training tokens, so sizes are not compared at equal data; "
        "read the figure against training FLOPs beside the one against parameters.",
        whole_number(static_cast<double>(*tokens.begin())), whole_number(static_cast<double>(*tokens.rbegin()))));
  }
  std::map<std::pair<std::string, int32_t>, std::pair<double, double>> flops;  // with steps, without
  bool has_steps = false, has_direct = false;
  for (const Cell& cell : result.cells) {
    if (own_budget(cell)) continue;
    if (!counts(&cell) || find_arm(cell, ArmRole::direct) == nullptr) {
      has_steps = has_steps || find_arm(cell, ArmRole::steps) != nullptr;
      continue;
    }
    has_direct = true;
    has_steps = has_steps || find_arm(cell, ArmRole::steps) != nullptr;
    auto& [with_steps, alone] = flops[{cell.task, cell.n_embd}];
    double& slot = find_arm(cell, ArmRole::steps) != nullptr ? with_steps : alone;
    slot = std::max(slot, cell.flops);
  }
  if (!has_steps || !has_direct) return;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [key, pair] : flops) {
    if (pair.first > 0 && pair.second > 0) least = std::min(least, pair.second / pair.first);
  }
  if (!std::isfinite(least)) {
    caveats.push_back(
        "Direct answers come only from the model that also learned the chain; no model was trained "
        "on direct answers alone, so their failure may owe something to the shared training.");
  } else if (least < 1) {
    caveats.push_back(
        fmt::format("The direct-only control had as little as {:.2f} of the FLOPs of the model with the chain; "
                    "its failure is not a comparison at equal compute.",
                    least));
  } else {
    caveats.push_back(
        fmt::format("The direct-only control had at least {:.2f} times the FLOPs of the model with the chain "
                    "at "
                    "the same width. A direct arm that stays at chance did so within this budget; that is no "
                    "proof that it cannot be learned.",
                    least));
  }
}

void rate_caveats(const StudyResult& result, std::vector<std::string>& caveats) {
  size_t fewest = SIZE_MAX;
  std::vector<std::string> at_border;
  for (const auto& [key, cells] : by_size(result)) {
    std::set<double> rates;
    const Cell* chosen = nullptr;
    for (const Cell* cell : cells) {
      rates.insert(cell->learning_rate);
      if (counts(cell)) chosen = cell;
    }
    fewest = std::min(fewest, rates.size());
    if (chosen == nullptr || rates.size() < 3) continue;
    if (chosen->learning_rate == *rates.begin() || chosen->learning_rate == *rates.rbegin()) {
      at_border.push_back(whole_number(static_cast<double>(std::get<2>(key))));
    }
  }
  if (fewest == SIZE_MAX) return;
  if (fewest < 3) {
    caveats.push_back(
        fmt::format("Only {} learning rate{} per size: the learning rate decides where a threshold lies, and a "
                    "size that fails here may succeed at a rate that was not tried.",
                    fewest, fewest == 1 ? "" : "s"));
  }
  if (!at_border.empty()) {
    caveats.push_back(
        fmt::format("The chosen learning rate stands at the edge of its grid for {} parameters: the best rate "
                    "may lie outside.",
                    listed(at_border)));
  }
}

void seed_caveats(const StudyResult& result, std::vector<std::string>& caveats) {
  size_t fewest = SIZE_MAX;
  std::vector<std::string> split;
  for (const auto& [key, cells] : by_size(result)) {
    std::set<uint32_t> seeds;
    std::map<std::string, std::pair<double, double>> reach;  // of each arm
    for (const Cell* cell : cells) {
      if (!counts(cell) || diverged(*cell)) continue;
      seeds.insert(cell->seed);
      for (const ArmResult& arm : cell->arms) {
        const auto at = reach.try_emplace(arm.arm, arm.exact_match, arm.exact_match).first;
        at->second.first = std::min(at->second.first, arm.exact_match);
        at->second.second = std::max(at->second.second, arm.exact_match);
      }
    }
    if (!seeds.empty()) fewest = std::min(fewest, seeds.size());
    for (const auto& [arm, ends] : reach) {
      if (ends.second - ends.first < 0.3) continue;
      split.push_back(fmt::format("{} at {} parameters ({} to {})", arm_kind(arm).label,
                                  whole_number(static_cast<double>(std::get<2>(key))), share_number(ends.first),
                                  share_number(ends.second)));
    }
  }
  if (fewest < 5) {
    caveats.push_back(
        fmt::format("{} seed{} per size. Fewer than five seeds demonstrate an effect, they do not "
                    "establish it; "
                    "the intervals drawn are those of the test items, not of the seeds.",
                    fewest, fewest == 1 ? "" : "s"));
  }
  if (!split.empty()) {
    caveats.push_back(
        fmt::format("Seeds disagree near a threshold: {}. Means over such seeds describe no model.", listed(split)));
  }
}

void metric_caveats(const StudyResult& result, std::vector<std::string>& caveats) {
  std::vector<std::string> collapsed;
  std::set<std::string> chances;
  bool chains = false, fillers = false;
  for (const Cell& cell : result.cells) {
    if (!counts(&cell)) continue;
    if (cell.chance > 0) chances.insert(share_number(cell.chance));
    for (const ArmResult& arm : cell.arms) {
      fillers = fillers || arm_kind(arm.arm).role == ArmRole::filler;
      const auto& steps = arm.position_accuracy;
      if (steps.size() < 3) continue;
      chains = true;
      std::vector<double> sorted = steps;
      std::sort(sorted.begin(), sorted.end());
      const auto worst = std::min_element(steps.begin(), steps.end());
      // One step far below all others, while those are learned.
      if (arm_kind(arm.arm).role != ArmRole::steps || sorted[1] < 0.7 || sorted[1] - *worst < 0.2) continue;
      collapsed.push_back(fmt::format("step {} of cell {} ({} where the others reach {} or more)",
                                      worst - steps.begin() + 1, cell.cell, share_number(*worst),
                                      share_number(sorted[1])));
    }
  }
  if (!collapsed.empty()) {
    if (collapsed.size() > 4) collapsed.resize(4);
    caveats.push_back(fmt::format("A single step holds the whole chain back: {}. The average over steps hides that.",
                                  listed(collapsed)));
  }
  if (chains) {
    caveats.push_back(
        "Exact match over a chain is about the product of its step accuracies, so a smooth gain "
        "per "
        "step looks sudden. The loss per token and the accuracy per position are shown for that "
        "reason; the table gives the product beside the measured share of whole chains.");
  }
  if (fillers) {
    caveats.push_back(
        "The loss per token of the filler prompt is an average over filler tokens, which cost "
        "nothing "
        "once learned, and one answer: compare its accuracy, not its loss, with the others.");
  }
  if (!chances.empty()) {
    caveats.push_back(
        fmt::format("Guessing scores {}. \"At chance\" means that the whole interval lies near that value, not "
                    "that a difference failed to show.",
                    listed({chances.begin(), chances.end()})));
  }
}

}  // namespace

std::vector<TaskGroup> group_by_task(const StudyResult& result) {
  std::vector<TaskGroup> groups;
  for (const Cell& cell : result.cells) {
    auto at =
        std::find_if(groups.begin(), groups.end(), [&](const TaskGroup& group) { return group.task == cell.task; });
    if (at == groups.end()) {
      groups.push_back({cell.task, {}, {}, {}, {}});
      at = groups.end() - 1;
    }
    (counts(&cell) ? at->cells : at->others).push_back(&cell);
    add_once(at->variants, cell.variant);
    for (const ArmResult& arm : cell.arms) add_once(at->arms, arm.arm);
  }
  return groups;
}

TaskGroup as_trained(const TaskGroup& group) {
  TaskGroup kept = group;
  for (auto* cells : {&kept.cells, &kept.others}) {
    std::erase_if(*cells, [](const Cell* cell) { return is_rounded_variant(cell->variant); });
  }
  std::erase_if(kept.variants, is_rounded_variant);
  return kept;
}

double position_product(const ArmResult& arm) {
  double product = 1;
  for (const double accuracy : arm.position_accuracy) product *= accuracy;
  return product;
}

Chart accuracy_by_parameters(const TaskGroup& group) {
  Chart chart;
  chart.title = with_task(group, "Accuracy against parameters");
  chart.note =
      "A dot a seed with the 95% Wilson interval of its test items; lines join the "
      "means, bands span the seeds.";
  chart.x = log_axis("parameters", collect(group, parameters_of, true), short_number);
  chart.y = share_axis("exact match of the final answer");
  chart.series = series_by_arm(group, parameters_of, match_of, true, true);
  chart.references = chance_line(group);
  if (!group.others.empty()) {
    chart.note += " Faint rings: learning rates that were not chosen.";
  }
  return chart;
}

Chart accuracy_by_flops(const TaskGroup& all) {
  TaskGroup group = all;
  for (auto* cells : {&group.cells, &group.others}) {
    std::erase_if(*cells, [](const Cell* cell) { return cell->flops <= 0; });
  }
  Chart chart;
  if (group.cells.empty()) return chart;
  chart.title = with_task(group, "Accuracy against training compute");
  chart.note = "FLOPs counted from the plan, attention and output head included.";
  chart.x = log_axis("training FLOPs", collect(group, flops_of, true), flop_number);
  chart.y = share_axis("exact match of the final answer");
  chart.series = series_by_arm(group, flops_of, match_of, true, true);
  chart.references = chance_line(group);
  return chart;
}

Chart loss_by_parameters(const TaskGroup& group) {
  Chart chart;
  chart.title = with_task(group, "Loss per token against parameters");
  chart.note = "Teacher-forced, over the answer tokens of the test items.";
  chart.x = log_axis("parameters", collect(group, parameters_of, true), short_number);
  chart.y = loss_axis("nats per answer token", collect(group, loss_of, true));
  chart.series = series_by_arm(group, parameters_of, loss_of, true, false);
  for (const Cell* cell : group.cells) {
    if (cell->chance <= 0) continue;
    chart.references.push_back(
        {-std::log(cell->chance), fmt::format("guessing {}", loss_number(-std::log(cell->chance)))});
    break;
  }
  return chart;
}

Chart accuracy_by_loss(const TaskGroup& group) {
  Chart chart;
  chart.title = with_task(group, "Accuracy against loss");
  chart.note = "Every cell once an arm: does the ability follow the loss, whatever the size?";
  chart.x = loss_axis("nats per answer token", collect(group, loss_of, true));
  chart.y = share_axis("exact match of the final answer");
  chart.series = series_by_arm(group, loss_of, match_of, false, false);
  chart.references = chance_line(group);
  return chart;
}

std::vector<Chart> metrics_by_parameters(const TaskGroup& group) {
  struct Metric {
    const char* name;
    const char* color;
    Getter get;
  };
  const Metric metrics[] = {
      {"final answer", "c0", match_of},
      {"whole answer", "c1", [](const Cell&, const ArmResult& arm) { return arm.chain_exact_match; }},
      {"product of the positions", "c2", [](const Cell&, const ArmResult& arm) { return position_product(arm); }},
      {"mean of the positions", "c3", [](const Cell&, const ArmResult& arm) { return mean(arm.position_accuracy); }},
      {"probability of a right token", "c4",
       [](const Cell&, const ArmResult& arm) { return std::exp(-arm.loss_per_token); }}};
  std::vector<Chart> charts;
  for (const std::string& arm : group.arms) {
    TaskGroup part = group;
    part.arms = {arm};
    part.variants.resize(std::min<size_t>(1, part.variants.size()));
    part.others.clear();
    const bool several = std::any_of(group.cells.begin(), group.cells.end(), [&](const Cell* cell) {
      const ArmResult* found = cell->find_arm(arm);
      return !part.variants.empty() && cell->variant == part.variants[0] && found != nullptr &&
             found->position_accuracy.size() > 1;
    });
    if (!several) continue;
    Chart chart;
    chart.title = with_task(group, fmt::format("Metrics against parameters, {}", arm_kind(arm).label));
    chart.note =
        "The same answers: exact match multiplies the errors of positions, the last two do not. "
        "The probability is that of the geometric mean over right tokens, teacher-forced.";
    chart.x = log_axis("parameters", collect(part, parameters_of, false), short_number);
    chart.y = share_axis("share");
    for (const Metric& metric : metrics) {
      for (Series& series : series_by_arm(part, parameters_of, metric.get, true, false)) {
        series.name = metric.name;
        series.color = metric.color;
        chart.series.push_back(std::move(series));
      }
    }
    charts.push_back(std::move(chart));
  }
  return charts;
}

std::vector<Chart> accuracy_by_position(const TaskGroup& group) {
  std::vector<Chart> charts;
  for (const std::string& arm : group.arms) {
    for (const std::string& variant : group.variants) {
      Chart chart;
      size_t length = 0;
      const std::vector<int64_t> sizes = sizes_of(group, variant);
      for (size_t s = 0; s < sizes.size(); ++s) {
        std::vector<std::vector<double>> steps;
        for (const Cell* cell : group.cells) {
          const ArmResult* found = cell->find_arm(arm);
          if (cell->variant != variant || cell->parameters != sizes[s] || found == nullptr) continue;
          steps.resize(std::max(steps.size(), found->position_accuracy.size()));
          for (size_t i = 0; i < found->position_accuracy.size(); ++i) {
            steps[i].push_back(found->position_accuracy[i]);
          }
        }
        if (steps.size() < 2) continue;
        Series series;
        series.name = short_number(static_cast<double>(sizes[s])) + " parameters";
        series.color = ordered_color(s, sizes.size());
        for (size_t i = 0; i < steps.size(); ++i) {
          const Point point{static_cast<double>(i + 1), mean(steps[i])};
          series.line.push_back(point);
          series.marks.push_back({point.x, point.y, kNoValue, kNoValue,
                                  fmt::format("{}\nanswer token {}: {}", series.name, i + 1, share_number(point.y))});
        }
        length = std::max(length, steps.size());
        chart.series.push_back(std::move(series));
      }
      if (chart.series.empty()) continue;
      chart.title = with_task(group, fmt::format("Accuracy by position, {}", arm_kind(arm).label));
      if (group.variants.size() > 1 && !variant.empty()) chart.title += ", " + variant;
      chart.note = "Greedy decoding from the prompt; means over seeds.";
      chart.x = position_axis("position in the answer", static_cast<int>(length));
      chart.y = share_axis("share of right tokens");
      chart.references = chance_line(group);
      charts.push_back(std::move(chart));
    }
  }
  return charts;
}

Chart loss_by_tokens(const TaskGroup& group, const std::vector<MetricLine>& metrics) {
  Chart chart;
  chart.title = with_task(group, "Training loss");
  chart.note = "First seed of each size at the chosen learning rate.";
  if (group.cells.empty()) return chart;
  const std::string& variant = group.variants.front();
  const std::vector<int64_t> sizes = sizes_of(group, variant);
  std::vector<double> xs, ys;
  for (size_t s = 0; s < sizes.size(); ++s) {
    const auto cell = std::find_if(group.cells.begin(), group.cells.end(), [&](const Cell* one) {
      return one->variant == variant && one->parameters == sizes[s];
    });
    Series series;
    series.name = short_number(static_cast<double>(sizes[s])) + " parameters";
    series.color = ordered_color(s, sizes.size());
    for (const MetricLine& metric : metrics) {
      if (metric.cell != (*cell)->cell) continue;
      for (const auto& [name, value] : metric.values) {
        if (!std::isfinite(value)) continue;
        if (name == "loss" && metric.tokens > 0) {
          series.line.push_back({static_cast<double>(metric.tokens), value});
        }
      }
    }
    // More points than pixels only make the page heavy.
    constexpr size_t kPoints = 250;
    const size_t stride = (series.line.size() + kPoints - 1) / kPoints;
    std::vector<Point> thinned;
    for (size_t i = 0; i < series.line.size(); ++i) {
      if (i % stride == 0 || i + 1 == series.line.size()) thinned.push_back(series.line[i]);
    }
    series.line = std::move(thinned);
    for (const Point& point : series.line) xs.push_back(point.x), ys.push_back(point.y);
    if (!series.line.empty()) chart.series.push_back(std::move(series));
  }
  if (chart.series.empty()) return chart;
  chart.y = loss_axis("nats per answer token", ys, 50);
  const double most = *std::max_element(xs.begin(), xs.end());
  chart.x = {"training tokens", 0, most * 1.02, false, {}};
  for (int i = 0; i <= 4; ++i) {
    chart.x.ticks.push_back({most * i / 4, i == 0 ? "0" : short_number(most * i / 4)});
  }
  return chart;
}

std::vector<std::string> derive_caveats(const StudyResult& result) {
  std::vector<std::string> caveats;
  if (result.cells.empty()) return caveats;
  budget_caveats(result, caveats);
  rate_caveats(result, caveats);
  seed_caveats(result, caveats);
  metric_caveats(result, caveats);
  return caveats;
}

}  // namespace surtsey::experiments
