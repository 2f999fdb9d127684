// Who may ask, how much, and how it ends: over sockets that send what no client should.
#include "tests/serve/fake_model.h"

#include <catch2/catch_test_macros.hpp>

#include <future>
#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace surtsey::experiments::serve;
using namespace std::chrono_literals;
using tests::FakeServer;
using tests::HttpAnswer;
using tests::HttpConnection;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

namespace {

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::string type_of(const HttpAnswer& answer) {
  CAPTURE(answer.status, answer.body);
  REQUIRE(answer.whole);
  const Json error = Json::parse(answer.body).at("error");
  CHECK(error["code"] == answer.status);
  return error["type"];
}

const std::string kBody = R"({"prompt": "the", "max_tokens": 2})";

}  // namespace

TEST_CASE("serve: a key is asked for where one is set", "[serve]") {
  FakeServer::Options options;
  options.http.api_key = "open sesame";
  const FakeServer server(options);
  for (const std::string& headers :
       {std::string(), std::string("Authorization: Bearer \r\n"), std::string("Authorization: Bearer open sesam\r\n"),
        std::string("Authorization: Bearer open sesamee\r\n"), std::string("Authorization: Basic open sesame\r\n"),
        std::string("Authorization: open sesame\r\n")}) {
    CAPTURE(headers);
    const HttpAnswer answer = server.post("/v1/completions", kBody, headers);
    CHECK(answer.status == 401);
    CHECK(answer.headers.at("www-authenticate") == "Bearer");
    CHECK(type_of(answer) == "authentication_error");
    CHECK(server.get("/v1/models", headers).status == 401);
    CHECK(server.get("/metrics", headers).status == 401);
  }
  const std::string key = "Authorization: Bearer open sesame\r\n";
  CHECK(server.post("/v1/completions", kBody, key).status == 200);
  CHECK(server.get("/v1/models", key).status == 200);
  CHECK(server.get("/health").status == 200);
  CHECK(server.get("/").status == 200);
}

TEST_CASE("serve: an address that others reach is refused without a key", "[serve]") {
  FakeServer server;
  HttpOptions options;
  options.port = 0;
  for (const char* host : {"0.0.0.0", "192.168.1.5", "::", "example.org", "127.0.0.1.example.org", "1270.0.0.1"}) {
    CAPTURE(host);
    CHECK_FALSE(is_loopback(host));
    options.host = host;
    options.api_key.clear();
    CHECK_THROWS_AS(HttpServer(*server.api, server.metrics, options), UserError);
    options.api_key = "key";
    CHECK_NOTHROW(HttpServer(*server.api, server.metrics, options));
  }
  for (const char* host : {"127.0.0.1", "127.3.2.1", "localhost", "::1"}) CHECK(is_loopback(host));
  options.host = "127.0.0.1";
  options.port = server.port();
  HttpServer second(*server.api, server.metrics, options);
  CHECK_THROWS_AS(second.bind(), UserError);
}

TEST_CASE("serve: pages of other sites are turned away", "[serve]") {
  const FakeServer server;
  const auto ask = [&](const std::string& headers) {
    HttpConnection connection(server.port());
    connection.send("POST /v1/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: " +
                    std::to_string(kBody.size()) + "\r\n" + headers + "\r\n" + kBody);
    return connection.answer().status;
  };
  const std::string port = std::to_string(server.port());
  CHECK(ask("Host: 127.0.0.1:" + port + "\r\n") == 200);
  CHECK(ask("Host: [::1]:" + port + "\r\n") == 200);
  CHECK(ask("Host: localhost:" + port + "\r\nOrigin: http://localhost:" + port + "\r\n") == 200);
  CHECK(ask("Host: localhost:" + port + "\r\nOrigin: http://evil.example\r\n") == 403);
  CHECK(ask("Host: localhost:" + port + "\r\nOrigin: null\r\n") == 403);
  CHECK(ask("Host: evil.example:" + port + "\r\n") == 403);
  CHECK(ask("") == 200);  // no browser
}

TEST_CASE("serve: bodies, heads and paths are bounded", "[serve]") {
  FakeServer::Options options;
  options.http.limits.body_bytes = 10'000;
  const FakeServer server(options);
  const std::string longer = R"({"prompt": ")" + std::string(20'000, 'x') + "\"}";
  CHECK(type_of(server.post("/v1/completions", longer)) == "invalid_request_error");
  CHECK(server.post("/v1/completions", longer).status == 413);
  const auto raw = [&](const std::string& bytes) {
    HttpConnection connection(server.port());
    connection.send(bytes);
    return connection.answer();
  };
  // A length that is not announced, in chunks without end.
  std::string chunks = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 40; ++i) chunks += "400\r\n" + std::string(0x400, '1') + "\r\n";
  CHECK(raw(chunks + "0\r\n\r\n").status == 413);
  CHECK(raw("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{}").status == 413);
  CHECK(raw("GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 414);
  const HttpAnswer head =
      raw("GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(100'000, 'b') + "\r\n\r\n");
  CHECK((head.status == 400 || head.status == 0));
  CHECK(raw("nonsense\r\n\r\n").status == 400);
  CHECK(raw("BREW /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status >= 400);
  CHECK(raw("PUT /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}").status == 405);
  CHECK(raw("OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 405);
  CHECK(raw("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
            "boundary=x\r\nContent-Length: "
            "2\r\n\r\n{}")
            .status == 400);
  CHECK(raw("GET /health HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-0,1-1,2-2,0-5\r\n\r\n").body ==
        R"({"status":"ok"})");
  CHECK(raw("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 404);
  CHECK(server.post("/v1/completions", kBody).status == 200);
}

TEST_CASE("serve: several requests go over one connection", "[serve]") {
  const FakeServer server;
  HttpConnection connection(server.port());
  for (int i = 0; i < 20; ++i) {
    connection.send(tests::http_request("POST", "/v1/completions", kBody));
    const HttpAnswer answer = connection.answer();
    REQUIRE(answer.status == 200);
    REQUIRE(answer.whole);
  }
  connection.send(
      tests::http_request("POST", "/v1/completions", R"({"prompt": "the", "max_tokens": 3, "stream": true})"));
  CHECK(tests::events_of(connection.answer().body).done);
  connection.send(tests::http_request("GET", "/health", ""));
  CHECK(connection.answer().status == 200);
}

TEST_CASE("serve: clients that hang hold up nobody, and are let go", "[serve]") {
  FakeServer::Options options;
  options.http.limits.read_seconds = .5;
  options.http.limits.keep_alive_seconds = .5;
  options.http.limits.connections = 40;
  FakeServer server(options);
  std::vector<HttpConnection> hanging;
  const std::string request = tests::http_request("POST", "/v1/completions", kBody);
  for (int i = 0; i < 30; ++i) {
    hanging.emplace_back(server.port());
    hanging.back().send(request.substr(0, size_t(i) * request.size() / 30));  // some of it, and no more
  }
  const auto begin = Clock::now();
  CHECK(server.post("/v1/completions", kBody).status == 200);
  CHECK(seconds_since(begin) < 5);
  for (HttpConnection& connection : hanging) {
    while (connection.receive()) {
    }
  }
  // One byte a time: each is in time, all together are not.
  HttpConnection slow(server.port());
  bool open = true;
  for (size_t i = 0; i < request.size() && open; ++i) {
    open = slow.send(request.substr(i, 1));
    std::this_thread::sleep_for(20ms);
    if (i > 60 && slow.receive(0)) break;
  }
  CHECK(slow.answer().status != 200);
  CHECK(server.metrics.connections < 40);
}

TEST_CASE("serve: one connection too many is answered 503", "[serve]") {
  FakeServer::Options options;
  options.http.limits.connections = 3;
  FakeServer server(options);
  std::vector<HttpConnection> open;
  for (int i = 0; i < 3; ++i) {
    open.emplace_back(server.port());
    open.back().send(tests::http_request("GET", "/health", ""));
    REQUIRE(open.back().answer().status == 200);
  }
  HttpConnection more(server.port());
  const HttpAnswer refused = more.answer();
  CHECK(refused.status == 503);
  CHECK(type_of(refused) == "unavailable_error");
  open.clear();
  for (int i = 0; i < 100 && server.metrics.connections > 1; ++i) std::this_thread::sleep_for(20ms);
  CHECK(server.get("/health").status == 200);
}

TEST_CASE("serve: a reader that takes nothing is let go", "[serve]") {
  FakeServer::Options options;
  options.http.limits.write_seconds = .3;
  options.control = [](tests::FakeControl& control) { control.context = 200'000; };
  FakeServer server(options);
  HttpConnection deaf(server.port());
  // More than what sockets hold between the two.
  deaf.send(tests::http_request(
      "POST", "/v1/completions",
      R"({"prompt": "the", "max_tokens": 190000, "ignore_eos": true, "stream": true, "logprobs": 20})"));
  bool stopped = false;
  for (int i = 0; i < 3000 && !stopped; ++i) {
    std::this_thread::sleep_for(10ms);
    stopped = server.metrics.texts_cancelled == 1;
  }
  CHECK(stopped);
  CHECK(server.post("/v1/completions", kBody).status == 200);
}

TEST_CASE("serve: asked to stop, it answers what is in flight to its end", "[serve]") {
  FakeServer::Options options;
  options.control = [](tests::FakeControl& control) {
    control.context = 4096;
    control.step_time = 2ms;
  };
  FakeServer server(options);
  HttpConnection idle(server.port());
  idle.send(tests::http_request("GET", "/health", ""));
  CHECK(idle.answer().status == 200);
  const auto ask = [&](bool stream) {
    const Json body = {{"prompt", "the"}, {"max_tokens", 200}, {"ignore_eos", true}, {"stream", stream}};
    return server.post("/v1/completions", body.dump());
  };
  auto whole = std::async(std::launch::async, [&] { return ask(false); });
  auto streamed = std::async(std::launch::async, [&] { return ask(true); });
  for (int i = 0; i < 1000 && server.metrics.texts_running < 2; ++i) std::this_thread::sleep_for(5ms);
  REQUIRE(server.metrics.texts_running == 2);
  server.stop();
  std::this_thread::sleep_for(120ms);
  // New ones are turned away while those go on.
  const HttpAnswer late = server.post("/v1/completions", kBody);
  CHECK(late.status == 503);
  const HttpAnswer first = whole.get();
  CHECK(first.status == 200);
  CHECK(Json::parse(first.body)["usage"]["completion_tokens"] == 200);
  const HttpAnswer second = streamed.get();
  CHECK(second.whole);
  CHECK(tests::events_of(second.body).done);
  server.wait();
  CHECK_THROWS(HttpConnection(server.port()));
  CHECK_FALSE(idle.receive());
}
