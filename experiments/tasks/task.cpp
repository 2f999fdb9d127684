#include "experiments/tasks/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "experiments/base/join.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {

std::string_view split_name(Split split) {
  switch (split) {
    case Split::kTrain:
      return "train";
    case Split::kValidation:
      return "validation";
    case Split::kTest:
      return "test";
  }
  ensure(false, "[task] split {} is not one", static_cast<int>(split));
  return "";
}

Batch::Batch(int32_t batch, int32_t block)
    : batch_size(batch),
      block_size(block),
      tokens(static_cast<size_t>(batch) * static_cast<size_t>(block)),
      targets(tokens.size()),
      weights(tokens.size()) {}

void DataSource::fill(Split split, uint32_t seed, uint32_t step, uint32_t first_index, std::span<int32_t> tokens,
                      std::span<int32_t> targets, std::span<float> weights) const {
  const auto block = static_cast<size_t>(block_size());
  ensure(tokens.size() % block == 0 && targets.size() == tokens.size() && weights.size() == tokens.size(),
         "[task] buffers of {}, {} and {} elements for rows of {}", tokens.size(), targets.size(), weights.size(),
         block);
  const auto rows = static_cast<uint32_t>(tokens.size() / block);
  for (uint32_t row = 0; row < rows; ++row) {
    const size_t start = row * block;
    write_sample(split, seed, step, first_index + row, tokens.subspan(start, block), targets.subspan(start, block),
                 weights.subspan(start, block));
  }
}

void DataSource::write_starts(Split, uint32_t, uint32_t, uint32_t, std::span<int32_t> starts) const {
  std::fill(starts.begin(), starts.end(), 0);
}

void DataSource::fill_starts(Split split, uint32_t seed, uint32_t step, uint32_t first_index,
                             std::span<int32_t> starts) const {
  const auto block = static_cast<size_t>(block_size());
  for (size_t row = 0; row < starts.size() / block; ++row) {
    write_starts(split, seed, step, first_index + static_cast<uint32_t>(row), starts.subspan(row * block, block));
  }
}

void DataSource::write_distributions(Split, uint32_t, uint32_t, uint32_t, std::span<float>) const {
  ensure(false, "[task] a source without soft targets was asked for them");
}

void DataSource::fill_distributions(Split split, uint32_t seed, uint32_t step, uint32_t first_index,
                                    std::span<float> distributions) const {
  const size_t sequence = static_cast<size_t>(block_size()) * static_cast<size_t>(vocab_size());
  ensure(distributions.size() % sequence == 0, "[task] a buffer of {} numbers for distributions of {} a sequence",
         distributions.size(), sequence);
  for (size_t row = 0; row < distributions.size() / sequence; ++row)
    write_distributions(split, seed, step, first_index + static_cast<uint32_t>(row),
                        distributions.subspan(row * sequence, sequence));
}

void DataSource::write_numbers(Split, uint32_t, uint32_t, uint32_t, std::span<float>) const {
  ensure(false, "[task] a source without numbers was asked for them");
}

void DataSource::fill_numbers(Split split, uint32_t seed, uint32_t step, uint32_t first_index,
                              std::span<float> all) const {
  const auto each = static_cast<size_t>(numbers());
  ensure(each > 0 && all.size() % each == 0, "[task] a buffer of {} for {} numbers a sequence", all.size(), each);
  for (size_t row = 0; row < all.size() / each; ++row)
    write_numbers(split, seed, step, first_index + static_cast<uint32_t>(row), all.subspan(row * each, each));
}

LabelledBatch::LabelledBatch(int64_t batch_size, int64_t block_size, int64_t count)
    : tokens(size_t(batch_size * block_size)),
      kinds(tokens.size()),
      lengths(size_t(batch_size)),
      labels(size_t(batch_size * count)),
      weights(size_t(batch_size)) {}

void DataSource::write_labelled(Split, uint32_t, uint32_t, uint32_t, const LabelledSpans&) const {
  ensure(false, "[task] a source without labels was asked for them");
}

void DataSource::fill_labelled(Split split, uint32_t seed, uint32_t step, uint32_t first_index,
                               const LabelledSpans& texts) const {
  const size_t rows = texts.lengths.size(), block = size_t(block_size()), count = size_t(labels());
  ensure(texts.tokens.size() == rows * block && texts.labels.size() == rows * count,
         "[task] buffers of {} tokens and {} labels for {} texts", texts.tokens.size(), texts.labels.size(), rows);
  for (size_t row = 0; row < rows; ++row)
    write_labelled(
        split, seed, step, first_index + uint32_t(row),
        {texts.tokens.subspan(row * block, block), texts.kinds.subspan(row * block, block),
         texts.lengths.subspan(row, 1), texts.labels.subspan(row * count, count), texts.weights.subspan(row, 1)});
}

Batch DataSource::sample(Split split, uint32_t seed, uint32_t step, int32_t batch_size, uint32_t first_index) const {
  check(batch_size > 0, "[task] batch size {} must be positive", batch_size);
  Batch batch(batch_size, block_size());
  fill(split, seed, step, first_index, batch.tokens, batch.targets, batch.weights);
  if (packs()) {
    batch.starts.resize(batch.tokens.size());
    fill_starts(split, seed, step, first_index, batch.starts);
  }
  if (soft_targets()) {
    batch.distributions.resize(batch.tokens.size() * static_cast<size_t>(vocab_size()));
    fill_distributions(split, seed, step, first_index, batch.distributions);
  }
  return batch;
}

double ArmScore::exact_match() const {
  return items == 0 ? 0 : static_cast<double>(final_correct) / static_cast<double>(items);
}

double ArmScore::chain_exact_match() const {
  return items == 0 ? 0 : static_cast<double>(chain_correct) / static_cast<double>(items);
}

std::vector<double> ArmScore::position_accuracy() const {
  std::vector<double> accuracy;
  for (const int64_t correct : position_correct) {
    accuracy.push_back(items == 0 ? 0 : static_cast<double>(correct) / static_cast<double>(items));
  }
  return accuracy;
}

double ArmScore::position_product() const {
  double product = items == 0 ? 0 : 1;
  for (const double accuracy : position_accuracy()) product *= accuracy;
  return product;
}

int32_t Task::arm_index(std::string_view arm) const {
  const auto found = std::find(arms().begin(), arms().end(), arm);
  check(found != arms().end(), "[{}] no arm '{}' here: {}", name(), arm, join(arms(), ", "));
  return static_cast<int32_t>(found - arms().begin());
}

Batch Task::to_batch(std::span<const Item> items) const {
  Batch batch(static_cast<int32_t>(items.size()), block_size());
  const auto block = static_cast<size_t>(block_size());
  for (size_t row = 0; row < items.size(); ++row) {
    const Item& item = items[row];
    for (size_t t = 0; t < block; ++t) {
      const size_t at = row * block + t;
      const auto next = static_cast<int32_t>(t + 1);
      batch.tokens[at] = item.sequence[t];
      batch.targets[at] = t + 1 < block ? item.sequence[t + 1] : padding_token();
      const bool scored = next >= item.prompt_length && next < item.prompt_length + item.answer_length;
      batch.weights[at] = scored ? 1.0f : 0.0f;
    }
  }
  return batch;
}

std::span<const int32_t> Task::written(std::span<const int32_t> response) const {
  const auto end = std::find(response.begin(), response.end(), end_token());
  return response.first(end == response.end() ? response.size() : static_cast<size_t>(end - response.begin()) + 1);
}

ItemScore Task::score(const Item& item, std::span<const int32_t> response) const {
  const auto answer = item.answer();
  ensure(response.size() == static_cast<size_t>(item.response_length()),
         "[{}] a response of {} tokens to an item that wants {}", name(), response.size(), item.response_length());
  response = written(response);
  ItemScore score;
  score.chain_correct = response.size() == answer.size();
  for (size_t i = 0; i < answer.size(); ++i) {
    const bool correct = i < response.size() && response[i] == answer[i];
    score.position_correct.push_back(correct ? 1 : 0);
    score.chain_correct = score.chain_correct && correct;
  }
  const std::string target = value(answer);
  score.final_correct = target.empty() ? response.size() == answer.size() && score.position_correct.back() != 0
                                       : value(response) == target;
  return score;
}

ArmScore Task::score(std::span<const Item> items, std::span<const int32_t> responses) const {
  ArmScore total;
  if (items.empty()) return total;
  const auto length = static_cast<size_t>(items.front().answer_length);
  const auto room = static_cast<size_t>(items.front().response_length());
  ensure(responses.size() == items.size() * room, "[{}] {} response tokens for {} items of {} answer tokens", name(),
         responses.size(), items.size(), room);
  total.position_correct.resize(length);
  for (size_t i = 0; i < items.size(); ++i) {
    const ItemScore one = score(items[i], responses.subspan(i * room, room));
    total.items += 1;
    total.final_correct += one.final_correct ? 1 : 0;
    total.chain_correct += one.chain_correct ? 1 : 0;
    for (size_t p = 0; p < length; ++p) total.position_correct[p] += one.position_correct[p];
  }
  return total;
}

std::vector<int32_t> shuffled(uint32_t key, uint32_t step, int32_t size, int32_t count) {
  std::vector<int32_t> order(static_cast<size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  for (int32_t i = 0; i < count; ++i) {
    const uint32_t offset = graph::random_range(key, step, uint32_t(i), uint32_t(size - i));
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i) + offset]);
  }
  order.resize(static_cast<size_t>(count));
  return order;
}

void check_range(const char* option, int32_t value, int32_t low, int32_t high) {
  check(low <= value && value <= high, "{} is {}, it must be in [{}, {}]", option, value, low, high);
}

}  // namespace surtsey::experiments::tasks
