#include "experiments/train/data_ring.h"

#include "graph/error.h"

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
  const auto block = static_cast<size_t>(shape_.block_size);
  const size_t batch_tokens = static_cast<size_t>(shape_.batch_size) * block;
  std::vector<int32_t> tokens(batch_tokens * shape_.seeds.size()), targets(tokens.size());
  std::vector<int32_t> starts(source_.packs() ? tokens.size() : 0);
  std::vector<float> weights(tokens.size());
  const size_t batch_numbers = source_.soft_targets() ? batch_tokens * static_cast<size_t>(source_.vocab_size()) : 0;
  std::vector<float> distributions(batch_numbers * shape_.seeds.size());
  for (int64_t batch = first; batch < last; ++batch) {
    {
      const std::scoped_lock lock(mutex_);
      if (stopping_) return;
    }
    for (size_t group = 0; group < shape_.seeds.size(); ++group) {
      const auto part = [&](auto& whole) { return std::span(whole).subspan(group * batch_tokens, batch_tokens); };
      source_.fill(tasks::Split::kTrain, shape_.seeds[group], static_cast<uint32_t>(batch), 0, part(tokens),
                   part(targets), part(weights));
      if (!starts.empty())
        source_.fill_starts(tasks::Split::kTrain, shape_.seeds[group], static_cast<uint32_t>(batch), 0, part(starts));
      if (!distributions.empty())
        source_.fill_distributions(tasks::Split::kTrain, shape_.seeds[group], static_cast<uint32_t>(batch), 0,
                                   std::span(distributions).subspan(group * batch_numbers, batch_numbers));
    }
    if (batch - first >= shape_.slots && !wait_free(batch)) return;
    const int64_t slot = batch % shape_.slots;
    session_.write_slot("data.tokens", slot, std::as_bytes(std::span(tokens)));
    // A loss that is of distributions alone reads none.
    if (session_.has_state("data.targets"))
      session_.write_slot("data.targets", slot, std::as_bytes(std::span(targets)));
    session_.write_slot("data.weights", slot, std::as_bytes(std::span(weights)));
    if (!starts.empty()) session_.write_slot("data.starts", slot, std::as_bytes(std::span(starts)));
    if (!distributions.empty())
      session_.write_slot("data.distributions", slot, std::as_bytes(std::span(distributions)));
    {
      const std::scoped_lock lock(mutex_);
      filled_ = batch + 1;
    }
    changed_.notify_all();
  }
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
