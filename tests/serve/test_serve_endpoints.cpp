// Every endpoint over a real socket, with a model whose logits are known.
#include "tests/serve/fake_model.h"
#include "tests/serve/json_answers.h"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using namespace surtsey::experiments::serve;
using tests::body_of;
using tests::error_of;
using tests::FakeServer;
using tests::good;
using tests::HttpAnswer;
using tests::starts;
using Json = nlohmann::ordered_json;

namespace {

// What the sampler does without a temperature: the likeliest token after each text, by hand.
std::vector<int32_t> greedy(const FakeServer& server, std::vector<int32_t> text, size_t count) {
  std::vector<int32_t> fresh;
  for (size_t i = 0; i < count; ++i) {
    const auto logits = tests::fake_logits(text, server.scheduler->vocabulary(), *server.control,
                                           int32_t(server.model->generation.tokens.eos[0]));
    fresh.push_back(int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    text.push_back(fresh.back());
  }
  return fresh;
}

double log_softmax(const std::vector<float>& logits, int32_t token) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double(logit) - most);
  return double(logits[size_t(token)]) - most - std::log(sum);
}

}  // namespace

TEST_CASE("serve: health, models, tokenizer, metrics and the page", "[serve]") {
  const FakeServer server;
  CHECK(good(server.get("/health")) == Json{{"status", "ok"}});
  const Json models = good(server.get("/v1/models"));
  CHECK(models["data"][0]["id"] == "fake");
  CHECK(models["data"][0]["max_model_len"] == 256);

  const Json info = good(server.get("/tokenizer_info"));
  CHECK(info["eos_token"] == "<|endoftext|>");
  CHECK(info["bos_token"] == nullptr);
  CHECK(info["chat_template"] == server.model->chat_source);

  const std::string text = "hello world \u00e9 <|endoftext|>";
  const Json tokens = good(server.post("/tokenize", Json{{"prompt", text}, {"add_special_tokens", false}}.dump()));
  CHECK(tokens["tokens"].get<std::vector<int32_t>>() == server.model->tokenizer.encode(text, {false}));
  CHECK(tokens["count"] == tokens["tokens"].size());
  CHECK(good(server.post("/tokenize", Json{{"content", text}}.dump()))["tokens"] == tokens["tokens"]);
  const Json back = good(server.post("/detokenize", Json{{"tokens", tokens["tokens"]}}.dump()));
  CHECK(back["prompt"] == text);
  CHECK(back["content"] == text);

  const HttpAnswer page = server.get("/");
  CHECK(page.status == 200);
  CHECK(page.headers.at("content-type") == "text/html; charset=utf-8");
  CHECK(page.body.find("v1/chat/completions") != std::string::npos);
  for (const char* elsewhere : {"http://", "https://", "src=", "@import"})
    CHECK(page.body.find(elsewhere) == std::string::npos);

  const HttpAnswer metrics = server.get("/metrics");
  CHECK(starts(metrics.headers.at("content-type"), "text/plain"));
  CHECK(metrics.body.find("surtsey_requests_total{endpoint=\"/tokenize\",status=\"200\"} 2\n") != std::string::npos);
  CHECK(metrics.body.find("# TYPE surtsey_first_token_seconds histogram\n") != std::string::npos);
}

TEST_CASE("serve: completions say what the model does, for every form of a prompt", "[serve]") {
  const FakeServer server;
  const std::string prompt = "the cat and";
  const std::vector<int32_t> ids = server.encode(prompt);
  const std::vector<int32_t> expected = greedy(server, ids, 6);
  const std::string text = server.model->tokenizer.decode(expected, {true});
  const auto ask = [&](const Json& given) {
    return good(server.post("/v1/completions",
                            Json{{"model", "any"}, {"prompt", given}, {"max_tokens", 6}, {"temperature", 0}}.dump()));
  };
  const Json plain = ask(prompt);
  CHECK(plain["object"] == "text_completion");
  CHECK(plain["model"] == "fake");
  CHECK(plain["choices"].size() == 1);
  CHECK(plain["choices"][0]["text"] == text);
  CHECK(plain["choices"][0]["index"] == 0);
  CHECK(plain["choices"][0]["logprobs"] == nullptr);
  CHECK(plain["choices"][0]["finish_reason"] == "length");
  CHECK(plain["usage"] ==
        Json{{"prompt_tokens", ids.size()}, {"completion_tokens", 6}, {"total_tokens", ids.size() + 6}});
  CHECK(ask(ids)["choices"] == plain["choices"]);

  const Json several = ask(Json::array({prompt, "hello", prompt}));
  REQUIRE(several["choices"].size() == 3);
  CHECK(several["choices"][0]["text"] == text);
  CHECK(several["choices"][2]["text"] == text);
  CHECK(several["choices"][2]["index"] == 2);
  CHECK(several["choices"][1]["text"] ==
        server.model->tokenizer.decode(greedy(server, server.encode("hello"), 6), {true}));
  CHECK(ask(Json::array({ids, server.encode("hello")}))["choices"][1]["text"] == several["choices"][1]["text"]);
}

TEST_CASE("serve: a request's model names one of several adapters, or the base", "[serve]") {
  const FakeServer server({.model = [](ServedModel& model) { model.adapters = {"cats", "dogs"}; },
                           .control = [](tests::FakeControl& control) { control.slots = 1; }});
  const std::string prompt = "the cat and";
  const auto ask = [&](const std::string& model) {
    const Json answer = good(server.post(
        "/v1/completions", Json{{"model", model}, {"prompt", prompt}, {"max_tokens", 6}, {"temperature", 0}}.dump()));
    CHECK(answer["model"] == (model == "base" ? "fake" : model));
    return answer["choices"][0]["text"].get<std::string>();
  };
  const auto expected = [&](int32_t adapter) {
    std::vector<int32_t> text = tests::fake_adapter_text(adapter);
    const std::vector<int32_t> ids = server.encode(prompt);
    text.insert(text.end(), ids.begin(), ids.end());
    return server.model->tokenizer.decode(greedy(server, text, 6), {true});
  };
  // One slot: what it has read with one adapter is of no use to another.
  for (int round = 0; round < 2; ++round) {
    CHECK(ask("dogs") == expected(2));
    CHECK(ask("base") == expected(0));
    CHECK(ask("cats") == expected(1));
    CHECK(ask("fake") == expected(0));
  }
  CHECK(expected(1) != expected(2));
  CHECK(starts(error_of(server.post("/v1/completions", Json{{"model", "birds"}, {"prompt", prompt}}.dump())),
               "404 not_found_error: there is no model 'birds', there are cats, dogs, fake"));
  const Json models = good(server.get("/v1/models"));
  REQUIRE(models["data"].size() == 3);
  CHECK(models["data"][2]["id"] == "dogs");
  CHECK(models["data"][2]["parent"] == "fake");
}

TEST_CASE("serve: a seed decides what is drawn, and choices differ", "[serve]") {
  const FakeServer server;
  const auto ask = [&](int64_t seed, int n) {
    Json body = {{"prompt", "the dog"}, {"max_tokens", 12}, {"temperature", 1.5}, {"n", n}, {"ignore_eos", true}};
    if (seed >= 0) body["seed"] = seed;
    return good(server.post("/v1/completions", body.dump()))["choices"];
  };
  const Json three = ask(7, 3);
  REQUIRE(three.size() == 3);
  CHECK(three == ask(7, 3));
  CHECK(three[0]["text"] == ask(7, 1)[0]["text"]);  // whatever else is asked for
  CHECK(three[0]["text"] != three[1]["text"]);
  CHECK(three[0]["text"] != ask(8, 1)[0]["text"]);
  CHECK(ask(-1, 1)[0]["text"] != ask(-1, 1)[0]["text"]);
}

TEST_CASE("serve: log-probabilities of prompt and answer, an entry a token", "[serve]") {
  const FakeServer server;
  const std::vector<int32_t> ids = server.encode("hello to the world");
  const int64_t vocabulary = server.scheduler->vocabulary();
  const auto logits = [&](size_t length) {
    return tests::fake_logits(std::span(ids).first(length), vocabulary, *server.control,
                              int32_t(server.model->generation.tokens.eos[0]));
  };
  for (const int most : {1, 0}) {
    CAPTURE(most);
    // As lm-evaluation-harness asks for log-likelihoods.
    const Json answer = good(server.post("/v1/completions", Json{{"prompt", Json::array({ids})},
                                                                 {"echo", true},
                                                                 {"logprobs", 1},
                                                                 {"max_tokens", most},
                                                                 {"temperature", 0},
                                                                 {"seed", 1234}}
                                                                .dump()));
    const Json& choice = answer["choices"][0];
    CHECK(starts(choice["text"], "hello to the world"));
    const Json& scores = choice["logprobs"];
    for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
      REQUIRE(scores[list].size() == ids.size() + size_t(most));
    CHECK(scores["token_logprobs"][0] == nullptr);
    CHECK(scores["top_logprobs"][0] == nullptr);
    size_t likeliest = 0;
    for (size_t i = 1; i < ids.size(); ++i) {
      const auto before = logits(i);
      CHECK(std::abs(scores["token_logprobs"][i].get<double>() - log_softmax(before, ids[i])) < 1e-4);
      CHECK(scores["tokens"][i] == server.model->token_name(ids[i]));
      REQUIRE(scores["top_logprobs"][i].size() == 1);
      const double top = scores["top_logprobs"][i].begin()->get<double>();
      const bool is_greedy = std::max_element(before.begin(), before.end()) - before.begin() == ids[i];
      CHECK((top == scores["token_logprobs"][i].get<double>()) == is_greedy);
      likeliest += is_greedy ? 1 : 0;
    }
    CHECK(likeliest < ids.size() / 2);
    // What was generated is the likeliest, to the bit.
    if (most == 1)
      CHECK(scores["top_logprobs"][ids.size()].begin()->get<double>() ==
            scores["token_logprobs"][ids.size()].get<double>());
    CHECK(scores["text_offset"][1] == server.model->token_bytes()[size_t(ids[0])].size());
  }
  // A continuation that the model would have chosen itself.
  std::vector<int32_t> whole = ids;
  for (const int32_t token : greedy(server, ids, 4)) whole.push_back(token);
  const Json scores = good(server.post(
      "/v1/completions", Json{{"prompt", whole}, {"echo", true}, {"logprobs", 3}, {"max_tokens", 1}, {"temperature", 0}}
                             .dump()))["choices"][0]["logprobs"];
  for (size_t i = ids.size(); i < whole.size(); ++i) {
    double top = -1e9;
    for (const auto& [name, value] : scores["top_logprobs"][i].items()) top = std::max(top, value.get<double>());
    CHECK(top == scores["token_logprobs"][i].get<double>());
  }
  // Streamed, the same entries.
  const HttpAnswer streamed = server.post(
      "/v1/completions",
      Json{{"prompt", whole}, {"echo", true}, {"logprobs", 3}, {"max_tokens", 1}, {"temperature", 0}, {"stream", true}}
          .dump());
  Json joined = Json::array(), offsets = Json::array();
  for (const Json& part : tests::events_of(streamed.body).parts) {
    for (const Json& value : part["choices"][0]["logprobs"]["token_logprobs"]) joined.push_back(value);
    for (const Json& value : part["choices"][0]["logprobs"]["text_offset"]) offsets.push_back(value);
  }
  CHECK(joined == scores["token_logprobs"]);
  CHECK(offsets == scores["text_offset"]);

  const Json chat =
      good(server.post("/v1/chat/completions",
                       R"({"messages": [{"role": "user", "content": "hello"}], "logprobs": true, "top_logprobs": 2,
                                         "max_tokens": 3, "temperature": 0, "ignore_eos": true})"));
  const Json& content = chat["choices"][0]["logprobs"]["content"];
  REQUIRE(content.size() == 3);
  for (const Json& token : content) {
    REQUIRE(token["top_logprobs"].size() == 2);
    CHECK(token["top_logprobs"][0]["logprob"] == token["logprob"]);
    CHECK(token["top_logprobs"][0]["token"] == token["token"]);
    CHECK(token["bytes"].is_array());
  }
}

TEST_CASE("serve: stop strings end an answer wherever tokens end", "[serve]") {
  const FakeServer server;
  const std::string answer = "hello to the world; and so on";
  server.say("say", answer);
  const auto ask = [&](const Json& stop, bool stream) {
    const HttpAnswer got = server.post(
        "/v1/completions",
        Json{{"prompt", "say"}, {"max_tokens", 100}, {"temperature", 0}, {"stop", stop}, {"stream", stream}}.dump());
    std::string text, reason;
    if (!stream) {
      const Json choice = good(got)["choices"][0];
      return choice["text"].get<std::string>() + "|" + choice["finish_reason"].get<std::string>();
    }
    const tests::Events events = tests::events_of(got.body);
    CHECK(events.done);
    for (const Json& part : events.parts) {
      text += part["choices"][0]["text"].get<std::string>();
      if (!part["choices"][0]["finish_reason"].is_null()) reason = part["choices"][0]["finish_reason"];
    }
    return text + "|" + reason;
  };
  for (const bool stream : {false, true}) {
    CAPTURE(stream);
    CHECK(ask(nullptr, stream) == answer + "|stop");
    // Cut at every place, by strings that begin and end inside tokens.
    for (size_t at = 0; at + 5 <= answer.size(); ++at) {
      const std::string stop = answer.substr(at, 5);
      CAPTURE(stop);
      CHECK(ask(stop, stream) == answer.substr(0, answer.find(stop)) + "|stop");
    }
    CHECK(ask(Json::array({"nowhere", "world", "to the", "zzz"}), stream) == "hello |stop");
    CHECK(ask("and so on and on", stream) == answer + "|stop");
  }
}

TEST_CASE("serve: penalties, biases and lengths reach the sampler", "[serve]") {
  const FakeServer server;
  const std::vector<int32_t> ids = server.encode("the");
  const int32_t first = greedy(server, ids, 1)[0];
  const auto ask = [&](Json body) {
    body["prompt"] = ids;
    body["temperature"] = 0;
    body["logprobs"] = 0;
    if (!body.contains("max_tokens")) body["max_tokens"] = 1;
    return good(server.post("/v1/completions", body.dump()))["choices"][0]["logprobs"]["tokens"];
  };
  CHECK(ask({})[0] == server.model->token_name(first));
  CHECK(ask({{"logit_bias", {{std::to_string(first), -100}}}})[0] != server.model->token_name(first));
  CHECK(ask({{"logit_bias", {{"65", 100}}}})[0] == server.model->token_name(65));
  const Json repeated = ask({{"logit_bias", {{"65", 30}}}, {"max_tokens", 4}});
  CHECK(repeated == Json::array({repeated[0], repeated[0], repeated[0], repeated[0]}));
  CHECK(ask({{"logit_bias", {{"65", 30}}}, {"max_tokens", 4}, {"repetition_penalty", 100}})[1] != repeated[0]);
  CHECK(ask({{"logit_bias", {{"65", 1}, {"66", 1}}},
             {"max_tokens", 3},
             {"presence_penalty", 2},
             {"frequency_penalty", 2}})
            .size() == 3);
  // To the end of the context, where nothing else ends it.
  const Json all =
      good(server.post("/v1/completions", Json{{"prompt", ids}, {"max_tokens", 100000}, {"ignore_eos", true}}.dump()));
  CHECK(all["usage"]["total_tokens"] == server.scheduler->context());
  CHECK(all["choices"][0]["finish_reason"] == "length");
}

TEST_CASE("serve: chats go through the model's template", "[serve]") {
  const FakeServer server;
  const std::string rendered = "<|system|>be brief\n<|user|>the dog\n<|assistant|>";
  server.control->say(server.model->tokenizer.encode(rendered, {false}), server.encode("hello \u00e9\u4f60"));
  const Json messages = Json::parse(R"([{"role": "system", "content": "be brief"},
      {"role": "user", "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "dog"}]}])");
  const Json whole = good(server.post("/v1/chat/completions", Json{{"messages", messages}, {"temperature", 0}}.dump()));
  CHECK(whole["object"] == "chat.completion");
  CHECK(whole["choices"][0]["message"] == Json{{"role", "assistant"}, {"content", "hello \u00e9\u4f60"}});
  CHECK(whole["choices"][0]["finish_reason"] == "stop");

  const HttpAnswer streamed = server.post(
      "/v1/chat/completions",
      Json{{"messages", messages}, {"temperature", 0}, {"stream", true}, {"stream_options", {{"include_usage", true}}}}
          .dump());
  CHECK(streamed.headers.at("content-type") == "text/event-stream");
  const tests::Events events = tests::events_of(streamed.body);
  REQUIRE(events.done);
  REQUIRE(events.parts.size() >= 3);
  CHECK(events.parts[0]["object"] == "chat.completion.chunk");
  CHECK(events.parts[0]["choices"][0]["delta"]["role"] == "assistant");
  std::string text;
  for (size_t i = 0; i + 1 < events.parts.size(); ++i) {
    CHECK(events.parts[i]["id"] == events.parts[0]["id"]);
    text += events.parts[i]["choices"][0]["delta"].value("content", "");
  }
  CHECK(text == "hello \u00e9\u4f60");
  CHECK(events.parts.back()["choices"].empty());
  CHECK(events.parts.back()["usage"] == whole["usage"]);
  CHECK(events.parts[events.parts.size() - 2]["choices"][0]["finish_reason"] == "stop");

  CHECK(starts(error_of(server.post("/v1/chat/completions", R"({"messages": [{"role": "bad", "content": "x"}]})")),
               "400 invalid_request_error: messages: chat_template"));
}

TEST_CASE("serve: calls of functions are parsed out of answers", "[serve]") {
  const FakeServer server;
  const Json tools = Json::parse(R"([{"type": "function", "function": {"name": "weather", "description": "d",
      "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])");
  const std::string rendered =
      "<|user|>hello\n<|tools|>" + std::string(R"([{"type": "function", "function": {"name": "weather", )") +
      R"("description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, )" +
      "\"required\": [\"city\"]}}}]\n<|assistant|>";
  const std::string first = R"({"name": "weather", "arguments": {"city": "Z\u00fcrich"}})";
  const auto ask = [&](const std::string& answer, Json more, bool stream) {
    FakeServer::Options options;
    options.control = [](tests::FakeControl& control) { control.context = 1024; };
    const FakeServer fresh(options);
    fresh.control->say(fresh.model->tokenizer.encode(rendered, {false}), fresh.encode(answer));
    more["messages"] = Json::parse(R"([{"role": "user", "content": "hello"}])");
    more["tools"] = tools;
    more["temperature"] = 0;
    more["stream"] = stream;
    const HttpAnswer got = fresh.post("/v1/chat/completions", more.dump());
    if (!stream) return good(got)["choices"][0];
    Json message = {{"content", ""}}, choice;
    for (const Json& part : tests::events_of(got.body).parts) {
      choice = part["choices"][0];
      const Json& delta = choice["delta"];
      if (delta.contains("content"))
        message["content"] = message["content"].get<std::string>() + delta["content"].get<std::string>();
      if (delta.contains("tool_calls")) message["tool_calls"] = delta["tool_calls"];
    }
    choice["message"] = message;
    return choice;
  };
  for (const bool stream : {false, true}) {
    CAPTURE(stream);
    for (const std::string& answer :
         {"<tool_call>\n" + first + "\n</tool_call>", first, "[" + first + "]", "Let me see. <tool_call>" + first}) {
      CAPTURE(answer);
      const Json choice = ask(answer, Json::object(), stream);
      CHECK(choice["finish_reason"] == "tool_calls");
      const Json& calls = choice["message"]["tool_calls"];
      REQUIRE(calls.size() == 1);
      CHECK(calls[0]["type"] == "function");
      CHECK(calls[0]["id"].get<std::string>().size() == 9);
      CHECK(calls[0]["function"]["name"] == "weather");
      CHECK(Json::parse(calls[0]["function"]["arguments"].get<std::string>()) == Json{{"city", "Z\u00fcrich"}});
      if (answer.starts_with("Let")) CHECK(choice["message"]["content"] == "Let me see.");
    }
    const Json two =
        ask("<tool_call>" + first + "</tool_call>\n<tool_call>" + first + "</tool_call>", Json::object(), stream);
    CHECK(two["message"]["tool_calls"].size() == 2);
    // What is no call stays as it is.
    for (const std::string& answer : {std::string("It is warm."), std::string("{\"a\": 1} and more"),
                                      std::string(R"({"name": "other", "arguments": {}})"),
                                      std::string("<tool_call>{\"name\": </tool_call>"), std::string("1 < 2 <tool")}) {
      CAPTURE(answer);
      const Json choice = ask(answer, Json::object(), stream);
      CHECK(choice["message"]["content"] == answer);
      CHECK(choice["finish_reason"] == "stop");
      CHECK_FALSE(choice["message"].contains("tool_calls"));
    }
  }
  // Forced: whatever the model would say.
  for (const Json& choice :
       {Json("required"), Json::parse(R"({"type": "function", "function": {"name": "weather"}})")}) {
    const Json forced =
        ask("I would rather not.", {{"tool_choice", choice}, {"max_tokens", 200}, {"logit_bias", {{"34", 12}}}}, false);
    if (forced["finish_reason"] == "length") continue;  // a long city
    CHECK(forced["finish_reason"] == "tool_calls");
    CHECK(Json::parse(forced["message"]["tool_calls"][0]["function"]["arguments"].get<std::string>())["city"]
              .is_string());
  }
}

TEST_CASE("serve: answers in JSON, of any form and of a schema", "[serve]") {
  const FakeServer server;
  int whole = 0;
  for (int seed = 0; seed < 12; ++seed) {
    Json body = {{"messages", Json::parse(R"([{"role": "user", "content": "hello"}])")},
                 {"seed", seed},
                 {"max_tokens", 200},
                 {"logit_bias", {{"34", 8}, {"125", 6}}}};
    body["response_format"] = {{"type", "json_object"}};
    const Json any = good(server.post("/v1/chat/completions", body.dump()))["choices"][0];
    if (any["finish_reason"] == "stop") {
      ++whole;
      CHECK(Json::parse(any["message"]["content"].get<std::string>()).is_object());
    }
    body["response_format"] =
        Json::parse(R"({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object",
        "properties": {"color": {"enum": ["red", "blue"]}, "count": {"type": "integer"}}, "required": ["color",
            "count"]}}})");
    const Json one = good(server.post("/v1/chat/completions", body.dump()))["choices"][0];
    CAPTURE(one.dump());
    REQUIRE(one["finish_reason"] == "stop");
    const Json value = Json::parse(one["message"]["content"].get<std::string>());
    CHECK((value["color"] == "red" || value["color"] == "blue"));
    CHECK(value["count"].is_number_integer());
    CHECK(value.size() == 2);
  }
  CHECK(whole > 3);
  // Alternatives inside alternatives, all of which begin alike.
  Json inner = Json::array(), outer = Json::array();
  for (int i = 0; i < 20; ++i)
    inner.push_back({{"type", "object"},
                     {"properties", {{"a", {{"const", std::string(20, 'x') + std::to_string(i)}}}}},
                     {"required", {"a"}}});
  for (int i = 0; i < 20; ++i)
    outer.push_back({{"type", "object"},
                     {"properties", {{"a", {{"anyOf", inner}}}, {"b" + std::to_string(i), {{"type", "null"}}}}},
                     {"required", {"a"}}});
  // Which key comes first is drawn; where it is `a`, all of them are open.
  int refused = 0;
  for (int seed = 0; seed < 8; ++seed) {
    const HttpAnswer many = server.post(
        "/v1/completions", Json{{"prompt", "x"},
                                {"max_tokens", 100},
                                {"seed", seed},
                                {"response_format", {{"type", "json_object"}, {"schema", {{"anyOf", outer}}}}}}
                               .dump());
    if (many.status == 200) continue;
    CHECK(starts(error_of(many), "400 invalid_request_error: more than 64 alternatives"));
    ++refused;
  }
  CHECK(refused > 0);
  CHECK(error_of(
            server.post("/v1/completions", R"({"prompt": "x", "response_format": {"type": "json_schema", "json_schema":
      {"schema": {"type": "integer", "maximum": 5}}}})")) ==
        "400 invalid_request_error: response_format.json_schema.schema: maximum is not supported");
}

TEST_CASE("serve: embeddings of models that have them", "[serve]") {
  const FakeServer none;
  CHECK(starts(error_of(none.post("/v1/embeddings", R"({"input": "x"})")),
               "501 not_supported_error: fake puts out logits"));
  FakeServer::Options options;
  options.generates = false;
  options.model = [](ServedModel& model) {
    model.embedding_context = 16;
    model.embed = [](const std::vector<std::vector<int32_t>>& texts) {
      std::vector<std::vector<float>> vectors;
      for (const auto& text : texts) vectors.push_back({float(text.size()), 0.5f, -1});
      return vectors;
    };
  };
  const FakeServer server(options);
  const Json answer = good(server.post("/v1/embeddings", R"({"input": ["hello", "xyz"]})"));
  CHECK(answer["data"].size() == 2);
  CHECK(answer["data"][1]["index"] == 1);
  CHECK(answer["data"][1]["embedding"] == Json::array({3.0, 0.5, -1.0}));
  CHECK(answer["usage"]["prompt_tokens"] == 3 + server.encode("hello").size());
  const Json packed = good(server.post("/v1/embeddings", R"({"input": "xyz", "encoding_format": "base64"})"));
  CHECK(packed["data"][0]["embedding"] == "AABAQAAAAD8AAIC/");
  CHECK(starts(error_of(server.post("/v1/completions", R"({"prompt": "x"})")), "501 not_supported_error"));
  CHECK(starts(error_of(server.post("/v1/embeddings", Json{{"input", std::string(99, 'q')}}.dump())),
               "400 exceed_context_size_error"));
}

TEST_CASE("serve: passages of an index stand before prompts, and are told", "[serve]") {
  FakeServer::Options options;
  options.model = [](ServedModel& model) {
    model.retrieve = [](const std::string& prompt, const std::function<bool(const std::string&)>& fits) {
      const std::string text = "fact. " + prompt;
      return fits(text) ? RetrievedPrompt{text, R"([{"id": "f"}])"} : RetrievedPrompt{prompt, "[]"};
    };
  };
  const FakeServer server(options), none;
  server.say("fact. the dog", "barks");
  server.say("the dog", "is told nothing");
  const Json told = Json::parse(R"([{"id": "f"}])");
  const auto ask = [&](Json body) {
    body.update({{"temperature", 0}, {"max_tokens", 40}});
    return good(server.post("/v1/completions", body.dump()));
  };
  const Json answer = ask({{"prompt", {"the dog", "the cat"}}});
  CHECK(answer["choices"][0]["text"] == "barks");
  CHECK(answer["retrieved"] == Json::array({told, told}));
  CHECK(ask({{"prompt", Json(server.encode("the dog"))}, {"echo", true}})["choices"][0]["text"] ==
        "fact. the dogbarks");
  const Json without = ask({{"prompt", "the dog"}, {"retrieve", false}});
  CHECK(without["choices"][0]["text"] == "is told nothing");
  CHECK_FALSE(without.contains("retrieved"));
  // 256 tokens have no room for it, and for the 40 of an answer.
  CHECK(ask({{"prompt", std::string(215, 'q')}})["retrieved"] == Json::array({Json::array()}));

  const std::string rendered = "<|user|>hello\n<|assistant|>hm\n<|user|>fact. the dog\n<|assistant|>";
  server.control->say(server.model->tokenizer.encode(rendered, {false}), server.encode("barks"));
  const Json messages = Json::parse(R"([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hm"},
      {"role": "user", "content": "the dog"}])");
  const Json chat = good(server.post("/v1/chat/completions", Json{{"messages", messages}, {"temperature", 0}}.dump()));
  CHECK(chat["choices"][0]["message"]["content"] == "barks");
  CHECK(chat["retrieved"] == told);
  const tests::Events events = tests::events_of(
      server.post("/v1/chat/completions", Json{{"messages", messages}, {"temperature", 0}, {"stream", true}}.dump())
          .body);
  REQUIRE(events.parts.size() > 1);
  CHECK(events.parts[0]["retrieved"] == told);
  CHECK_FALSE(events.parts[1].contains("retrieved"));
  CHECK(starts(error_of(none.post("/v1/completions", R"({"prompt": "x", "retrieve": true})")),
               "400 invalid_request_error: retrieve: this server has no index"));
}
