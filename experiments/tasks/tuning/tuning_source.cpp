#include "experiments/tasks/tuning/tuning_source.h"

#include "graph/error.h"
#include "graph/random.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace surtsey::experiments::tasks {
namespace {

// Rounds of a Feistel network: four make a pseudorandom permutation of a pseudorandom function (Luby and Rackoff 1988).
constexpr uint32_t kRounds = 4;

}  // namespace

std::vector<std::vector<uint32_t>> pack_best_fit(std::span<const uint32_t> lengths, int64_t room) {
  std::vector<uint32_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return lengths[a] > lengths[b]; });
  std::vector<std::vector<uint32_t>> rows;
  std::map<int64_t, std::vector<uint32_t>> open;  // rows by the room that is left, the last opened last
  for (const uint32_t document : order) {
    const int64_t length = lengths[document];
    ensure(length <= room, "[tuning] a document of {} positions in rows of {}", length, room);
    const auto fitting = open.lower_bound(length);
    uint32_t row = 0;
    int64_t left = room;
    if (fitting == open.end()) {
      row = uint32_t(rows.size());
      rows.emplace_back();
    } else {
      left = fitting->first;
      row = fitting->second.back();
      fitting->second.pop_back();
      if (fitting->second.empty()) open.erase(fitting);
    }
    rows[row].push_back(document);
    if (left > length) open[left - length].push_back(row);
  }
  return rows;
}

uint32_t shuffled_place(uint32_t seed, uint32_t epoch, uint32_t i, uint32_t count) {
  // A permutation of the next power of four; places beyond the count are walked on from.
  uint32_t bits = 1;
  while (bits < 16 && (uint64_t(1) << (2 * bits)) < count) ++bits;
  const uint32_t mask = (1u << bits) - 1, key = graph::stream_seed(seed, "tuning.order");
  do {
    uint32_t left = i >> bits, right = i & mask;
    for (uint32_t round = 0; round < kRounds; ++round) {
      const uint32_t mixed = graph::random_bits(key, epoch, round << 16 | right) & mask;
      const uint32_t next = left ^ mixed;
      left = right;
      right = next;
    }
    i = left << bits | right;
  } while (i >= count);
  return i;
}

TuningSource::TuningSource(const text::Tokenizer& tokenizer, int32_t vocab_size, Part train, Part held_out,
                           TuningBatches batches)
    : tokenizer_(tokenizer),
      vocab_size_(vocab_size),
      batches_(batches),
      train_(arrange(std::move(train))),
      held_out_(arrange(std::move(held_out))) {
  check(!train_.rows.empty(), "[tuning] there is no document to train on");
  ensure(labels() == 0 || !batches_.packing, "[tuning] a row has one text with labels");
  const bool whole = train_.rows.size() % 2 == 0 && held_out_.rows.size() % 2 == 0 && batches_.batch_size % 2 == 0;
  ensure(!batches_.pairs || (!batches_.packing && whole), "[tuning] pairs are two rows each, of a text");
}

// That a document takes of a row.
int64_t TuningSource::positions(const Part& part, uint32_t document) {
  return part.documents->length(document) - (part.documents->labels() > 0 ? 0 : 1);
}

TuningSource::Rows TuningSource::arrange(Part part) const {
  Rows result;
  std::vector<uint32_t> lengths;
  for (const uint32_t document : part.picked) lengths.push_back(uint32_t(positions(part, document)));
  if (batches_.packing) {
    result.rows = pack_best_fit(lengths, batches_.block_size);
  } else {
    for (uint32_t i = 0; i < lengths.size(); ++i) {
      ensure(lengths[i] <= uint32_t(batches_.block_size), "[tuning] a document of {} positions in rows of {}",
             lengths[i], batches_.block_size);
      result.rows.push_back({i});
    }
  }
  for (std::vector<uint32_t>& row : result.rows) {
    uint32_t learned = 0;
    for (uint32_t& document : row) {
      document = part.picked[document];
      learned += uint32_t(part.documents->learned(document));
    }
    result.learned.push_back(learned);
  }
  result.part = std::move(part);
  return result;
}

double TuningSource::filled() const {
  double taken = 0;
  for (const uint32_t document : train_.part.picked) taken += double(positions(train_.part, document));
  return taken / (double(train_.rows.size()) * batches_.block_size);
}

TuningDocument TuningSource::question(int64_t i) const {
  return asked().part.documents->read(asked().part.picked.at(size_t(i)));
}

uint32_t TuningSource::place(uint32_t seed, uint64_t row) const {
  const uint64_t each = batches_.pairs ? 2 : 1, count = train_.rows.size() / each, unit = row / each;
  const uint32_t drawn = shuffled_place(seed, uint32_t(unit / count), uint32_t(unit % count), uint32_t(count));
  return uint32_t(drawn * each + row % each);
}

uint32_t TuningSource::place_of(Split split, uint32_t seed, uint32_t step, uint32_t index) const {
  if (split != Split::kTrain) return index;
  return place(seed, uint64_t(step) * uint32_t(batches_.batch_size) + index);
}

const std::vector<uint32_t>& TuningSource::row_of(Split split, uint32_t seed, uint32_t step, uint32_t index) const {
  return rows(split).rows.at(place_of(split, seed, step, index));
}

// Of a learned token.
double TuningSource::weight(Split split, uint32_t seed, uint32_t step) const {
  if (split != Split::kTrain || batches_.pairs) return 1;
  const auto rows = uint64_t(batches_.batch_size) * uint64_t(batches_.accumulation);
  const uint64_t first = step / uint32_t(batches_.accumulation) * rows;
  uint64_t learned = 0;
  for (uint64_t row = first; row < first + rows; ++row) learned += train_.learned[place(seed, row)];
  return double(batches_.accumulation) / double(learned);
}

void TuningSource::write_row(const Rows& rows, size_t place, float weight, std::span<int32_t> tokens,
                             std::span<int32_t> targets, std::span<float> weights) const {
  std::fill(tokens.begin(), tokens.end(), batches_.padding);
  std::fill(targets.begin(), targets.end(), batches_.padding);
  std::fill(weights.begin(), weights.end(), 0.0f);
  size_t at = 0;
  for (const uint32_t document : rows.rows.at(place)) {
    const TuningDocument read = rows.part.documents->read(document);
    for (size_t i = 0; i + 1 < read.tokens.size(); ++i, ++at) {
      tokens[at] = read.tokens[i];
      targets[at] = read.tokens[i + 1];
      weights[at] = read.learned[i + 1] ? weight : 0.0f;
    }
  }
}

void TuningSource::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                                std::span<int32_t> targets, std::span<float> weights) const {
  write_row(rows(split), place_of(split, seed, step, index), float(weight(split, seed, step)), tokens, targets,
            weights);
}

Batch TuningSource::in_order(Split split, int64_t first, int64_t count) const {
  ensure(!batches_.packing, "[tuning] rows in their order are a text each");
  Batch batch(int32_t(count), batches_.block_size);
  const auto block = size_t(batches_.block_size);
  for (size_t i = 0; i < size_t(count); ++i) {
    const auto row = [&](auto& all) { return std::span(all).subspan(i * block, block); };
    write_row(rows(split), size_t(first) + i, 1, row(batch.tokens), row(batch.targets), row(batch.weights));
  }
  return batch;
}

void TuningSource::set_reference(Split split, std::vector<float> log_probs) {
  ensure(log_probs.size() == rows(split).rows.size(), "[tuning] {} log-probabilities of {} rows", log_probs.size(),
         rows(split).rows.size());
  rows(split).reference = std::move(log_probs);
}

void TuningSource::write_numbers(Split split, uint32_t seed, uint32_t step, uint32_t index,
                                 std::span<float> numbers) const {
  const std::vector<float>& reference = rows(split).reference;
  ensure(!reference.empty(), "[tuning] pairs without what the reference makes of them");
  numbers[0] = reference.at(place_of(split, seed, step, index));
}

void TuningSource::write_labelled(Split split, uint32_t seed, uint32_t step, uint32_t index,
                                  const LabelledSpans& text) const {
  const TuningDocument read = rows(split).part.documents->read(row_of(split, seed, step, index).front());
  std::fill(text.tokens.begin(), text.tokens.end(), batches_.padding);
  std::fill(text.kinds.begin(), text.kinds.end(), 0);
  std::copy(read.tokens.begin(), read.tokens.end(), text.tokens.begin());
  std::copy(read.kinds.begin(), read.kinds.end(), text.kinds.begin());
  std::copy(read.values.begin(), read.values.end(), text.labels.begin());
  text.lengths[0] = int32_t(read.tokens.size());
  text.weights[0] = float(weight(split, seed, step));
}

void TuningSource::write_starts(Split split, uint32_t seed, uint32_t step, uint32_t index,
                                std::span<int32_t> starts) const {
  size_t at = 0;
  for (const uint32_t document : row_of(split, seed, step, index)) {
    const auto length = size_t(rows(split).part.documents->length(document) - 1);
    std::fill_n(starts.begin() + std::ptrdiff_t(at), length, int32_t(at));
    at += length;
  }
  // Padding sees itself alone.
  std::fill(starts.begin() + std::ptrdiff_t(at), starts.end(), int32_t(at));
}

}  // namespace surtsey::experiments::tasks
