#include "experiments/serve/requests.h"

#include "experiments/formats/strict_json.h"
#include "experiments/serve/fields.h"
#include "experiments/serve/messages.h"

#include <charconv>
#include <random>

namespace surtsey::experiments::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostDepth = 64;  // of brackets in a body
constexpr size_t kMostStops = 4, kMostStopBytes = 1024;
constexpr int64_t kMostChoices = 128, kMostLogprobs = 20;
constexpr size_t kMostBiases = 1024;
constexpr int64_t kUsualTokens = 16;  // of a completion that does not say how many

uint64_t random_seed() {
  std::random_device source;
  return uint64_t{source()} << 32 | source();
}

// What the model's makers would have where the request says nothing: their settings if they draw, else OpenAI's.
hub::GenerationConfig defaults(const ServedModel& model) {
  hub::GenerationConfig how;
  how.tokens = model.generation.tokens;
  how.do_sample = true;
  how.top_k = 0;
  how.suppress_tokens = model.generation.suppress_tokens;
  how.begin_suppress_tokens = model.generation.begin_suppress_tokens;
  how.bad_words_ids = model.generation.bad_words_ids;
  how.repetition_penalty = model.generation.repetition_penalty;
  how.no_repeat_ngram_size = model.generation.no_repeat_ngram_size;
  if (model.generation.do_sample) {
    how.temperature = model.generation.temperature;
    how.top_k = model.generation.top_k;
    how.top_p = model.generation.top_p;
    how.min_p = model.generation.min_p;
    how.typical_p = model.generation.typical_p;
  }
  return how;
}

std::vector<std::string> parse_stop(const Fields& fields) {
  const Json* given = fields.find("stop");
  if (given == nullptr) return {};
  std::vector<std::string> stops;
  for (const Json& each : given->is_array() ? *given : Json::array({*given})) {
    if (!each.is_string()) throw invalid_request("stop is a text or a list of at most {} texts", kMostStops);
    stops.push_back(each.get<std::string>());
    if (stops.back().size() > kMostStopBytes)
      throw invalid_request("stop: a text of {} bytes, at most {} are taken", stops.back().size(), kMostStopBytes);
  }
  std::erase(stops, "");
  if (stops.size() > kMostStops)
    throw invalid_request("stop: {} texts, at most {} are taken", stops.size(), kMostStops);
  return stops;
}

std::map<int32_t, float> parse_bias(const Fields& fields, int64_t vocabulary) {
  const Json* given = fields.object("logit_bias");
  if (given == nullptr) return {};
  if (given->size() > kMostBiases) throw invalid_request("logit_bias: at most {} tokens", kMostBiases);
  std::map<int32_t, float> bias;
  for (const auto& [name, value] : given->items()) {
    int64_t token = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), token);
    if (error != std::errc() || end != name.data() + name.size() || token < 0 || token >= vocabulary)
      throw invalid_request("logit_bias: '{}' is no token, there are 0 to {}", name.substr(0, 32), vocabulary - 1);
    const double amount = value.is_number() ? value.get<double>() : 1e9;
    if (!(amount >= -100 && amount <= 100)) throw invalid_request("logit_bias: a bias is a number from -100 to 100");
    bias[int32_t(token)] = float(amount);
  }
  return bias;
}

// response_format: {type: text | json_object | json_schema}.
std::shared_ptr<const JsonSchema> parse_format(const Fields& fields) {
  const Json* given = fields.object("response_format");
  if (given == nullptr) return nullptr;
  const Fields format(*given, "response_format.");
  const std::string type = format.text("type").value_or("");
  if (type == "text") return nullptr;
  if (type == "json_object") {
    const Json* schema = format.object("schema");
    return schema == nullptr ? any_object_schema() : compile_schema(*schema, "response_format.schema");
  }
  if (type == "json_schema") {
    const Json* wrapper = format.object("json_schema");
    if (wrapper == nullptr) throw invalid_request("response_format.json_schema is missing");
    const Fields inner(*wrapper, "response_format.json_schema.");
    return compile_schema(inner.at("schema"), "response_format.json_schema.schema");
  }
  throw invalid_request("response_format.type is text, json_object or json_schema");
}

Generation parse_generation(const Fields& fields, const ServedModel& model, const RequestLimits& limits) {
  Generation result;
  hub::GenerationConfig& how = result.how = defaults(model);
  how.temperature = fields.number("temperature", 0, 100).value_or(how.temperature);
  how.top_p = fields.number("top_p", 0, 1).value_or(how.top_p);
  how.top_k = fields.integer("top_k", -1, limits.vocabulary).value_or(how.top_k);
  if (const auto min_p = fields.number("min_p", 0, 1)) how.min_p = min_p;
  how.typical_p = fields.number("typical_p", 0, 1).value_or(how.typical_p);
  how.repetition_penalty = fields.number("repetition_penalty", 1e-3, 1e3).value_or(how.repetition_penalty);
  how.no_repeat_ngram_size =
      fields.integer("no_repeat_ngram_size", 0, limits.context).value_or(how.no_repeat_ngram_size);
  how.min_new_tokens = fields.integer("min_tokens", 0, limits.context);
  if (how.top_k < 0) how.top_k = 0;
  if (how.min_p == 0.0) how.min_p.reset();
  // No temperature is the most likely token, and a share of nothing is too.
  if (how.temperature == 0 || how.top_p == 0) how.do_sample = false;
  if (how.temperature == 0) how.temperature = 1;
  if (how.top_p == 0) how.top_p = 1;
  if (how.typical_p == 0) throw invalid_request("typical_p is a number above 0 and up to 1");

  result.frequency_penalty = fields.number("frequency_penalty", -2, 2).value_or(0);
  result.presence_penalty = fields.number("presence_penalty", -2, 2).value_or(0);
  result.logit_bias = parse_bias(fields, limits.vocabulary);
  const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX);
  result.seed = seed && *seed >= 0 ? uint64_t(*seed) : seed && *seed < -1 ? uint64_t(*seed) : random_seed();
  result.stop = parse_stop(fields);
  result.n = fields.integer("n", 1, kMostChoices).value_or(1);
  if (fields.integer("best_of", 1, kMostChoices).value_or(result.n) != result.n)
    throw invalid_request("best_of is not supported, other than as n");
  result.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  result.stream = fields.boolean("stream").value_or(false);
  if (const Json* options = fields.object("stream_options"))
    result.include_usage = Fields(*options, "stream_options.").boolean("include_usage").value_or(false);
  result.schema = parse_format(fields);
  if (result.schema != nullptr && result.ignore_eos)
    throw invalid_request("ignore_eos does not go with a response_format: what is whole ends");
  result.adapter = model.adapter_of(fields.text("model").value_or(""));
  fields.text("user");
  return result;
}

void check_prompt(const std::vector<int32_t>& tokens, const char* name, const RequestLimits& limits, bool answers) {
  if (tokens.empty()) throw invalid_request("{} has no tokens", name);
  const auto size = int64_t(tokens.size());
  if (size > limits.context || (answers && size == limits.context)) throw context_exceeded(size, limits.context);
  for (const int32_t token : tokens) {
    if (token >= limits.vocabulary)
      throw invalid_request("{} has token {}, the model has 0 to {}", name, token, limits.vocabulary - 1);
  }
}

// A text, a list of texts, token ids, or a list of lists of token ids.
std::vector<Prompt> parse_texts(const Json& given, const char* name, const ServedModel& model,
                                const RequestLimits& limits, bool special_tokens, size_t most) {
  std::vector<Prompt> prompts;
  const auto add_text = [&](const std::string& text) { prompts.push_back({text, model.encode(text, special_tokens)}); };
  const auto add_tokens = [&](const Json& list) {
    Prompt prompt{"", token_ids(list, name, limits.vocabulary)};
    prompt.text = model.tokenizer.decode(prompt.tokens);
    prompts.push_back(std::move(prompt));
  };
  if (given.is_string()) {
    add_text(given.get<std::string>());
    return prompts;
  }
  if (!given.is_array() || given.empty())
    throw invalid_request("{} is a text, a list of texts, a list of token ids, or a list of those", name);
  if (given.front().is_number()) {
    add_tokens(given);
    return prompts;
  }
  if (given.size() > most)
    throw invalid_request("{}: {} texts, at most {} are taken at once", name, given.size(), most);
  for (const Json& each : given) {
    if (each.is_string()) {
      add_text(each.get<std::string>());
    } else if (each.is_array()) {
      add_tokens(each);
    } else {
      throw invalid_request("{} is a text, a list of texts, a list of token ids, or a list of those", name);
    }
  }
  return prompts;
}

}  // namespace

namespace {

// Tokens that passages leave to an answer: as many as are asked for, a quarter of the context at most.
int64_t room_for_answer(const Generation& generation, const RequestLimits& limits) {
  return std::min(generation.max_tokens.value_or(limits.context), limits.context / 4);
}

// Whether passages are to stand before this request's prompts.
bool retrieves(const Fields& fields, const ServedModel& model) {
  const auto asked = fields.boolean("retrieve");
  if (asked.value_or(false) && !model.retrieve)
    throw invalid_request("retrieve: this server has no index (serve --retrieve INDEX)");
  return model.retrieve && asked.value_or(true);
}

// Before the last message of a user; `prompt` writes and encodes a conversation.
void put_passages(Json& variables, ChatRequest& request, const ServedModel& model, const RequestLimits& limits,
                  const std::function<std::vector<int32_t>(const Json&)>& prompt) {
  Json& messages = variables["messages"];
  for (size_t i = messages.size(); i-- > 0;) {
    if (messages[i]["role"] != "user" || !messages[i].contains("content")) continue;
    const std::string said = messages[i]["content"];
    const RetrievedPrompt made = model.retrieve(said, [&](const std::string& text) {
      messages[i]["content"] = text;
      return std::ssize(prompt(variables)) + room_for_answer(request.generation, limits) <= limits.context;
    });
    messages[i]["content"] = made.text;
    request.retrieved = made.passages;
    return;
  }
}

}  // namespace

std::vector<int32_t> token_ids(const Json& list, const char* name, int64_t vocabulary) {
  if (!list.is_array()) throw invalid_request("{} is a list of token ids", name);
  std::vector<int32_t> tokens;
  tokens.reserve(list.size());
  for (const Json& each : list) {
    const double value = each.is_number_integer() ? each.get<double>() : -1;
    if (!(value >= 0 && value < double(vocabulary)))
      throw invalid_request("{} has {}, which is no token; there are 0 to {}", name,
                            each.is_primitive() ? each.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 32)
                                                : "a list or an object",
                            vocabulary - 1);
    tokens.push_back(each.get<int32_t>());
  }
  return tokens;
}

Json parse_body(const std::string& body) {
  try {
    parse_strict_json(body, "the body", kMostDepth);
  } catch (const UserError& error) {
    throw invalid_request("{}", error.what());
  }
  return Json::parse(body);
}

CompletionRequest parse_completion(const std::string& body, const ServedModel& model, const RequestLimits& limits) {
  const Json object = parse_body(body);
  const Fields fields(object);
  CompletionRequest request;
  Generation& generation = request.generation = parse_generation(fields, model, limits);
  generation.max_tokens = fields.integer("max_tokens", 0, INT32_MAX).value_or(kUsualTokens);
  generation.logprobs = fields.integer("logprobs", 0, kMostLogprobs).value_or(-1);
  request.echo = fields.boolean("echo").value_or(false);
  if (*generation.max_tokens == 0 && !request.echo) throw invalid_request("max_tokens is 0 and echo is not set");
  const bool special = fields.boolean("add_special_tokens").value_or(true);
  if (fields.text("suffix").value_or("") != "") throw invalid_request("suffix is not supported");
  const auto most = size_t(std::max<int64_t>(1, limits.texts / generation.n));
  request.prompts = parse_texts(fields.at("prompt"), "prompt", model, limits, special, most);
  if (int64_t(request.prompts.size()) * generation.n > limits.texts)
    throw invalid_request("n: {} answers, at most {} are given at once", request.prompts.size() * size_t(generation.n),
                          limits.texts);
  if (retrieves(fields, model)) {
    for (Prompt& prompt : request.prompts) {
      RetrievedPrompt made = model.retrieve(prompt.text, [&](const std::string& text) {
        return std::ssize(model.encode(text, special)) + room_for_answer(generation, limits) <= limits.context;
      });
      if (made.text != prompt.text) prompt.tokens = model.encode(made.text, special);
      prompt.text = std::move(made.text);
      prompt.retrieved = std::move(made.passages);
    }
  }
  for (const Prompt& prompt : request.prompts)
    check_prompt(prompt.tokens, "prompt", limits, *generation.max_tokens > 0);
  return request;
}

ChatRequest parse_chat(const std::string& body, const ServedModel& model, const RequestLimits& limits) {
  if (!model.chat) throw not_supported(fmt::format("{} has no chat template", model.name));
  const Json object = parse_body(body);
  const Fields fields(object);
  ChatRequest request;
  Generation& generation = request.generation = parse_generation(fields, model, limits);
  if (generation.n > limits.texts) throw invalid_request("n: at most {} answers are given at once", limits.texts);
  generation.max_tokens = fields.integer("max_tokens", 1, INT32_MAX);
  if (const auto most = fields.integer("max_completion_tokens", 1, INT32_MAX)) generation.max_tokens = most;
  const auto top = fields.integer("top_logprobs", 0, kMostLogprobs);
  if (fields.boolean("logprobs").value_or(false)) {
    generation.logprobs = top.value_or(0);
  } else if (top) {
    throw invalid_request("top_logprobs needs logprobs: true");
  }
  Conversation conversation = parse_conversation(fields);
  request.tools = std::move(conversation.tools);
  if (conversation.call_schema != nullptr) {
    if (generation.schema != nullptr)
      throw invalid_request("response_format does not go with a tool_choice that calls");
    generation.schema = conversation.call_schema;
    request.tool_forced = true;
  }
  const auto prompt = [&](const Json& variables) {
    std::string text;
    try {
      text = model.chat->render(variables);
    } catch (const UserError& error) {
      throw invalid_request("messages: {}", error.what());
    }
    return model.encode(text, false);
  };
  Json variables = *conversation.variables;
  if (retrieves(fields, model)) put_passages(variables, request, model, limits, prompt);
  request.prompt = prompt(variables);
  check_prompt(request.prompt, "messages", limits, true);
  return request;
}

EmbeddingRequest parse_embedding(const std::string& body, const ServedModel& model, const RequestLimits& limits) {
  const Json object = parse_body(body);
  const Fields fields(object);
  EmbeddingRequest request;
  const std::string encoding = fields.text("encoding_format").value_or("float");
  if (encoding != "float" && encoding != "base64") throw invalid_request("encoding_format is float or base64");
  request.base64 = encoding == "base64";
  if (fields.find("dimensions") != nullptr) throw invalid_request("dimensions is not supported");
  for (Prompt& prompt : parse_texts(fields.at("input"), "input", model, limits, true, size_t(limits.texts))) {
    check_prompt(prompt.tokens, "input", limits, false);
    request.inputs.push_back(std::move(prompt.tokens));
  }
  return request;
}

}  // namespace surtsey::experiments::serve
