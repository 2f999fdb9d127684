#include "experiments/profile/figures.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/report/chart.h"

namespace surtsey::experiments {
namespace {

using graph::Phase;

constexpr Phase kPhases[] = {Phase::forward, Phase::backward, Phase::optimizer};

std::string compact(double value) { return fmt::format("{:.3g}", value); }

std::string time_text(double ns) {
  if (ns < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
  return fmt::format("{:.3f} ms", ns / 1e6);
}

std::string first_scope(const KernelRow& row) { return row.scopes.empty() ? "" : row.scopes.front(); }

// ---- timeline ----

constexpr double kLaneHeight = 26;
constexpr double kLaneLeft = 84;
constexpr double kMemoryHeight = 44;

// The replay whose length is in the middle.
const engine::TimedReplay& typical(const std::vector<engine::TimedReplay>& replays) {
  std::vector<const engine::TimedReplay*> sorted;
  for (const engine::TimedReplay& replay : replays) sorted.push_back(&replay);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->busy_ns < b->busy_ns; });
  return *sorted[sorted.size() / 2];
}

double length_of(const engine::TimedReplay& replay) {
  return double(replay.dispatches.back().end_ns - replay.dispatches.front().begin_ns);
}

std::string lane(const Profile& profile, const engine::TimedReplay& replay, const char* name, double top,
                 double pixels_per_ns) {
  const uint64_t origin = replay.dispatches.front().begin_ns;
  std::string svg = fmt::format("<text class=\"name\" x=\"0\" y=\"{:.0f}\">{}</text>", top + 17, name);
  for (size_t d = 0; d < replay.dispatches.size(); ++d) {
    const engine::Interval& at = replay.dispatches[d];
    const DispatchPlace& place = profile.dispatches[d];
    const KernelRow& row = profile.rows[place.row];
    svg += fmt::format(
        "<a href=\"#kernel-{}\"><rect class=\"slice {}\" x=\"{:.2f}\" y=\"{:.0f}\" "
        "width=\"{:.2f}\" "
        "height=\"{:.0f}\"><title>{}\n{} · {}\n{}</title></rect></a>",
        place.row, phase_color(row.phase), kLaneLeft + double(at.begin_ns - origin) * pixels_per_ns, top,
        std::max(0.3, double(at.ns()) * pixels_per_ns), kLaneHeight, escape_html(row.name), graph::name(row.phase),
        escape_html(place.scope), time_text(double(at.ns())));
  }
  return svg;
}

std::string memory_area(const Profile& profile, const engine::TimedReplay& replay, double top, double pixels_per_ns) {
  uint64_t most = 1;
  for (const DispatchPlace& place : profile.dispatches) most = std::max(most, place.live_bytes);
  const uint64_t origin = replay.dispatches.front().begin_ns;
  std::string path;
  double right = kLaneLeft;
  for (size_t d = 0; d < replay.dispatches.size(); ++d) {
    const engine::Interval& at = replay.dispatches[d];
    const double height = kMemoryHeight * double(profile.dispatches[d].live_bytes) / double(most);
    const double left = kLaneLeft + double(at.begin_ns - origin) * pixels_per_ns;
    right = kLaneLeft + double(at.end_ns - origin) * pixels_per_ns;
    path += fmt::format("{}{:.1f} {:.1f}H{:.1f}", d == 0 ? "M" : "L", left, top + kMemoryHeight - height, right);
  }
  return fmt::format(
      "<text class=\"name\" x=\"0\" y=\"{:.0f}\">memory</text><text class=\"tick\" x=\"0\" "
      "y=\"{:.0f}\">{:.1f} MiB</text><path class=\"memory\" "
      "d=\"{}V{:.1f}H{:.1f}Z\"><title>transient "
      "values that are alive, at most {:.2f} MiB</title></path>",
      top + 16, top + 32, double(most) / (1 << 20), path, top + kMemoryHeight, kLaneLeft, double(most) / (1 << 20));
}

// ---- treemap ----

struct Leaf {
  std::string scope;
  Phase phase = Phase::forward;
  double ns = 0;
};

struct Area {
  std::string name;
  double ns = 0;
  std::vector<Leaf> leaves;
};

// "decoder.blocks.3" of "decoder.blocks.3.attention.mix"; else the first word.
std::string group_of(const std::string& scope) {
  const size_t blocks = scope.find("blocks.");
  const bool in_block = blocks != std::string::npos && (blocks == 0 || scope[blocks - 1] == '.');
  return scope.substr(0, in_block ? scope.find('.', blocks + 7) : scope.find('.'));
}

std::vector<Area> areas_of(const Profile& profile) {
  std::map<std::pair<std::string, Phase>, double> leaves;
  for (const KernelRow& row : profile.rows) {
    const double call = row.isolated.total / double(row.calls());
    for (const uint32_t d : row.dispatches) {
      const std::string& scope = profile.dispatches[d].scope;
      leaves[{scope.empty() ? "(no scope)" : scope, row.phase}] += call;
    }
  }
  std::map<std::string, Area> groups;
  for (const auto& [place, ns] : leaves) {
    Area& area = groups[group_of(place.first)];
    area.name = group_of(place.first);
    area.ns += ns;
    area.leaves.push_back({place.first, place.second, ns});
  }
  std::vector<Area> areas;
  for (auto& [name, area] : groups) {
    std::stable_sort(area.leaves.begin(), area.leaves.end(), [](const Leaf& a, const Leaf& b) { return a.ns > b.ns; });
    areas.push_back(std::move(area));
  }
  std::stable_sort(areas.begin(), areas.end(), [](const Area& a, const Area& b) { return a.ns > b.ns; });
  return areas;
}

// Areas in pixels that fill a rectangle in proportion to the times.
template <typename Item>
std::vector<double> pixels(const std::vector<Item>& items, double whole, const Rectangle& all) {
  std::vector<double> areas;
  for (const Item& item : items) areas.push_back(item.ns / std::max(whole, 1e-9) * all.width * all.height);
  return areas;
}

std::string draw_leaf(const Leaf& leaf, const std::string& group, const Rectangle& at, double total) {
  std::string label = leaf.scope == group ? leaf.scope : leaf.scope.substr(group.size() + 1);
  std::string svg = fmt::format(
      "<a href=\"#scope-{}\"><g><rect class=\"leaf {}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
      "height=\"{:.1f}\"><title>{}\n{}\n{} a step, {:.1f}%</title></rect>",
      escape_html(leaf.scope), phase_color(leaf.phase), at.x, at.y, at.width, at.height, escape_html(leaf.scope),
      graph::name(leaf.phase), time_text(leaf.ns), 100 * leaf.ns / total);
  const auto room = size_t(std::max(0.0, (at.width - 8) / 6.4));
  if (at.height > 16 && room >= 4) {
    if (label.size() > room) label = label.substr(label.rfind('.') + 1);
    if (label.size() > room) label = label.substr(0, room - 1) + "…";
    svg +=
        fmt::format("<text class=\"in\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", at.x + 4, at.y + 13, escape_html(label));
  }
  return svg + "</g></a>";
}

}  // namespace

std::string phase_color(Phase phase) { return fmt::format("c{}", int(phase)); }

std::string roofline_figure(const Profile& profile) {
  const Ceilings& ceilings = profile.ceilings;
  std::vector<double> intensities, rates = {ceilings.f32_gflops};
  for (const KernelRow& row : profile.rows) {
    if (row.flops == 0 || row.bytes == 0) continue;
    intensities.push_back(row.intensity);
    if (row.bound != BoundBy::launch) rates.push_back(row.gflops);
  }
  const double knee = ceilings.f32_gflops / ceilings.copy_gbs();
  intensities.push_back(knee * 2);
  Chart chart;
  chart.title = "Roofline";
  chart.note =
      "Each dot is a kernel, alone: what it reaches over what it computes a byte. The lines are "
      "measured on this device; a small kernel is held against the rate of copies that fit in "
      "caches. Faint rings cost what a launch costs; they lie at the edge where they are below it.";
  chart.x = log_axis("FLOP per byte", intensities, compact);
  chart.y = log_axis("GFLOP/s", rates, compact);
  const auto roof = [&](const std::string& name, double gbs, const char* color, bool dashed) {
    Series series{name, color, dashed, {}, {}};
    const double left = std::max(chart.x.low, chart.y.low / gbs);
    const double right = std::min(chart.x.high, ceilings.f32_gflops / gbs);
    if (left >= right) return;
    for (int i = 0; i <= 16; ++i) {
      const double x = left * std::pow(right / left, i / 16.0);
      series.line.push_back({x, gbs * x});
    }
    chart.series.push_back(series);
  };
  const CopyRate& small = ceilings.copies.front();
  const CopyRate& large = ceilings.copies.back();
  roof(fmt::format("copy in caches, {:.3g} GB/s", small.gbs), small.gbs, "c4", true);
  roof(fmt::format("copy in memory, {:.3g} GB/s", large.gbs), large.gbs, "c4", false);
  chart.series.push_back({fmt::format("f32 multiply-add, {:.3g} GFLOP/s", ceilings.f32_gflops),
                          "c5",
                          false,
                          {{chart.x.low, ceilings.f32_gflops}, {chart.x.high, ceilings.f32_gflops}},
                          {}});
  for (const Phase phase : kPhases) {
    Series series{graph::name(phase), phase_color(phase), false, {}, {}};
    for (size_t r = 0; r < profile.rows.size(); ++r) {
      const KernelRow& row = profile.rows[r];
      if (row.phase != phase || row.flops == 0 || row.bytes == 0) continue;
      Mark mark;
      mark.x = row.intensity;
      mark.y = row.gflops;
      mark.tip = fmt::format("{}\n{}\n{:.1f} GFLOP/s, {:.2f} FLOP a byte, {:.1f}% of the step\nbound by {}", row.name,
                             first_scope(row), row.gflops, row.intensity, 100 * row.isolated.share, name(row.bound));
      mark.shape = row.bound == BoundBy::launch ? MarkShape::kFaint : MarkShape::kDot;
      mark.link = fmt::format("#kernel-{}", r);
      series.marks.push_back(mark);
    }
    if (!series.marks.empty()) chart.series.push_back(series);
  }
  return to_html(chart);
}

std::string timeline_figure(const Profile& profile) {
  const engine::TimedReplay& isolated = typical(profile.isolated_replays);
  const engine::TimedReplay& grouped = typical(profile.grouped_replays);
  const double longest = std::max({length_of(isolated), length_of(grouped), 1.0});
  const double width = std::max(1300.0, 7.0 * double(profile.dispatches.size()));
  const double pixels_per_ns = width / longest;
  std::string svg;
  double step = std::pow(10, std::floor(std::log10(longest)));
  if (longest / step < 4) step /= 4;
  const double bottom = 2 * (kLaneHeight + 10) + kMemoryHeight + 4;
  for (double at = 0; at <= longest; at += step) {
    const double x = kLaneLeft + at * pixels_per_ns;
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"0\" y2=\"{1:.0f}\"/><text "
        "class=\"tick\" x=\"{0:.1f}\" y=\"{2:.0f}\" text-anchor=\"middle\">{3:.4g} ms</text>",
        x, bottom, bottom + 14, at / 1e6);
  }
  svg += lane(profile, grouped, "grouped", 2, pixels_per_ns);
  svg += lane(profile, isolated, "isolated", kLaneHeight + 12, pixels_per_ns);
  svg += memory_area(profile, isolated, 2 * (kLaneHeight + 10) + 2, pixels_per_ns);
  return fmt::format(
      "<figure class=\"chart wide\"><figcaption><h3>Timeline</h3><p>One replay of each mode, the "
      "one of "
      "middle length. Grouped is the recording as it is; a slice is what a dispatch adds until it "
      "is "
      "complete.</p></figcaption><div class=\"strip\"><svg width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" "
      "aria-label=\"Timeline\">{2}</svg></div></figure>\n",
      width + kLaneLeft + 24, bottom + 20, svg);
}

std::vector<Rectangle> squarify(const std::vector<double>& areas, const Rectangle& all) {
  std::vector<Rectangle> result;
  Rectangle rest = all;
  // How far from a square the worst of [first, last) is, as a strip along the shorter side.
  const auto worst = [&](size_t first, size_t last, double sum) {
    const double side = std::min(rest.width, rest.height);
    const double thickness = sum / side;
    double ratio = 0;
    for (size_t i = first; i < last; ++i) {
      const double length = areas[i] / thickness;
      ratio = std::max(ratio, std::max(length / thickness, thickness / length));
    }
    return ratio;
  };
  for (size_t first = 0; first < areas.size();) {
    double sum = areas[first];
    size_t last = first + 1;
    for (; last < areas.size(); ++last) {
      if (worst(first, last + 1, sum + areas[last]) > worst(first, last, sum)) break;
      sum += areas[last];
    }
    const bool column = rest.width >= rest.height;
    const double side = column ? rest.height : rest.width;
    const double thickness = side > 0 ? sum / side : 0;
    double at = 0;
    for (size_t i = first; i < last; ++i) {
      const double length = thickness > 0 ? areas[i] / thickness : 0;
      result.push_back(column ? Rectangle{rest.x, rest.y + at, thickness, length}
                              : Rectangle{rest.x + at, rest.y, length, thickness});
      at += length;
    }
    if (column) {
      rest.x += thickness;
      rest.width -= thickness;
    } else {
      rest.y += thickness;
      rest.height -= thickness;
    }
    first = last;
  }
  return result;
}

std::string treemap_figure(const Profile& profile) {
  constexpr double kHeader = 16;
  const Rectangle all{0, 0, 1160, 400};
  const std::vector<Area> areas = areas_of(profile);
  double total = 0;
  for (const Area& area : areas) total += area.ns;
  const std::vector<Rectangle> places = squarify(pixels(areas, total, all), all);
  std::string svg;
  for (size_t i = 0; i < areas.size(); ++i) {
    const Area& area = areas[i];
    const Rectangle& at = places[i];
    Rectangle inside = at;
    const std::string title = fmt::format("{} {:.1f}%", area.name, 100 * area.ns / total);
    const bool titled = at.height > 3 * kHeader && at.width > 7.5 * double(title.size());
    if (titled) {
      inside.y += kHeader;
      inside.height -= kHeader;
      svg += fmt::format("<text class=\"group\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", at.x + 4, at.y + 12,
                         escape_html(title));
    }
    const std::vector<Rectangle> leaves = squarify(pixels(area.leaves, area.ns, inside), inside);
    for (size_t l = 0; l < leaves.size(); ++l) svg += draw_leaf(area.leaves[l], area.name, leaves[l], total);
    svg += fmt::format("<rect class=\"frame\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>", at.x,
                       at.y, at.width, at.height);
  }
  return fmt::format(
      "<figure class=\"chart wide\"><figcaption><h3>By model scope</h3><p>Area is time, every "
      "kernel "
      "alone, under the scope it was built around; colours are phases. A click filters the "
      "table.</p>"
      "</figcaption><svg class=\"plot\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" "
      "aria-label=\"Treemap "
      "by model scope\">{}</svg></figure>\n",
      all.width, all.height, svg);
}

}  // namespace surtsey::experiments
