// A model of a few lines behind the server: its logits are a function of the text so far, or what a test says.
#pragma once

#include "experiments/serve/http.h"
#include "tests/support/http_client.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace surtsey::tests {

// What a test sets and sees; of all generators that a factory makes.
struct FakeControl {
  int64_t slots = 4, context = 256, chunk = 8;
  std::chrono::microseconds step_time{0}, read_time{0};  // that a step, and a chunk, takes
  std::atomic<int> lose_steps = 0;                       // so many next steps find the device lost
  std::atomic<int> fail_opens = 0;                       // so many next openings fail
  std::atomic<int> opened = 0;
  std::atomic<int> broken_token = -1;  // a text that has it gives no finite logits
  std::atomic<int> steps = 0, most_together = 0, chunks = 0;
  std::atomic<int64_t> columns = 0;  // tokens of prompts that were computed

  // Answers that are given to a prompt word by word, and then the end; others are random.
  void say(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer);
  std::optional<int32_t> next_word(std::span<const int32_t> text) const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::pair<std::vector<int32_t>, std::vector<int32_t>>> said_;
};

// The logits after a text: of each token a number that the whole text decides. `vocabulary` of them.
std::vector<float> fake_logits(std::span<const int32_t> text, int64_t vocabulary, const FakeControl& control,
                               int32_t end_token);

// With an adapter it answers as if this stood before each text.
std::vector<int32_t> fake_adapter_text(int32_t adapter);

experiments::serve::GeneratorFactory fake_factory(std::shared_ptr<FakeControl> control, int64_t vocabulary,
                                                  int32_t end_token);

// Bytes and some pairs of them; the last token ends a text. A chat template <|ROLE|>CONTENT.
std::unique_ptr<experiments::serve::ServedModel> fake_served_model();

// A server on a free port, running until it is destroyed.
class FakeServer {
 public:
  struct Options {
    experiments::serve::HttpOptions http;
    experiments::serve::ApiOptions api;
    experiments::serve::SchedulerOptions scheduler;
    std::function<void(experiments::serve::ServedModel&)> model;
    std::function<void(FakeControl&)> control;
    bool generates = true;
  };
  explicit FakeServer(const Options& options);
  FakeServer() : FakeServer(Options{}) {}
  ~FakeServer();

  int port() const { return port_; }
  HttpAnswer get(const std::string& path, const std::string& headers = "") const {
    return http_ask(port_, "GET", path, "", headers);
  }
  HttpAnswer post(const std::string& path, const std::string& body, const std::string& headers = "") const {
    return http_ask(port_, "POST", path, body, headers);
  }
  std::vector<int32_t> encode(const std::string& text) const { return model->encode(text, true); }
  void say(const std::string& prompt, const std::string& answer) const { control->say(encode(prompt), encode(answer)); }
  void stop() { http->stop(); }
  void wait();

  std::shared_ptr<FakeControl> control = std::make_shared<FakeControl>();
  std::unique_ptr<experiments::serve::ServedModel> model;
  experiments::serve::Metrics metrics;
  std::unique_ptr<experiments::serve::Scheduler> scheduler;
  std::unique_ptr<experiments::serve::Api> api;
  std::unique_ptr<experiments::serve::HttpServer> http;

 private:
  int port_ = 0;
  std::thread thread_;
};

// The objects of a stream of events, and whether it ended by [DONE].
struct Events {
  std::vector<nlohmann::ordered_json> parts;
  bool done = false;
};
Events events_of(const std::string& body);

}  // namespace surtsey::tests
