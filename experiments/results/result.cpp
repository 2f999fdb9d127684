#include "experiments/results/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "experiments/base/file.h"
#include "experiments/base/json_text.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

using Json = nlohmann::ordered_json;

Facts parse_facts(const Json& json) {
  Facts facts;
  for (const auto& [name, value] : json.items()) {
    facts.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return facts;
}

Json arm_json(const ArmResult& arm) {
  return {{"exact_match", arm.exact_match},
          {"chain_exact_match", arm.chain_exact_match},
          {"n", arm.n},
          {"ci95", {arm.ci95.low, arm.ci95.high}},
          {"loss_per_token", arm.loss_per_token},
          {"loss_per_token_stderr", arm.loss_stderr},
          {"position_accuracy", arm.position_accuracy}};
}

Json measures_json(const std::vector<Measure>& measures) {
  Json json = Json::object();
  for (const Measure& one : measures) {
    json[one.name] = {{"mean", one.mean}, {"standard_error", one.standard_error}, {"n", one.n}};
  }
  return json;
}

Json optional_json(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json cell_json(const Cell& cell) {
  Json arms = Json::object();
  for (const ArmResult& arm : cell.arms) arms[arm.arm] = arm_json(arm);
  Json json = {{"cell", cell.cell},
               {"parameters", cell.parameters},
               {"n_layer", cell.n_layer},
               {"n_embd", cell.n_embd},
               {"seed", cell.seed},
               {"learning_rate", cell.learning_rate},
               {"steps", cell.steps},
               {"tokens", cell.tokens},
               {"flops", cell.flops},
               {"train_seconds", cell.train_seconds},
               {"arms", arms},
               {"faithfulness", optional_json(cell.faithfulness)},
               {"task", cell.task},
               {"variant", cell.variant},
               {"chance", cell.chance},
               {"selected", cell.selected},
               {"validation_loss", optional_json(cell.validation_loss)},
               {"validation_only", cell.validation_only}};
  if (!cell.measures.empty()) json["measures"] = measures_json(cell.measures);
  return json;
}

// Reads keys of one object and says which one is wrong, and where.
class ResultReader {
 public:
  ResultReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    check(json.is_object(), "{} is not an object", where_);
  }

  template <class T>
  void required(const char* key, T& value) const {
    check(json_.contains(key), "{}: '{}' is missing", where_, key);
    read(key, value);
  }

  template <class T>
  void optional(const char* key, T& value) const {
    if (json_.contains(key) && !json_[key].is_null()) read(key, value);
  }

  void optional(const char* key, std::optional<double>& value) const {
    if (json_.contains(key) && !json_[key].is_null()) read(key, value.emplace());
  }

 private:
  template <class T>
  void read(const char* key, T& value) const {
    try {
      // A loss that is not finite is written as null: JSON has no word for it.
      if constexpr (std::is_same_v<T, double>) {
        value = json_[key].is_null() ? std::nan("") : json_[key].get<double>();
      } else {
        value = json_[key].get<T>();
      }
    } catch (const Json::exception&) {
      check(false, "{}: '{}' has the wrong type", where_, key);
    }
  }

  const Json& json_;
  std::string where_;
};

Json parse_json(std::string_view text, std::string_view source) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw UserError(fmt::format("{}: not JSON: {}", source, error.what()));
  }
}

ArmResult parse_arm(const std::string& name, const Json& json, const std::string& where) {
  const ResultReader reader(json, where);
  ArmResult arm;
  arm.arm = name;
  std::vector<double> ends;
  reader.required("exact_match", arm.exact_match);
  reader.required("chain_exact_match", arm.chain_exact_match);
  reader.required("n", arm.n);
  reader.required("ci95", ends);
  reader.required("loss_per_token", arm.loss_per_token);
  reader.optional("loss_per_token_stderr", arm.loss_stderr);
  reader.required("position_accuracy", arm.position_accuracy);
  check(ends.size() == 2, "{}: 'ci95' takes two numbers", where);
  arm.ci95 = {ends[0], ends[1]};
  return arm;
}

Cell parse_cell(const Json& json, const std::string& where) {
  const ResultReader reader(json, where);
  Cell cell;
  reader.required("cell", cell.cell);
  reader.required("parameters", cell.parameters);
  reader.required("n_layer", cell.n_layer);
  reader.required("n_embd", cell.n_embd);
  reader.required("seed", cell.seed);
  reader.required("learning_rate", cell.learning_rate);
  reader.required("steps", cell.steps);
  reader.required("tokens", cell.tokens);
  reader.required("flops", cell.flops);
  reader.required("train_seconds", cell.train_seconds);
  reader.optional("faithfulness", cell.faithfulness);
  reader.optional("task", cell.task);
  reader.optional("variant", cell.variant);
  reader.optional("chance", cell.chance);
  reader.optional("selected", cell.selected);
  reader.optional("validation_loss", cell.validation_loss);
  reader.optional("validation_only", cell.validation_only);
  Json measures = Json::object();
  reader.optional("measures", measures);
  for (const auto& [name, measure] : measures.items()) {
    const ResultReader one(measure, fmt::format("{}.{}", where, name));
    cell.measures.push_back({name});
    one.required("mean", cell.measures.back().mean);
    one.required("standard_error", cell.measures.back().standard_error);
    one.required("n", cell.measures.back().n);
  }
  Json arms;
  reader.required("arms", arms);
  for (const auto& [name, arm] : arms.items()) {
    cell.arms.push_back(parse_arm(name, arm, fmt::format("{}.{}", where, name)));
  }
  return cell;
}

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t start = text.find_first_not_of(' ');
    if (start == std::string_view::npos) return parts;
    text.remove_prefix(start);
    parts.push_back(text.substr(0, text.find(' ')));
    text.remove_prefix(parts.back().size());
  }
}

// Running sums of one arm.
struct Tally {
  int64_t items = 0, correct = 0, chain_correct = 0, tokens = 0;
  double nll = 0, nll_squares = 0;
  std::vector<int64_t> position_correct;
  std::vector<int64_t> position_items;                                      // whose answers are that long
  std::vector<std::pair<std::string, std::pair<double, double>>> measures;  // sum, sum of squares
};

void add(Tally& tally, const SampleLine& sample) {
  const auto target = split_words(sample.target);
  const auto response = split_words(sample.response);
  tally.position_correct.resize(std::max(tally.position_correct.size(), target.size()));
  tally.position_items.resize(tally.position_correct.size());
  bool all = target.size() == response.size();
  for (size_t i = 0; i < target.size(); ++i) {
    const bool right = i < response.size() && target[i] == response[i];
    tally.position_correct[i] += right ? 1 : 0;
    tally.position_items[i] += 1;
    all = all && right;
  }
  tally.items += 1;
  const bool last = !target.empty() && response.size() == target.size() && target.back() == response.back();
  const bool right = sample.target_value.empty() ? last : sample.target_value == sample.response_value;
  tally.correct += right ? 1 : 0;
  tally.chain_correct += all ? 1 : 0;
  tally.tokens += static_cast<int64_t>(target.size());
  const double nll = sample.nll.value_or(std::nan(""));
  tally.nll += nll;
  tally.nll_squares += nll * nll;
  for (const auto& [name, value] : sample.measures) {
    const auto same = [&](const auto& one) { return one.first == name; };
    auto at = std::find_if(tally.measures.begin(), tally.measures.end(), same);
    if (at == tally.measures.end()) at = tally.measures.insert(at, {name, {0, 0}});
    at->second.first += value;
    at->second.second += value * value;
  }
}

std::vector<Measure> measures_of(const std::string& arm, const Tally& tally) {
  const auto items = static_cast<double>(tally.items);
  std::vector<Measure> measures;
  for (const auto& [name, sums] : tally.measures) {
    const double spread = std::max(0.0, sums.second - sums.first * sums.first / items);
    measures.push_back(
        {arm + "." + name, sums.first / items, std::sqrt(spread / std::max(1.0, items - 1) / items), tally.items});
  }
  return measures;
}

ArmResult finish(const std::string& name, const Tally& tally) {
  const auto items = static_cast<double>(tally.items);
  ArmResult arm;
  arm.arm = name;
  arm.n = tally.items;
  arm.exact_match = static_cast<double>(tally.correct) / items;
  arm.chain_exact_match = static_cast<double>(tally.chain_correct) / items;
  arm.ci95 = wilson(tally.correct, tally.items);
  arm.loss_per_token = tally.nll / static_cast<double>(tally.tokens);
  // sd / sqrt(n) of the items' losses, in nats a token.
  const double spread = tally.nll_squares - tally.nll * tally.nll / items;
  arm.loss_stderr =
      std::sqrt(std::max(0.0, spread) / std::max(1.0, items - 1) * items) / static_cast<double>(tally.tokens);
  for (size_t i = 0; i < tally.position_correct.size(); ++i) {
    arm.position_accuracy.push_back(static_cast<double>(tally.position_correct[i]) /
                                    static_cast<double>(tally.position_items[i]));
  }
  return arm;
}

}  // namespace

Json facts_json(const Facts& facts) {
  Json json = Json::object();
  for (const auto& [name, value] : facts) json[name] = value;
  return json;
}

bool diverged(const Cell& cell) {
  const auto no_number = [](double value) { return !std::isfinite(value); };
  if (cell.validation_loss && no_number(*cell.validation_loss)) return true;
  // Read again from a file, a loss that is no number is none at all. Arms of samples have none either, so all count.
  const bool lost = std::all_of(cell.arms.begin(), cell.arms.end(),
                                [&](const ArmResult& arm) { return no_number(arm.loss_per_token); });
  return (lost && !cell.arms.empty()) || std::any_of(cell.measures.begin(), cell.measures.end(),
                                                     [&](const Measure& one) { return no_number(one.mean); });
}

const ArmResult* Cell::find_arm(std::string_view name) const {
  for (const ArmResult& arm : arms) {
    if (arm.arm == name) return &arm;
  }
  return nullptr;
}

const ArmResult& Cell::arm(std::string_view name) const {
  const ArmResult* found = find_arm(name);
  ensure(found != nullptr, "[result] {} was not asked '{}'", cell, name);
  return *found;
}

const Measure* Cell::find_measure(std::string_view name) const {
  for (const Measure& measure : measures) {
    if (measure.name == name) return &measure;
  }
  return nullptr;
}

std::string to_json(const StudyResult& result) {
  Json cells = Json::array();
  for (const Cell& cell : result.cells) cells.push_back(cell_json(cell));
  Json claims = Json::array();
  for (const Claim& claim : result.claims) {
    claims.push_back({{"name", claim.name},
                      {"statement", claim.statement},
                      {"verdict", verdict_name(claim.verdict)},
                      {"evidence", claim.evidence},
                      {"seeds", claim.seeds},
                      {"confidence", claim.confidence},
                      {"demonstration", claim.demonstration}});
  }
  Json figures = Json::array();
  for (const Figure& figure : result.figures) figures.push_back(to_json(figure));
  Json grids = Json::array();
  for (const Grid& grid : result.grids) grids.push_back(to_json(grid));
  Json json = {{"study", result.study},
               {"scale", result.scale},
               {"title", result.title},
               {"question", result.question},
               {"demonstration", result.demonstration},
               {"benchmark", result.benchmark},
               {"device", facts_json(result.device)},
               {"settings", facts_json(result.settings)},
               {"cells", cells},
               {"claims", claims},
               {"caveats", result.caveats},
               {"figures", figures}};
  if (!grids.empty()) json["grids"] = grids;
  return json_text(json, 2) + "\n";
}

StudyResult parse_result(std::string_view text, std::string_view source) {
  const Json json = parse_json(text, source);
  const ResultReader reader(json, std::string(source));
  StudyResult result;
  Json cells, claims, device, settings = Json::object(), figures = Json::array(), grids = Json::array();
  reader.required("study", result.study);
  reader.required("scale", result.scale);
  reader.required("device", device);
  reader.required("cells", cells);
  reader.required("claims", claims);
  reader.optional("title", result.title);
  reader.optional("question", result.question);
  reader.optional("demonstration", result.demonstration);
  reader.optional("benchmark", result.benchmark);
  reader.optional("caveats", result.caveats);
  reader.optional("settings", settings);
  reader.optional("figures", figures);
  reader.optional("grids", grids);
  result.device = parse_facts(device);
  result.settings = parse_facts(settings);
  for (size_t i = 0; i < cells.size(); ++i) {
    result.cells.push_back(parse_cell(cells[i], fmt::format("{}: cells[{}]", source, i)));
  }
  for (size_t i = 0; i < figures.size(); ++i) {
    result.figures.push_back(parse_figure(figures[i], fmt::format("{}: figures[{}]", source, i)));
  }
  for (size_t i = 0; i < grids.size(); ++i) {
    result.grids.push_back(parse_grid(grids[i], fmt::format("{}: grids[{}]", source, i)));
  }
  for (size_t i = 0; i < claims.size(); ++i) {
    const ResultReader claim(claims[i], fmt::format("{}: claims[{}]", source, i));
    Claim& one = result.claims.emplace_back();
    std::string verdict;
    claim.required("name", one.name);
    claim.required("statement", one.statement);
    claim.required("verdict", verdict);
    claim.required("evidence", one.evidence);
    claim.optional("seeds", one.seeds);
    claim.optional("confidence", one.confidence);
    claim.optional("demonstration", one.demonstration);
    one.verdict = parse_verdict(verdict);
  }
  return result;
}

StudyResult load_result(const std::filesystem::path& path) { return parse_result(read_file(path), path.string()); }

std::string to_json_line(const SampleLine& sample) {
  Json json = {{"cell", sample.cell},       {"arm", sample.arm},
               {"index", sample.index},     {"prompt", sample.prompt},
               {"target", sample.target},   {"response", sample.response},
               {"correct", sample.correct}, {"chain_correct", sample.chain_correct}};
  if (!sample.target_value.empty()) {
    json["target_value"] = sample.target_value;
    json["response_value"] = sample.response_value;
  }
  if (sample.nll) json["nll"] = *sample.nll;
  for (const auto& [name, value] : sample.measures) json["measures"][name] = value;
  return json_text(json);
}

SampleLine parse_sample(std::string_view line, std::string_view source) {
  const Json json = parse_json(line, source);
  const ResultReader reader(json, std::string(source));
  SampleLine sample;
  reader.required("cell", sample.cell);
  reader.required("arm", sample.arm);
  reader.optional("index", sample.index);
  reader.required("prompt", sample.prompt);
  reader.required("target", sample.target);
  reader.required("response", sample.response);
  reader.required("correct", sample.correct);
  reader.optional("chain_correct", sample.chain_correct);
  reader.optional("target_value", sample.target_value);
  reader.optional("response_value", sample.response_value);
  reader.optional("nll", sample.nll);
  Json measures = Json::object();
  reader.optional("measures", measures);
  const ResultReader values(measures, std::string(source));
  for (const auto& [name, value] : measures.items()) {
    values.required(name.c_str(), sample.measures.emplace_back(name, 0.0).second);
  }
  return sample;
}

std::vector<SampleLine> load_samples(const std::filesystem::path& path) {
  std::vector<SampleLine> samples;
  if (!std::filesystem::exists(path)) return samples;
  const std::string text = read_file(path);
  size_t start = 0;
  for (size_t number = 1;; ++number) {
    const size_t end = text.find('\n', start);
    if (end == std::string::npos) return samples;
    samples.push_back(
        parse_sample(std::string_view(text).substr(start, end - start), fmt::format("{}:{}", path.string(), number)));
    start = end + 1;
  }
}

std::vector<Recomputed> recompute(const std::vector<SampleLine>& samples) {
  struct CellTally {
    std::vector<std::string> order;
    std::map<std::string, Tally> arms;
  };
  std::vector<std::string> order;
  std::map<std::string, CellTally> cells;
  for (const SampleLine& sample : samples) {
    if (!cells.contains(sample.cell)) order.push_back(sample.cell);
    CellTally& cell = cells[sample.cell];
    if (!cell.arms.contains(sample.arm)) cell.order.push_back(sample.arm);
    add(cell.arms[sample.arm], sample);
  }
  std::vector<Recomputed> result;
  for (const std::string& name : order) {
    Recomputed& cell = result.emplace_back();
    cell.cell = name;
    for (const std::string& arm : cells[name].order) {
      const ArmResult one = finish(arm, cells[name].arms[arm]);
      if (arm == kCorruptedArm) {
        cell.faithfulness = one.exact_match;
      } else {
        cell.arms.push_back(one);
        const std::vector<Measure> measures = measures_of(arm, cells[name].arms[arm]);
        cell.measures.insert(cell.measures.end(), measures.begin(), measures.end());
      }
    }
  }
  return result;
}

std::vector<std::string> disagreements(const StudyResult& result, const std::vector<SampleLine>& samples) {
  std::vector<std::string> found;
  const auto compare = [&](const std::string& where, const char* what, double written, double computed,
                           double tolerance) {
    if (std::isnan(written) && std::isnan(computed)) return;
    if (!(std::abs(written - computed) <= tolerance * std::max(1.0, std::abs(written)))) {
      found.push_back(fmt::format("{}: {} is {} but the samples give {}", where, what, written, computed));
    }
  };
  std::map<std::string, Recomputed> by_cell;
  for (Recomputed& cell : recompute(samples)) by_cell.emplace(cell.cell, cell);
  for (const Cell& cell : result.cells) {
    const auto at = by_cell.find(cell.cell);
    if (at == by_cell.end()) {
      if (!cell.arms.empty()) found.push_back(fmt::format("{}: has no samples", cell.cell));
      continue;
    }
    const Recomputed& again = at->second;
    compare(cell.cell, "faithfulness", cell.faithfulness.value_or(std::nan("")),
            again.faithfulness.value_or(std::nan("")), 1e-9);
    for (const Measure& measure : again.measures) {
      const Measure* written = cell.find_measure(measure.name);
      const double nothing = std::nan("");
      compare(cell.cell, measure.name.c_str(), written ? written->mean : nothing, measure.mean, 1e-9);
      compare(cell.cell, (measure.name + " standard_error").c_str(), written ? written->standard_error : nothing,
              measure.standard_error, 1e-6);
    }
    for (const ArmResult& arm : cell.arms) {
      const std::string where = cell.cell + "." + arm.arm;
      const ArmResult* other = nullptr;
      for (const ArmResult& one : again.arms) other = one.arm == arm.arm ? &one : other;
      if (other == nullptr) {
        found.push_back(where + ": has no samples");
        continue;
      }
      compare(where, "n", static_cast<double>(arm.n), static_cast<double>(other->n), 0);
      compare(where, "exact_match", arm.exact_match, other->exact_match, 1e-9);
      compare(where, "chain_exact_match", arm.chain_exact_match, other->chain_exact_match, 1e-9);
      compare(where, "ci95[0]", arm.ci95.low, other->ci95.low, 1e-9);
      compare(where, "ci95[1]", arm.ci95.high, other->ci95.high, 1e-9);
      compare(where, "loss_per_token", arm.loss_per_token, other->loss_per_token, 1e-6);
      compare(where, "loss_per_token_stderr", arm.loss_stderr, other->loss_stderr, 1e-6);
      if (arm.position_accuracy.size() != other->position_accuracy.size()) {
        found.push_back(fmt::format("{}: {} positions but the samples have {}", where, arm.position_accuracy.size(),
                                    other->position_accuracy.size()));
        continue;
      }
      for (size_t i = 0; i < arm.position_accuracy.size(); ++i) {
        compare(where, "position_accuracy", arm.position_accuracy[i], other->position_accuracy[i], 1e-9);
      }
    }
  }
  return found;
}

std::string rounded_variant(int32_t bits) { return fmt::format("int{}", bits); }

bool is_rounded_variant(std::string_view variant) {
  constexpr std::string_view kName = "int";
  return variant.size() > kName.size() && variant.starts_with(kName) &&
         variant.find_first_not_of("0123456789", kName.size()) == variant.npos;
}

}  // namespace surtsey::experiments
