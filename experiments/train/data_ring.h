// Batches on their way to the device: a thread makes them ahead of the steps that read them.
//
// Slot = step mod R. The thread writes a slot only when the ticket of its last reader has
// completed, and a step is submitted only when its slot is written; both sides wait, neither polls.
// A batch is a pure function of (seed, step), so neither the thread's pace nor R changes a bit.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/session.h"
#include "experiments/tasks/task.h"

namespace surtsey::experiments {

class DataRing {
 public:
  struct Shape {
    int64_t slots = 0;            // R
    std::vector<uint32_t> seeds;  // G
    int32_t batch_size = 0;       // B
    int32_t block_size = 0;       // T
  };
  // The session must have the state tensors of train_program.h, shared with the host.
  DataRing(engine::Session& session, const tasks::DataSource& source, Shape shape);
  // Stops the thread. Work may still be in flight.
  ~DataRing();
  DataRing(const DataRing&) = delete;
  DataRing& operator=(const DataRing&) = delete;

  // Starts to fill from batch `first` up to `last`, exclusive. Nothing may be in flight.
  void start(int64_t first, int64_t last);
  // Returns when all batches before `until` are in their slots; rethrows what the thread threw.
  void wait_filled(int64_t until);
  // All batches before `until` have been handed to the device; their readers end with `ticket`.
  void submitted(int64_t until, uint64_t ticket);
  void stop();

 private:
  struct Reader {
    int64_t until = 0;
    uint64_t ticket = 0;
  };

  void produce(int64_t first, int64_t last);
  // What makes a batch of the source, into buffers of its own, which become made_.
  std::function<void(uint32_t batch)> token_batches();
  std::function<void(uint32_t batch)> labelled_batches();
  bool wait_free(int64_t batch);

  engine::Session& session_;
  const tasks::DataSource& source_;
  Shape shape_;
  std::vector<std::pair<std::string, std::span<const std::byte>>> made_;  // state tensors of the batch that was made
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Reader> readers_;
  int64_t filled_ = 0;
  bool stopping_ = false;
  std::exception_ptr error_;
};

}  // namespace surtsey::experiments
