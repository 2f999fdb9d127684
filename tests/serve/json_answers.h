// Answers of a server as JSON, for tests.
#pragma once

#include "tests/serve/fake_model.h"

#include <catch2/catch_test_macros.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <string>

namespace surtsey::tests {

using Json = nlohmann::ordered_json;

inline Json body_of(const HttpAnswer& answer) {
  CAPTURE(answer.status, answer.body);
  REQUIRE(answer.whole);
  return Json::parse(answer.body);
}

inline Json good(const HttpAnswer& answer) {
  const Json body = body_of(answer);
  CAPTURE(answer.body);
  REQUIRE(answer.status == 200);
  return body;
}

// "400 invalid_request_error: message".
inline std::string error_of(const HttpAnswer& answer) {
  const Json error = body_of(answer).at("error");
  CHECK(error.at("code") == answer.status);
  return fmt::format("{} {}: {}", answer.status, error.at("type").get<std::string>(),
                     error.at("message").get<std::string>());
}

inline bool starts(const std::string& text, const std::string& with) {
  CAPTURE(text);
  return text.starts_with(with);
}

}  // namespace surtsey::tests
