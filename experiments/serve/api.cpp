#include "experiments/serve/api.h"

#include <nlohmann/json.hpp>

#include "experiments/report/pages/texts.h"
#include "experiments/serve/answers.h"
#include "experiments/serve/fields.h"

#include <algorithm>
#include <chrono>

namespace surtsey::experiments::serve {
namespace {

using Json = nlohmann::ordered_json;

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

void log_prompt(const std::string& text) { fmt::print(stderr, "serve: prompt {}\n", line_of(Json(text))); }

}  // namespace

Api::Api(const ServedModel& model, Scheduler& scheduler, Metrics& metrics, const ApiOptions& options)
    : model_(model), scheduler_(scheduler), metrics_(metrics), options_(options) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  started_ = std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

const std::vector<Api::Route>& Api::routes() {
  static const std::vector<Route> routes = {
      {"POST", "/v1/completions", true, &Api::completions},
      {"POST", "/v1/chat/completions", true, &Api::chat},
      {"POST", "/v1/embeddings", true, &Api::embeddings},
      {"GET", "/v1/models", true, &Api::models},
      {"POST", "/tokenize", true, &Api::tokenize},
      {"POST", "/detokenize", true, &Api::detokenize},
      {"GET", "/tokenizer_info", true, &Api::tokenizer_info},
      {"GET", "/metrics", true, &Api::metrics_text},
      // What tells nothing of the model's texts; the page asks for the key itself.
      {"GET", "/health", false, &Api::health},
      {"GET", "/", false, &Api::page},
  };
  return routes;
}

const Api::Route& Api::find(std::string_view method, std::string_view path) {
  const Route* other = nullptr;
  for (const Route& route : routes()) {
    if (path != route.path) continue;
    if (method == route.method || (method == "HEAD" && std::string_view(route.method) == "GET")) return route;
    other = &route;
  }
  if (other != nullptr) {
    throw ApiError(405, "invalid_request_error", fmt::format("{} is asked by {}", other->path, other->method));
  }
  throw not_found(fmt::format("there is no {}", std::string(path.substr(0, 100))));
}

Reply Api::error(const ApiError& error) {
  return {.status = error.status(), .body = line_of(error_answer(error)), .retry_after = error.retry_after};
}

Reply Api::answer(const Route& route, const std::string& body, const Alive& alive) {
  Reply reply;
  try {
    reply = (this->*route.answer)(body, alive);
  } catch (const ApiError& failure) {
    reply = error(failure);
  } catch (const std::bad_alloc&) {
    reply = error(unavailable("there is no memory for this request now"));
  } catch (const std::exception& failure) {
    fmt::print(stderr, "serve: {} {}: {}\n", route.method, route.path, failure.what());
    reply = error(server_error(failure.what()));
  }
  metrics_.count_request(route.path, reply.status);
  return reply;
}

void Api::check_generates() const {
  if (!model_.generates)
    throw not_supported(fmt::format("{} has no language model's head: it continues no text", model_.name));
}

RequestLimits Api::limits() const { return {scheduler_.context(), scheduler_.vocabulary(), scheduler_.most_texts()}; }

Clock::time_point Api::deadline() const {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.request_seconds));
}

TextRequest Api::text_of(const Generation& generation, std::vector<int32_t> prompt, int64_t choice) const {
  TextRequest text;
  const int64_t room = scheduler_.context() - int64_t(prompt.size());
  text.max_tokens = std::min(room, generation.max_tokens.value_or(room));
  text.prompt = std::move(prompt);
  text.how = generation.how;
  text.frequency_penalty = generation.frequency_penalty;
  text.presence_penalty = generation.presence_penalty;
  text.logit_bias = generation.logit_bias;
  text.seed = generation.seed;
  text.stream = uint32_t(choice);
  text.stop = generation.stop;
  text.logprobs = generation.logprobs;
  text.ignore_eos = generation.ignore_eos;
  text.adapter = generation.adapter;
  text.schema = generation.schema;
  return text;
}

Reply Api::completions(const std::string& body, const Alive& alive) {
  check_generates();
  CompletionRequest request = parse_completion(body, model_, limits());
  const Generation& generation = request.generation;
  AnswerPlan plan{.head = new_answer(false, generation.logprobs >= 0, generation.adapter),
                  .include_usage = generation.include_usage};
  std::vector<TextRequest> texts;
  for (Prompt& prompt : request.prompts) {
    if (options_.log_prompts) log_prompt(prompt.text);
    plan.prompt_tokens += int64_t(prompt.tokens.size());
    if (prompt.retrieved) plan.head.retrieved.push_back(*prompt.retrieved);
    for (int64_t choice = 0; choice < generation.n; ++choice) {
      TextRequest& text = texts.emplace_back(text_of(generation, prompt.tokens, choice));
      text.continues = true;
      text.score_prompt = request.echo && generation.logprobs >= 0;
      if (request.echo) plan.echoes.push_back(prompt.text);
    }
  }
  plan.choices = int64_t(texts.size());
  auto ticket = scheduler_.submit(std::move(texts), deadline());
  if (generation.stream) return stream_answer(std::move(plan), model_, std::move(ticket), alive);
  return collect_answer(plan, model_, ticket, alive);
}

Reply Api::chat(const std::string& body, const Alive& alive) {
  check_generates();
  ChatRequest request = parse_chat(body, model_, limits());
  const Generation& generation = request.generation;
  if (options_.log_prompts) log_prompt(model_.tokenizer.decode(request.prompt));
  AnswerPlan plan{.head = new_answer(true, generation.logprobs >= 0, generation.adapter),
                  .tools = std::move(request.tools),
                  .choices = generation.n,
                  .prompt_tokens = int64_t(request.prompt.size()),
                  .include_usage = generation.include_usage};
  if (request.retrieved) plan.head.retrieved.push_back(*request.retrieved);
  std::vector<TextRequest> texts;
  for (int64_t choice = 0; choice < generation.n; ++choice)
    texts.push_back(text_of(generation, request.prompt, choice));
  auto ticket = scheduler_.submit(std::move(texts), deadline());
  if (generation.stream) return stream_answer(std::move(plan), model_, std::move(ticket), alive);
  return collect_answer(plan, model_, ticket, alive);
}

Reply Api::embeddings(const std::string& body, const Alive&) {
  if (!model_.embed) throw not_supported(fmt::format("{} puts out logits, and no embeddings", model_.name));
  RequestLimits within = limits();
  within.context = model_.embedding_context;
  within.vocabulary = model_.tokenizer.vocab_size();
  const EmbeddingRequest request = parse_embedding(body, model_, within);
  int64_t tokens = 0;
  for (const auto& input : request.inputs) tokens += int64_t(input.size());
  std::vector<std::vector<float>> vectors;
  scheduler_.run([&] { vectors = model_.embed(request.inputs); });
  return {.body = line_of(embedding_answer(model_, vectors, tokens, request.base64))};
}

Reply Api::models(const std::string&, const Alive&) {
  Json entry = {{"id", model_.name}, {"object", "model"}, {"created", started_}, {"owned_by", "surtsey"}};
  const int64_t context = model_.generates ? scheduler_.context() : model_.embedding_context;
  entry["max_model_len"] = context;
  entry["meta"] = {{"n_ctx", context}, {"n_vocab", model_.tokenizer.vocab_size()}};
  Json all = Json::array({entry});
  for (const std::string& adapter : model_.adapters) {
    entry["id"] = adapter;
    entry["parent"] = model_.name;
    all.push_back(entry);
  }
  return {.body = line_of({{"object", "list"}, {"data", std::move(all)}})};
}

Reply Api::tokenize(const std::string& body, const Alive&) {
  const Json object = parse_body(body);
  const Fields fields(object);
  // As vLLM asks, and as llama.cpp's server does, which adds nothing unless it is told to.
  const auto prompt = fields.text("prompt"), content = fields.text("content");
  if (!prompt && !content) throw invalid_request("prompt is missing");
  const auto add = fields.boolean("add_special_tokens"), also = fields.boolean("add_special");
  const bool special = add.value_or(also.value_or(prompt.has_value()));
  const std::vector<int32_t> tokens = model_.encode(prompt ? *prompt : *content, special);
  return {.body = line_of({{"tokens", tokens}, {"count", tokens.size()}, {"max_model_len", scheduler_.context()}})};
}

Reply Api::detokenize(const std::string& body, const Alive&) {
  const Json object = parse_body(body);
  const std::vector<int32_t> tokens = token_ids(
      Fields(object).at("tokens"), "tokens", std::max<int64_t>(scheduler_.vocabulary(), model_.tokenizer.vocab_size()));
  const std::string text = model_.tokenizer.decode(tokens);
  return {.body = line_of({{"prompt", text}, {"content", text}})};
}

Reply Api::tokenizer_info(const std::string&, const Alive&) {
  return {.body = line_of({{"eos_token", text_or_null(model_.eos_token)},
                           {"bos_token", text_or_null(model_.bos_token)},
                           {"chat_template", text_or_null(model_.chat_source)},
                           {"vocab_size", model_.tokenizer.vocab_size()}})};
}

Reply Api::health(const std::string&, const Alive&) {
  if (!scheduler_.ready()) throw unavailable("the device was lost and is being opened again", 5);
  return {.body = line_of({{"status", "ok"}})};
}

Reply Api::metrics_text(const std::string&, const Alive&) {
  return {.type = "text/plain; version=0.0.4", .body = metrics_.text()};
}

Reply Api::page(const std::string&, const Alive&) {
  return {.type = "text/html; charset=utf-8", .body = std::string(page_text("serve_page"))};
}

}  // namespace surtsey::experiments::serve
