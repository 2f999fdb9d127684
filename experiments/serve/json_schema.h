// JSON Schema, the part that a grammar can hold a model to: type, properties, required, additionalProperties, items,
// minItems, maxItems, minLength, maxLength, enum, const, anyOf, $ref into the schema itself. Annotations (title,
// description, default, examples, ..) mean nothing and are passed over; every other keyword is refused by name.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::experiments::serve {

// A schema as nodes that name each other by their index, ready to be walked byte by byte (json_grammar.h).
struct JsonSchema {
  enum class Kind : uint8_t { object, array, string, number, integer, literals, choice };

  struct Node {
    Kind kind = Kind::choice;
    // object: its keys as they are written, with escapes and the closing quote, sorted; the value of each. At most 64.
    // literals: whole values as they are written, sorted (`values` is empty).
    std::vector<std::string> texts;
    std::vector<int32_t> values;
    uint64_t required = 0;     // a bit for each of texts
    int32_t additional = -1;   // the value of any other key; -1: there is none. With it `texts` is empty
    int32_t items = -1;        // of an array
    int64_t least = 0;         // items of an array, characters of a string
    int64_t most = -1;         // -1: any number
    std::vector<int32_t> any;  // choice: one of these; no choices among them
    bool free = false;         // part of what any value is: its depth is limited
  };

  std::vector<Node> nodes;
  int32_t root = 0;
};

// Of an object without `properties` any keys and values are good; with them, only those are written, also where the
// schema would allow others. ApiError (400): what is not supported, or cannot be fulfilled, by its place
// ("response_format.schema.properties.age: minimum is not supported").
std::shared_ptr<const JsonSchema> compile_schema(const nlohmann::ordered_json& schema, const std::string& where);

// Any object.
std::shared_ptr<const JsonSchema> any_object_schema();

}  // namespace surtsey::experiments::serve
