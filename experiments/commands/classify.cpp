// `surtsey classify`: what a head of labels says of texts.
#include "experiments/adapt/adaptation.h"
#include "experiments/base/computing_device.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/labels_file.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/evaluate/label_measures.h"
#include "experiments/evaluate/label_scores.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/hub/label_head.h"
#include "experiments/tasks/tuning/rows.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>

namespace surtsey::experiments::commands {
namespace {

using nlohmann::ordered_json;
using tasks::LabelledRow;
using tasks::LabelSet;
using tasks::ProblemType;

struct AskedTexts {
  std::vector<LabelledRow> rows;
  std::vector<std::string> where;  // of each, in a file
};

AskedTexts asked_texts(const ClassifyOptions& options) {
  check(options.data.empty() != options.texts.empty(), "classify takes --data FILE.jsonl or --text, one of them");
  check(options.pairs.empty() || options.pairs.size() == options.texts.size(),
        "--text_pair is given {} times, --text {} times", options.pairs.size(), options.texts.size());
  AskedTexts asked;
  for (size_t i = 0; i < options.texts.size(); ++i) {
    LabelledRow& row = asked.rows.emplace_back();
    row.text = options.texts[i];
    if (!options.pairs.empty()) row.pair = options.pairs[i];
    asked.where.push_back("--text");
  }
  if (options.data.empty()) return asked;
  tasks::JsonLines lines(options.data);
  while (lines.next()) {
    asked.where.push_back(lines.where());
    asked.rows.push_back(tasks::parse_labelled_row(lines.line(), lines.where(), false));
  }
  check(!asked.rows.empty(), "{}: has no rows", options.data);
  return asked;
}

// The labels of the rows that have some, as numbers; empty where a row has none.
std::vector<std::vector<float>> known_labels(const AskedTexts& asked, LabelSet labels) {
  tasks::LabelScan scan({.count = labels.count(), .problem = labels.problem, .known = labels.names});
  bool any = false;
  for (size_t i = 0; i < asked.rows.size(); ++i) {
    if (!asked.rows[i].labelled) continue;
    scan.add(asked.rows[i], asked.where[i]);
    any = true;
  }
  labels.zeros_and_ones = any && scan.has_zeros_and_ones();
  std::vector<std::vector<float>> known;
  for (size_t i = 0; i < asked.rows.size(); ++i)
    known.push_back(asked.rows[i].labelled ? labels.values(asked.rows[i], asked.where[i]) : std::vector<float>());
  return known;
}

std::vector<std::string> given_labels(const LabelSet& labels, const auto& numbers, double threshold) {
  std::vector<std::string> given;
  for (size_t k = 0; k < labels.names.size(); ++k)
    if (double(numbers[k]) >= threshold) given.push_back(labels.names[k]);
  return given;
}

// One label's number, or all of them.
ordered_json numbers_of(const auto& numbers) {
  return numbers.size() == 1 ? ordered_json(numbers[0]) : ordered_json(numbers);
}

// What is printed of a text; `known` is empty where nothing is.
ordered_json line_of(const LabelSet& labels, const LabelledRow& row, std::span<const float> scores,
                     const std::vector<float>& known, double threshold) {
  const std::vector<double> outputs = label_outputs(labels.problem, scores);
  ordered_json line = {{"text", row.text}};
  if (row.pair) line["text_pair"] = *row.pair;
  if (labels.problem == ProblemType::regression) {
    line["score"] = numbers_of(outputs);
    if (!known.empty()) line["expected"] = numbers_of(known);
    return line;
  }
  if (labels.problem == ProblemType::single_label) {
    const auto place = [&](const auto& numbers) {
      return size_t(std::max_element(numbers.begin(), numbers.end()) - numbers.begin());
    };
    line["label"] = labels.names[place(scores)];
    line["probability"] = outputs[place(scores)];
    if (!known.empty()) line["expected"] = labels.names[place(known)];
  } else {
    line["labels"] = given_labels(labels, outputs, threshold);
    if (!known.empty()) line["expected"] = given_labels(labels, known, 0.5);
  }
  for (size_t k = 0; k < outputs.size(); ++k) line["probabilities"][labels.names[k]] = outputs[k];
  return line;
}

}  // namespace

void classify(const ClassifyOptions& options) {
  check(options.batch_size > 0, "--batch_size is at least 1, not {}", options.batch_size);
  check(options.threshold > 0 && options.threshold < 1, "--threshold is between 0 and 1, not {}", options.threshold);
  const AskedTexts asked = asked_texts(options);
  const bool adapted = !options.adapter.empty();
  LabelSet labels;
  if (adapted) labels = read_labels(options.adapter);
  const std::unique_ptr<hub::Source> source = open_source(options.model);
  if (adapted) {
    const int64_t count = adapter_labels(options.adapter);
    check(count == labels.count(), "{}: the head has {} labels, labels.json names {}", options.adapter, count,
          labels.count());
    hub::give_label_head(*source, count);
  } else {
    check(source->config().head == hub::Head::classification,
          "{}: has no head of labels: give a run of `surtsey finetune` with num_labels by --adapter, or a model that "
          "classifies",
          options.model);
    labels = labels_of_model(source->config());
  }
  const std::vector<std::vector<float>> known = known_labels(asked, labels);
  const text::Tokenizer tokenizer = tokenizer_of(*source);
  const int64_t most = hub::model_config(*source).block_size - (adapted ? adapter_virtual_tokens(options.adapter) : 0);
  std::vector<text::EncodedText> texts;
  size_t longest = 1, cut = 0;
  for (const LabelledRow& row : asked.rows) {
    const text::EncodedText& text = texts.emplace_back(
        tokenizer.encode(row.text, row.pair ? std::optional<std::string_view>(*row.pair) : std::nullopt, most));
    cut += text.whole > most ? 1 : 0;
    longest = std::max(longest, text.ids.size());
  }
  engine::Device device = open_computing_device({.select = options.device});
  const int64_t length = std::min<int64_t>(most, int64_t(std::bit_ceil(longest)));
  LabelScores scorer(device, *source, options.adapter, std::min<int64_t>(options.batch_size, std::ssize(texts)),
                     length);
  const TextScores scores = scorer.of(texts);
  std::vector<std::vector<float>> compared, expected;
  for (size_t i = 0; i < texts.size(); ++i) {
    const ordered_json line = line_of(labels, asked.rows[i], scores[i], known[i], options.threshold);
    fmt::print("{}\n", line.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
    if (known[i].empty()) continue;
    compared.push_back(scores[i]);
    expected.push_back(known[i]);
  }
  if (cut > 0) fmt::print(stderr, "note: {} texts are longer than {} tokens and were cut there\n", cut, most);
  if (!compared.empty())
    fmt::print(stderr, "{}\n",
               label_measures(labels.problem, compared, expected, options.threshold).sentence(labels.problem));
}

}  // namespace surtsey::experiments::commands
