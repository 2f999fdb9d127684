#include "experiments/commands/commands.h"
#include "graph/op.h"

namespace surtsey::experiments::commands {
namespace {

using graph::Family;
using graph::OpDef;

// No switch: in the order of the enumerators.
constexpr const char* kFamilies[] = {"leaf", "elementwise", "movement", "reduce", "matmul", "index", "state", "region"};

constexpr const char* kColumns[] = {"op", "family", "operands", "meaning", "gradient", "tolerance", "samples", "GLSL"};
using Row = std::vector<std::string>;

std::string tolerance(const OpDef& op) {
  if (op.family == Family::leaf || op.family == Family::state || op.family == Family::region) {
    return "-";
  }
  if (op.absolute == 0 && op.relative == 0) return "bit-equal";
  return fmt::format("{:g} + {:g} |x|", op.absolute, op.relative);
}

Row row(const OpDef& op) {
  return {op.name,
          kFamilies[size_t(op.family)],
          op.arity < 0 ? "any" : std::to_string(op.arity),
          op.doc,
          op.gradient ? "yes" : "no",
          tolerance(op),
          std::to_string(op.samples.size()),
          op.glsl ? op.glsl : ""};
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

std::string html(std::string text) {
  return replaced(replaced(replaced(std::move(text), "&", "&amp;"), "<", "&lt;"), ">", "&gt;");
}

void print_text(const std::vector<Row>& rows) {
  std::vector<size_t> width(std::size(kColumns));
  for (const Row& r : rows) {
    for (size_t c = 0; c < r.size(); ++c) width[c] = std::max(width[c], r[c].size());
  }
  for (const Row& r : rows) {
    std::string line;
    for (size_t c = 0; c < r.size(); ++c) line += fmt::format("{:{}}  ", r[c], width[c]);
    fmt::print("{}\n", line.substr(0, line.find_last_not_of(' ') + 1));
  }
}

void print_markdown(const std::vector<Row>& rows) {
  for (size_t i = 0; i < rows.size(); ++i) {
    std::string line = "|";
    for (size_t c = 0; c < rows[i].size(); ++c) {
      const std::string cell = replaced(rows[i][c], "|", "\\|");
      const bool code = i > 0 && !cell.empty() && (c == 0 || c + 1 == rows[i].size());
      line += fmt::format(" {0}{1}{0} |", code ? "`" : "", cell);
    }
    fmt::print("{}\n", line);
    if (i > 0) continue;
    for (size_t c = 0; c < rows[i].size(); ++c) fmt::print("{}---", c ? " | " : "| ");
    fmt::print(" |\n");
  }
}

void print_html(const std::vector<Row>& rows) {
  fmt::print(
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Surtsey: ops</title>\n"
      "<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}}"
      "table{{border-collapse:collapse}}td,th{{padding:.25rem .7rem;text-align:left;"
      "border-bottom:1px solid #8884;vertical-align:top}}code{{font-size:13px}}</style>\n"
      "<h1>Ops</h1>\n<p>{} rows. Composites (softmax, norms, attention, ..) are functions over "
      "these.</p>\n<table>\n",
      rows.size() - 1);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::string line = "<tr>";
    for (size_t c = 0; c < rows[i].size(); ++c) {
      const bool code = i > 0 && (c == 0 || c + 1 == rows[i].size());
      line += fmt::format("<{0}>{1}{2}{3}</{0}>", i == 0 ? "th" : "td", code ? "<code>" : "", html(rows[i][c]),
                          code ? "</code>" : "");
    }
    fmt::print("{}</tr>\n", line);
  }
  fmt::print("</table>\n</html>\n");
}

}  // namespace

void ops(const std::string& format) {
  std::vector<Row> rows = {Row(std::begin(kColumns), std::end(kColumns))};
  for (const OpDef& op : graph::op_table()) rows.push_back(row(op));
  check(format == "text" || format == "md" || format == "html", "--format is text, md or html, not '{}'", format);
  if (format == "text") print_text(rows);
  if (format == "md") print_markdown(rows);
  if (format == "html") print_html(rows);
}

}  // namespace surtsey::experiments::commands
