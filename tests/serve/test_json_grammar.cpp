// What a grammar lets through is JSON of its schema, and every state has a way to the end.
#include "experiments/serve/errors.h"
#include "experiments/serve/json_grammar.h"
#include "experiments/serve/token_mask.h"
#include "tests/support/draw.h"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

using namespace surtsey;
using namespace surtsey::experiments::serve;
using Json = nlohmann::ordered_json;

namespace {

// Whether `value` is of `schema`, written apart from the compiler that it checks.
bool valid(const Json& value, const Json& schema, const Json& root) {
  if (schema.is_boolean()) return schema.get<bool>();
  if (schema.contains("$ref")) {
    const auto target = schema["$ref"].get<std::string>();
    return valid(value, root.at(Json::json_pointer(target.substr(1))), root);
  }
  if (schema.contains("const") && value != schema["const"]) return false;
  if (schema.contains("enum") && std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end())
    return false;
  if (schema.contains("anyOf") && std::none_of(schema["anyOf"].begin(), schema["anyOf"].end(),
                                               [&](const Json& each) { return valid(value, each, root); }))
    return false;
  if (schema.contains("type")) {
    const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
    const bool good = std::any_of(types.begin(), types.end(), [&](const Json& type) {
      return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
             (type == "string" && value.is_string()) || (type == "number" && value.is_number()) ||
             (type == "integer" && value.is_number_integer()) || (type == "boolean" && value.is_boolean()) ||
             (type == "null" && value.is_null());
    });
    if (!good) return false;
  }
  if (value.is_object()) {
    for (const Json& name : schema.value("required", Json::array()))
      if (!value.contains(name.get<std::string>())) return false;
    for (const auto& [name, inner] : value.items()) {
      if (schema.contains("properties") && schema["properties"].contains(name)) {
        if (!valid(inner, schema["properties"][name], root)) return false;
      } else if (schema.contains("additionalProperties") && !valid(inner, schema["additionalProperties"], root)) {
        return false;
      }
    }
  }
  if (value.is_array()) {
    if (value.size() < schema.value("minItems", size_t{0})) return false;
    if (value.size() > schema.value("maxItems", size_t{1} << 30)) return false;
    for (const Json& inner : value)
      if (schema.contains("items") && !valid(inner, schema["items"], root)) return false;
  }
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    const auto length = size_t(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
    if (length < schema.value("minLength", size_t{0}) || length > schema.value("maxLength", size_t{1} << 30))
      return false;
  }
  return true;
}

const std::vector<const char*>& schemas() {
  static const std::vector<const char*> list = {
      R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": false})",
      R"({"type": "object", "properties": {"na": {"type": "number"}, "name": {"type": "null"},
          "n\"\u00e4": {"type": "boolean"}}})",
      R"({"type": "array", "items": {"enum": ["red", "green", 1, 12, null, {"a": [1.5]}]}, "minItems": 2,
          "maxItems": 3})",
      R"({"type": "object", "properties": {"kind": {"const": "circle"}, "tags": {"type": "array",
          "items": {"type": "string",
          "minLength": 2, "maxLength": 4}, "minItems": 1}, "more": {"type": ["string", "null"]}},
              "required": ["kind", "tags"]})",
      R"({"anyOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
          {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}, "required": ["a", "b"]},
          {"type": "number"}]})",
      R"({"$defs": {"tree": {"type": "object", "properties": {"value": {"type": "integer"}, "next":
          {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}, "required": ["value", "next"]}},
              "$ref": "#/$defs/tree"})",
      R"({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}})",
      R"({"type": "object"})",
      R"({"type": "object", "properties": {}, "required": ["x"]})",
      R"({"type": "string", "minLength": 3, "maxLength": 3})",
      "{}",
  };
  return list;
}

// A random text that the grammar lets through. After `patience` bytes it takes what brings it nearer to the end.
std::string random_text(JsonGrammar& grammar, tests::Draw& draw, size_t patience) {
  JsonGrammar::State state = grammar.start();
  std::string text;
  while (!grammar.closed(state)) {
    if (grammar.finished(state) && draw.chance(2)) return text;
    REQUIRE(text.size() < 20'000);
    std::vector<unsigned char> good;
    JsonGrammar::State next;
    for (int byte = 0; byte < 256; ++byte) {
      if (grammar.advance(state, static_cast<unsigned char>(byte), next))
        good.push_back(static_cast<unsigned char>(byte));
    }
    CAPTURE(text);
    // Every state has a way on; the longest of numbers has none, and is whole.
    REQUIRE((!good.empty() || grammar.finished(state)));
    if (good.empty()) return text;
    unsigned char byte = good[draw.below(uint32_t(good.size()))];
    // Signs of the grammar come often, or nothing would ever end.
    std::vector<unsigned char> signs;
    for (const char sign : text.size() > patience ? std::string("\"}]") : std::string("\"}],:{[\\u0"))
      if (std::find(good.begin(), good.end(), static_cast<unsigned char>(sign)) != good.end())
        signs.push_back(static_cast<unsigned char>(sign));
    if (!signs.empty() && (text.size() > patience || draw.chance(3))) byte = signs[draw.below(uint32_t(signs.size()))];
    REQUIRE(grammar.advance(state, byte));
    text += char(byte);
  }
  return text;
}

std::string refusal(const char* schema) {
  try {
    compile_schema(Json::parse(schema), "schema");
  } catch (const ApiError& error) {
    CHECK(error.status() == 400);
    return error.what();
  }
  return "";
}

bool accepts(const char* schema, const std::string& text) {
  JsonGrammar grammar(compile_schema(Json::parse(schema), "schema"));
  JsonGrammar::State state = grammar.start();
  for (const char byte : text) {
    if (!grammar.advance(state, static_cast<unsigned char>(byte))) return false;
  }
  return grammar.finished(state);
}

}  // namespace

TEST_CASE("random texts that a grammar lets through parse and are of its schema", "[serve]") {
  tests::Draw draw(11);
  for (const char* text : schemas()) {
    const Json schema = Json::parse(text);
    CAPTURE(text);
    const auto compiled = compile_schema(schema, "schema");
    std::set<std::string> different;
    for (int seed = 0; seed < 100; ++seed) {
      JsonGrammar grammar(compiled);
      const std::string made = random_text(grammar, draw, size_t(draw.below(120)));
      CAPTURE(made);
      const Json value = Json::parse(made, nullptr, false);
      REQUIRE_FALSE(value.is_discarded());
      REQUIRE(valid(value, schema, schema));
      different.insert(made);
    }
    CHECK(different.size() > 50);
  }
}

TEST_CASE("a grammar takes what is of the schema and nothing else", "[serve]") {
  const char* person = schemas()[0];
  CHECK(accepts(person, R"({"name": "Ada", "age": 36})"));
  CHECK(accepts(person, "{\n  \"age\": -1,\n  \"name\": \"\\u00e9\\n\"\n}"));
  CHECK_FALSE(accepts(person, R"({"name": "Ada"})"));
  CHECK_FALSE(accepts(person, R"({"name": "Ada", "age": 36, "age": 37})"));
  CHECK_FALSE(accepts(person, R"({"name": "Ada", "age": 36, "x": 1})"));
  CHECK_FALSE(accepts(person, R"({"name": "Ada", "age": 3.5})"));
  CHECK_FALSE(accepts(person, R"({"name": "Ada", "age": 36,})"));
  CHECK_FALSE(accepts(person, R"({"name": "Ada", "age": 36} )"));
  CHECK_FALSE(accepts(person, R"([])"));
  const char* text = R"({"type": "string"})";
  CHECK(accepts(text, "\"\xF0\x9F\x98\x80 \xC3\xA9\""));
  CHECK_FALSE(accepts(text, "\"\xC3\""));          // half a character
  CHECK_FALSE(accepts(text, "\"\xED\xA0\x80\""));  // half a pair
  CHECK_FALSE(accepts(text, "\"\xC0\x80\""));      // written too long
  CHECK_FALSE(accepts(text, "\"\n\""));
  CHECK_FALSE(accepts(text, "\"\\ud83d\""));
  CHECK(accepts(R"({"type": "string", "minLength": 2, "maxLength": 2})", "\"\xC3\xA9\\n\""));
  CHECK(accepts(R"({"enum": [1, 12, 123]})", "12"));
  CHECK_FALSE(accepts(R"({"enum": [1, 12, 123]})", "13"));
  CHECK(accepts(R"({"type": "number"})", "-0.5e-12"));
  CHECK_FALSE(accepts(R"({"type": "number"})", "01"));
  CHECK_FALSE(accepts(R"({"type": "number"})", "1e999"));
  CHECK_FALSE(accepts(R"({"type": "array", "maxItems": 1})", "[1, 2]"));
  CHECK(accepts("{}", std::string(20, '[') + std::string(20, ']')));
  CHECK_FALSE(accepts("{}", std::string(60, '[') + std::string(60, ']')));
}

TEST_CASE("what a schema asks for and is not supported is refused by name", "[serve]") {
  CHECK(refusal(R"({"type": "integer", "minimum": 3})") == "schema: minimum is not supported");
  CHECK(refusal(R"({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}})") ==
        "schema.properties.a: pattern is not supported");
  CHECK(refusal(R"({"allOf": []})") == "schema: allOf is not supported");
  CHECK(refusal(R"({"type": "text"})") == "schema: there is no type 'text'");
  CHECK(refusal(R"({"enum": []})") == "schema: enum is empty: no value is one of it");
  CHECK(refusal(R"({"$ref": "other.json"})").find("leaves the schema") != std::string::npos);
  CHECK(refusal(R"({"$ref": "#/$defs/x"})").find("nowhere in the schema") != std::string::npos);
  CHECK(refusal(R"({"$ref": "#"})").find("refers to itself") != std::string::npos);
  CHECK(refusal(R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})").find("without end") !=
        std::string::npos);
  CHECK(refusal(R"({"type": "array", "minItems": 3, "maxItems": 2})") == "schema: minItems is more than maxItems");
  CHECK(refusal(R"({"type": "array", "minItems": -1})").find("minItems is a whole number") != std::string::npos);
  CHECK(refusal(R"({"properties": {"a": true}, "additionalProperties": {"type": "null"}})")
            .find("additionalProperties") != std::string::npos);
  CHECK(refusal(R"("object")") == "schema: a schema is an object");
  CHECK(refusal(R"({"title": "T", "description": "d", "default": 1, "type": "object"})") == "");
}

TEST_CASE("a mask allows the tokens whose bytes the grammar takes, and no others", "[serve]") {
  tests::Draw draw(5);
  // Every byte, and words with several parts of a value in them.
  std::vector<std::string> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, char(byte));
  for (const char* word :
       {"{\"", "\":", "\": \"", "\", \"", "\"}",  "true",     "null",     "na",    "name", "\"name\": ", "age\":", "[]",
        "]}",  "}}",  "{}",     " 12",    "1.5e", "\xC3\xA9", "\xE2\x82", "\\u00", "ab",   "circle\"",   ""})
    bytes.emplace_back(word);
  const auto end = int32_t(bytes.size());
  bytes.emplace_back();  // has no bytes
  const auto trie = std::make_shared<const TokenTrie>(bytes);
  for (const char* text : schemas()) {
    CAPTURE(text);
    const Json schema = Json::parse(text);
    const auto compiled = compile_schema(schema, "schema");
    for (int seed = 0; seed < 5; ++seed) {
      TokenMask mask(trie, compiled, {end});
      JsonGrammar grammar(compiled);
      JsonGrammar::State state = grammar.start();
      std::string made;
      for (int step = 0; step < 400; ++step) {
        std::vector<bool> allowed(bytes.size() + 3, true);
        mask.apply(allowed);
        std::vector<int32_t> good;
        for (size_t token = 0; token < allowed.size(); ++token) {
          JsonGrammar::State next = state;
          bool takes = token < bytes.size() && !bytes[token].empty();
          for (size_t i = 0; takes && i < bytes[token].size(); ++i)
            takes = grammar.advance(next, static_cast<unsigned char>(bytes[token][i]));
          if (token == size_t(end)) takes = grammar.finished(state);
          REQUIRE(allowed[token] == takes);
          if (takes) good.push_back(int32_t(token));
        }
        REQUIRE_FALSE(good.empty());
        int32_t token = good[draw.below(uint32_t(good.size()))];
        std::vector<int32_t> closers;
        for (const int32_t each : good) {
          if (bytes[size_t(each)] == "\"" || bytes[size_t(each)] == "}" || bytes[size_t(each)] == "]")
            closers.push_back(each);
        }
        if (step > 40 && !closers.empty()) token = draw.of(closers);
        REQUIRE(mask.push(token));
        if (token == end) break;
        made += bytes[size_t(token)];
        for (const char byte : bytes[size_t(token)]) REQUIRE(grammar.advance(state, static_cast<unsigned char>(byte)));
        if (mask.closed()) break;
      }
      CAPTURE(made);
      REQUIRE(mask.finished());
      REQUIRE(valid(Json::parse(made), schema, schema));
      if (mask.closed()) CHECK_FALSE(mask.push(int32_t(' ')));
    }
  }
}
