#include "experiments/serve/http.h"

#include "experiments/serve/connection.h"

#include <arpa/inet.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

namespace surtsey::experiments::serve {
namespace {

using namespace std::chrono_literals;
using httplib::Request;
using httplib::Response;
using Clock = std::chrono::steady_clock;

// Takes the same time wherever the two differ.
bool same_key(const std::string& given, const std::string& key) {
  unsigned difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < key.size(); ++i)
    difference |= unsigned(static_cast<unsigned char>(key[i])) ^
                  unsigned(static_cast<unsigned char>(i < given.size() ? given[i] : 0));
  return difference == 0;
}

// The name in "name:port", "[::1]:port" or an origin's "http://name:port".
std::string host_name(std::string text) {
  const size_t scheme = text.find("://");
  if (scheme != std::string::npos) text.erase(0, scheme + 3);
  if (text.starts_with("[")) return text.substr(1, std::min(text.find(']'), text.size()) - 1);
  return text.substr(0, text.find(':'));
}

std::string without_scheme(const std::string& origin) {
  const size_t scheme = origin.find("://");
  return scheme == std::string::npos ? origin : origin.substr(scheme + 3);
}

}  // namespace

bool is_loopback(const std::string& host) {
  if (host == "localhost" || host == "::1") return true;
  in_addr four = {};
  return inet_pton(AF_INET, host.c_str(), &four) == 1 && (ntohl(four.s_addr) >> 24) == 127;
}

struct HttpServer::Impl {
  Impl(Api& all, Metrics& counted, const HttpOptions& how)
      : api(all), metrics(counted), options(how), server(how.limits) {
    server.on_connections = [this](int64_t open) { metrics.connections = open; };
    server.refusal = Api::error(unavailable("too many connections are open")).body;
    server.set_keep_alive_max_count(size_t(std::max<int64_t>(1, how.limits.keep_alive_requests)));
    server.set_keep_alive_timeout(time_t(how.limits.keep_alive_seconds));
    server.set_tcp_nodelay(true);
    // Two servers on one port would share the requests between them, unseen: the library's own options allow that.
    server.set_socket_options([](socket_t socket) {
      const int on = 1;
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    });
    server.set_pre_routing_handler(
        [this](const Request& request, Response& response) { return admit(request, response); });
    server.set_exception_handler([](const Request&, Response& response, const std::exception_ptr&) {
      put(response, Api::error(server_error("the request could not be answered")));
    });
    // What the library refuses itself: a head that is none, or is too long.
    server.set_error_handler(httplib::Server::Handler([](const Request&, Response& response) {
      if (!response.body.empty()) return;
      const int status = response.status;
      put(response, Api::error(ApiError(status, status >= 500 ? "server_error" : "invalid_request_error",
                                        "this is no request of HTTP/1.1, or its head is too long")));
      close(response);
    }));
    for (const Api::Route& route : Api::routes()) {
      if (std::string_view(route.method) == "GET") {
        server.Get(route.path, [this, &route](const Request& request, Response& response) {
          answer(route, request, "", response);
        });
      } else {
        server.Post(route.path,
                    [this, &route](const Request& request, Response& response, const httplib::ContentReader& content) {
                      std::string body;
                      if (!read_body(content, body, response)) return log(request, response, 0);
                      answer(route, request, body, response);
                    });
      }
    }
  }

  static void close(Response& response) {
    if (Connection* connection = ConnectionServer::current()) connection->close_after();
    response.set_header("Connection", "close");
  }

  static void put(Response& response, const Reply& reply) {
    response.status = reply.status;
    response.set_content(reply.body, reply.type);
    if (reply.retry_after > 0) response.set_header("Retry-After", std::to_string(reply.retry_after));
    if (!reply.type.starts_with("text/html")) return;
    // The page needs its own script and style and this server, and stands in no other page.
    response.set_header(
        "Content-Security-Policy",
        "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'");
  }

  // Before the body is read: whether it will be. What is refused here ends the connection, as its body is left unread.
  httplib::Server::HandlerResponse admit(const Request& request, Response& response) {
    try {
      check_origin(request);
      const Api::Route& route = Api::find(request.method, request.path);
      if (stopping) throw unavailable("the server is stopping", 5);
      if (route.needs_key) check_key(request);
      if (request.is_multipart_form_data()) throw invalid_request("a body is JSON, not a form");
      return httplib::Server::HandlerResponse::Unhandled;
    } catch (const ApiError& error) {
      put(response, Api::error(error));
      if (error.status() == 401) response.set_header("WWW-Authenticate", "Bearer");
      close(response);
      metrics.count_request("refused", error.status());
      log(request, response, 0);
      return httplib::Server::HandlerResponse::Handled;
    }
  }

  void check_key(const Request& request) const {
    if (options.api_key.empty()) return;
    static const std::string kBearer = "Bearer ";
    const std::string given = request.get_header_value("Authorization");
    if (!given.starts_with(kBearer)) throw unauthorized("an API key is wanted: Authorization: Bearer KEY");
    if (!same_key(given.substr(kBearer.size()), options.api_key)) throw unauthorized("this is not the API key");
  }

  // A page of another site in a browser on this machine can send requests here, also by a name of its own that it lets
  // point to this machine. Neither is for it.
  void check_origin(const Request& request) const {
    const std::string host = request.get_header_value("Host");
    if (request.has_header("Origin") && without_scheme(request.get_header_value("Origin")) != host)
      throw forbidden("this is for pages that this server itself gives");
    if (options.api_key.empty() && request.has_header("Host") && !is_loopback(host_name(host)) &&
        host_name(host) != options.host)
      throw forbidden("without a key this server is asked by the machine's own name: localhost");
  }

  bool read_body(const httplib::ContentReader& content, std::string& body, Response& response) const {
    bool long_body = false;
    const bool good = content([&](const char* data, size_t size) {
      // Counted here as the library bounds only lengths that are announced, and not what is unpacked.
      long_body = body.size() + size > options.limits.body_bytes;
      if (long_body) return false;
      body.append(data, size);
      return true;
    });
    if (good) return true;
    long_body |= response.status == 413;
    put(response, Api::error(long_body ? ApiError(413, "invalid_request_error",
                                                  fmt::format("a body has at most {} bytes", options.limits.body_bytes))
                                       : invalid_request("the body could not be read to its end")));
    close(response);
    return false;
  }

  void answer(const Api::Route& route, const Request& request, const std::string& body, Response& response) {
    const auto begin = Clock::now();
    Connection* connection = ConnectionServer::current();
    const Reply reply = api.answer(route, body, [connection] { return connection == nullptr || !connection->gone(); });
    if (!reply.stream) {
      put(response, reply);
    } else {
      response.set_header("Cache-Control", "no-cache");
      response.set_header("X-Accel-Buffering", "no");
      // All of it in one call: the library asks no second time once it is stopped.
      response.set_chunked_content_provider(reply.type, [stream = reply.stream](size_t, httplib::DataSink& sink) {
        bool open = true;
        try {
          stream([&](std::string_view part) { return open = open && sink.write(part.data(), part.size()); });
        } catch (const std::exception&) {  // no memory: the client sees a stream without its end
          return false;
        }
        if (open) sink.done();
        return open;
      });
    }
    log(request, response, std::chrono::duration<double>(Clock::now() - begin).count());
  }

  void log(const Request& request, const Response& response, double seconds) const {
    if (!options.log_requests) return;
    std::string path = request.path.substr(0, 100);
    for (char& letter : path) {
      if (static_cast<unsigned char>(letter) < 0x20 || static_cast<unsigned char>(letter) >= 0x7F) letter = '?';
    }
    fmt::print(stderr, "serve: {} {} {} {} {:.3f} s\n", request.remote_addr, request.method.substr(0, 10), path,
               response.status == -1 ? 200 : response.status, seconds);
  }

  Api& api;
  Metrics& metrics;
  HttpOptions options;
  ConnectionServer server;
  std::atomic<bool> stopping = false, stop_called = false;
};

HttpServer::HttpServer(Api& api, Metrics& metrics, const HttpOptions& options) {
  check(is_loopback(options.host) || !options.api_key.empty(),
        "{} can be reached from other machines: give --api_key, or --host 127.0.0.1", options.host);
  impl_ = std::make_unique<Impl>(api, metrics, options);
}

HttpServer::~HttpServer() = default;

int HttpServer::bind() {
  const HttpOptions& options = impl_->options;
  int port = options.port;
  if (port == 0) {
    port = impl_->server.bind_to_any_port(options.host);
  } else if (!impl_->server.bind_to_port(options.host, port)) {
    port = -1;
  }
  check(port > 0, "cannot listen at {} port {}: is something else there?", options.host, options.port);
  impl_->server.widen_backlog();
  return port;
}

void HttpServer::run(const std::function<bool()>& stop_asked) {
  Impl& impl = *impl_;
  std::atomic<bool> ended = false;
  std::thread watch([&] {
    while (!ended && !impl.stop_called && !(stop_asked && stop_asked())) std::this_thread::sleep_for(50ms);
    // What is being answered is answered; the library would cut its streams short.
    impl.stopping = true;
    impl.server.stop_keeping_alive();
    while (!ended && impl.server.in_flight() > 0) std::this_thread::sleep_for(10ms);
    while (!ended && !impl.server.is_running()) std::this_thread::sleep_for(1ms);
    if (!ended) impl.server.stop();
  });
  impl.server.listen_after_bind();
  ended = true;
  watch.join();
}

void HttpServer::stop() { impl_->stop_called = true; }

}  // namespace surtsey::experiments::serve
