// Texts of many clients through one model: they join and leave between tokens, and long prompts are read in parts
// between the others' tokens.
//
//   Scheduler scheduler(factory, model, {.queue = 256}, metrics);
//   const std::shared_ptr<Ticket> ticket = scheduler.submit(std::move(texts), deadline);
//   while (const std::optional<TextEvent> event = ticket->next(100ms)) ..   // until all texts have finished
//
// One thread of its own drives the model and samples; what a text is told does not depend on the others.
#pragma once

#include "experiments/generate/sampler.h"
#include "experiments/serve/errors.h"
#include "experiments/serve/generator.h"
#include "experiments/serve/metrics.h"
#include "experiments/serve/served_model.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace surtsey::experiments::serve {

using Clock = std::chrono::steady_clock;

// One answer that is asked for.
struct TextRequest {
  std::vector<int32_t> prompt;
  hub::GenerationConfig how;
  int64_t max_tokens = 0;  // 0: the prompt is read, and scored
  double frequency_penalty = 0, presence_penalty = 0;
  std::map<int32_t, float> logit_bias;
  uint64_t seed = 0;
  uint32_t stream = 0;  // of draws: answers to one prompt differ by it
  std::vector<std::string> stop;
  int64_t logprobs = -1;      // how many likeliest tokens are told; -1: no log-probabilities
  bool score_prompt = false;  // those of the prompt's tokens too
  bool ignore_eos = false;
  int32_t adapter = 0;     // that the text is read with, see Generator::choose()
  bool continues = false;  // the answer goes on with the prompt's text, rather than beginning one
  std::shared_ptr<const JsonSchema> schema;
};

enum class Finish : uint8_t { none, stop, length, failed };

// Something happened to one of a ticket's texts.
struct TextEvent {
  struct Token {
    int32_t token = 0;
    std::optional<float> logprob;  // none of a prompt's first token
    std::vector<TokenScore> top;
  };
  size_t index = 0;           // of the text
  std::string text;           // more of the answer
  std::vector<Token> prompt;  // scored, in order
  std::vector<Token> tokens;  // generated
  Finish finish = Finish::none;
  std::optional<ApiError> error;  // of failed
};

// What a client waits for. Its texts go on until they finish, it is cancelled or its time is over.
class Ticket {
 public:
  explicit Ticket(size_t texts) : left_(texts) {}

  // What happened next. Nothing: no event within `wait`; or, with done(), all of them were told.
  std::optional<TextEvent> next(std::chrono::milliseconds wait);
  bool done() const;
  void cancel() { cancelled_ = true; }

 private:
  friend class Scheduler;
  void put(TextEvent event);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TextEvent> events_;
  size_t left_;  // texts that have not finished
  std::atomic<bool> cancelled_ = false;
};

struct SchedulerOptions {
  int64_t queue = 256;  // texts that may wait
  // Between attempts to open a lost device again; the second is what it grows to.
  std::chrono::milliseconds reopen_least{500}, reopen_most{30'000};
};

class Scheduler {
 public:
  // Opens the model; throws what `factory` throws. An empty factory is of a model that generates nothing: run() works.
  // `model` and `metrics` outlive it.
  Scheduler(GeneratorFactory factory, const ServedModel& model, const SchedulerOptions& options, Metrics& metrics);
  // Cancels what is running.
  ~Scheduler();

  int64_t context() const { return context_; }
  int64_t vocabulary() const { return vocabulary_; }
  int64_t slots() const { return slots_; }
  int64_t most_texts() const { return options_.queue; }  // of one ticket
  // False while a lost device is opened again.
  bool ready() const { return ready_; }

  // ApiError (503): no room in the queue, the device is lost. 400: what the sampler refuses.
  std::shared_ptr<Ticket> submit(std::vector<TextRequest> texts, Clock::time_point deadline);

  // Runs `work` on the thread that drives the device, between two steps; throws what it throws.
  void run(const std::function<void()>& work);

 private:
  struct Text;
  using TextPointer = std::unique_ptr<Text>;

  void loop();
  void admit();
  void drop_abandoned();
  bool read_some();
  bool step_all();
  void open_again();
  void lose(const std::string& why);
  void take(Text& text, std::span<const float> logits, TextEvent& event);
  void finish(Text& text, TextEvent event, Finish how);
  void fail(Text& text, const ApiError& error);
  void remove_finished();
  int32_t slot_for(const TextRequest& request) const;

  GeneratorFactory factory_;
  const ServedModel& model_;
  SchedulerOptions options_;
  Metrics& metrics_;
  int64_t context_ = 0, vocabulary_ = 0, slots_ = 0;
  std::unique_ptr<Generator> generator_;
  std::atomic<bool> ready_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TextPointer> waiting_;
  std::deque<std::function<void()>> work_;
  bool stopping_ = false;

  std::vector<TextPointer> running_;  // of the thread alone
  std::chrono::milliseconds reopen_wait_{0};
  std::thread thread_;
};

}  // namespace surtsey::experiments::serve
