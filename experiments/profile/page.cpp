// profile.html: one file that works from disk, without network. Tables and figures need no script;
// the sources of the kernels lie in the page as JSON, which the script shows.
#include <nlohmann/json.hpp>

#include <algorithm>

#include "experiments/base/join.h"
#include "experiments/profile/figures.h"
#include "experiments/profile/page_style.h"
#include "experiments/profile/profile.h"
#include "experiments/report/chart.h"
#include "experiments/report/chart_data.h"
#include "experiments/report/report_style.h"

namespace surtsey::experiments {
namespace {

using nlohmann::ordered_json;

std::string ms(double ns) { return fmt::format("{:.3f} ms", ns / 1e6); }
std::string percent(double share) { return fmt::format("{:.1f}%", 100 * share); }

std::string list_of_facts(const std::vector<std::pair<std::string, std::string>>& facts) {
  std::string html = "<ul class=\"facts\">";
  for (const auto& [key, value] : facts)
    html += fmt::format("<li>{} <b>{}</b></li>", escape_html(key), escape_html(value));
  return html + "</ul>\n";
}

std::string tile(const char* color, const std::string& number, const std::string& text) {
  return fmt::format("<div class=\"tile {}\"><strong>{}</strong><span>{}</span></div>", color, number,
                     escape_html(text));
}

std::string header(const Profile& profile) {
  const double step = quantile(profile.whole.busy, 0.5);
  const double rate = double(profile.flops) / step;
  std::string html =
      fmt::format("<header><h1>Profile</h1>\n<p class=\"question\">{}</p>\n", escape_html(profile.subject));
  html += list_of_facts({{"device", profile.device.name},
                         {"type", engine::name(profile.device.type)},
                         {"driver", profile.device.driver},
                         {"Vulkan", profile.device.api},
                         {"replays", fmt::format("{} in each mode", profile.steps)}});
  html += "</header>\n<div class=\"tiles\">";
  html += tile("c0", ms(step), "a step as it is, median on the device");
  html += tile("c1", fmt::format("{:.1f} GFLOP/s", rate),
               fmt::format("{} of the measured f32 ceiling; {} a step", percent(rate / profile.ceilings.f32_gflops),
                           flop_number(double(profile.flops))));
  html += tile("c2", fmt::format("{} in {}", profile.dispatches.size(), profile.rows.size()),
               fmt::format("dispatches, kernels by shape; {} barriers", profile.barriers));
  html += tile("c3", fmt::format("{:.1f} MiB", double(profile.state_bytes + profile.transient_bytes) / (1 << 20)),
               fmt::format("{:.1f} MiB state and outputs, {:.1f} MiB transient",
                           double(profile.state_bytes) / (1 << 20), double(profile.transient_bytes) / (1 << 20)));
  return html + "</div>\n";
}

std::string ceilings_table(const Profile& profile) {
  std::string html =
      "<div><h2>Ceilings of this device</h2><p>Measured on it, the best of several runs.</p>"
      "<div class=\"scroll\"><table>";
  for (const CeilingLine& line : describe(profile.ceilings))
    html += fmt::format("<tr><td class=\"text\">{}</td><td>{}</td><td class=\"text wrap\">{}</td></tr>",
                        escape_html(line.name), escape_html(line.value), escape_html(line.how));
  return html + "</table></div></div>\n";
}

std::string how_it_was_measured(const Profile& profile) {
  std::string html =
      "<h2>How times were taken</h2><div class=\"scroll\"><table>"
      "<thead><tr><th class=\"text\">mode</th><th>step, device</th><th>step, host</th>"
      "<th>overhead</th><th class=\"text\">what it is</th></tr></thead>";
  const auto mode = [&](const char* name, const ModeTimes& times, const std::string& overhead, const char* what) {
    html += fmt::format(
        "<tr><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text "
        "wrap\">{}</td></tr>",
        name, ms(quantile(times.busy, 0.5)), ms(quantile(times.host, 0.5)), overhead, what);
  };
  mode("whole", profile.whole, "–", "the recording as it is, a timestamp at both ends");
  mode("grouped", profile.grouped, fmt::format("{:+.1f}%", 100 * profile.grouped_overhead()),
       "a timestamp after every dispatch; dispatches between two barriers overlap");
  mode("isolated", profile.isolated, fmt::format("{:+.1f}%", 100 * profile.isolated_overhead()),
       "a barrier around every dispatch; the table's times unless it says grouped");
  html += fmt::format(
      "</table></div><p>Medians; the three modes take turns. A timestamp costs {:.1f} µs, measured "
      "with "
      "nothing between two of them; the table's times are without it, the timeline's with it. The "
      "rows of "
      "the table add up to {} of the step as a whole. Compiled in {:.0f} ms, SPIR-V {:.0f} ms, "
      "pipelines {:.0f} ms.</p>\n",
      double(profile.timestamp_ns) / 1e3, percent(profile.rows_of_step()), profile.compile_ms, profile.spirv_ms,
      profile.pipeline_ms);
  return html;
}

std::string changes_table(const char* title, const char* mark, const std::vector<Change>& changes) {
  if (changes.empty()) return fmt::format("<p>{}: none.</p>\n", title);
  std::string html = fmt::format(
      "<h3>{}</h3><div class=\"scroll\"><table><thead><tr><th "
      "class=\"text\">kernel</th><th>before</th>"
      "<th>now</th><th>change</th></tr></thead>",
      title);
  for (const Change& change : changes)
    html += fmt::format(
        "<tr><td class=\"text mono\">{}</td><td>{}</td><td>{}</td><td "
        "class=\"{}\">{:+.1f}%</td></tr>",
        escape_html(change.id), ms(change.before), ms(change.after), mark, 100 * (change.after / change.before - 1));
  return html + "</table></div>\n";
}

std::string comparison_section(const Comparison& comparison) {
  std::string html = fmt::format("<h2>Against the base</h2>\n<p>A step took {} there and takes {} here.</p>\n",
                                 ms(comparison.before), ms(comparison.after));
  if (!comparison.note.empty())
    html += fmt::format("<div class=\"note bad\"><p>{}</p></div>\n", escape_html(comparison.note));
  html += changes_table("Slower beyond the spread", "mark-slow", comparison.slower);
  html += changes_table("Faster beyond the spread", "mark-fast", comparison.faster);
  const auto names = [&](const char* title, const std::vector<std::string>& ids) {
    if (!ids.empty()) html += fmt::format("<p>{}: {}</p>\n", title, escape_html(join(ids, ", ")));
  };
  names("Only here", comparison.added);
  names("Only in the base", comparison.removed);
  return html;
}

std::string cached_text(const engine::KernelBuild& build) {
  if (build.shared) return "shared";
  if (build.pipeline_cached) return "pipeline";
  return build.spirv_cached ? "SPIR-V" : "no";
}

// The columns of the main table: head, cell as shown, value to sort by (text cells sort as text).
class KernelTable {
 public:
  KernelTable(const Profile& profile, const Comparison* comparison) : profile_(profile) {
    if (!comparison) return;
    for (const Change& change : comparison->slower) slower_.push_back(change.id);
  }

  std::string html() {
    std::string body;
    for (size_t r = 0; r < profile_.rows.size(); ++r) body += line(profile_.rows[r], r);
    return fmt::format(
        "<h2>Kernels by shape</h2>\n<div class=\"scroll tall\"><table id=\"kernels\">"
        "<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n",
        heads_, body);
  }

 private:
  void text(const char* head, const std::string& html) {
    add_head(head, true);
    cells_ += fmt::format("<td class=\"text\">{}</td>", html);
  }
  void number(const char* head, double value, const std::string& shown) {
    add_head(head, false);
    cells_ += fmt::format("<td data-v=\"{:.6g}\">{}</td>", value, shown);
  }
  void add_head(const char* head, bool text) {
    if (!first_) return;
    heads_ += fmt::format("<th{}>{}</th>", text ? " class=\"text\"" : "", head);
  }

  // Absent numbers sort below all others.
  void statistic(const char* head, const std::optional<double>& value) {
    number(head, value.value_or(-1), value ? fmt::format("{:.6g}", *value) : "–");
  }

  std::string name_cell(const KernelRow& row, size_t index) const {
    const bool slow = std::find(slower_.begin(), slower_.end(), row.id) != slower_.end();
    return fmt::format("<a class=\"mono\" href=\"#kernel-{}\">{}</a>{}<small>{}</small>", index, escape_html(row.name),
                       slow ? " <span class=\"mark-slow\">slower</span>" : "", escape_html(join(row.ops, " ")));
  }

  static std::string scope_cell(const KernelRow& row) {
    if (row.scopes.empty()) return "";
    std::string html =
        fmt::format("<span title=\"{}\">{}", escape_html(join(row.scopes, "\n")), escape_html(row.scopes.front()));
    if (row.scopes.size() > 1) html += fmt::format(" +{}", row.scopes.size() - 1);
    return html + fmt::format("</span><small>{}</small>", escape_html(join(row.places, " ")));
  }

  std::string line(const KernelRow& row, size_t index) {
    cells_.clear();
    first_ = index == 0;
    const std::string color = phase_color(row.phase);
    text("kernel", name_cell(row, index));
    text("phase", fmt::format("<span class=\"phase {}\"></span>{}", color, graph::name(row.phase)));
    text("model scope and source", scope_cell(row));
    number("calls", double(row.calls()), fmt::format("{}", row.calls()));
    number("total ms", row.isolated.total, fmt::format("{:.3f}", row.isolated.total / 1e6));
    number("% of step", row.isolated.share,
           fmt::format("{:.1f}<span class=\"bar {}\" style=\"width:{:.1f}px\"></span>", 100 * row.isolated.share, color,
                       60 * row.isolated.share));
    number("median µs", row.isolated.median, fmt::format("{:.1f}", row.isolated.median / 1e3));
    number("p95 µs", row.isolated.p95, fmt::format("{:.1f}", row.isolated.p95 / 1e3));
    number("grouped µs", row.grouped.median, fmt::format("{:.1f}", row.grouped.median / 1e3));
    number("GFLOP/s", row.gflops, fmt::format("{:.2f}", row.gflops));
    number("GB/s", row.gbs, fmt::format("{:.2f}", row.gbs));
    number("FLOP/B", row.intensity, fmt::format("{:.2f}", row.intensity));
    text("bound by", name(row.bound));
    number("% of roof", row.roof, fmt::format("{:.0f}", 100 * row.roof));
    number("MFLOP", double(row.flops), fmt::format("{:.3f}", double(row.flops) / 1e6));
    number("kB", double(row.bytes), fmt::format("{:.1f}", double(row.bytes) / 1e3));
    number("grid", row.workgroups, fmt::format("{}", row.workgroups));
    number("workgroup", row.local_size, fmt::format("{}", row.local_size));
    number("subgroup", row.subgroup_size, row.subgroup_size == 0 ? "any" : fmt::format("{}", row.subgroup_size));
    number("shared B", row.build.shared_bytes, fmt::format("{}", row.build.shared_bytes));
    number("SPIR-V B", double(row.build.spirv_bytes), fmt::format("{}", row.build.spirv_bytes));
    number("compile ms", row.build.pipeline_ms, fmt::format("{:.1f}", row.build.pipeline_ms));
    text("cached", cached_text(row.build));
    if (profile_.has_driver_statistics()) {
      const engine::DriverStatistics driver = row.driver.value_or(engine::DriverStatistics{});
      for (const engine::StatisticField& field : engine::statistic_fields()) statistic(field.name, driver.*field.value);
    }
    text("variant", row.variant.empty() ? row.archetype : row.archetype + " " + row.variant);
    return fmt::format("<tr data-kernel=\"{}\">{}</tr>\n", index, cells_);
  }

  const Profile& profile_;
  std::vector<std::string> slower_;
  std::string heads_, cells_;
  bool first_ = false;
};

std::string lower(std::string text) {
  for (char& c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

ordered_json kernel_data(const Profile& profile, const KernelRow& row) {
  ordered_json nodes = ordered_json::array(), calls = ordered_json::array();
  for (const OriginNode& node : row.nodes) nodes.push_back({node.text, node.role, node.scope, node.place, node.phase});
  for (const uint32_t d : row.dispatches) calls.push_back({std::to_string(d), profile.dispatches[d].scope});
  const ordered_json facts = {{"phase", graph::name(row.phase)},
                              {"calls", std::to_string(row.calls())},
                              {"median", fmt::format("{:.1f} µs", row.isolated.median / 1e3)},
                              {"of the step", percent(row.isolated.share)},
                              {"reaches", fmt::format("{:.1f} GFLOP/s, {:.1f} GB/s", row.gflops, row.gbs)},
                              {"bound by", fmt::format("{}, {:.0f}% of its roof", name(row.bound), 100 * row.roof)},
                              {"grid", fmt::format("{} x {}", row.workgroups, row.local_size)}};
  ordered_json fact_list = ordered_json::array();
  for (const auto& [key, value] : facts.items()) fact_list.push_back({key, value});
  ordered_json texts = ordered_json::array(), driver = ordered_json::array();
  if (row.driver) {
    for (const engine::Representation& one : row.driver->representations)
      texts.push_back({{"name", one.name}, {"text", one.text}});
    for (const engine::DriverStatistic& one : row.driver->raw)
      driver.push_back({one.name, fmt::format("{:.9g}", one.value), one.description});
  }
  return {
      {"name", row.name},
      {"phase", graph::name(row.phase)},
      {"words", lower(row.name + " " + join(row.scopes, " ") + " " + join(row.ops, " ") + " " + join(row.places, " "))},
      {"facts", fact_list},
      {"nodes", nodes},
      {"calls", calls},
      {"glsl", row.glsl},
      {"spirv", row.spirv},
      {"texts", texts},
      {"driver", driver}};
}

}  // namespace

std::string profile_page(const Profile& profile, const Comparison* comparison) {
  ordered_json data = ordered_json::array();
  for (const KernelRow& row : profile.rows) data.push_back(kernel_data(profile, row));
  std::string body = header(profile);
  if (comparison) body += comparison_section(*comparison);
  body += KernelTable(profile, comparison).html();
  body += "<noscript><p>Sorting, and the sources of a kernel, need JavaScript.</p></noscript>\n";
  body += "<div class=\"charts\">\n" + timeline_figure(profile) + treemap_figure(profile) + "</div>\n";
  body += "<div class=\"columns\">\n" + roofline_figure(profile) + ceilings_table(profile) + "</div>\n";
  body += how_it_was_measured(profile);
  body += "<footer>" + list_of_facts(profile.facts) + "</footer>\n";
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>Profile: {}</title>\n<style>{}{}{}</style>\n</head>\n<body>\n<main>\n{}</main>\n"
      "<aside id=\"detail\" hidden></aside>\n<script type=\"application/json\" "
      "id=\"data\">{}</script>\n"
      "<script>{}</script>\n{}</body>\n</html>\n",
      escape_html(profile.subject), chart_style(), kReportStyle, kProfileStyle, body, embedded_json(data),
      kProfileScript, chart_scripts());
}

}  // namespace surtsey::experiments
