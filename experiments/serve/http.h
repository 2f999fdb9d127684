// The endpoints over HTTP: who may ask, from where, how much, and how the server ends.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "experiments/serve/api.h"
#include "experiments/serve/connection_limits.h"

namespace surtsey::experiments::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";
  int port = 8080;      // 0: any that is free
  std::string api_key;  // empty: nobody is asked for one
  ConnectionLimits limits;
  bool log_requests = true;  // a line each to stderr, without prompts
};

class HttpServer {
 public:
  // UserError: a host that others can reach, and no key. `api` and `metrics` outlive it.
  HttpServer(Api& api, Metrics& metrics, const HttpOptions& options);
  ~HttpServer();

  // Takes the port, from which on connections wait; returns it. UserError where it is not to be had.
  int bind();
  // Answers until stop() is called or `stop_asked` says so, which is looked at every tenth of a second: then new
  // requests are answered 503, those in flight to their end, and it returns.
  void run(const std::function<bool()>& stop_asked);
  // From any thread: as if stop_asked had said so.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Whether only this machine reaches what listens at `host`: 127.0.0.0/8, ::1 or localhost.
bool is_loopback(const std::string& host);

}  // namespace surtsey::experiments::serve
