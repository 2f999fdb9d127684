// What `surtsey finetune` shows of a run when it is done: a table, and a page.
#include "experiments/base/file.h"
#include "experiments/commands/finetune.h"
#include "experiments/report/chart.h"
#include "experiments/report/chart_data.h"
#include "experiments/report/html.h"
#include "experiments/report/report_style.h"
#include "experiments/results/record.h"
#include "experiments/statistics/intervals.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace surtsey::experiments::commands {
namespace {

bool has_held_out(const std::vector<FinetuneMember>& members) { return std::isfinite(members.front().held_out); }

// What members are compared by.
double score(const FinetuneMember& member) {
  const double loss = std::isfinite(member.held_out) ? member.held_out : member.train_loss;
  return std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity();
}

struct RateRow {
  double rate = 0;
  std::vector<double> losses;
};

std::vector<RateRow> by_rate(const std::vector<FinetuneMember>& members) {
  std::vector<RateRow> rows;
  for (const FinetuneMember& member : members) {
    const double rate = member.member.learning_rate;
    auto found = std::find_if(rows.begin(), rows.end(), [&](const RateRow& row) { return row.rate == rate; });
    if (found == rows.end()) found = rows.insert(rows.end(), RateRow{rate, {}});
    found->losses.push_back(score(member));
  }
  return rows;
}

std::string interval_of(const std::vector<double>& losses) {
  if (losses.size() < 2) return "";
  const Interval interval = t_interval(losses);
  return fmt::format("[{:.4f}, {:.4f}]", interval.low, interval.high);
}

enum class Scale : uint8_t { loss, linear, share };

Axis axis_of(Scale scale, const char* label, const std::vector<double>& values) {
  if (scale == Scale::share) return share_axis(label);
  if (scale == Scale::loss) return loss_axis(label, values);
  return loss_axis(label, values, std::numeric_limits<double>::infinity());
}

Chart curves(const std::vector<MetricLine>& lines, const std::string& title, const std::string& value, const char* axis,
             Scale scale = Scale::loss) {
  std::map<std::string, Series> series;
  std::vector<double> values;
  double last = 1;
  for (const MetricLine& line : lines) {
    for (const auto& [name, number] : line.values) {
      if (name != value || !std::isfinite(number)) continue;
      Series& one = series[line.cell];
      one.name = line.cell;
      one.line.push_back({double(line.step), number});
      values.push_back(number);
      last = std::max(last, double(line.step));
    }
  }
  Axis steps = axis_of(Scale::linear, "step", {0, last});
  steps.high = last;
  std::erase_if(steps.ticks, [&](const Tick& tick) { return tick.at > last; });
  Chart chart{title, "", steps, axis_of(scale, axis, values), {}, {}};
  size_t color = 0;
  for (auto& [name, one] : series) {
    one.color = fmt::format("c{}", color++ % 6);
    chart.series.push_back(std::move(one));
  }
  if (chart.series.size() == 1) chart.series.front().name.clear();
  return chart;
}

std::string cell(const std::string& text) { return fmt::format("<td>{}</td>", escape_html(text)); }

std::string members_table(const std::vector<FinetuneMember>& members, const FinetunePageWords& words) {
  std::string rows;
  const size_t best = best_of(members);
  for (size_t i = 0; i < members.size(); ++i) {
    const FinetuneMember& one = members[i];
    rows += fmt::format(
        "<tr>{}{}{}{}{}</tr>\n", cell(fmt::format("{}", one.member.seed)),
        cell(fmt::format("{:g}", one.member.learning_rate)), cell(fmt::format("{:.4f}", one.held_out)),
        cell(words.share ? fmt::format("{:.1f} %", 100 * one.accuracy) : fmt::format("{:.4f}", one.accuracy)),
        cell(i == best ? "written" : ""));
  }
  std::string rates;
  for (const RateRow& row : by_rate(members)) {
    rates += fmt::format("<tr>{}{}{}{}</tr>\n", cell(fmt::format("{:g}", row.rate)),
                         cell(fmt::format("{}", row.losses.size())), cell(fmt::format("{:.4f}", mean(row.losses))),
                         cell(interval_of(row.losses)));
  }
  return fmt::format(
      "<h2>Models</h2>\n<table><thead><tr><th>seed</th><th>learning rate</th><th>held-out "
      "loss</th><th>{}</th><th></th></tr></thead>\n<tbody>{}</tbody></table>\n"
      "<h2>Learning rates</h2>\n<table><thead><tr><th>learning rate</th><th>seeds</th><th>mean held-out "
      "loss</th><th>95 "
      "% interval over seeds</th></tr></thead>\n<tbody>{}</tbody></table>\n",
      words.measure, rows, rates);
}

}  // namespace

size_t best_of(const std::vector<FinetuneMember>& members) {
  size_t best = 0;
  for (size_t i = 1; i < members.size(); ++i)
    if (score(members[i]) < score(members[best])) best = i;
  return best;
}

std::string finetune_table(const std::vector<FinetuneMember>& members) {
  const char* kind = has_held_out(members) ? "held-out" : "training";
  std::string text = fmt::format(
      "| learning rate | seeds | mean {} loss | 95 % interval | of each seed |\n"
      "|---|---|---|---|---|\n",
      kind);
  for (const RateRow& row : by_rate(members)) {
    std::string each;
    for (const double loss : row.losses) each += fmt::format("{}{:.4f}", each.empty() ? "" : " ", loss);
    text += fmt::format("| {:g} | {} | {:.4f} | {} | {} |\n", row.rate, row.losses.size(), mean(row.losses),
                        interval_of(row.losses), each);
  }
  return text;
}

void write_finetune_page(const std::filesystem::path& out, const std::string& title, const std::string& trained,
                         const std::vector<FinetuneMember>& members, const std::vector<FinetuneAnswer>& answers,
                         const std::string& config, const FinetunePageWords& words) {
  const std::vector<MetricLine> lines = load_metrics(out / "metrics.jsonl");
  std::string body = fmt::format("<h1>{}</h1>\n<pre>{}</pre>\n", escape_html(title), escape_html(trained));
  body += to_html(curves(lines, "Loss in training", "loss", words.loss));
  if (has_held_out(members)) body += to_html(curves(lines, "Held-out loss", "eval_loss", words.loss));
  for (const FinetunePageWords::Curve& one : words.curves) {
    const Scale scale = one.share ? Scale::share : Scale::linear;
    const char* axis = one.share ? "share" : "margin";
    body += to_html(curves(lines, std::string(one.title) + ", in training", one.metric, axis, scale));
    if (has_held_out(members))
      body += to_html(curves(lines, std::string(one.title) + ", held out", "eval_" + one.metric, axis, scale));
  }
  body += members_table(members, words);
  if (!answers.empty()) {
    body +=
        "<h2>Answers on the way</h2>\n<table><thead><tr><th>step</th><th>asked</th><th>wanted</th><th>answered</th>"
        "</tr></thead>\n<tbody>";
    for (const FinetuneAnswer& one : answers)
      body += fmt::format("<tr>{}{}{}{}</tr>\n", cell(fmt::format("{}", one.step)), cell(one.question),
                          cell(one.wanted), cell(one.answer));
    body += "</tbody></table>\n";
  }
  body += fmt::format("<h2>Configuration</h2>\n<pre>{}</pre>\n", escape_html(config));
  write_file_atomic(out / "report.html",
                    fmt::format("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                                "<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n"
                                "</html>\n",
                                escape_html(title), chart_style(), kReportStyle, body));
}

}  // namespace surtsey::experiments::commands
