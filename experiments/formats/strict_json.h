// JSON that others wrote, taken strictly.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <string_view>

namespace surtsey::experiments {

// The object that `text` is. UserError beginning with `what` ("FILE: the header"): no JSON object, more than `depth`
// brackets inside each other, a key twice in one object (parsers differ in which of the two they keep).
nlohmann::json parse_strict_json(std::string_view text, const std::string& what, int depth);

}  // namespace surtsey::experiments
