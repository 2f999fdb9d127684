// `surtsey classify`: the labels that a fine-tuned head gives to texts.
#include "experiments/adapt/adaptation.h"
#include "experiments/base/file.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/evaluate/label_scores.h"
#include "experiments/formats/strict_json.h"
#include "experiments/models/hub/import.h"
#include "experiments/statistics/intervals.h"
#include "experiments/tasks/tuning/rows.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

struct AskedText {
  std::string text, label;  // the latter may be empty
};

std::vector<AskedText> asked_texts(const ClassifyOptions& options) {
  check(options.data.empty() != options.texts.empty(), "classify takes --data FILE.jsonl or --text, one of them");
  std::vector<AskedText> asked;
  for (const std::string& text : options.texts) asked.push_back({text, ""});
  if (options.data.empty()) return asked;
  tasks::JsonLines lines(options.data);
  while (lines.next()) {
    const tasks::LabelledRow row = tasks::parse_labelled_row(lines.line(), lines.where());
    asked.push_back({row.text, row.label});
  }
  check(!asked.empty(), "{}: has no rows", options.data);
  return asked;
}

std::vector<std::string> read_labels(const fs::path& folder) {
  const fs::path file = folder / "labels.json";
  check(fs::exists(file), "{}: is not there; `surtsey finetune` with num_labels writes it beside the adapter",
        file.string());
  const nlohmann::json list = parse_strict_json(read_file(file), file.string(), 2);
  const bool names =
      list.is_array() && std::all_of(list.begin(), list.end(), [](const auto& one) { return one.is_string(); });
  check(names, "{}: is no list of labels' names", file.string());
  return list.get<std::vector<std::string>>();
}

// Softmax, in double: the share of the label with the highest score, and which that is.
std::pair<size_t, double> likeliest(const std::vector<float>& scores) {
  const size_t best = size_t(std::max_element(scores.begin(), scores.end()) - scores.begin());
  double sum = 0;
  for (const float score : scores) sum += std::exp(double(score) - double(scores[best]));
  return {best, 1 / sum};
}

}  // namespace

void classify(const ClassifyOptions& options) {
  check(options.batch_size > 0, "--batch_size is at least 1, not {}", options.batch_size);
  const std::vector<AskedText> asked = asked_texts(options);
  const std::vector<std::string> labels = read_labels(options.adapter);
  const std::unique_ptr<hub::Source> source = open_source(options.model);
  const text::Tokenizer tokenizer = tokenizer_of(*source);
  const int64_t most = hub::model_config(*source).block_size - adapter_virtual_tokens(options.adapter);
  std::vector<std::vector<int32_t>> tokens;
  size_t longest = 1, cut = 0;
  for (const AskedText& one : asked) {
    tokens.push_back(tokenizer.encode(one.text, {.special_tokens = true}));
    if (std::ssize(tokens.back()) > most) {
      tokens.back().resize(size_t(most));
      ++cut;
    }
    longest = std::max(longest, tokens.back().size());
  }
  engine::Device device = engine::Device::open({.select = options.device});
  const int64_t length = std::min<int64_t>(most, int64_t(std::bit_ceil(longest)));
  LabelScores scorer(device, *source, options.adapter, std::min<int64_t>(options.batch_size, std::ssize(asked)),
                     length);
  check(scorer.labels() == std::ssize(labels), "{}: the head has {} labels, labels.json names {}", options.adapter,
        scorer.labels(), labels.size());
  const std::vector<std::vector<float>> scores = scorer.of(tokens);
  int64_t right = 0, known = 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto [label, probability] = likeliest(scores[i]);
    nlohmann::ordered_json line = {{"text", asked[i].text}, {"label", labels.at(label)}, {"probability", probability}};
    if (!asked[i].label.empty()) {
      line["expected"] = asked[i].label;
      ++known;
      right += asked[i].label == labels[label];
    }
    fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  if (cut > 0) fmt::print(stderr, "note: {} texts are longer than {} tokens and were cut there\n", cut, most);
  if (known > 0) {
    const Interval interval = wilson(right, known);
    fmt::print(stderr, "{} of {} right: {:.1f} % ({:.1f} to {:.1f} %, Wilson, 95 %)\n", right, known,
               100.0 * double(right) / double(known), 100 * interval.low, 100 * interval.high);
  }
}

}  // namespace surtsey::experiments::commands
