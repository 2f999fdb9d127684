// The endpoints: from the body of a request to its answer, whatever carries the two (http.h does).
#pragma once

#include "experiments/serve/errors.h"
#include "experiments/serve/metrics.h"
#include "experiments/serve/requests.h"
#include "experiments/serve/responses.h"
#include "experiments/serve/scheduler.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::serve {

struct Reply {
  int status = 200;
  std::string type = "application/json";
  std::string body;
  int retry_after = 0;  // seconds; 0: not said
  // Of a stream instead of a body: hands its parts to `write`, which is false where nobody reads any more.
  using Write = std::function<bool(std::string_view part)>;
  std::function<void(const Write& write)> stream;
};

// Whether the client still waits.
using Alive = std::function<bool()>;

struct ApiOptions {
  double request_seconds = 600;  // from a request to the end of its answer
  bool log_prompts = false;      // prompts to stderr
};

class Api {
 public:
  // All outlive it, and the streams of its replies.
  Api(const ServedModel& model, Scheduler& scheduler, Metrics& metrics, const ApiOptions& options);

  struct Route {
    const char* method = nullptr;
    const char* path = nullptr;
    bool needs_key = true;
    Reply (Api::*answer)(const std::string& body, const Alive& alive) = nullptr;
  };
  static const std::vector<Route>& routes();
  // ApiError: 404 where there is no such path, 405 where it takes another method.
  static const Route& find(std::string_view method, std::string_view path);

  // Never throws: errors are replies. `alive` is asked while an answer is waited for.
  Reply answer(const Route& route, const std::string& body, const Alive& alive);
  static Reply error(const ApiError& error);

 private:
  Reply completions(const std::string& body, const Alive& alive);
  Reply chat(const std::string& body, const Alive& alive);
  Reply embeddings(const std::string& body, const Alive& alive);
  Reply models(const std::string& body, const Alive& alive);
  Reply tokenize(const std::string& body, const Alive& alive);
  Reply detokenize(const std::string& body, const Alive& alive);
  Reply tokenizer_info(const std::string& body, const Alive& alive);
  Reply health(const std::string& body, const Alive& alive);
  Reply metrics_text(const std::string& body, const Alive& alive);
  Reply page(const std::string& body, const Alive& alive);

  void check_generates() const;
  RequestLimits limits() const;
  Clock::time_point deadline() const;
  TextRequest text_of(const Generation& generation, std::vector<int32_t> prompt, int64_t choice) const;

  const ServedModel& model_;
  Scheduler& scheduler_;
  Metrics& metrics_;
  ApiOptions options_;
  int64_t started_;  // seconds since 1970
};

}  // namespace surtsey::experiments::serve
