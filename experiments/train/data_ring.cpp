#include "experiments/train/data_ring.h"

#include "graph/error.h"

#include <memory>

namespace surtsey::experiments {

DataRing::DataRing(engine::Session& session, const tasks::DataSource& source, Shape shape)
    : session_(session), source_(source), shape_(std::move(shape)) {
  ensure(shape_.slots > 0 && !shape_.seeds.empty(), "[data] a ring of {} slots and {} seeds", shape_.slots,
         shape_.seeds.size());
  check(shape_.block_size == source.block_size(),
        "[data] the source makes sequences of {} tokens, the run is set to {}", source.block_size(), shape_.block_size);
}

DataRing::~DataRing() { stop(); }

void DataRing::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void DataRing::start(int64_t first, int64_t last) {
  stop();
  readers_.clear();
  filled_ = first;
  stopping_ = false;
  error_ = nullptr;
  thread_ = std::thread([this, first, last] {
    try {
      produce(first, last);
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      error_ = std::current_exception();
    }
    changed_.notify_all();
  });
}

// Blocks until no step that reads the slot of `batch` can still run; false when told to stop.
bool DataRing::wait_free(int64_t batch) {
  const int64_t previous = batch - shape_.slots;  // the batch that lies there now
  uint64_t ticket = 0;
  {
    std::unique_lock lock(mutex_);
    const auto known = [&] { return !readers_.empty() && readers_.back().until > previous; };
    changed_.wait(lock, [&] { return stopping_ || known(); });
    if (stopping_) return false;
    while (readers_.front().until <= previous) readers_.pop_front();
    ticket = readers_.front().ticket;
  }
  session_.wait(ticket);
  return true;
}

void DataRing::produce(int64_t first, int64_t last) {
  const std::function<void(uint32_t)> make = source_.labels() > 0 ? labelled_batches() : token_batches();
  for (int64_t batch = first; batch < last; ++batch) {
    {
      const std::scoped_lock lock(mutex_);
      if (stopping_) return;
    }
    make(static_cast<uint32_t>(batch));
    if (batch - first >= shape_.slots && !wait_free(batch)) return;
    for (const auto& [name, bytes] : made_)
      // A loss that is of distributions alone reads no targets, and a model without types no kinds.
      if (session_.has_state(name)) session_.write_slot(name, batch % shape_.slots, bytes);
    {
      const std::scoped_lock lock(mutex_);
      filled_ = batch + 1;
    }
    changed_.notify_all();
  }
}

std::function<void(uint32_t)> DataRing::token_batches() {
  const auto block = static_cast<size_t>(shape_.block_size);
  const size_t batch_tokens = static_cast<size_t>(shape_.batch_size) * block;
  const size_t all = batch_tokens * shape_.seeds.size();
  const size_t batch_numbers = source_.soft_targets() ? batch_tokens * static_cast<size_t>(source_.vocab_size()) : 0;
  struct Buffers {
    std::vector<int32_t> tokens, targets, starts;
    std::vector<float> weights, distributions, numbers;
  };
  const auto to = std::make_shared<Buffers>();
  to->tokens.resize(all);
  to->targets.resize(all);
  to->weights.resize(all);
  made_ = {{"data.tokens", std::as_bytes(std::span(to->tokens))},
           {"data.targets", std::as_bytes(std::span(to->targets))},
           {"data.weights", std::as_bytes(std::span(to->weights))}};
  if (source_.packs()) {
    to->starts.resize(all);
    made_.emplace_back("data.starts", std::as_bytes(std::span(to->starts)));
  }
  if (batch_numbers > 0) {
    to->distributions.resize(batch_numbers * shape_.seeds.size());
    made_.emplace_back("data.distributions", std::as_bytes(std::span(to->distributions)));
  }
  const size_t batch_rows = static_cast<size_t>(shape_.batch_size * source_.numbers());
  if (batch_rows > 0) {
    to->numbers.resize(batch_rows * shape_.seeds.size());
    made_.emplace_back("data.numbers", std::as_bytes(std::span(to->numbers)));
  }
  return [this, to, batch_tokens, batch_numbers, batch_rows](uint32_t batch) {
    for (size_t group = 0; group < shape_.seeds.size(); ++group) {
      const auto part = [&](auto& whole) { return std::span(whole).subspan(group * batch_tokens, batch_tokens); };
      const uint32_t seed = shape_.seeds[group];
      source_.fill(tasks::Split::kTrain, seed, batch, 0, part(to->tokens), part(to->targets), part(to->weights));
      if (!to->starts.empty()) source_.fill_starts(tasks::Split::kTrain, seed, batch, 0, part(to->starts));
      if (!to->numbers.empty())
        source_.fill_numbers(tasks::Split::kTrain, seed, batch, 0,
                             std::span(to->numbers).subspan(group * batch_rows, batch_rows));
      if (!to->distributions.empty())
        source_.fill_distributions(tasks::Split::kTrain, seed, batch, 0,
                                   std::span(to->distributions).subspan(group * batch_numbers, batch_numbers));
    }
  };
}

std::function<void(uint32_t)> DataRing::labelled_batches() {
  const auto groups = static_cast<int64_t>(shape_.seeds.size());
  const auto to =
      std::make_shared<tasks::LabelledBatch>(shape_.batch_size * groups, shape_.block_size, source_.labels());
  made_ = {{"data.tokens", std::as_bytes(std::span(to->tokens))},
           {"data.kinds", std::as_bytes(std::span(to->kinds))},
           {"data.lengths", std::as_bytes(std::span(to->lengths))},
           {"data.labels", std::as_bytes(std::span(to->labels))},
           {"data.weights", std::as_bytes(std::span(to->weights))}};
  return [this, to](uint32_t batch) {
    for (size_t group = 0; group < shape_.seeds.size(); ++group) {
      const auto part = [&](auto whole) {
        const size_t size = whole.size() / shape_.seeds.size();
        return whole.subspan(group * size, size);
      };
      const tasks::LabelledSpans all = to->spans();
      source_.fill_labelled(
          tasks::Split::kTrain, shape_.seeds[group], batch, 0,
          {part(all.tokens), part(all.kinds), part(all.lengths), part(all.labels), part(all.weights)});
    }
  };
}

void DataRing::wait_filled(int64_t until) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return filled_ >= until || error_; });
  if (filled_ < until) std::rethrow_exception(error_);
}

void DataRing::submitted(int64_t until, uint64_t ticket) {
  {
    const std::scoped_lock lock(mutex_);
    readers_.push_back({until, ticket});
  }
  changed_.notify_all();
}

}  // namespace surtsey::experiments
