#include "experiments/serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace surtsey::experiments::serve {

void Histogram::add(double seconds) {
  const std::lock_guard lock(mutex_);
  ++counts_[size_t(std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin())];
  sum_ += seconds;
}

std::string Histogram::text(const std::string& name, const std::string& help) const {
  const std::lock_guard lock(mutex_);
  std::string text = fmt::format("# HELP {0} {1}\n# TYPE {0} histogram\n", name, help);
  uint64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i];
    const std::string bound = i < kBounds.size() ? fmt::format("{}", kBounds[i]) : "+Inf";
    text += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, bound, count);
  }
  return text + fmt::format("{0}_sum {1}\n{0}_count {2}\n", name, sum_, count);
}

void Metrics::count_request(const std::string& endpoint, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{endpoint, status}];
}

std::string Metrics::text() const {
  std::string text;
  const auto add = [&](const char* name, const char* type, const char* help, auto value) {
    text += fmt::format("# HELP surtsey_{0} {1}\n# TYPE surtsey_{0} {2}\nsurtsey_{0} {3}\n", name, help, type, value);
  };
  add("prompt_tokens_total", "counter", "Tokens of prompts that were read.", prompt_tokens.load());
  add("generated_tokens_total", "counter", "Tokens that were generated.", generated_tokens.load());
  add("steps_total", "counter", "Steps of all running texts, one token each.", steps.load());
  add("texts_finished_total", "counter", "Answers that came to their end.", texts_finished.load());
  add("texts_cancelled_total", "counter", "Answers that nobody waited for any more.", texts_cancelled.load());
  add("devices_lost_total", "counter", "Devices that were lost and opened again.", devices_lost.load());
  add("texts_running", "gauge", "Answers that are being generated.", texts_running.load());
  add("texts_waiting", "gauge", "Answers that wait for a slot.", texts_waiting.load());
  add("connections", "gauge", "Connections that are open.", connections.load());
  text += first_token.text("surtsey_first_token_seconds", "From a request to its first token.");
  text += token.text("surtsey_token_seconds", "Between two tokens of an answer.");
  text += "# HELP surtsey_requests_total Requests by endpoint and status.\n# TYPE surtsey_requests_total counter\n";
  const std::lock_guard lock(mutex_);
  for (const auto& [key, count] : requests_)
    text += fmt::format("surtsey_requests_total{{endpoint=\"{}\",status=\"{}\"}} {}\n", key.first, key.second, count);
  return text;
}

}  // namespace surtsey::experiments::serve
