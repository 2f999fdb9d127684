#include "experiments/serve/json_schema.h"

#include <nlohmann/json.hpp>

#include "experiments/serve/errors.h"

#include <algorithm>
#include <map>
#include <set>

namespace surtsey::experiments::serve {
namespace {

using nlohmann::ordered_json;
using Kind = JsonSchema::Kind;
using Node = JsonSchema::Node;

constexpr size_t kMostProperties = 64;  // the bits of a word
constexpr size_t kMostNodes = 4096;
constexpr size_t kMostLiterals = 4096, kMostLiteralBytes = 1 << 16;
constexpr int64_t kMostCount = 1 << 20;

// What says nothing about a value.
const std::set<std::string> kAnnotations = {"title",     "description", "default",    "examples",   "example",
                                            "$schema",   "$id",         "$comment",   "deprecated", "readOnly",
                                            "writeOnly", "$defs",       "definitions"};
const std::set<std::string> kKeywords = {"type",  "properties", "required",  "additionalProperties",
                                         "items", "minItems",   "maxItems",  "minLength",
                                         "enum",  "const",      "maxLength", "anyOf",
                                         "$ref"};

std::string written(const ordered_json& value) {
  try {
    return value.dump();
  } catch (const nlohmann::json::exception&) {  // no UTF-8
    throw invalid_request("a schema holds text that is not UTF-8");
  }
}

class Compiler {
 public:
  Compiler(const ordered_json& document, std::string where) : document_(document), where_(std::move(where)) {
    add_free_values();
  }

  int32_t compile(const ordered_json& schema, const std::string& where) {
    const auto known = done_.find(&schema);
    if (known != done_.end()) return known->second;
    // A place is reserved first, so that what refers back to it finds it.
    const int32_t index = add({});
    done_[&schema] = index;
    Node node = read(schema, where);
    at(index) = std::move(node);
    return index;
  }

  int32_t any_object() const { return free_object_; }

  JsonSchema finish(int32_t root) {
    JsonSchema schema{std::move(nodes_), root};
    for (size_t i = 0; i < schema.nodes.size(); ++i) flatten(schema, int32_t(i));
    return schema;
  }

 private:
  Node& at(int32_t index) { return nodes_[size_t(index)]; }

  int32_t add(Node node) {
    if (nodes_.size() >= kMostNodes) throw invalid_request("{}: more than {} parts", where_, kMostNodes);
    nodes_.push_back(std::move(node));
    return int32_t(nodes_.size() - 1);
  }

  // What any value is, and its parts.
  void add_free_values() {
    free_value_ = add({});
    const int32_t text = add({.kind = Kind::string, .free = true});
    const int32_t number = add({.kind = Kind::number, .free = true});
    const int32_t words = add({.kind = Kind::literals, .texts = {"false", "null", "true"}, .free = true});
    free_object_ = add({.kind = Kind::object, .additional = free_value_, .free = true});
    free_array_ = add({.kind = Kind::array, .items = free_value_, .free = true});
    at(free_value_) = {.kind = Kind::choice, .any = {text, number, words, free_object_, free_array_}, .free = true};
  }

  int64_t count(const ordered_json& schema, const char* name, int64_t fallback, const std::string& where) {
    if (!schema.contains(name)) return fallback;
    const ordered_json& value = schema[name];
    const bool good = value.is_number_integer() && value.get<double>() >= 0 && value.get<double>() <= kMostCount;
    if (!good) throw invalid_request("{}: {} is a whole number up to {}", where, name, kMostCount);
    return value.get<int64_t>();
  }

  void set_limits(Node& node, const ordered_json& schema, const char* least, const char* most,
                  const std::string& where) {
    node.least = count(schema, least, 0, where);
    node.most = count(schema, most, -1, where);
    if (node.most >= 0 && node.least > node.most) throw invalid_request("{}: {} is more than {}", where, least, most);
  }

  Node literals(const std::vector<ordered_json>& values, const std::string& where) {
    Node node{.kind = Kind::literals};
    size_t bytes = 0;
    for (const ordered_json& value : values) {
      node.texts.push_back(written(value));
      bytes += node.texts.back().size();
    }
    if (values.empty()) throw invalid_request("{}: enum is empty: no value is one of it", where);
    if (values.size() > kMostLiterals || bytes > kMostLiteralBytes)
      throw invalid_request("{}: enum is too long", where);
    std::sort(node.texts.begin(), node.texts.end());
    node.texts.erase(std::unique(node.texts.begin(), node.texts.end()), node.texts.end());
    return node;
  }

  Node object(const ordered_json& schema, const std::string& where) {
    Node node{.kind = Kind::object};
    std::map<std::string, int32_t> properties;  // by how the key is written
    const auto key = [](const std::string& name) { return written(name).substr(1); };
    if (schema.contains("properties")) {
      const ordered_json& given = schema["properties"];
      if (!given.is_object()) throw invalid_request("{}: properties is an object", where);
      for (const auto& [name, value] : given.items())
        properties[key(name)] = compile(value, where + ".properties." + name.substr(0, 64));
    }
    std::set<std::string> required;
    if (schema.contains("required")) {
      const ordered_json& given = schema["required"];
      if (!given.is_array()) throw invalid_request("{}: required is a list of names", where);
      for (const ordered_json& name : given) {
        if (!name.is_string()) throw invalid_request("{}: required is a list of names", where);
        const std::string spelt = key(name.get<std::string>());
        required.insert(spelt);
        properties.emplace(spelt, free_value_);
      }
    }
    if (properties.size() > kMostProperties)
      throw invalid_request("{}: {} properties, at most {} are supported", where, properties.size(), kMostProperties);
    for (const auto& [name, value] : properties) {
      if (required.contains(name)) node.required |= uint64_t{1} << node.texts.size();
      node.texts.push_back(name);
      node.values.push_back(value);
    }
    const bool said = schema.contains("additionalProperties");
    if (said && schema["additionalProperties"].is_object()) {
      if (!properties.empty())
        throw invalid_request("{}: additionalProperties with a schema beside properties is not supported", where);
      node.additional = compile(schema["additionalProperties"], where + ".additionalProperties");
    } else if (said && !schema["additionalProperties"].is_boolean()) {
      throw invalid_request("{}: additionalProperties is true, false or a schema", where);
    } else if (properties.empty() && !(said && !schema["additionalProperties"].get<bool>()) &&
               !schema.contains("properties")) {
      node.additional = free_value_;
    }
    return node;
  }

  Node of_type(const ordered_json& schema, const std::string& type, const std::string& where) {
    if (type == "object") return object(schema, where);
    if (type == "array") {
      Node node{.kind = Kind::array, .items = free_value_};
      set_limits(node, schema, "minItems", "maxItems", where);
      if (schema.contains("items")) node.items = compile(schema["items"], where + ".items");
      return node;
    }
    if (type == "string") {
      Node node{.kind = Kind::string};
      set_limits(node, schema, "minLength", "maxLength", where);
      return node;
    }
    if (type == "number") return {.kind = Kind::number};
    if (type == "integer") return {.kind = Kind::integer};
    if (type == "boolean") return {.kind = Kind::literals, .texts = {"false", "true"}};
    if (type == "null") return {.kind = Kind::literals, .texts = {"null"}};
    throw invalid_request("{}: there is no type '{}'", where, type.substr(0, 64));
  }

  int32_t resolve(const std::string& target, const std::string& where) {
    const bool inside = target == "#" || target.starts_with("#/");
    if (!inside)
      throw invalid_request("{}: $ref '{}' is not supported, it leaves the schema", where, target.substr(0, 64));
    try {
      const ordered_json::json_pointer pointer(target.substr(1));
      if (document_.contains(pointer)) return compile(document_.at(pointer), where_ + target.substr(1));
    } catch (const nlohmann::json::exception&) {  // no pointer
    }
    throw invalid_request("{}: $ref '{}' is nowhere in the schema", where, target.substr(0, 64));
  }

  // `keyword` decides alone: others beside it, which would narrow it further, are refused.
  static void check_alone(const ordered_json& schema, const char* keyword, const std::string& where) {
    for (const auto& [name, value] : schema.items()) {
      const bool type = name == "type" && std::string_view(keyword) != "$ref";
      if (name != keyword && !type && kKeywords.contains(name))
        throw invalid_request("{}: {} beside {} is not supported", where, name, keyword);
    }
  }

  Node read(const ordered_json& schema, const std::string& where) {
    if (schema.is_boolean() && schema.get<bool>()) return {.kind = Kind::choice, .any = {free_value_}};
    if (!schema.is_object()) throw invalid_request("{}: a schema is an object", where);
    for (const auto& [name, value] : schema.items()) {
      if (!kAnnotations.contains(name) && !kKeywords.contains(name))
        throw invalid_request("{}: {} is not supported", where, name.substr(0, 64));
    }
    std::vector<std::string> types;
    if (schema.contains("type")) {
      const ordered_json& given = schema["type"];
      for (const ordered_json& type : given.is_array() ? given : ordered_json::array({given})) {
        if (!type.is_string()) throw invalid_request("{}: type is a name or a list of names", where);
        types.push_back(type.get<std::string>());
      }
      if (types.empty()) throw invalid_request("{}: type is an empty list: no value is of it", where);
    }
    if (schema.contains("$ref")) {
      check_alone(schema, "$ref", where);
      if (!schema["$ref"].is_string()) throw invalid_request("{}: $ref is a text", where);
      return {.kind = Kind::choice, .any = {resolve(schema["$ref"].get<std::string>(), where)}};
    }
    if (schema.contains("const") || schema.contains("enum")) {
      const char* keyword = schema.contains("const") ? "const" : "enum";
      check_alone(schema, keyword, where);
      std::vector<ordered_json> values;
      if (schema.contains("const")) {
        values.push_back(schema["const"]);
      } else {
        if (!schema["enum"].is_array()) throw invalid_request("{}: enum is a list of values", where);
        values.assign(schema["enum"].begin(), schema["enum"].end());
      }
      if (!types.empty()) std::erase_if(values, [&](const ordered_json& value) { return !has_type(value, types); });
      return literals(values, where);
    }
    if (schema.contains("anyOf")) {
      check_alone(schema, "anyOf", where);
      if (!types.empty()) throw invalid_request("{}: type beside anyOf is not supported", where);
      if (!schema["anyOf"].is_array() || schema["anyOf"].empty())
        throw invalid_request("{}: anyOf is a list of schemas", where);
      Node node{.kind = Kind::choice};
      for (const ordered_json& each : schema["anyOf"])
        node.any.push_back(compile(each, fmt::format("{}.anyOf.{}", where, node.any.size())));
      return node;
    }
    if (types.empty()) {
      // Keywords of one type say which is meant, though a schema without a type would let others pass.
      if (schema.contains("properties") || schema.contains("required") || schema.contains("additionalProperties"))
        types.emplace_back("object");
      if (schema.contains("items") || schema.contains("minItems") || schema.contains("maxItems"))
        types.emplace_back("array");
      if (schema.contains("minLength") || schema.contains("maxLength")) types.emplace_back("string");
    }
    if (types.empty()) return {.kind = Kind::choice, .any = {free_value_}};
    if (types.size() == 1) return of_type(schema, types.front(), where);
    Node node{.kind = Kind::choice};
    for (const std::string& type : types) node.any.push_back(add(of_type(schema, type, where)));
    return node;
  }

  static bool has_type(const ordered_json& value, const std::vector<std::string>& types) {
    return std::any_of(types.begin(), types.end(), [&](const std::string& type) {
      return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
             (type == "string" && value.is_string()) || (type == "number" && value.is_number()) ||
             (type == "integer" && value.is_number_integer()) || (type == "boolean" && value.is_boolean()) ||
             (type == "null" && value.is_null());
    });
  }

  // Choices among the choices of a node are put in its own list.
  void flatten(JsonSchema& schema, int32_t index) const {
    if (schema.nodes[size_t(index)].kind != Kind::choice) return;
    std::vector<int32_t> leaves, open = {index};
    std::set<int32_t> seen;
    while (!open.empty()) {
      const int32_t next = open.back();
      open.pop_back();
      if (!seen.insert(next).second) continue;
      const Node& node = schema.nodes[size_t(next)];
      if (node.kind != Kind::choice) {
        leaves.push_back(next);
        continue;
      }
      open.insert(open.end(), node.any.rbegin(), node.any.rend());
    }
    if (leaves.empty()) throw invalid_request("{}: a schema refers to itself and to nothing else", where_);
    schema.nodes[size_t(index)].any = std::move(leaves);
  }

  const ordered_json& document_;
  std::string where_;
  std::vector<Node> nodes_;
  std::map<const ordered_json*, int32_t> done_;
  int32_t free_value_ = 0, free_object_ = 0, free_array_ = 0;
};

// Whether a value of each node can end: an object that requires itself never does.
void check_finite(const JsonSchema& schema, const std::string& where) {
  std::vector<bool> ends(schema.nodes.size(), false);
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < schema.nodes.size(); ++i) {
      const Node& node = schema.nodes[i];
      if (ends[i]) continue;
      bool good = true;
      if (node.kind == Kind::choice) {
        good = std::any_of(node.any.begin(), node.any.end(), [&](int32_t each) { return ends[size_t(each)]; });
      } else if (node.kind == Kind::object) {
        for (size_t k = 0; k < node.texts.size(); ++k)
          good &= (node.required >> k & 1) == 0 || ends[size_t(node.values[k])];
      } else if (node.kind == Kind::array) {
        good = node.least == 0 || ends[size_t(node.items)];
      }
      if (good) ends[i] = changed = true;
    }
  }
  const bool all = std::find(ends.begin(), ends.end(), false) == ends.end();
  if (!all) throw invalid_request("{}: a value would have to hold itself, without end", where);
}

}  // namespace

std::shared_ptr<const JsonSchema> compile_schema(const ordered_json& schema, const std::string& where) {
  Compiler compiler(schema, where);
  const int32_t root = compiler.compile(schema, where);
  auto result = std::make_shared<JsonSchema>(compiler.finish(root));
  check_finite(*result, where);
  return result;
}

std::shared_ptr<const JsonSchema> any_object_schema() {
  const ordered_json nothing = ordered_json::object();
  Compiler compiler(nothing, "response_format");
  const int32_t root = compiler.any_object();
  return std::make_shared<JsonSchema>(compiler.finish(root));
}

}  // namespace surtsey::experiments::serve
