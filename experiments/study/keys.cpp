#include "experiments/study/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "experiments/base/join.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

// Keys that say how a run is done, not what it trains.
const std::set<std::string_view> kHow = {"test_seed",           "validation_items", "evaluation_rows", "log_interval",
                                         "checkpoint_interval", "ensemble_size",    "save_models"};

constexpr double kUsualMostCount = 1e5, kUsualMostNumber = 1e9;

// Of a number the limits where its row has none.
struct UsualLimits {
  using Pair = std::optional<std::pair<double, double>>;
  Pair operator()(const bool*) const { return {}; }
  Pair operator()(const std::string*) const { return {}; }
  Pair operator()(const double*) const { return {{0, kUsualMostNumber}}; }
  Pair operator()(const uint32_t*) const { return {{0, std::numeric_limits<uint32_t>::max()}}; }
  Pair operator()(const int32_t*) const { return {{1, kUsualMostCount}}; }
  Pair operator()(const int64_t*) const { return {{1, kUsualMostCount}}; }
  template <class T>
  Pair operator()(const std::vector<T>*) const {
    return (*this)(static_cast<const T*>(nullptr));
  }
};

struct Printed {
  template <class T>
  std::string operator()(const T* value) const {
    return fmt::format("{}", *value);
  }
  template <class T>
  std::string operator()(const std::vector<T>* list) const {
    std::vector<std::string> words;
    for (const T& one : *list) words.push_back(fmt::format("{}", one));
    return join(words, ", ");
  }
};

}  // namespace

void KeySet::set_scale(std::string_view scale) {
  const auto at = std::find(kScales.begin(), kScales.end(), scale);
  ensure(at != kScales.end(), "[keys] no scale '{}'", scale);
  scale_ = static_cast<size_t>(at - kScales.begin());
  for (const Row& row : rows_) row.set(scale_);
}

void KeySet::add_fields(ConfigTable& table) const {
  for (const Row& row : rows_) {
    ConfigField& field = table.add(row.name, row.target, row.help);
    if (row.low == row.low) field.at_least(row.low);
    if (row.high == row.high) field.at_most(row.high);
    if (!row.words.empty()) field.one_of(row.words);
  }
}

std::string KeySet::text(std::string_view key) const {
  for (const Row& row : rows_)
    if (row.name == key) return std::visit(Printed(), row.target);
  ensure(false, "[keys] a text names the key '{}', which this study has not", key);
  return "";
}

std::string KeySet::fill(std::string_view text) const {
  std::string filled;
  for (size_t at = 0; at < text.size();) {
    const size_t brace = std::min(text.find('{', at), text.size());
    filled += text.substr(at, brace - at);
    if (brace == text.size()) break;
    if (text.substr(brace, 2) == "{{") {
      filled += '{';
      at = brace + 2;
      continue;
    }
    const size_t end = text.find('}', brace);
    ensure(end != std::string_view::npos, "[keys] a brace is open in '{}'", text);
    filled += this->text(text.substr(brace + 1, end - brace - 1));
    at = end + 1;
  }
  return filled;
}

Facts KeySet::settings() const {
  Facts facts;
  for (const Row& row : rows_) {
    if (kHow.contains(row.name) || row.help.starts_with("claims:")) continue;
    const std::string value = std::visit(Printed(), row.target);
    if (!value.empty()) facts.emplace_back(row.name, value);
  }
  return facts;
}

void KeySet::set_limits(const ConfigField::Target& target, double& low, double& high) {
  const auto usual = std::visit([](const auto* value) { return UsualLimits()(value); }, target);
  if (!usual) return;
  if (std::isnan(low)) low = usual->first;
  if (std::isnan(high)) high = std::max(low, usual->second);
}

void KeySet::explain(std::string_view key, std::string help) {
  for (Row& row : rows_)
    if (row.name == key) row.help = help;
}

StudyKeys::StudyKeys(const StudyScales& scales) {
  add("widths", &sweep.widths, scales.widths, "n_embd of each size", 2, kMostWidth);
  add("n_layer", &sweep.n_layer, scales.n_layer, "blocks", 1, kMostLayers);
  add("learning_rates", &sweep.learning_rates, scales.learning_rates, "peak learning rates, times 1 / n_embd",
      kLeastRate, kMostRate);
  add("steps", &sweep.steps, scales.steps, "optimizer steps", 1, kMostSteps);
  add("batch_size", &sweep.batch_size, scales.batch_size, "sequences a step", 1, kMostBatch);
  add("seeds", &sweep.seeds, scales.seeds, "one model each: initialisation and data", 0, kMostSeed);
  add("selection_seed", &sweep.selection_seed, {1000},
      "seed of the held-out sequences, and of the models that choose a learning rate", 0, kMostSeed);
  if (scales.selection)
    add("selection_steps", &sweep.selection_steps, scales.selection_steps,
        "optimizer steps of the models that choose a learning rate; 0: as many as the others", 0, kMostSteps);
  add("test_items", &sweep.test_items, scales.test_items, "questions of each arm and cell", 1, kMostItems);
  add("test_seed", &sweep.test_seed, {1}, "seed of the questions", 0, kMostSeed);
  add("validation_items", &sweep.validation_items, {1024}, "sequences of the held-out loss", 1, kMostItems);
  add("evaluation_rows", &sweep.evaluation_rows, scales.evaluation_rows, "rows that are decoded at once", 1, kMostRows);
  add("log_interval", &sweep.log_interval, scales.log_interval, "steps between lines of metrics.jsonl", 1, kMostSteps);
  add("checkpoint_interval", &sweep.checkpoint_interval, scales.checkpoint_interval,
      "steps between checkpoints; 0: only when interrupted", 0, kMostSteps);
  add("ensemble_size", &sweep.ensemble_size, scales.ensemble_size,
      "most models trained at once; 0: as many as are fast", 0, kMostMembers);
  add("save_models", &sweep.save_models, scales.save_models,
      "keep the weights of every model, under models/ of the run");
  ConfigTable known;
  std::string unused;
  add_dtype_field(known, unused);
  const ConfigField& dtype = known.fields().front();
  add("dtype", &sweep.dtype, {std::string("f32")}, dtype.help, kNone, kNone, dtype.choices);
}

Integers up_to(int32_t last) {
  Integers list;
  for (int32_t one = 0; one <= last; ++one) list.push_back(one);
  return list;
}

Integers seeds(int32_t count) { return up_to(count - 1); }

void check_heads(int32_t heads, int32_t width) {
  check(width % heads == 0, "heads: {} does not divide the width {}", heads, width);
}

}  // namespace surtsey::experiments
