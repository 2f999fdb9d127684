// Errors that a client is told, as llama.cpp's server words them: {"error": {"code", "message", "type"}}.
#pragma once

#include "graph/error.h"

#include <cstdint>
#include <optional>
#include <string>

namespace surtsey::experiments::serve {

// Thrown wherever a request cannot be answered; becomes the answer.
class ApiError : public std::runtime_error {
 public:
  ApiError(int status, std::string type, const std::string& message)
      : std::runtime_error(message), status_(status), type_(std::move(type)) {}

  int status() const { return status_; }
  const std::string& type() const { return type_; }

  // Of exceed_context_size_error alone.
  struct Size {
    int64_t n_prompt_tokens = 0, n_ctx = 0;
  };
  std::optional<Size> size;
  // Seconds after which another try makes sense; 0: none is named.
  int retry_after = 0;

 private:
  int status_;
  std::string type_;
};

// 400: the client's mistake. The message names the field.
template <typename... Args>
ApiError invalid_request(fmt::format_string<Args...> format, Args&&... args) {
  return {400, "invalid_request_error", fmt::format(format, std::forward<Args>(args)...)};
}
inline ApiError context_exceeded(int64_t prompt_tokens, int64_t context) {
  ApiError error(
      400, "exceed_context_size_error",
      fmt::format("the prompt has {} tokens, the context of {} leaves no room for an answer", prompt_tokens, context));
  error.size = {prompt_tokens, context};
  return error;
}
inline ApiError unauthorized(const std::string& message) { return {401, "authentication_error", message}; }
inline ApiError forbidden(const std::string& message) { return {403, "permission_error", message}; }
inline ApiError not_found(const std::string& message) { return {404, "not_found_error", message}; }
inline ApiError not_supported(const std::string& message) { return {501, "not_supported_error", message}; }
inline ApiError server_error(const std::string& message) { return {500, "server_error", message}; }
inline ApiError unavailable(const std::string& message, int retry_after = 1) {
  ApiError error(503, "unavailable_error", message);
  error.retry_after = retry_after;
  return error;
}

}  // namespace surtsey::experiments::serve
