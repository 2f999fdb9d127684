#include "experiments/serve/connection.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>

namespace surtsey::experiments::serve {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSlice = 100;  // milliseconds between two looks at whether to stop
constexpr int kBacklog = 256;

thread_local Connection* this_connection = nullptr;

Clock::duration seconds(double count) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
}

int milliseconds_until(Clock::time_point end) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
  return int(std::clamp<int64_t>(left + 1, 0, 1 << 30));
}

// Whether `events` came within the time.
bool wait_for(socket_t socket, short events, int milliseconds) {
  pollfd one = {.fd = socket, .events = events, .revents = 0};
  int result = 0;
  do {
    result = ::poll(&one, 1, milliseconds);
  } while (result < 0 && errno == EINTR);
  return result > 0 && (one.revents & events) != 0;
}

void address_of(int (*ask)(int, sockaddr*, socklen_t*), socket_t socket, std::string& ip, int& port) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (ask(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return;
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& four = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &four.sin_addr, text, sizeof(text));
    port = ntohs(four.sin_port);
  } else if (address.ss_family == AF_INET6) {
    const auto& six = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof(text));
    port = ntohs(six.sin6_port);
  }
  ip = text;
}

// A thread a connection: one that waits holds up no other. The number of connections bounds them.
class ThreadPerConnection : public httplib::TaskQueue {
 public:
  using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue({}));  // void, or whether it was taken

  Enqueued enqueue(std::function<void()> work) override {
    {
      const std::lock_guard lock(mutex_);
      ++running_;
    }
    try {
      std::thread([this, work] {
        work();
        finished();
      }).detach();
    } catch (const std::system_error&) {  // no thread to be had: on this one, and the next connection waits
      work();
      finished();
    }
    if constexpr (!std::is_void_v<Enqueued>) return Enqueued(true);
  }

  void shutdown() override {
    std::unique_lock lock(mutex_);
    none_.wait(lock, [&] { return running_ == 0; });
  }

 private:
  void finished() {
    const std::lock_guard lock(mutex_);
    if (--running_ == 0) none_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable none_;
  int64_t running_ = 0;
};

}  // namespace

Connection::Connection(socket_t socket, const ConnectionLimits& limits) : socket_(socket), limits_(limits) {
  // A token's event is a small packet that somebody waits for.
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

bool Connection::wait_for_request(const std::function<bool()>& stop) {
  const auto until = Clock::now() + seconds(limits_.keep_alive_seconds);
  while (begin_ == end_) {
    if (stop() || Clock::now() >= until) return false;
    if (wait_for(socket_, POLLIN, std::min(kSlice, milliseconds_until(until)))) break;
    if (wait_for(socket_, POLLHUP | POLLERR, 0)) return false;
  }
  if (begin_ == end_ && gone()) return false;
  bytes_left_ = limits_.head_bytes;
  read_until_ = Clock::now() + seconds(limits_.read_seconds);
  return true;
}

void Connection::begin_body() { bytes_left_ = limits_.body_bytes + limits_.head_bytes; }

bool Connection::gone() const {
  char byte = 0;
  const ssize_t got = ::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

bool Connection::is_writable() const {
  return wait_for(socket_, POLLOUT, milliseconds_until(Clock::now() + seconds(limits_.write_seconds)));
}

ssize_t Connection::read(char* to, size_t size) {
  if (bytes_left_ == 0 || size == 0) {
    close_after_ = true;
    return -1;
  }
  if (begin_ == end_) {
    ssize_t got = -1;
    do {
      if (Clock::now() >= read_until_ || !wait_for(socket_, POLLIN, milliseconds_until(read_until_))) break;
      got = ::recv(socket_, buffer_, sizeof(buffer_), MSG_DONTWAIT);
    } while (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK));
    if (got <= 0) {
      close_after_ = true;
      return got;
    }
    begin_ = 0;
    end_ = size_t(got);
  }
  const size_t take = std::min({size, end_ - begin_, bytes_left_});
  std::memcpy(to, buffer_ + begin_, take);
  begin_ += take;
  bytes_left_ -= take;
  return ssize_t(take);
}

ssize_t Connection::write(const char* from, size_t size) {
  while (is_writable()) {
    const ssize_t put = ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put >= 0) return put;
    if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) break;
  }
  close_after_ = true;
  return -1;
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  address_of(::getpeername, socket_, ip, port);
}
void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  address_of(::getsockname, socket_, ip, port);
}

ConnectionServer::ConnectionServer(const ConnectionLimits& limits) : limits_(limits) {
  new_task_queue = [] { return new ThreadPerConnection(); };
  set_payload_max_length(limits.body_bytes);
}

Connection* ConnectionServer::current() { return this_connection; }

void ConnectionServer::widen_backlog() { ::listen(svr_sock_, kBacklog); }

bool ConnectionServer::process_and_close_socket(socket_t socket) {
  const int64_t open = ++connections_;
  if (on_connections) on_connections(open);
  if (open > limits_.connections) {
    refuse(socket);
  } else {
    serve(socket);
  }
  // What was not read would make the close a reset, which may overtake the answer.
  ::shutdown(socket, SHUT_WR);
  char rest[4096];
  for (int i = 0; i < 64 && wait_for(socket, POLLIN, kSlice) && ::recv(socket, rest, sizeof(rest), MSG_DONTWAIT) > 0;)
    ++i;
  ::close(socket);
  const int64_t left = --connections_;
  if (on_connections) on_connections(left);
  return true;
}

void ConnectionServer::serve(socket_t socket) {
  Connection connection(socket, limits_);
  this_connection = &connection;
  // A connection's first request is answered also while the server stops: it is told so.
  bool first = true;
  const auto stop = [&] { return svr_sock_ == INVALID_SOCKET || (closing_ && !first); };
  for (int64_t left = limits_.keep_alive_requests; left > 0 && connection.wait_for_request(stop); --left) {
    ++in_flight_;
    first = false;
    bool closed = false;
    const auto setup = [&](httplib::Request& request) {
      // Parts of an answer are never asked for, and many ranges make a long answer of a short one.
      request.ranges.clear();
      connection.begin_body();
    };
    const bool last = left == 1 || closing_;
    // Newer versions of the library want the addresses beside the stream.
    const auto process = [&](auto& server) {
      if constexpr (requires { server.process_request(connection, last, closed, setup); }) {
        return server.process_request(connection, last, closed, setup);
      } else {
        std::string remote, local;
        int remote_port = 0, local_port = 0;
        connection.get_remote_ip_and_port(remote, remote_port);
        connection.get_local_ip_and_port(local, local_port);
        return server.process_request(connection, remote, remote_port, local, local_port, last, closed, setup);
      }
    };
    bool good = false;
    try {
      good = process(*this);
    } catch (const std::exception&) {  // no memory for a head, say: this connection ends, and no other
    }
    --in_flight_;
    if (!good || closed || last || connection.closes()) break;
  }
  this_connection = nullptr;
}

void ConnectionServer::refuse(socket_t socket) const {
  const std::string answer =
      "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: "
      "application/json\r\nContent-Length: " +
      std::to_string(refusal.size()) + "\r\n\r\n" + refusal;
  [[maybe_unused]] const ssize_t sent = ::send(socket, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace surtsey::experiments::serve
