// Many texts at once: each is what it would be alone, none holds up the others, and all end.
#include "tests/serve/fake_model.h"

#include <catch2/catch_test_macros.hpp>

#include <future>
#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace surtsey::experiments::serve;
using namespace std::chrono_literals;
using tests::FakeServer;
using tests::HttpAnswer;
using Json = nlohmann::ordered_json;

namespace {

Json completion(const std::string& prompt, int seed, int tokens) {
  return {{"prompt", prompt}, {"seed", seed}, {"max_tokens", tokens}, {"ignore_eos", true}, {"logprobs", 2}};
}

std::string text_of(const HttpAnswer& answer) {
  CAPTURE(answer.status, answer.body);
  REQUIRE(answer.status == 200);
  return Json::parse(answer.body)["choices"][0].dump();
}

// Until something is so; a test that waits in vain fails.
template <typename Condition>
bool eventually(const Condition& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

}  // namespace

TEST_CASE("serve: eight requests at once are answered as each is alone, and together", "[serve]") {
  FakeServer::Options options;
  options.control = [](tests::FakeControl& control) {
    control.slots = 8;
    control.step_time = 1ms;
  };
  FakeServer server(options);
  std::vector<Json> bodies;
  for (int i = 0; i < 8; ++i)
    bodies.push_back(completion(std::string(size_t(1 + 9 * i), char('a' + i)) + " the cat", i, 20 + 3 * i));
  std::vector<std::string> alone;
  for (const Json& body : bodies) alone.push_back(text_of(server.post("/v1/completions", body.dump())));
  CHECK(server.control->most_together == 1);
  std::vector<std::future<HttpAnswer>> answers;
  for (const Json& body : bodies)
    answers.push_back(std::async(std::launch::async, [&] { return server.post("/v1/completions", body.dump()); }));
  for (size_t i = 0; i < answers.size(); ++i) CHECK(text_of(answers[i].get()) == alone[i]);
  CHECK(server.control->most_together > 4);
}

TEST_CASE("serve: more texts than slots wait their turn", "[serve]") {
  FakeServer server;
  Json prompts = Json::array();
  for (int i = 0; i < 30; ++i) prompts.push_back("text " + std::to_string(i));
  Json body = completion("", 3, 5);
  body["prompt"] = prompts;
  const HttpAnswer all = server.post("/v1/completions", body.dump());
  REQUIRE(all.status == 200);
  const Json choices = Json::parse(all.body)["choices"];
  REQUIRE(choices.size() == 30);
  for (size_t i = 0; i < 30; i += 7) {
    body["prompt"] = prompts[i];
    const Json one = Json::parse(server.post("/v1/completions", body.dump()).body)["choices"][0];
    CHECK(one["text"] == choices[i]["text"]);
    CHECK(one["logprobs"] == choices[i]["logprobs"]);
  }
}

TEST_CASE("serve: a long prompt is read between the tokens of others", "[serve]") {
  FakeServer::Options options;
  options.control = [](tests::FakeControl& control) {
    control.context = 4096;
    control.read_time = 2ms;
    control.step_time = 100us;
  };
  FakeServer server(options);
  // A text that is under way while 250 chunks of another's prompt are read.
  auto writing =
      std::async(std::launch::async, [&] { return server.post("/v1/completions", completion("the", 1, 400).dump()); });
  REQUIRE(eventually([&] { return server.control->steps > 20; }));
  auto reading = std::async(std::launch::async, [&] {
    Json body = completion("", 1, 1);
    body["prompt"] = std::vector<int>(2000, 66);
    return server.post("/v1/completions", body.dump());
  });
  REQUIRE(eventually([&] { return server.control->chunks > 50; }));
  const int chunks = server.control->chunks, steps = server.control->steps;
  REQUIRE(eventually([&] { return server.control->chunks > chunks + 100; }));
  CHECK(server.control->steps - steps > 80);
  CHECK(writing.get().status == 200);
  CHECK(reading.get().status == 200);
}

TEST_CASE("serve: a conversation's next turn does not read its beginning again", "[serve]") {
  FakeServer server;
  const std::string first = "the cat and the dog said hello to the world and so on, for a while";
  const HttpAnswer one = server.post("/v1/completions", completion(first, 1, 4).dump());
  const int64_t columns = server.control->columns;
  const std::string next = first + Json::parse(one.body)["choices"][0]["text"].get<std::string>() + " stop";
  // Others come between; there are slots enough.
  server.post("/v1/completions", completion("zzz", 1, 4).dump());
  const int64_t before = server.control->columns;
  server.post("/v1/completions", completion(next, 1, 4).dump());
  CHECK(columns > 10);
  CHECK(server.control->columns - before < columns / 2);
}

TEST_CASE("serve: a client that goes away stops its text alone", "[serve]") {
  FakeServer::Options options;
  options.control = [](tests::FakeControl& control) {
    control.context = 100'000;
    control.step_time = 1ms;
  };
  FakeServer server(options);
  for (const bool stream : {false, true}) {
    CAPTURE(stream);
    const auto cancelled = server.metrics.texts_cancelled.load();
    tests::HttpConnection leaving(server.port());
    Json body = completion("the dog", 1, 90'000);
    body["stream"] = stream;
    leaving.send(tests::http_request("POST", "/v1/completions", body.dump()));
    if (stream) REQUIRE(leaving.receive());
    REQUIRE(eventually([&] { return server.metrics.texts_running == 1; }));
    auto other = std::async(std::launch::async,
                            [&] { return server.post("/v1/completions", completion("the", 1, 200).dump()); });
    REQUIRE(eventually([&] { return server.metrics.texts_running == 2; }));
    leaving.close();
    CHECK(eventually([&] { return server.metrics.texts_cancelled == cancelled + 1; }));
    CHECK(other.get().status == 200);
    CHECK(eventually([&] { return server.metrics.texts_running == 0; }));
  }
}

TEST_CASE("serve: a full queue is answered 503, and later there is room again", "[serve]") {
  FakeServer::Options options;
  options.scheduler.queue = 3;
  options.control = [](tests::FakeControl& control) {
    control.slots = 1;
    control.step_time = 2ms;
  };
  FakeServer server(options);
  std::vector<std::future<HttpAnswer>> answers;
  for (int i = 0; i < 12; ++i)
    answers.push_back(std::async(std::launch::async,
                                 [&] { return server.post("/v1/completions", completion("the", 1, 50).dump()); }));
  int good = 0, full = 0;
  for (auto& each : answers) {
    const HttpAnswer answer = each.get();
    if (answer.status == 200) ++good;
    if (answer.status != 503) continue;
    ++full;
    CHECK(answer.headers.at("retry-after") == "1");
    CHECK(Json::parse(answer.body)["error"]["type"] == "unavailable_error");
  }
  CHECK(good >= 4);
  CHECK(full >= 1);
  CHECK(good + full == 12);
  CHECK(server.post("/v1/completions", completion("the", 1, 2).dump()).status == 200);
  Json many = completion("", 1, 1);
  many["prompt"] = Json::array({"a", "b", "c", "d"});
  CHECK(server.post("/v1/completions", many.dump()).status == 400);
}

TEST_CASE("serve: a request has its time", "[serve]") {
  FakeServer::Options options;
  options.api.request_seconds = .3;
  options.control = [](tests::FakeControl& control) {
    control.context = 100'000;
    control.step_time = 1ms;
  };
  FakeServer server(options);
  const HttpAnswer late = server.post("/v1/completions", completion("the", 1, 90'000).dump());
  CHECK(late.status == 503);
  CHECK(Json::parse(late.body)["error"]["message"] == "the time that a request may take is over");
  Json body = completion("the", 1, 90'000);
  body["stream"] = true;
  const HttpAnswer streamed = server.post("/v1/completions", body.dump());
  CHECK(streamed.status == 200);
  const tests::Events events = tests::events_of(streamed.body);
  CHECK_FALSE(events.done);
  REQUIRE(events.parts.size() > 10);
  CHECK(events.parts.back()["error"]["code"] == 503);
  CHECK(server.post("/v1/completions", completion("the", 1, 2).dump()).status == 200);
}

TEST_CASE("serve: logits that are not finite end one text", "[serve]") {
  FakeServer::Options options;
  options.control = [](tests::FakeControl& control) { control.step_time = 1ms; };
  FakeServer server(options);
  const std::string expected = text_of(server.post("/v1/completions", completion("the", 1, 100).dump()));
  server.control->broken_token = 300;
  auto other =
      std::async(std::launch::async, [&] { return server.post("/v1/completions", completion("the", 1, 100).dump()); });
  Json body = completion("cat", 1, 50);
  body["logit_bias"] = {{"300", 100}};
  const HttpAnswer broken = server.post("/v1/completions", body.dump());
  CHECK(broken.status == 500);
  CHECK(Json::parse(broken.body)["error"]["type"] == "server_error");
  body["prompt"] = Json::array({300, 65});
  CHECK(server.post("/v1/completions", body.dump()).status == 500);
  CHECK(text_of(other.get()) == expected);
}

TEST_CASE("serve: a lost device is answered with 503 and opened again", "[serve]") {
  FakeServer::Options options;
  options.scheduler.reopen_least = 20ms;
  options.control = [](tests::FakeControl& control) { control.step_time = 1ms; };
  FakeServer server(options);
  const std::string expected = text_of(server.post("/v1/completions", completion("the", 1, 30).dump()));
  server.control->fail_opens = 3;
  server.control->lose_steps = 1;
  const HttpAnswer lost = server.post("/v1/completions", completion("the", 1, 30).dump());
  CHECK(lost.status == 503);
  CHECK(Json::parse(lost.body)["error"]["type"] == "unavailable_error");
  CHECK(eventually([&] { return server.get("/health").status == 200; }));
  CHECK(server.control->opened == 2);
  CHECK(server.metrics.devices_lost == 1);
  CHECK(text_of(server.post("/v1/completions", completion("the", 1, 30).dump())) == expected);
}

TEST_CASE("serve: while a device is opened again requests are told so", "[serve]") {
  FakeServer::Options options;
  options.scheduler.reopen_least = options.scheduler.reopen_most = 50ms;
  FakeServer server(options);
  server.control->fail_opens = 1'000'000;
  server.control->lose_steps = 1;
  CHECK(server.post("/v1/completions", completion("the", 1, 30).dump()).status == 503);
  const HttpAnswer told = server.post("/v1/completions", completion("the", 1, 30).dump());
  CHECK(told.status == 503);
  CHECK(told.headers.at("retry-after") == "5");
  CHECK(server.get("/health").status == 503);
  CHECK(server.post("/tokenize", R"({"prompt": "x"})").status == 200);
  server.control->fail_opens = 0;
  CHECK(eventually([&] { return server.post("/v1/completions", completion("the", 1, 3).dump()).status == 200; }));
}
