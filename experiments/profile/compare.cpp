// The table for the terminal, and what became slower since another profile.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/profile/profile.h"

namespace surtsey::experiments {
namespace {

using nlohmann::json;

constexpr int64_t kFewSamples = 4;  // fewer have no spread to speak of

std::string short_scope(const KernelRow& row) {
  if (row.scopes.empty()) return "";
  if (row.scopes.size() == 1) return row.scopes.front();
  return fmt::format("{} +{}", row.scopes.front(), row.scopes.size() - 1);
}

std::string cut(const std::string& text, size_t width) {
  return text.size() <= width ? text : text.substr(0, width - 2) + "..";
}

std::string rounded_ms(double ns) { return fmt::format("{:.3f} ms", ns / 1e6); }

std::string change_line(const Change& change) {
  return fmt::format("  {:<64} {:>10} -> {:>10}  {:+.1f}%\n", change.id, rounded_ms(change.before),
                     rounded_ms(change.after), 100 * (change.after / change.before - 1));
}

}  // namespace

std::string profile_table(const Profile& profile) {
  std::string text = fmt::format(
      "{:<9} {:<44} {:<34} {:>5} {:>9} {:>5} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7} {:>5}\n", "phase", "kernel",
      "scope", "calls", "ms", "%", "median us", "p95 us", "grouped", "GFLOP/s", "GB/s", "FLOP/B", "bound", "roof");
  if (profile.has_driver_statistics()) text.insert(text.size() - 1, " registers spills occupancy");
  double total = 0, grouped = 0;
  for (const KernelRow& row : profile.rows) {
    total += row.isolated.total;
    grouped += row.grouped.total;
    text += fmt::format(
        "{:<9} {:<44} {:<34} {:>5} {:>9.3f} {:>5.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>8.2f} {:>8.2f} "
        "{:>7.2f} {:>7} {:>4.0f}%\n",
        graph::name(row.phase), cut(row.name, 44), cut(short_scope(row), 34), row.calls(), row.isolated.total / 1e6,
        100 * row.isolated.share, row.isolated.median / 1e3, row.isolated.p95 / 1e3, row.grouped.median / 1e3,
        row.gflops, row.gbs, row.intensity, name(row.bound), 100 * row.roof);
    if (row.driver) {
      const auto number = [](const std::optional<double>& value) {
        return value ? fmt::format("{:.4g}", *value) : std::string("-");
      };
      text.insert(text.size() - 1, fmt::format(" {:>9} {:>6} {:>9}", number(row.driver->registers),
                                               number(row.driver->spills), number(row.driver->occupancy)));
    }
  }
  text += fmt::format("{:<9} {:<44} {:<34} {:>5} {:>9.3f} {:>5} {:>9} {:>9} {:>9.3f}ms\n", "all", "", "",
                      profile.dispatches.size(), total / 1e6, "", "", "", grouped / 1e6);
  return text;
}

void check_base(const std::string& base, int64_t steps) {
  const json old = json::parse(base, nullptr, false);
  const bool whole = old.is_object() && old.contains("rows") && old.contains("whole") && old.contains("steps") &&
                     old["steps"].is_number_integer();
  check(whole, "--compare: this is no profile.json");
  const auto before = old["steps"].get<int64_t>();
  check(before >= kFewSamples && steps >= kFewSamples,
        "--compare: at least {} steps on both sides make a spread; there are {} and {}", kFewSamples, before, steps);
}

Comparison compare_profiles(const Profile& profile, const std::string& base) {
  check_base(base, profile.steps);
  const json old = json::parse(base);
  Comparison result;
  try {
    if (old.at("device").at("name") != profile.device.name || old.at("device").at("driver") != profile.device.driver)
      result.note =
          fmt::format("the base is of another device or driver: {}, {}", old.at("device").at("name").get<std::string>(),
                      old.at("device").at("driver").get<std::string>());
    else if (old.at("subject") != profile.subject)
      result.note = fmt::format("the base is of another subject: {}", old.at("subject").get<std::string>());
    result.before = quantile(old.at("whole").at("busy_ns").get<std::vector<uint64_t>>(), 0.5);
    result.after = quantile(profile.whole.busy, 0.5);
    std::map<std::string, std::vector<uint64_t>> before;
    for (const json& row : old.at("rows"))
      before[row.at("id").get<std::string>()] = row.at("isolated").at("totals_ns").get<std::vector<uint64_t>>();
    for (const KernelRow& row : profile.rows) {
      const auto found = before.find(row.id);
      if (found == before.end()) {
        result.added.push_back(row.id);
        continue;
      }
      const std::vector<uint64_t>& then = found->second;
      const std::vector<uint64_t>& now = row.isolated.totals;
      const Change change{row.id, std::max(1.0, quantile(then, 0.5)), quantile(now, 0.5)};
      if (quantile(now, 0.25) > quantile(then, 0.75)) result.slower.push_back(change);
      if (quantile(now, 0.75) < quantile(then, 0.25)) result.faster.push_back(change);
      before.erase(found);
    }
    for (const auto& [id, samples] : before) result.removed.push_back(id);
  } catch (const json::exception& error) {
    throw UserError(fmt::format("--compare: this is no profile.json: {}", error.what()));
  }
  const auto by_difference = [](const Change& a, const Change& b) {
    return std::abs(a.after - a.before) > std::abs(b.after - b.before);
  };
  std::stable_sort(result.slower.begin(), result.slower.end(), by_difference);
  std::stable_sort(result.faster.begin(), result.faster.end(), by_difference);
  return result;
}

std::string comparison_table(const Comparison& comparison) {
  std::string text;
  if (!comparison.note.empty()) text += fmt::format("note: {}\n", comparison.note);
  text += fmt::format("step {} -> {} ({:+.1f}%)\n", rounded_ms(comparison.before), rounded_ms(comparison.after),
                      100 * (comparison.after / comparison.before - 1));
  const auto list = [&](const char* title, const std::vector<Change>& changes) {
    text += fmt::format("{}: {}\n", title, changes.empty() ? "none" : std::to_string(changes.size()));
    for (const Change& change : changes) text += change_line(change);
  };
  list("slower beyond the spread", comparison.slower);
  list("faster beyond the spread", comparison.faster);
  const auto names = [&](const char* title, const std::vector<std::string>& ids) {
    if (ids.empty()) return;
    text += fmt::format("{}: {}\n", title, ids.size());
    for (const std::string& id : ids) text += fmt::format("  {}\n", id);
  };
  names("only here", comparison.added);
  names("only in the base", comparison.removed);
  return text;
}

}  // namespace surtsey::experiments
