// cpp-httplib's server over connections of our own: each has a deadline for what it sends, a bound on it, and a thread.
//
// The library leaves open how long a client may take for one request (its timeouts are for one read), how long a line
// or a chunked body may get, and how many connections wait. It offers a server's place for that (it puts its TLS
// there): a stream of bytes, and a function that is given each socket.
#pragma once

#include "experiments/serve/connection_limits.h"

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>

namespace surtsey::experiments::serve {

// The bytes of one connection. Reads end with an error when the request's time or bytes are used up.
class Connection : public httplib::Stream {
 public:
  Connection(socket_t socket, const ConnectionLimits& limits);

  // Waits for a request's first byte, until `stop` says so or the time between requests is over.
  bool wait_for_request(const std::function<bool()>& stop);
  // The head was read: a body may follow.
  void begin_body();
  // The client has closed its side, or the connection is broken. What it has sent and was not read stays.
  bool gone() const;
  // Nothing is read any more after this answer: part of the request was not.
  void close_after() { close_after_ = true; }
  bool closes() const { return close_after_; }

  bool is_readable() const override { return true; }
  bool is_writable() const override;
  // Of newer versions of the library; older ones ask is_readable and is_writable.
  bool wait_readable() const { return true; }
  bool wait_writable() const { return is_writable(); }
  time_t duration() const { return 0; }
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  using Clock = std::chrono::steady_clock;

  socket_t socket_;
  const ConnectionLimits& limits_;
  Clock::time_point read_until_;
  size_t bytes_left_ = 0;
  bool close_after_ = false;
  char buffer_[4096];
  size_t begin_ = 0, end_ = 0;
};

class ConnectionServer : public httplib::Server {
 public:
  explicit ConnectionServer(const ConnectionLimits& limits);

  // The connection whose request this thread is answering.
  static Connection* current();

  // More connections may wait to be accepted than the library asks for.
  void widen_backlog();
  // Requests that were begun are answered, idle connections closed; none is kept alive.
  void stop_keeping_alive() { closing_ = true; }
  // Requests of which something was read and whose answer is not written yet.
  int64_t in_flight() const { return in_flight_; }
  int64_t connections() const { return connections_; }

  // Called with the number of open connections when it changes.
  std::function<void(int64_t)> on_connections;
  std::string refusal;  // the body of the 503 that one connection too many gets

 private:
  // Overrides the library's, which is private there.
  bool process_and_close_socket(socket_t socket);
  void serve(socket_t socket);
  void refuse(socket_t socket) const;

  ConnectionLimits limits_;
  std::atomic<bool> closing_ = false;
  std::atomic<int64_t> in_flight_ = 0, connections_ = 0;
};

}  // namespace surtsey::experiments::serve
