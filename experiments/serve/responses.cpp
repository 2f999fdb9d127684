#include "experiments/serve/responses.h"

#include <nlohmann/json.hpp>

#include <bit>
#include <chrono>
#include <cstring>
#include <random>

namespace surtsey::experiments::serve {
namespace {

using Json = nlohmann::ordered_json;
using Token = TextEvent::Token;

const char* finish_name(const Choice& choice) {
  if (choice.finish == Finish::length) return "length";
  return choice.calls.empty() ? "stop" : "tool_calls";
}

Json finish_of(const Choice& choice) {
  return choice.finish == Finish::none ? Json(nullptr) : Json(finish_name(choice));
}

size_t characters(std::string_view text) {
  size_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80 ? 1 : 0;
  return count;
}

Json logprob_of(const std::optional<float>& logprob) { return logprob ? Json(double(*logprob)) : Json(nullptr); }

// Of completions: four lists with an entry a token.
Json completion_logprobs(const ServedModel& model, const Choice& choice) {
  Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array(), offsets = Json::array();
  size_t offset = choice.offset;
  for (const Token& token : choice.tokens) {
    tokens.push_back(model.token_name(token.token));
    logprobs.push_back(logprob_of(token.logprob));
    Json top = Json::object();
    // Of two tokens that are written alike the likelier one stays.
    for (const TokenScore& score : token.top) {
      const std::string name = model.token_name(score.token);
      if (!top.contains(name)) top[name] = double(score.logprob);
    }
    tops.push_back(token.logprob ? std::move(top) : Json(nullptr));
    offsets.push_back(offset);
    const auto& bytes = model.token_bytes();
    if (size_t(token.token) < bytes.size()) offset += characters(bytes[size_t(token.token)]);
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json scored_token(const ServedModel& model, int32_t token, const std::optional<float>& logprob) {
  Json bytes = nullptr;
  if (size_t(token) < model.token_bytes().size()) {
    bytes = Json::array();
    for (const char byte : model.token_bytes()[size_t(token)]) bytes.push_back(int(static_cast<unsigned char>(byte)));
  }
  return {{"token", model.token_name(token)}, {"logprob", logprob_of(logprob)}, {"bytes", std::move(bytes)}};
}

// Of chats: {content: [{token, logprob, bytes, top_logprobs}]}.
Json chat_logprobs(const ServedModel& model, const Choice& choice) {
  Json content = Json::array();
  for (const Token& token : choice.tokens) {
    Json entry = scored_token(model, token.token, token.logprob);
    entry["top_logprobs"] = Json::array();
    for (const TokenScore& score : token.top)
      entry["top_logprobs"].push_back(scored_token(model, score.token, score.logprob));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

Json logprobs_of(const AnswerHead& head, const ServedModel& model, const Choice& choice) {
  if (!head.logprobs) return nullptr;
  return head.chat ? chat_logprobs(model, choice) : completion_logprobs(model, choice);
}

Json call_list(const std::vector<ToolCall>& calls, bool indexed) {
  Json list = Json::array();
  for (const ToolCall& call : calls) {
    Json entry = Json::object();
    if (indexed) entry["index"] = list.size();
    entry["id"] = call.id;
    entry["type"] = "function";
    entry["function"] = {{"name", call.name}, {"arguments", call.arguments}};
    list.push_back(std::move(entry));
  }
  return list;
}

Json usage_of(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

Json frame(const AnswerHead& head, const ServedModel& model, const char* object) {
  return {{"id", head.id}, {"object", object}, {"created", head.created}, {"model", model.name_of(head.adapter)}};
}

std::string base64_of(const std::vector<float>& vector) {
  static constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static_assert(std::endian::native == std::endian::little);
  std::vector<unsigned char> bytes(vector.size() * sizeof(float));
  std::memcpy(bytes.data(), vector.data(), bytes.size());
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (i + k < bytes.size() ? bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? kLetters[group >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

}  // namespace

AnswerHead new_answer(bool chat, bool logprobs, int32_t adapter) {
  std::random_device source;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {.id = fmt::format("{}-{:08x}{:08x}{:08x}", chat ? "chatcmpl" : "cmpl", source(), source(), source()),
          .created = std::chrono::duration_cast<std::chrono::seconds>(now).count(),
          .chat = chat,
          .logprobs = logprobs,
          .adapter = adapter};
}

namespace {

// A choice each, with what `fill` puts into it: a text, a message, a part of one.
template <typename Fill>
Json choices_of(const AnswerHead& head, const ServedModel& model, const std::vector<Choice>& choices, Fill&& fill) {
  Json list = Json::array();
  for (const Choice& choice : choices) {
    Json entry = {{"index", choice.index}};
    if (head.chat) {
      fill(entry, choice);
    } else {
      entry["text"] = choice.text;
    }
    entry["logprobs"] = logprobs_of(head, model, choice);
    entry["finish_reason"] = finish_of(choice);
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace

Json whole_answer(const AnswerHead& head, const ServedModel& model, const std::vector<Choice>& choices,
                  const Usage& usage) {
  Json answer = frame(head, model, head.chat ? "chat.completion" : "text_completion");
  answer["choices"] = choices_of(head, model, choices, [](Json& entry, const Choice& choice) {
    Json message = {{"role", "assistant"}};
    message["content"] = choice.text.empty() && !choice.calls.empty() ? Json(nullptr) : Json(choice.text);
    if (!choice.calls.empty()) message["tool_calls"] = call_list(choice.calls, false);
    entry["message"] = std::move(message);
  });
  add_retrieved(answer, head);
  answer["usage"] = usage_of(usage);
  return answer;
}

void add_retrieved(Json& answer, const AnswerHead& head) {
  if (head.retrieved.empty()) return;
  Json lists = Json::array();
  for (const std::string& list : head.retrieved) lists.push_back(Json::parse(list));
  answer["retrieved"] = head.chat ? std::move(lists.front()) : std::move(lists);
}

Json answer_part(const AnswerHead& head, const ServedModel& model, const std::vector<Choice>& choices,
                 const Usage* usage) {
  Json answer = frame(head, model, head.chat ? "chat.completion.chunk" : "text_completion");
  answer["choices"] = choices_of(head, model, choices, [](Json& entry, const Choice& choice) {
    Json delta = Json::object();
    if (choice.begins) delta["role"] = "assistant";
    if (!choice.text.empty() || choice.begins) delta["content"] = choice.text;
    if (!choice.calls.empty()) delta["tool_calls"] = call_list(choice.calls, true);
    entry["delta"] = std::move(delta);
  });
  if (usage != nullptr) answer["usage"] = usage_of(*usage);
  return answer;
}

Json embedding_answer(const ServedModel& model, const std::vector<std::vector<float>>& vectors, int64_t tokens,
                      bool base64) {
  Json data = Json::array();
  for (const std::vector<float>& vector : vectors) {
    Json entry = {{"object", "embedding"}, {"index", data.size()}};
    entry["embedding"] = base64 ? Json(base64_of(vector)) : Json(vector);
    data.push_back(std::move(entry));
  }
  return {{"object", "list"},
          {"data", std::move(data)},
          {"model", model.name},
          {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}};
}

Json error_answer(const ApiError& error) {
  Json inner = {{"code", error.status()}, {"message", error.what()}, {"type", error.type()}};
  if (error.size) {
    inner["n_prompt_tokens"] = error.size->n_prompt_tokens;
    inner["n_ctx"] = error.size->n_ctx;
  }
  return {{"error", std::move(inner)}};
}

std::string line_of(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace surtsey::experiments::serve
