// What a server refuses, and the words that say which field is wrong.
#include "tests/serve/fake_model.h"
#include "tests/serve/json_answers.h"

using namespace surtsey;
using namespace surtsey::experiments;
using namespace surtsey::experiments::serve;
using tests::body_of;
using tests::error_of;
using tests::FakeServer;
using tests::good;
using tests::starts;
using Json = nlohmann::ordered_json;

TEST_CASE("serve: what is wrong with a request is told by the field's name", "[serve]") {
  const FakeServer server;
  const auto refused = [&](const std::string& path, const std::string& body) {
    return error_of(server.post(path, body));
  };
  const auto completion = [&](const std::string& fields) {
    return refused("/v1/completions", R"({"prompt": "the", )" + fields + "}");
  };
  const std::string bad = "400 invalid_request_error: ";
  CHECK(refused("/v1/completions", "{") == bad + "the body is not a JSON object");
  CHECK(refused("/v1/completions", "[]") == bad + "the body is not a JSON object");
  CHECK(refused("/v1/completions", "{}") == bad + "prompt is missing");
  CHECK(refused("/v1/completions", R"({"prompt": "a", "prompt": "b"})") == bad + "the body names \"prompt\" twice");
  CHECK(starts(refused("/v1/completions", R"({"prompt": )" + std::string(100, '[')),
               bad + "the body is nested too deeply"));
  CHECK(refused("/v1/completions", R"({"prompt": ""})") == bad + "prompt has no tokens");
  CHECK(starts(refused("/v1/completions", R"({"prompt": 5})"), bad + "prompt is a text"));
  CHECK(starts(refused("/v1/completions", R"({"prompt": [1, "a"]})"), bad + "prompt has \"a\", which is no token"));
  CHECK(starts(refused("/v1/completions", R"({"prompt": [99999]})"), bad + "prompt has 99999"));
  CHECK(starts(refused("/v1/completions", R"({"prompt": [-1]})"), bad + "prompt has -1"));
  CHECK(starts(refused("/v1/completions", R"({"prompt": [1.5]})"), bad + "prompt has 1.5"));
  CHECK(completion(R"("temperature": "hot")") == bad + "temperature is a number from 0 to 100");
  CHECK(starts(completion(R"("top_p": 1.5)"), bad + "top_p"));
  CHECK(starts(completion(R"("n": 0)"), bad + "n is a whole number"));
  CHECK(starts(completion(R"("n": 1.5)"), bad + "n is a whole number"));
  CHECK(starts(completion(R"("max_tokens": 99999999999999999999)"), bad + "max_tokens"));
  CHECK(starts(completion(R"("max_tokens": 0)"), bad + "max_tokens is 0"));
  CHECK(starts(completion(R"("stop": ["a", "b", "c", "d", "e"])"), bad + "stop: 5 texts"));
  CHECK(starts(completion(R"("stop": 7)"), bad + "stop is a text"));
  CHECK(starts(completion(R"("stream": 1)"), bad + "stream is true or false"));
  CHECK(starts(completion(R"("logprobs": 100)"), bad + "logprobs"));
  CHECK(starts(completion(R"("logprobs": true)"), bad + "logprobs"));
  CHECK(starts(completion(R"("logit_bias": {"x": 1})"), bad + "logit_bias: 'x' is no token"));
  CHECK(starts(completion(R"("logit_bias": {"1": 1000})"), bad + "logit_bias: a bias"));
  CHECK(starts(completion(R"("best_of": 3)"), bad + "best_of"));
  CHECK(starts(completion(R"("suffix": "x")"), bad + "suffix"));
  CHECK(starts(completion(R"("response_format": "json")"), bad + "response_format is an object"));
  CHECK(starts(completion(R"("response_format": {"type": "xml"})"), bad + "response_format.type"));
  CHECK(starts(completion(R"("seed": "x")"), bad + "seed"));
  CHECK(good(server.post("/v1/completions",
                         R"({"prompt": "the", "max_tokens": 1, "unknown": {"x": []}, "stop": null})"))["choices"]
            .size() == 1);
  const Json longer =
      body_of(server.post("/v1/completions", Json{{"prompt", std::vector<int>(300, 65)}}.dump()))["error"];
  CHECK(longer["type"] == "exceed_context_size_error");
  CHECK(longer["code"] == 400);
  CHECK(longer["n_prompt_tokens"] == 300);
  CHECK(longer["n_ctx"] == 256);

  const auto chat = [&](const std::string& body) { return refused("/v1/chat/completions", body); };
  CHECK(chat("{}") == bad + "messages is missing");
  CHECK(chat(R"({"messages": []})") == bad + "messages is empty");
  CHECK(chat(R"({"messages": "x"})") == bad + "messages is a list");
  CHECK(chat(R"({"messages": [{"content": "x"}]})") == bad + "messages[0].role is missing");
  CHECK(chat(R"({"messages": [{"role": "user"}]})") == bad + "messages[0].content is missing");
  CHECK(starts(chat(R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})"),
               bad + "messages[0].content: parts of type 'image_url'"));
  CHECK(starts(chat(R"({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]})"),
               bad + "tools[0].function is missing"));
  CHECK(starts(chat(R"({"messages": [{"role": "user", "content": "x"}], "tool_choice": "required"})"),
               bad + "tool_choice"));
  CHECK(starts(chat(R"({"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2})"), bad + "top_logprobs"));
  CHECK(starts(refused("/tokenize", "{}"), bad + "prompt is missing"));
  CHECK(starts(refused("/tokenize", "{\"prompt\": \"\xFF\"}"), bad));
  CHECK(starts(refused("/detokenize", R"({"tokens": [-5]})"), bad + "tokens has -5"));

  CHECK(error_of(server.get("/v2/nothing")) == "404 not_found_error: there is no /v2/nothing");
  CHECK(error_of(server.get("/v1/completions")) == "405 invalid_request_error: /v1/completions is asked by POST");
  FakeServer::Options options;
  options.model = [](ServedModel& model) { model.chat.reset(); };
  const FakeServer mute(options);
  CHECK(error_of(mute.post("/v1/chat/completions", "{}")) == "501 not_supported_error: fake has no chat template");
}
