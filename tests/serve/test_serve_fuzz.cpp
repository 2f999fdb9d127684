// Bodies with something wrong in them: an answer or a clear error, over one server, which goes on answering.
#include "tests/serve/bodies.h"
#include "tests/serve/fake_model.h"

#include <catch2/catch_test_macros.hpp>

#include <map>
#include <nlohmann/json.hpp>

using namespace surtsey;
using Json = nlohmann::ordered_json;

TEST_CASE("serve: a thousand mutated bodies are answered or refused", "[serve][fuzz]") {
  tests::FakeServer server;
  tests::Draw draw(7);
  std::map<int, int> counts;
  for (int i = 0; i < 1000; ++i) {
    const tests::SentBody& sent = draw.of(tests::sent_bodies());
    const std::string body = tests::mutated(sent.body, tests::body_words(), draw);
    CAPTURE(sent.path, body);
    const tests::HttpAnswer answer = server.post(sent.path, body);
    ++counts[answer.status];
    REQUIRE(answer.whole);
    REQUIRE((answer.status == 200 || answer.status == 400 || answer.status == 501));
    if (answer.status != 200) {
      const Json error = Json::parse(answer.body).at("error");
      REQUIRE_FALSE(error.at("message").get<std::string>().empty());
    } else if (!answer.body.starts_with("data: ")) {
      REQUIRE(Json::parse(answer.body).is_object());
    }
  }
  CHECK(counts[200] > 50);
  CHECK(counts[400] > 300);
  CHECK(server.get("/health").status == 200);
  CHECK(server.metrics.texts_running == 0);
}
