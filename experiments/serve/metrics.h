// What the server counted, as Prometheus reads it. Safe to use from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace surtsey::experiments::serve {

class Histogram {
 public:
  void add(double seconds);
  std::string text(const std::string& name, const std::string& help) const;

 private:
  static constexpr std::array<double, 12> kBounds = {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30};
  mutable std::mutex mutex_;
  std::array<uint64_t, kBounds.size() + 1> counts_ = {};
  double sum_ = 0;
};

struct Metrics {
  std::atomic<uint64_t> prompt_tokens = 0;  // read, those that a slot had already included
  std::atomic<uint64_t> generated_tokens = 0;
  std::atomic<uint64_t> steps = 0;  // of all running texts, one token each
  std::atomic<uint64_t> texts_finished = 0;
  std::atomic<uint64_t> texts_cancelled = 0;  // their clients went away, or their time was over
  std::atomic<uint64_t> devices_lost = 0;
  std::atomic<int64_t> texts_running = 0;
  std::atomic<int64_t> texts_waiting = 0;
  std::atomic<int64_t> connections = 0;
  Histogram first_token;  // from the request to its first token
  Histogram token;        // between two tokens of a text

  void count_request(const std::string& endpoint, int status);
  std::string text() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> requests_;
};

}  // namespace surtsey::experiments::serve
