// Requests that are nearly right: the bodies that clients send, with something wrong in them.
#pragma once

#include "tests/support/mutate.h"

#include <string>
#include <vector>

namespace surtsey::tests {

struct SentBody {
  const char* path;
  std::string body;
};

inline const std::vector<SentBody>& sent_bodies() {
  static const std::vector<SentBody> bodies = {
      {"/v1/completions",
       R"({"model": "m", "prompt": "the cat", "max_tokens": 4, "temperature": 0.7, "top_p": 0.9, "top_k": 5,
           "min_p": 0.01,
           "n": 2, "stop": ["dog", "\n"], "seed": 3, "frequency_penalty": 0.5, "presence_penalty": -0.5,
           "repetition_penalty": 1.1, "logit_bias": {"65": 5, "66": -100}, "logprobs": 3, "echo": true, "user": "u"})"},
      {"/v1/completions",
       R"({"prompt": [[65, 66, 67], [68]], "max_tokens": 1, "echo": true, "logprobs": 1, "temperature": 0})"},
      {"/v1/completions",
       R"({"prompt": ["a", "bc"], "max_tokens": 3, "stream": true, "stream_options": {"include_usage": true}})"},
      {"/v1/completions",
       R"({"prompt": "x", "max_tokens": 6, "response_format": {"type": "json_schema", "json_schema": {"name": "n",
           "strict": true,
           "schema": {"$defs": {"a": {"enum": ["r", 1, null]}}, "type": "object",
               "properties": {"k": {"$ref": "#/$defs/a"},
           "l": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]},
               "minItems": 1}},
           "required": ["k"], "additionalProperties": false}}}})"},
      {"/v1/chat/completions",
       R"({"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": [{"type": "text",
           "text": "hi"}]},
           {"role": "assistant", "content": null, "tool_calls": [{"id": "abcdefghi", "type": "function", "function":
           {"name": "f", "arguments": "{\"a\": 1}"}}]}, {"role": "tool", "content": "4", "tool_call_id": "abcdefghi"}],
           "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties":
           {"a": {"type": "integer"}}}}}], "tool_choice": "auto", "max_tokens": 4, "logprobs": true,
               "top_logprobs": 2})"},
      {"/v1/chat/completions",
       R"({"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5, "stream": true,
           "response_format": {"type": "json_object"}, "chat_template_kwargs": {"x": [1]}})"},
      {"/v1/embeddings", R"({"input": ["a", "b"], "encoding_format": "base64"})"},
      {"/tokenize", R"({"prompt": "hello \u00e9", "add_special_tokens": false})"},
      {"/detokenize", R"({"tokens": [65, 200, 300]})"},
  };
  return bodies;
}

inline const std::vector<std::string>& body_words() {
  static const std::vector<std::string> words = json_words_and({"1.5",
                                                                "99999999999999999999",
                                                                "\"\"",
                                                                "[]",
                                                                "\\u0000",
                                                                "\\ud800",
                                                                "\xFF",
                                                                "\xE2\x96\x81",
                                                                "\"prompt\"",
                                                                "\"messages\"",
                                                                "\"content\"",
                                                                "\"role\"",
                                                                "\"max_tokens\"",
                                                                "\"n\"",
                                                                "\"stop\"",
                                                                "\"logprobs\"",
                                                                "\"stream\"",
                                                                "\"tools\"",
                                                                "\"type\"",
                                                                "\"properties\"",
                                                                "\"enum\"",
                                                                "\"anyOf\"",
                                                                "\"$ref\"",
                                                                "\"#\"",
                                                                "\"#/$defs/a\"",
                                                                "\"required\"",
                                                                "\"items\"",
                                                                "\"minItems\"",
                                                                "1000000",
                                                                "\"const\"",
                                                                "\"string\"",
                                                                "\"object\"",
                                                                "\"echo\"",
                                                                "\"temperature\"",
                                                                "\"seed\"",
                                                                "\"logit_bias\""});
  return words;
}

}  // namespace surtsey::tests
