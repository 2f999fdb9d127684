#include "experiments/report/report.h"
#include "experiments/report/figure_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/base/file.h"
#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/report/abilities.h"
#include "experiments/report/chart.h"
#include "experiments/report/chart_data.h"
#include "experiments/report/grid_table.h"
#include "experiments/report/pages/texts.h"
#include "experiments/report/report_figures.h"
#include "experiments/report/report_style.h"
#include "experiments/results/arms.h"
#include "experiments/results/claims.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSamplesPerArm = 8;
constexpr size_t kSampleRows = 800;
constexpr size_t kMostVariants = 12;  // that a chart of every study tells apart

// A number of result.json, exactly, with the text that is shown for it.
std::string data(double value, const std::string& text) {
  if (!std::isfinite(value)) return text;
  return fmt::format("<data value=\"{}\">{}</data>", value, text);
}

std::string badge(Verdict verdict) {
  const std::string_view name = verdict_name(verdict);
  std::string kind(name);
  std::transform(kind.begin(), kind.end(), kind.begin(),
                 [](char letter) { return static_cast<char>(letter - 'A' + 'a'); });
  return fmt::format("<span class=\"badge {}\">{}</span>", kind, name);
}

// The verdict and what it rests on; that it demonstrates stands above all of them.
std::string verdict(const Claim& claim) {
  return fmt::format(
      "<div{}>{}<p class=\"evidence\">{}</p></div>", claim.demonstration ? " class=\"demonstration\"" : "",
      badge(claim.verdict),
      claim.seeds == 0 ? "no training" : fmt::format("{} seed{}", claim.seeds, claim.seeds == 1 ? "" : "s"));
}

std::string page(const std::string& title, const std::string& body) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n<main>\n{}</main>\n"
      "<script>{}</script>\n{}</body>\n</html>\n",
      escape_html(title), chart_style(), kReportStyle, body, page_text("report_script"), chart_scripts());
}

std::string title_of(const StudyResult& result) { return result.title.empty() ? result.study : result.title; }

std::string facts_list(const Facts& facts) {
  std::string html = "<ul class=\"facts\">";
  for (const auto& [name, value] : facts) {
    html += fmt::format("<li>{} <b>{}</b></li>", escape_html(name), escape_html(value));
  }
  return html + "</ul>\n";
}

std::string header(const StudyResult& result) {
  std::string html = fmt::format("<header><h1>{}</h1>\n", escape_html(title_of(result)));
  if (!result.question.empty()) {
    html += fmt::format("<p class=\"question\">{}</p>\n", escape_html(result.question));
  }
  Facts facts = {{"study", result.study}, {"scale", result.scale}};
  facts.insert(facts.end(), result.device.begin(), result.device.end());
  return html + facts_list(facts) + "</header>\n";
}

std::string tile(std::string_view color, const std::string& number, const std::string& text) {
  return fmt::format("<div class=\"tile {}\"><strong>{}</strong><span>{}</span></div>", color, number,
                     escape_html(text));
}

// Worst and best exact match of an arm over the seeds of one size.
struct Extremes {
  const ArmResult* worst = nullptr;
  const ArmResult* best = nullptr;
};

std::map<int64_t, Extremes> ranges(const TaskGroup& group, ArmRole role, const std::string& variant) {
  std::map<int64_t, Extremes> result;
  for (const Cell* cell : group.cells) {
    const ArmResult* found = find_arm(*cell, role);
    if (found == nullptr || cell->variant != variant || diverged(*cell)) continue;
    Extremes& range = result[cell->parameters];
    if (!range.worst || found->exact_match < range.worst->exact_match) range.worst = found;
    if (!range.best || found->exact_match > range.best->exact_match) range.best = found;
  }
  return result;
}

// The size with the largest gap between prompts of the same weights, in four numbers.
std::string tiles(const StudyResult& result, const std::vector<TaskGroup>& groups) {
  std::string html;
  for (const TaskGroup& group : groups) {
    if (group.variants.empty()) continue;
    const std::string& variant = group.variants.front();
    const auto chain = ranges(group, ArmRole::steps, variant);
    const auto direct = ranges(group, ArmRole::direct, variant);
    int64_t size = 0;
    double gap = -2;
    for (const auto& [parameters, range] : chain) {
      if (!direct.contains(parameters)) continue;
      const double here = range.worst->exact_match - direct.at(parameters).best->exact_match;
      if (here > gap) gap = here, size = parameters;
    }
    if (size == 0) continue;
    const std::string of = group.task.empty() ? "" : group.task + ": ";
    const std::string at = whole_number(static_cast<double>(size)) + " parameters";
    const ArmResult &worst = *chain.at(size).worst, &best = *direct.at(size).best;
    const ArmKind steps = arm_kind(worst.arm), at_once = arm_kind(best.arm);
    html += tile(steps.color, data(worst.exact_match, share_number(worst.exact_match)),
                 fmt::format("{}{} at {}, worst seed", of, steps.label, at));
    html += tile(at_once.color, data(best.exact_match, share_number(best.exact_match)),
                 fmt::format("{}{} of the same weights, best seed", of, at_once.label));
    double least = 2;
    for (const Cell* cell : group.cells) {
      if (cell->parameters == size && cell->faithfulness) {
        least = std::min(least, *cell->faithfulness);
      }
    }
    if (least <= 1) {
      html += tile("c2", data(least, share_number(least)),
                   "of corrupted steps move the answer by exactly the injected amount, worst seed");
    }
    if (groups.size() > 1) break;  // the figures tell the rest
  }
  double flops = 0, seconds = 0;
  size_t models = 0;
  std::set<int64_t> sizes;
  for (const Cell& cell : result.cells) {
    if (cell.train_seconds == 0) continue;  // weights of another cell, rounded
    flops += cell.flops;
    seconds += cell.train_seconds;
    sizes.insert(cell.parameters);
    ++models;
  }
  html += tile("", flop_number(flops),
               fmt::format("to train {} models of {} size{} in {:.0f} s", models, sizes.size(),
                           sizes.size() == 1 ? "" : "s", seconds));
  return "<div class=\"tiles\">" + html + "</div>\n";
}

std::string claims(const StudyResult& result) {
  if (result.claims.empty()) return "";
  std::string html = "<h2>Claims</h2>\n";
  if (const std::string note = demonstration_note(result); !note.empty()) {
    html += fmt::format("<p class=\"note\">{}</p>\n", escape_html(note));
  }
  html += "<ul class=\"claims\">\n";
  for (const Claim& claim : result.claims) {
    html +=
        fmt::format("<li class=\"claim\">{}<div><p><b>{}</b> {}</p><p class=\"evidence\">{}</p></div></li>\n",
                    verdict(claim), escape_html(claim.name), escape_html(claim.statement), escape_html(claim.evidence));
  }
  return html + "</ul>\n";
}

std::string figures(const StudyResult& result, const std::vector<TaskGroup>& groups,
                    const std::vector<MetricLine>& metrics) {
  std::string html = "<h2>Figures</h2>\n<div class=\"charts\">\n";
  for (const Figure& figure : result.figures) html += to_html(to_chart(figure));
  for (const TaskGroup& all : groups) {
    const TaskGroup group = as_trained(all);
    if (!group.arms.empty() && group.variants.size() <= kMostVariants) {
      html += to_html(accuracy_by_parameters(group)) + to_html(loss_by_parameters(group));
      const Chart compute = accuracy_by_flops(group);
      if (!compute.series.empty()) html += to_html(compute);
      html += to_html(accuracy_by_loss(group));
      for (const Chart& chart : metrics_by_parameters(group)) html += to_html(chart);
      for (const Chart& chart : accuracy_by_position(group)) html += to_html(chart);
    }
    const Chart training = loss_by_tokens(group, metrics);
    if (!training.series.empty()) html += to_html(training);
  }
  return html + "</div>\n";
}

std::string rates_table(const StudyResult& result, const std::vector<TaskGroup>& groups) {
  std::string rows;
  for (const TaskGroup& group : groups) {
    std::map<std::pair<std::string, int64_t>, std::vector<const Cell*>> sizes;
    for (const auto* list : {&group.cells, &group.others}) {
      for (const Cell* cell : *list) sizes[{cell->variant, cell->parameters}].push_back(cell);
    }
    for (const auto& [key, cells] : sizes) {
      std::map<double, std::vector<const Cell*>> by_rate;
      std::set<double> chosen;
      std::set<uint32_t> seeds;
      for (const Cell* cell : cells) {
        by_rate[cell->learning_rate].push_back(cell);
        if (cell->selected && !cell->validation_only) {
          chosen.insert(cell->learning_rate);
          seeds.insert(cell->seed);
        }
      }
      std::vector<std::string> rates, seed_names;
      for (const auto& [rate, tried] : by_rate) {
        std::vector<std::string> losses;
        for (const Cell* cell : tried) {
          if (!cell->validation_loss) continue;
          losses.push_back(data(*cell->validation_loss, loss_number(*cell->validation_loss)));
        }
        std::string text = data(rate, fmt::format("{:.3g}", rate));
        if (chosen.contains(rate)) text = "<b>" + text + " chosen</b>";
        if (!losses.empty()) text += " (" + join(losses, ", ") + ")";
        rates.push_back(text);
      }
      for (const uint32_t seed : seeds) seed_names.push_back(data(seed, fmt::to_string(seed)));
      rows += fmt::format(
          "<tr><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td>"
          "<td class=\"text\">{}</td><td class=\"text\">{}</td></tr>\n",
          escape_html(group.task.empty() ? result.study : group.task), escape_html(key.first),
          data(cells.front()->n_embd, fmt::to_string(cells.front()->n_embd)),
          data(static_cast<double>(key.second), whole_number(static_cast<double>(key.second))), join(seed_names, ", "),
          join(rates, " &middot; "));
    }
  }
  return "<h2>Seeds and learning rates</h2>\n"
         "<p>In brackets the held-out loss that the choice rests on, one number a model.</p>\n"
         "<div class=\"scroll\"><table><thead><tr><th class=\"text\">task</th>"
         "<th class=\"text\">trained on</th><th>width</th><th>parameters</th>"
         "<th class=\"text\">seeds</th><th class=\"text\">learning "
         "rates</th></tr></thead><tbody>\n" +
         rows + "</tbody></table></div>\n";
}

std::string arm_entry(const ArmResult& arm) {
  std::string html =
      fmt::format("<td>{} <small>[{}, {}] of {}</small>", data(arm.exact_match, share_number(arm.exact_match)),
                  data(arm.ci95.low, share_number(arm.ci95.low)), data(arm.ci95.high, share_number(arm.ci95.high)),
                  data(static_cast<double>(arm.n), fmt::to_string(arm.n)));
  html += fmt::format("<small>loss {}</small>", data(arm.loss_per_token, loss_number(arm.loss_per_token)));
  if (arm.position_accuracy.size() > 1) {
    html += fmt::format("<small>chain {} &middot; product {}</small>",
                        data(arm.chain_exact_match, share_number(arm.chain_exact_match)),
                        share_number(position_product(arm)));
  }
  return html + "</td>";
}

std::string cells_table(const StudyResult& result) {
  std::vector<std::string> arms;
  for (const Cell& cell : result.cells) {
    for (const ArmResult& arm : cell.arms) {
      if (std::find(arms.begin(), arms.end(), arm.arm) == arms.end()) arms.push_back(arm.arm);
    }
  }
  std::string html = "<h2>Cells</h2>\n";
  if (!result.benchmark) {
    html +=
        "<p>Exact match of the final answer with its 95% Wilson interval; below it the loss per "
        "answer token, the share of whole chains and the product of the step accuracies. Grey: "
        "learning rates that were not chosen.</p>\n";
  }
  html +=
      "<div class=\"scroll tall\"><table id=\"cells\"><thead><tr><th "
      "class=\"text\">cell</th><th>parameters</th><th>L</th><th>d</th>"
      "<th>seed</th><th>learning rate</th><th>steps</th><th>tokens</th><th>FLOPs</th>"
      "<th>train s</th>";
  for (const std::string& arm : arms) html += fmt::format("<th>{}</th>", escape_html(arm_kind(arm).label));
  if (!result.benchmark) html += "<th>faithfulness</th>";
  html += "</tr></thead><tbody>\n";
  const auto number = [](double value, const std::string& text) { return "<td>" + data(value, text) + "</td>"; };
  for (const Cell& cell : result.cells) {
    const bool counts = cell.selected && !cell.validation_only;
    // Answers are shown of the cells that count.
    const std::string cell_name = escape_html(cell.cell);
    html += counts ? fmt::format("<tr><td class=\"text mono\"><a href=\"#samples\">{}</a></td>", cell_name)
                   : fmt::format("<tr class=\"dim\"><td class=\"text mono\">{}</td>", cell_name);
    const auto whole = [&](auto value) {
      const auto wide = static_cast<double>(value);
      html += number(wide, whole_number(wide));
    };
    whole(cell.parameters);
    whole(cell.n_layer);
    whole(cell.n_embd);
    html += number(cell.seed, fmt::to_string(cell.seed));
    html += number(cell.learning_rate, fmt::format("{:.3g}", cell.learning_rate));
    whole(cell.steps);
    whole(cell.tokens);
    html += number(cell.flops, flop_number(cell.flops));
    html += number(cell.train_seconds, fmt::format("{:.1f}", cell.train_seconds));
    for (const std::string& arm : arms) {
      const ArmResult* found = cell.find_arm(arm);
      html += found == nullptr ? "<td>–</td>" : diverged(cell) ? "<td>diverged</td>" : arm_entry(*found);
    }
    if (!result.benchmark) {
      html += cell.faithfulness ? number(*cell.faithfulness, share_number(*cell.faithfulness)) : "<td>–</td>";
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

// What tasks measure beside exact match, a table a task.
std::string measures_table(const StudyResult& result, const std::vector<TaskGroup>& groups) {
  std::string html;
  for (const TaskGroup& group : groups) {
    std::vector<std::string> names;
    for (const Cell* cell : group.cells) {
      for (const Measure& measure : cell->measures) {
        if (std::find(names.begin(), names.end(), measure.name) == names.end()) {
          names.push_back(measure.name);
        }
      }
    }
    if (names.empty()) continue;
    html += "<div class=\"scroll tall\"><table><thead><tr><th class=\"text\">" +
            escape_html(group.task.empty() ? result.study : group.task) + "</th>";
    for (const Cell* cell : group.cells) {
      html += fmt::format("<th class=\"mono\">{}</th>", escape_html(cell->cell));
    }
    html += "</tr></thead><tbody>\n";
    for (const std::string& name : names) {
      html += fmt::format("<tr><td class=\"text\">{}</td>", escape_html(name));
      for (const Cell* cell : group.cells) {
        const Measure* found = cell->find_measure(name);
        html += found == nullptr
                    ? "<td>–</td>"
                    : fmt::format("<td>{} <small>&plusmn; {}</small></td>",
                                  data(found->mean, fmt::format("{:.4g}", found->mean)),
                                  data(found->standard_error, fmt::format("{:.2g}", found->standard_error)));
      }
      html += "</tr>\n";
    }
    html += "</tbody></table></div>\n";
  }
  if (html.empty()) return "";
  return fmt::format("<h2>Measures</h2>\n<p>{} with their standard errors.</p>\n",
                     result.benchmark ? "Medians of repeated samples" : "Means over test items") +
         html;
}

std::string caveats(const StudyResult& result) {
  std::string items;
  const auto add = [&](const std::vector<std::string>& sentences) {
    for (const std::string& sentence : sentences) {
      items += fmt::format("<li>{}</li>\n", escape_html(sentence));
    }
  };
  if (!result.benchmark) add(derive_caveats(result));
  add(result.caveats);
  if (items.empty()) return "";
  return "<h2>What these numbers do not say</h2>\n<ul class=\"caveats\">\n" + items + "</ul>\n";
}

std::string samples_table(const StudyResult& result, const std::vector<SampleLine>& samples) {
  if (samples.empty()) return "";
  std::map<std::pair<std::string, std::string>, size_t> shown;
  std::set<std::string> hidden;
  for (const Cell& cell : result.cells) {
    if (!cell.selected || cell.validation_only) hidden.insert(cell.cell);
  }
  std::string rows;
  size_t count = 0;
  for (const SampleLine& sample : samples) {
    if (count >= kSampleRows || hidden.contains(sample.cell)) continue;
    if (shown[{sample.cell, sample.arm}]++ >= kSamplesPerArm) continue;
    ++count;
    const char* answer = sample.correct ? "right" : "wrong";
    rows += fmt::format(
        "<tr data-cell=\"{0}\" data-arm=\"{1}\" data-answer=\"{2}\"><td class=\"text "
        "mono\">{0}</td>"
        "<td class=\"text\">{1}</td><td class=\"text mono\">{3}</td><td class=\"text "
        "mono\">{4}</td>"
        "<td class=\"text mono\">{5}</td><td class=\"text {2}\">{2}</td></tr>\n",
        escape_html(sample.cell), escape_html(sample.arm), answer, escape_html(sample.prompt),
        escape_html(sample.target), escape_html(sample.response));
  }
  return fmt::format(
      "<h2>Answers</h2>\n<p>The first {} items of each prompt kind and cell, answered by greedy "
      "decoding from the prompt alone. All {} lines are in samples.jsonl.</p>\n"
      "<div class=\"scroll tall\"><table id=\"samples\"><thead><tr><th class=\"text\">cell</th>"
      "<th class=\"text\">arm</th><th class=\"text\">prompt</th><th class=\"text\">target</th>"
      "<th class=\"text\">response</th><th class=\"text\">answer</th></tr></thead><tbody>\n{}"
      "</tbody></table></div>\n",
      kSamplesPerArm, whole_number(static_cast<double>(samples.size())), rows);
}

// Says whether the numbers shown are those of the samples.
std::string check_note(const ReportInput& input) {
  if (input.result.benchmark) return "";
  if (input.samples.empty()) {
    return "<p class=\"note bad\">There is no samples.jsonl: the numbers could not be "
           "checked.</p>\n";
  }
  const std::vector<std::string> found = disagreements(input.result, input.samples);
  if (found.empty()) {
    return fmt::format(
        "<p class=\"note\">Every score on this page was recomputed from the {} lines of "
        "samples.jsonl "
        "and agrees.</p>\n",
        whole_number(static_cast<double>(input.samples.size())));
  }
  std::string items;
  for (size_t i = 0; i < found.size() && i < 10; ++i) {
    items += fmt::format("<li>{}</li>", escape_html(found[i]));
  }
  return fmt::format(
      "<div class=\"note bad\"><p><b>{} numbers of result.json are not those of samples.jsonl.</b>"
      "</p><ul>{}</ul></div>\n",
      found.size(), items);
}

Facts load_environment(const fs::path& path) {
  Facts facts;
  const std::optional<std::string> text_of_file = read_file_if_exists(path);
  if (!text_of_file) return facts;
  const auto json = nlohmann::ordered_json::parse(*text_of_file, nullptr, false);
  if (!json.is_object()) return facts;
  const auto text = [](const auto& value) {
    return value.is_string() ? value.template get<std::string>() : json_text(value);
  };
  if (json.contains("commit")) facts.emplace_back("commit", text(json["commit"]));
  for (const char* part : {"versions", "host"}) {
    if (!json.contains(part) || !json[part].is_object()) continue;
    for (const auto& [name, value] : json[part].items()) facts.emplace_back(name, text(value));
  }
  if (json.contains("command") && json["command"].is_array()) {
    std::string command;
    for (const auto& word : json["command"]) command += (command.empty() ? "" : " ") + text(word);
    facts.emplace_back("command", command);
  }
  return facts;
}

std::string index_entry(const fs::path& link, const StudyResult& result) {
  std::string html = fmt::format("<section class=\"study\"><div><h2><a href=\"{}\">{}</a></h2>\n", link_to(link),
                                 escape_html(title_of(result)));
  if (!result.question.empty()) html += fmt::format("<p>{}</p>\n", escape_html(result.question));
  html += facts_list({{"scale", result.scale}, {"models", fmt::to_string(result.cells.size())}});
  html += "<ul class=\"claims\">\n";
  for (const Claim& claim : result.claims) {
    html += fmt::format("<li class=\"claim\">{}<p>{}</p></li>\n", verdict(claim), escape_html(claim.statement));
  }
  html += "</ul></div>\n";
  const auto groups = group_by_task(result);
  // A study of one size shows its own first figure: dots above one another say little.
  std::set<int64_t> sizes;
  if (!groups.empty()) {
    for (const Cell* cell : groups.front().cells) sizes.insert(cell->parameters);
  }
  if ((result.benchmark || sizes.size() < 2) && !result.figures.empty()) {
    html += to_html(to_chart(result.figures.front()));
  } else if (!result.benchmark && !groups.empty()) {
    html += to_html(accuracy_by_parameters(as_trained(groups.front())));
  }
  return html + "</section>\n";
}

}  // namespace

std::string render_report(const ReportInput& input) {
  const StudyResult& result = input.result;
  const std::vector<TaskGroup> groups = group_by_task(result);
  std::string body = header(result) + tiles(result, groups);
  for (const Grid& grid : result.grids) body += to_html(grid);
  body += claims(result);
  body += figures(result, groups, input.metrics);
  body += caveats(result);
  if (!result.benchmark) body += rates_table(result, groups);
  body += cells_table(result) + measures_table(result, groups) + check_note(input);
  body += samples_table(result, input.samples);
  Facts foot = result.settings;
  foot.insert(foot.end(), input.environment.begin(), input.environment.end());
  body += "<footer>" + facts_list(foot) + "</footer>\n";
  return page(title_of(result), body);
}

ReportInput load_report_input(const fs::path& directory) {
  ReportInput input;
  input.result = load_result(directory / kResultFile);
  input.samples = load_samples(directory / kSamplesFile);
  input.metrics = load_metrics(directory / "metrics.jsonl");
  input.environment = load_environment(directory / "env.json");
  return input;
}

fs::path write_report(const fs::path& directory) {
  const fs::path path = directory / "report.html";
  write_file_atomic(path, render_report(load_report_input(directory)));
  return path;
}

fs::path write_reports(const fs::path& directory) {
  check(fs::is_directory(directory), "[report] '{}' is not a directory", directory.string());
  if (fs::exists(directory / kResultFile)) return write_report(directory);
  std::vector<fs::path> runs;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (fs::exists(entry.path() / kResultFile)) runs.push_back(entry.path());
  }
  check(!runs.empty() || !fs::exists(directory / "metrics.jsonl"),
        "[report] '{}' is a run that is not finished, or one of `surtsey train`, which has no page: its curves are in "
        "metrics.csv and, for TensorBoard, in events/",
        directory.string());
  check(!runs.empty(), "[report] there is no result.json in '{}' or one level below", directory.string());
  std::sort(runs.begin(), runs.end());
  std::string body = "<header><h1>Studies</h1>\n";
  std::string entries;
  std::vector<StudyResult> results;
  std::vector<fs::path> links;
  for (const fs::path& run : runs) {
    write_report(run);
    results.push_back(load_result(run / kResultFile));
    links.push_back(run.filename() / "report.html");
    if (entries.empty()) body += facts_list(results.back().device) + "</header>\n";
    entries += index_entry(links.back(), results.back());
  }
  entries += abilities_section(results, links);
  const fs::path path = directory / "report.html";
  write_file_atomic(path, page("Studies", body + entries));
  return path;
}

}  // namespace surtsey::experiments
