// The whole fuzz, for a build folder with sanitizers; it needs no engine and is built in minutes:
//
//   meson setup build-asan -Db_sanitize=address,undefined && ninja -C build-asan tests/fuzz_serve
//   build-asan/tests/fuzz_serve 10000
//
// Mutated bodies, eight clients at once, some of which leave early, hang or send bytes that are no HTTP. Ends with 1
// where an answer was none, or the server does not answer any more.
#include "tests/serve/bodies.h"
#include "tests/serve/fake_model.h"

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <nlohmann/json.hpp>

using namespace surtsey;

namespace {

// One request; how it was answered.
std::string ask(const tests::FakeServer& server, tests::Draw& draw) {
  const tests::SentBody& sent = draw.of(tests::sent_bodies());
  const std::string body = draw.chance(10) ? sent.body : tests::mutated(sent.body, tests::body_words(), draw);
  std::string request = tests::http_request("POST", sent.path, body, "Connection: close\r\n");
  tests::HttpConnection connection(server.port());
  switch (draw.below(12)) {
    case 0:  // leaves at once
      connection.send(request);
      return "left";
    case 1:  // sends a part and leaves
      connection.send(request.substr(0, draw.below(uint32_t(request.size()))));
      return "left";
    case 2: {  // the head is broken too
      request = tests::mutated(request, tests::body_words(), draw);
      connection.send(request);
      if (draw.chance(4)) return "left";
      const tests::HttpAnswer answer = connection.answer();
      return answer.status == 0 ? "no answer to no request" : fmt::format("{}, broken", answer.status);
    }
    default:
      break;
  }
  connection.send(request);
  const tests::HttpAnswer answer = connection.answer();
  const bool known = answer.status == 200 || answer.status == 400 || answer.status == 501 || answer.status == 503;
  return answer.whole && known ? fmt::format("{}", answer.status) : fmt::format("WRONG: {} to {}", answer.status, body);
}

}  // namespace

int main(int argc, char** argv) {
  const long count = argc > 1 ? std::atol(argv[1]) : 10'000;
  tests::FakeServer::Options options;
  options.http.limits.read_seconds = 1;
  options.control = [](tests::FakeControl& control) { control.slots = 8; };
  tests::FakeServer server(options);
  std::mutex mutex;
  std::map<std::string, long> counts;
  std::atomic<long> next = 0;
  std::vector<std::thread> clients;
  for (uint32_t client = 0; client < 8; ++client) {
    clients.emplace_back([&, client] {
      tests::Draw draw(client + 1);
      while (next++ < count) {
        const std::string result = ask(server, draw);
        const std::lock_guard lock(mutex);
        ++counts[result];
      }
    });
  }
  for (std::thread& client : clients) client.join();
  bool good = server.get("/health").status == 200;
  for (const auto& [result, times] : counts) {
    fmt::print("{:8} {}\n", times, result);
    good &= !result.starts_with("WRONG");
  }
  return good ? 0 : 1;
}
