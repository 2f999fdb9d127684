#include "experiments/report/grid_table.h"

#include <fmt/format.h>

#include "experiments/report/html.h"

namespace surtsey::experiments {
namespace {

constexpr int32_t kGridColors = 6;  // of the page

std::string color_class(int32_t group) { return fmt::format("way c{}", group % kGridColors); }

}  // namespace

std::string to_html(const Grid& grid) {
  std::string html = fmt::format("<figure class=\"chart grid-table\"><figcaption><h3>{}</h3><p>{}</p></figcaption>\n",
                                 escape_html(grid.title), escape_html(grid.note));
  if (!grid.groups.empty()) {
    html += "<ul class=\"legend\">";
    for (size_t i = 0; i < grid.groups.size(); ++i)
      html +=
          fmt::format("<li class=\"{}\"><span></span>{}</li>", color_class(int32_t(i)), escape_html(grid.groups[i]));
    html += "</ul>\n";
  }
  html += "<div class=\"scroll\"><table><thead>";
  if (!grid.across.empty())
    html += fmt::format("<tr><th></th><th class=\"across\" colspan=\"{}\">{}</th></tr>", grid.columns.size(),
                        escape_html(grid.across));
  html += fmt::format("<tr><th class=\"text\">{}</th>", escape_html(grid.down));
  for (const std::string& column : grid.columns) html += fmt::format("<th>{}</th>", escape_html(column));
  html += "</tr></thead><tbody>\n";
  for (size_t row = 0; row < grid.rows.size(); ++row) {
    html += fmt::format("<tr><td class=\"text\">{}</td>", escape_html(grid.rows[row]));
    for (const GridEntry& one : grid.entries[row]) {
      const std::string colored = one.group < 0 ? "" : fmt::format(" class=\"{}\"", color_class(one.group));
      html += fmt::format("<td{}>{}</td>", colored, escape_html(one.text));
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div></figure>\n";
}

}  // namespace surtsey::experiments
