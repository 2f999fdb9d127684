// Fields of a request's body: each of the type that it should have, else an ApiError (400) that names it.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/serve/errors.h"

namespace surtsey::experiments::serve {

class Fields {
 public:
  using Json = nlohmann::ordered_json;

  // `object` outlives it. `where` stands before the names of fields in messages: "" or "response_format.".
  explicit Fields(const Json& object, std::string where = "") : object_(object), where_(std::move(where)) {}

  // A field that is null is as one that is not there.
  const Json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  const Json& at(const char* name) const {
    const Json* value = find(name);
    if (value == nullptr) throw invalid_request("{}{} is missing", where_, name);
    return *value;
  }

  std::optional<double> number(const char* name, double least, double most) const {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    const double got = value->is_number() ? value->get<double>() : least;
    if (!value->is_number() || !(got >= least && got <= most))
      throw invalid_request("{}{} is a number from {:g} to {:g}", where_, name, least, most);
    return got;
  }
  std::optional<int64_t> integer(const char* name, int64_t least, int64_t most) const {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    // A number beyond int64 is told apart by its value as a double.
    const bool whole = value->is_number_integer();
    const double about = whole ? value->get<double>() : 0;
    const bool fits = whole && about > -9.2e18 && about < 9.2e18;
    const int64_t got = fits ? value->get<int64_t>() : 0;
    if (!fits || got < least || got > most)
      throw invalid_request("{}{} is a whole number from {} to {}", where_, name, least, most);
    return got;
  }
  std::optional<bool> boolean(const char* name) const {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) throw invalid_request("{}{} is true or false", where_, name);
    return value->get<bool>();
  }
  std::optional<std::string> text(const char* name) const {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) throw invalid_request("{}{} is a text", where_, name);
    return value->get<std::string>();
  }
  const Json* object(const char* name) const {
    const Json* value = find(name);
    if (value != nullptr && !value->is_object()) throw invalid_request("{}{} is an object", where_, name);
    return value;
  }
  const Json* list(const char* name) const {
    const Json* value = find(name);
    if (value != nullptr && !value->is_array()) throw invalid_request("{}{} is a list", where_, name);
    return value;
  }

 private:
  const Json& object_;
  std::string where_;
};

// Token ids, each below `vocabulary`.
std::vector<int32_t> token_ids(const nlohmann::ordered_json& list, const char* name, int64_t vocabulary);

// A body as an object. ApiError (400): no JSON object, a key twice, brackets more than 64 deep.
nlohmann::ordered_json parse_body(const std::string& body);

}  // namespace surtsey::experiments::serve
