// JSON as it is written to files and pages: whatever bytes its strings have.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace surtsey::experiments {

// `indent` blanks a level, or one line. Strings and keys that are not UTF-8 are written as bytes_to_utf8() gives them
// (utf8.h); everything else is what dump() writes.
std::string json_text(const nlohmann::json& json, int indent = -1);
std::string json_text(const nlohmann::ordered_json& json, int indent = -1);

}  // namespace surtsey::experiments
