#include "experiments/evaluate/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "experiments/base/interrupt.h"
#include "experiments/train/train_program.h"
#include "graph/functions.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Program;
using graph::Value;

// Prompts of a task are about this long and differ: a whole row at once would read more than is
// given.
constexpr int32_t kPrefill = 8;

}  // namespace

Program evaluate_program(const Model& model, int64_t rows, int64_t block, bool packed) {
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  graph::Parameters parameters(graph, model.store());
  const Value tokens = graph.parameter("evaluate.tokens", {DType::u32, {rows, block}});
  const Value targets = graph.parameter("evaluate.targets", {DType::u32, {rows, block}});
  const Value weights = graph.parameter("evaluate.weights", {DType::f32, {rows, block}});
  ForwardOptions options;
  if (packed) options.starts = graph.parameter("evaluate.starts", {DType::u32, {rows, block}});
  const Value logits = model.logits(parameters, tokens, options);
  graph::ScopeGuard scope(graph, "evaluate");
  const Value loss = graph::cross_entropy(logits, targets, weights).per_token;
  const Value hit = graph::equal(graph::argmax(logits, -1, false), targets);
  program.outputs = {{"nll", graph::sum(loss * weights, {1}, false)},
                     {"right", graph::select(hit, weights, graph::constant_like(weights, 0))}};
  return program;
}

double CorruptedAnswers::faithfulness(size_t member) const {
  const auto& list = corruptions[member];
  int64_t moved = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    moved += list[i].possible && final_tokens[member][i] == list[i].expected_final_token ? 1 : 0;
  }
  return list.empty() ? 0 : static_cast<double>(moved) / static_cast<double>(list.size());
}

Evaluator::Evaluator(engine::Session& session, const Model& model, size_t members, int32_t rows, int32_t block,
                     bool packed, int32_t columns)
    : session_(session),
      decoder_(session, model, members,
               {.rows = rows,
                .columns = columns > 0 ? columns : block,
                .prefill = std::min(kPrefill, (columns > 0 ? columns : block) - 1)}),
      members_(members),
      rows_(static_cast<size_t>(rows)),
      block_(static_cast<size_t>(block)) {
  check(rows > 0 && block > 0, "[evaluate] {} rows of {} tokens", rows, block);
  program_ = session_.add_program("evaluate", for_members(evaluate_program(model, rows, block, packed), members));
}

LossResult Evaluator::loss(const tasks::Batch& batch) {
  check(static_cast<size_t>(batch.block_size) == block_, "[evaluate] sequences of {} tokens where the program has {}",
        batch.block_size, block_);
  const auto count = static_cast<size_t>(batch.batch_size);
  LossResult result;
  result.nll.resize(members_);
  result.mean.assign(members_, 0);
  std::vector<double> weight(block_, 0);
  std::vector<std::vector<double>> right(members_, std::vector<double>(block_, 0));
  for (size_t first = 0; first < count; first += rows_) {
    if (interrupted()) throw Interrupted("interrupted while a held-out loss was computed");
    const size_t chunk = std::min(rows_, count - first);
    const auto part = [&](const auto& from, auto& to) {
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(first * block_), chunk * block_, to.begin());
    };
    std::vector<uint32_t> tokens(rows_ * block_, 0), targets(rows_ * block_, 0);
    std::vector<float> weights(rows_ * block_, 0);  // rows that are not there weigh nothing
    part(batch.tokens, tokens);
    part(batch.targets, targets);
    part(batch.weights, weights);
    session_.write("evaluate.tokens", tokens);
    session_.write("evaluate.targets", targets);
    session_.write("evaluate.weights", weights);
    if (session_.has_state("evaluate.starts")) {
      std::vector<uint32_t> starts(rows_ * block_, 0);
      if (!batch.starts.empty()) part(batch.starts, starts);
      session_.write("evaluate.starts", starts);
    }
    program_.run();
    const std::vector<float> nll = program_.read_floats("nll");
    const std::vector<float> hits = program_.read_floats("right");
    for (size_t at = 0; at < weights.size(); ++at) weight[at % block_] += weights[at];
    for (size_t e = 0; e < members_; ++e) {
      for (size_t n = 0; n < chunk; ++n) result.nll[e].push_back(nll[e * rows_ + n]);
      for (size_t at = 0; at < rows_ * block_; ++at) {
        right[e][at % block_] += hits[e * rows_ * block_ + at];
      }
    }
  }
  double total = 0;
  for (const double one : weight) total += one;
  for (size_t e = 0; e < members_; ++e) {
    for (const double one : result.nll[e]) result.mean[e] += one;
    result.mean[e] = total > 0 ? result.mean[e] / total : 0;
    double hits = 0;
    for (const double one : right[e]) hits += one;
    result.accuracy.push_back(total > 0 ? hits / total : 0);
    auto& accuracy = result.position_accuracy.emplace_back(block_);
    for (size_t t = 0; t < block_; ++t) {
      accuracy[t] = weight[t] > 0 ? right[e][t] / weight[t] : std::numeric_limits<double>::quiet_NaN();
    }
  }
  return result;
}

ArmAnswers Evaluator::answer(const tasks::Task& task, int32_t arm, int32_t count, uint32_t seed) {
  return answer(task, task.test_items(arm, count, seed));
}

ArmAnswers Evaluator::answer(const tasks::Task& task, std::vector<tasks::Item> items) {
  ArmAnswers answers = write(task, std::move(items));
  answers.nll = loss(task.to_batch(answers.items)).nll;
  return answers;
}

ArmAnswers Evaluator::write(const tasks::Task& task, std::vector<tasks::Item> items) {
  check(!items.empty(), "[evaluate] {} has no test items", task.name());
  ArmAnswers answers;
  answers.arm = items.front().arm;
  answers.items = std::move(items);
  int32_t start = std::numeric_limits<int32_t>::max(), stop = 0;
  std::vector<DecodeRow> rows;
  for (const tasks::Item& item : answers.items) {
    start = std::min(start, item.prompt_length);
    stop = std::max(stop, item.prompt_length + item.response_length());
    DecodeRow& row = rows.emplace_back();
    row.tokens.assign(block_, task.padding_token());
    std::copy(item.prompt().begin(), item.prompt().end(), row.tokens.begin());
    row.length = item.prompt_length;
  }
  const auto written = decoder_.decode(std::vector(members_, rows), start, stop, task.padding_token());
  for (size_t e = 0; e < members_; ++e) {
    std::vector<int32_t>& responses = answers.responses.emplace_back();
    for (size_t i = 0; i < answers.items.size(); ++i) {
      const tasks::Item& item = answers.items[i];
      const auto first = written[e].begin() + static_cast<std::ptrdiff_t>(i * block_ + size_t(item.prompt_length));
      responses.insert(responses.end(), first, first + item.response_length());
    }
  }
  return answers;
}

CorruptedAnswers Evaluator::corrupt(const tasks::Task& task, const ArmAnswers& answers, uint32_t seed) {
  CorruptedAnswers result;
  int32_t start = std::numeric_limits<int32_t>::max(), stop = 0;
  std::vector<std::vector<DecodeRow>> rows(members_);
  for (size_t e = 0; e < members_; ++e) {
    auto& corruptions = result.corruptions.emplace_back();
    const auto responses = responses_of(answers, e);
    for (size_t i = 0; i < answers.items.size(); ++i) {
      const tasks::Item& item = answers.items[i];
      // Rows hold all that was written; the steps are where the answer's are.
      const auto response = responses[i].first(static_cast<size_t>(item.answer_length));
      corruptions.push_back(is_written(response) ? task.corrupt(seed, static_cast<uint32_t>(i), item, response)
                                                 : tasks::Corruption{});
      const std::vector<int32_t>& forced = corruptions.back().forced;
      DecodeRow& row = rows[e].emplace_back();
      row.tokens.assign(block_, task.padding_token());
      std::copy(item.prompt().begin(), item.prompt().end(), row.tokens.begin());
      std::copy(forced.begin(), forced.end(), row.tokens.begin() + item.prompt_length);
      row.length = item.prompt_length + static_cast<int32_t>(forced.size());
      start = std::min(start, row.length);
      stop = std::max(stop, item.prompt_length + item.answer_length);
    }
  }
  const auto written = decoder_.decode(rows, start, stop, task.padding_token());
  for (size_t e = 0; e < members_; ++e) {
    auto& finals = result.final_tokens.emplace_back();
    for (size_t i = 0; i < answers.items.size(); ++i) {
      const tasks::Item& item = answers.items[i];
      const size_t last = i * block_ + size_t(item.prompt_length + item.answer_length - 1);
      finals.push_back(result.corruptions[e][i].possible ? written[e][last] : -1);
    }
  }
  return result;
}

std::vector<std::span<const int32_t>> responses_of(const ArmAnswers& answers, size_t member) {
  std::vector<std::span<const int32_t>> responses;
  size_t at = 0;
  for (const tasks::Item& item : answers.items) {
    const auto length = static_cast<size_t>(item.response_length());
    responses.push_back(std::span(answers.responses[member]).subspan(at, length));
    at += length;
  }
  return responses;
}

bool is_written(std::span<const int32_t> response) {
  return std::all_of(response.begin(), response.end(), [](int32_t token) { return token >= 0; });
}

std::vector<double> Evaluator::validation_loss(const tasks::DataSource& source, uint32_t seed, int32_t rows) {
  return loss(source.sample(tasks::Split::kValidation, seed, 0, rows)).mean;
}

}  // namespace surtsey::experiments
