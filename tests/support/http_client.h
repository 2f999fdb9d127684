// A client of HTTP/1.1 for tests, down to the bytes: what is broken, slow or cut off can be sent as well.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

namespace surtsey::tests {

struct HttpAnswer {
  int status = 0;                              // 0: none came
  std::map<std::string, std::string> headers;  // names in small letters
  std::string body;
  bool whole = false;  // to its announced end
};

class HttpConnection {
 public:
  explicit HttpConnection(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(uint16_t(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      ::close(socket_);
      throw std::runtime_error("cannot connect");
    }
  }
  ~HttpConnection() { close(); }
  HttpConnection(HttpConnection&& other) noexcept
      : socket_(std::exchange(other.socket_, -1)), held_(std::move(other.held_)) {}
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  void close() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
  }
  // False where the other side has closed.
  bool send(const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t put = ::send(socket_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (put <= 0) return false;
      at += size_t(put);
    }
    return true;
  }
  // More bytes; false at the end, or where none came in time.
  bool receive(int milliseconds = 20'000) {
    pollfd one = {.fd = socket_, .events = POLLIN, .revents = 0};
    if (::poll(&one, 1, milliseconds) <= 0) return false;
    char buffer[4096];
    const ssize_t got = ::recv(socket_, buffer, sizeof(buffer), 0);
    if (got <= 0) return false;
    held_.append(buffer, size_t(got));
    return true;
  }
  const std::string& held() const { return held_; }
  void take(size_t bytes) { held_.erase(0, bytes); }  // of what is held

  // The next answer; of a chunked one the chunks joined.
  HttpAnswer answer() {
    HttpAnswer result;
    size_t end = 0;
    while ((end = held_.find("\r\n\r\n")) == std::string::npos) {
      if (!receive()) return result;
    }
    const std::string head = held_.substr(0, end);
    held_.erase(0, end + 4);
    result.status = head.size() > 12 ? std::atoi(head.c_str() + 9) : 0;
    for (size_t at = head.find("\r\n"); at != std::string::npos; at = head.find("\r\n", at + 2)) {
      const size_t stop = std::min(head.find("\r\n", at + 2), head.size());
      const std::string line = head.substr(at + 2, stop - at - 2);
      const size_t colon = line.find(':');
      if (colon == std::string::npos) continue;
      std::string name = line.substr(0, colon);
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
      result.headers[name] = line.substr(std::min(line.find_first_not_of(' ', colon + 1), line.size()));
    }
    if (result.headers["transfer-encoding"] == "chunked") {
      result.whole = read_chunks(result.body);
    } else {
      const size_t length = size_t(std::atoll(result.headers["content-length"].c_str()));
      while (held_.size() < length && receive()) {
      }
      result.whole = held_.size() >= length;
      result.body = held_.substr(0, length);
      held_.erase(0, result.body.size());
    }
    return result;
  }

 private:
  bool read_chunks(std::string& body) {
    while (true) {
      size_t line = 0;
      while ((line = held_.find("\r\n")) == std::string::npos) {
        if (!receive()) return false;
      }
      const size_t size = size_t(std::strtoull(held_.c_str(), nullptr, 16));
      while (held_.size() < line + 2 + size + 2) {
        if (!receive()) return false;
      }
      body += held_.substr(line + 2, size);
      held_.erase(0, line + 2 + size + 2);
      if (size == 0) return true;
    }
  }

  int socket_;
  std::string held_;
};

inline std::string http_request(const std::string& method, const std::string& path, const std::string& body,
                                const std::string& headers = "") {
  return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n" + headers + "\r\n" + body;
}

// One request over a connection of its own.
inline HttpAnswer http_ask(int port, const std::string& method, const std::string& path, const std::string& body = "",
                           const std::string& headers = "") {
  HttpConnection connection(port);
  connection.send(http_request(method, path, body, "Connection: close\r\n" + headers));
  return connection.answer();
}

}  // namespace surtsey::tests
