// What clients ask for, read from the bodies of their requests and checked. Fields that are not known are passed over;
// those of the wrong type or out of range are an ApiError (400) that names them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "experiments/base/json.h"
#include "experiments/models/hub/generation.h"
#include "experiments/serve/json_schema.h"
#include "experiments/serve/served_model.h"

namespace surtsey::experiments::serve {

struct RequestLimits {
  int64_t context = 0;     // tokens of a text, prompt and answer
  int64_t vocabulary = 0;  // of the model
  int64_t texts = 0;       // answers of one request
};

// How answers are made.
struct Generation {
  hub::GenerationConfig how;  // lengths aside
  double frequency_penalty = 0, presence_penalty = 0;
  std::map<int32_t, float> logit_bias;
  uint64_t seed = 0;  // drawn where none is asked for
  std::vector<std::string> stop;
  std::optional<int64_t> max_tokens;  // unset: to the end of the context
  int64_t n = 1;
  int64_t logprobs = -1;  // of how many likeliest tokens; -1: none at all
  bool ignore_eos = false;
  int32_t adapter = 0;  // 0: none, i: the i-th of the model's, which the request's "model" names
  bool stream = false;
  bool include_usage = false;  // in a stream
  std::shared_ptr<const JsonSchema> schema;
};

struct Prompt {
  std::string text;
  std::vector<int32_t> tokens;
  std::optional<std::string> retrieved;  // passages that stand before it, as JSON
};

struct CompletionRequest {
  Generation generation;
  std::vector<Prompt> prompts;
  bool echo = false;
};

struct ChatRequest {
  Generation generation;
  std::vector<int32_t> prompt;
  std::optional<std::string> retrieved;  // passages that stand before the last message of a user, as JSON
  std::vector<std::string> tools;        // names of functions that may be called
  bool tool_forced = false;              // the answer is a call
};

struct EmbeddingRequest {
  std::vector<std::vector<int32_t>> inputs;
  bool base64 = false;
};

CompletionRequest parse_completion(const std::string& body, const ServedModel& model, const RequestLimits& limits);
// Also ApiError (501) without a chat template, and 400 where the template refuses the messages.
ChatRequest parse_chat(const std::string& body, const ServedModel& model, const RequestLimits& limits);
EmbeddingRequest parse_embedding(const std::string& body, const ServedModel& model, const RequestLimits& limits);

}  // namespace surtsey::experiments::serve
