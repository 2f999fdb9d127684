#include "experiments/evaluate/harness/records.h"

#include "experiments/base/json_text.h"
#include "experiments/base/version.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"
#include "shaders/cache_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

namespace surtsey::experiments {
namespace {

using Json = nlohmann::ordered_json;

// What ends an answer, for the second argument of a generation.
Json generation_kwargs(const EvalTask& task) {
  return {{"until", task.until}, {"max_gen_toks", task.max_gen_toks}, {"do_sample", false}};
}

// Each of what was sent to the model: (context, continuation), (text) or (context, how).
Json arguments_of(const EvalTask& task, const Prompt& prompt) {
  Json arguments = Json::object();
  const auto add = [&](Json first, Json second) {
    Json one = {{"arg_0", std::move(first)}};
    if (!second.is_null()) one["arg_1"] = std::move(second);
    arguments[fmt::format("gen_args_{}", arguments.size())] = std::move(one);
  };
  if (task.output_type == OutputType::generate_until) add(prompt.context, generation_kwargs(task));
  for (const std::string& continuation : prompt.continuations) {
    if (task.output_type == OutputType::loglikelihood_rolling) {
      add(continuation, nullptr);
    } else {
      add(prompt.context, continuation);
    }
  }
  return arguments;
}

// As Python writes a float: the harness has texts where a response is made of numbers.
std::string number_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_not_of("-0123456789") == text.npos) text += ".0";
  return text;
}

double parse_number(const Json& json) {
  const auto& text = json.get_ref<const std::string&>();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(error == std::errc() && end == text.data() + text.size(), "'{}' is no number", text);
  return value;
}

Json answer_json(const EvalTask& task, const Answer& answer) {
  switch (task.output_type) {
    case OutputType::generate_until:
      return answer.text;
    case OutputType::loglikelihood_rolling:
      return number_text(answer.loglikelihood);
    default:
      return Json::array({number_text(answer.loglikelihood), answer.greedy ? "True" : "False"});
  }
}

Answer parse_answer(const EvalTask& task, const Json& json) {
  Answer answer;
  switch (task.output_type) {
    case OutputType::generate_until:
      answer.text = json.get<std::string>();
      break;
    case OutputType::loglikelihood_rolling:
      answer.loglikelihood = parse_number(json);
      break;
    default:
      answer.loglikelihood = parse_number(json.at(0));
      answer.greedy = json.at(1) == "True";
  }
  return answer;
}

// What the answers rest on, beside the item.
std::string prompt_hash(const EvalTask& task, const Prompt& prompt) {
  return shaders::hash_name(json_text(arguments_of(task, prompt)));
}

std::string key_of(const MetricResult& metric, const EvalTask& task, const char* suffix = "") {
  return fmt::format("{}{},{}", metric.name, suffix, task.filter_name);
}

Json task_json(const TaskResult& result) {
  const EvalTask& task = result.task;
  Json json = {{"alias", task.name}};
  for (const MetricResult& metric : result.metrics) {
    json[key_of(metric, task)] = metric.value;
    json[key_of(metric, task, "_stderr")] = metric.standard_error ? Json(*metric.standard_error) : Json("N/A");
    if (metric.ci95) json[key_of(metric, task, "_ci95")] = {metric.ci95->low, metric.ci95->high};
  }
  return json;
}

Json config_json(const EvalTask& task, int64_t shots) {
  Json metrics = Json::array();
  for (const std::string& metric : task.metrics) {
    metrics.push_back({{"metric", metric}, {"higher_is_better", higher_is_better(metric)}});
  }
  Json json = {{"task", task.name},
               {"output_type", name(task.output_type)},
               {"description", task.description},
               {"doc_to_text", task.doc_to_text},
               {"doc_to_target", task.doc_to_target},
               {"target_delimiter", task.target_delimiter},
               {"fewshot_delimiter", task.fewshot_delimiter},
               {"num_fewshot", shots},
               {"metric_list", std::move(metrics)}};
  if (!task.doc_to_choice.empty()) json["doc_to_choice"] = task.doc_to_choice;
  if (task.output_type == OutputType::generate_until) {
    json["generation_kwargs"] = generation_kwargs(task);
    json["filter_list"] = {{{"name", task.filter_name}, {"strip", task.strip}, {"regex", task.regex}}};
  }
  return json;
}

}  // namespace

std::string to_json_line(const EvalTask& task, const AnswerFilter& filter, const EvalSample& sample) {
  const Prompt& prompt = sample.prompt;
  Json responses = Json::array(), filtered = Json::array();
  for (const Answer& answer : sample.answers) {
    const Json one = answer_json(task, answer);
    responses.push_back(Json::array({one}));
    filtered.push_back(task.output_type == OutputType::generate_until ? Json(filter.filter(answer.text)) : one);
  }
  const bool choosing = task.output_type == OutputType::multiple_choice;
  Json line = {{"doc_id", prompt.doc},
               {"doc", Json::parse(prompt.item)},
               {"target", choosing ? fmt::format("{}", prompt.gold) : prompt.target},
               {"arguments", arguments_of(task, prompt)},
               {"resps", std::move(responses)},
               {"filtered_resps", std::move(filtered)},
               {"filter", task.filter_name},
               {"metrics", task.metrics},
               {"doc_hash", shaders::hash_name(prompt.item)},
               {"prompt_hash", prompt_hash(task, prompt)},
               {"target_hash", shaders::hash_name(prompt.target)}};
  if (!prompt.retrieved.empty()) line["retrieved"] = Json::parse(prompt.retrieved);
  const bool weighted = task.output_type == OutputType::loglikelihood_rolling;
  for (const ItemMetric& metric : item_metrics(task, filter, prompt, sample.answers)) {
    line[metric.name] = weighted ? Json::array({metric.value, metric.weight}) : Json(metric.value);
  }
  if (weighted) {
    Json windows = Json::array();
    for (const Answer::Part& part : sample.answers.front().windows)
      windows.push_back({part.loglikelihood, part.tokens});
    line["windows"] = std::move(windows);
  }
  return json_text(line);
}

int64_t item_of(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  const bool whole = json.is_object() && json.contains("doc_id") && json["doc_id"].is_number_integer();
  return whole ? json["doc_id"].get<int64_t>() : -1;
}

std::optional<std::vector<Answer>> answers_of(std::string_view line, const EvalTask& task, const Prompt& prompt) {
  try {
    const Json json = Json::parse(line);
    const bool same = json.at("doc_id") == prompt.doc && json.at("doc_hash") == shaders::hash_name(prompt.item) &&
                      json.at("prompt_hash") == prompt_hash(task, prompt) &&
                      json.at("target_hash") == shaders::hash_name(prompt.target);
    if (!same) return std::nullopt;
    std::vector<Answer> answers;
    for (const Json& response : json.at("resps")) answers.push_back(parse_answer(task, response.at(0)));
    if (answers.size() != std::max<size_t>(1, prompt.continuations.size())) return std::nullopt;
    if (task.output_type == OutputType::loglikelihood_rolling) {
      for (const Json& window : json.at("windows")) {
        answers.front().windows.push_back({window.at(0).get<double>(), window.at(1).get<int64_t>()});
      }
    }
    return answers;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  } catch (const UserError&) {
    return std::nullopt;
  }
}

TaskResult task_result(const EvalTask& task, const AnswerFilter& filter, int64_t shots,
                       const std::vector<EvalSample>& samples) {
  std::vector<std::vector<ItemMetric>> items;
  for (const EvalSample& sample : samples) {
    items.push_back(item_metrics(task, filter, sample.prompt, sample.answers));
  }
  const auto& windows = samples.front().answers.front().windows;
  return {task, shots, std::ssize(samples), aggregate(task, items, windows)};
}

std::string results_json(const std::vector<TaskResult>& results, const std::map<std::string, std::string>& config,
                         double seconds) {
  Json all = Json::object(), configs = Json::object(), shots = Json::object(), better = Json::object(),
       counts = Json::object(), versions = Json::object(), told = Json::object();
  for (const TaskResult& result : results) {
    const std::string& task = result.task.name;
    all[task] = task_json(result);
    configs[task] = config_json(result.task, result.shots);
    shots[task] = result.shots;
    versions[task] = 0;
    counts[task] = {{"original", result.task.items.size()}, {"effective", result.items}};
    for (const std::string& metric : result.task.metrics) better[task][metric] = higher_is_better(metric);
  }
  for (const auto& [key, value] : config) {
    const Json parsed = Json::parse(value, nullptr, false);
    told[key] = parsed.is_number() || parsed.is_boolean() ? parsed : Json(value);
  }
  told["stderr"] = "shares: sd / sqrt(n); perplexities and bits: delta method over items, windows of a single text";
  const Json json = {{"results", std::move(all)},
                     {"configs", std::move(configs)},
                     {"versions", std::move(versions)},
                     {"n-shot", std::move(shots)},
                     {"higher_is_better", std::move(better)},
                     {"n-samples", std::move(counts)},
                     {"config", std::move(told)},
                     {"git_hash", kCommit},
                     {"total_evaluation_time_seconds", fmt::format("{:.3f}", seconds)}};
  return json_text(json, 2) + "\n";
}

std::string results_table(const std::vector<TaskResult>& results) {
  std::vector<std::array<std::string, 7>> rows = {{"task", "n-shot", "items", "metric", "value", "stderr", "95%"}};
  for (const TaskResult& result : results) {
    for (const MetricResult& metric : result.metrics) {
      const auto number = [](double value) { return fmt::format("{:.4f}", value); };
      rows.push_back({result.task.name, fmt::format("{}", result.shots), fmt::format("{}", result.items),
                      metric.name + (metric.higher_is_better ? " ↑" : " ↓"), number(metric.value),
                      metric.standard_error ? number(*metric.standard_error) : "N/A",
                      metric.ci95 ? fmt::format("[{}, {}]", number(metric.ci95->low), number(metric.ci95->high)) : ""});
    }
  }
  std::array<size_t, 7> widths{};
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], text::character_count(row[c]));
  }
  std::string table;
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      line += row[c] + std::string(widths[c] - text::character_count(row[c]) + 2, ' ');
    }
    table += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return table;
}

}  // namespace surtsey::experiments
