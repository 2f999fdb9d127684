#include "experiments/text/template_value.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "experiments/base/utf8.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

int deeper(int depth) {
  check(depth < kDepthLimit, "values are nested deeper than {} levels", kDepthLimit);
  return depth + 1;
}

// Of what cannot hold anything else.
bool equal_keys(const Value& a, const Value& b) {
  if (a.is_string() || b.is_string()) return a.is_string() && b.is_string() && a.string() == b.string();
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.number() == b.number() : a.integer() == b.integer();
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

}  // namespace

Value Value::undefined(std::string what) {
  Value value;
  value.content_ = Undefined{std::make_shared<const std::string>(std::move(what))};
  return value;
}

Value Value::list(std::vector<Value> items, bool tuple) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, depth_of(item));
  return std::make_shared<List>(List{std::move(items), tuple, deeper(depth)});
}

List* Value::as_list() const {
  const auto* held = get<std::shared_ptr<List>>();
  return held == nullptr ? nullptr : held->get();
}
Dict* Value::as_dict() const {
  const auto* held = get<std::shared_ptr<Dict>>();
  return held == nullptr ? nullptr : held->get();
}
Callable* Value::as_callable() const {
  const auto* held = get<std::shared_ptr<Callable>>();
  return held == nullptr ? nullptr : held->get();
}
Loop* Value::as_loop() const {
  const auto* held = get<std::shared_ptr<Loop>>();
  return held == nullptr ? nullptr : held->get();
}

double Value::number() const {
  const auto* held = get<double>();
  return held != nullptr ? *held : double(integer());
}

int64_t Value::integer() const {
  const auto* held = get<bool>();
  return held != nullptr ? int64_t(*held) : *get<int64_t>();
}

size_t Dict::place(const Value& key) const {
  if (key.is_string()) {
    const auto found = places_.find(key.string());
    return found == places_.end() ? entries.size() : found->second;
  }
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return equal_keys(entry.first, key); });
  return size_t(found - entries.begin());
}

const Value* Dict::find(const Value& key) const {
  const size_t at = place(key);
  return at == entries.size() ? nullptr : &entries[at].second;
}

const Value* Dict::find_name(const std::string& key) const {
  const auto found = places_.find(key);
  return found == places_.end() ? nullptr : &entries[found->second].second;
}

void Dict::set(Value key, Value value) {
  check(key.is_string() || key.is_number() || key.is_none(), "{} cannot be a key", type_name(key));
  depth = std::max(depth, deeper(depth_of(value)));
  const size_t at = place(key);
  if (at < entries.size()) {
    entries[at].second = std::move(value);
    return;
  }
  if (key.is_string()) places_[key.string()] = entries.size();
  entries.emplace_back(std::move(key), std::move(value));
}

bool Dict::erase(const Value& key) {
  const size_t at = place(key);
  if (at == entries.size()) return false;
  entries.erase(entries.begin() + std::ptrdiff_t(at));
  places_.clear();
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].first.is_string()) places_[entries[i].first.string()] = i;
  }
  return true;
}

void Dict::clear() {
  entries.clear();
  places_.clear();
}

Value from_json(const nlohmann::ordered_json& json) {
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
      return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_unsigned:
      check(json.get<uint64_t>() <= uint64_t(INT64_MAX), "the number {} does not fit", json.get<uint64_t>());
      return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_float:
      return json.get<double>();
    case nlohmann::ordered_json::value_t::string:
      return json.get<std::string>();
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(from_json(item));
      return Value::list(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, value] : json.items()) dict->set(key, from_json(value));
      return dict;
    }
    default:
      return None{};
  }
}

void Work::spend(size_t count) {
  steps -= int64_t(count);
  check(steps >= 0, "the template takes more steps than any real one does");
}

void Work::allocate(size_t count) {
  spend(count / 64);
  bytes -= int64_t(count);
  check(bytes >= 0, "the template makes more text than any real one does");
}

int depth_of(const Value& value) {
  if (const List* list = value.as_list()) return list->depth;
  if (const Dict* dict = value.as_dict()) return dict->depth;
  return 0;
}

bool truth(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_number()) return value.number() != 0;
  if (value.is_string()) return !value.string().empty();
  if (const List* list = value.as_list()) return !list->items.empty();
  if (const Dict* dict = value.as_dict()) return dict->is_namespace || !dict->entries.empty();
  return true;
}

namespace {

bool equal_at(const Value& a, const Value& b, int depth, Work& work) {
  deeper(depth);
  work.spend(1);
  if (const List *x = a.as_list(), *y = b.as_list(); x != nullptr && y != nullptr) {
    if (x == y) return true;
    if (x->tuple != y->tuple || x->items.size() != y->items.size()) return false;
    for (size_t i = 0; i < x->items.size(); ++i) {
      if (!equal_at(x->items[i], y->items[i], depth + 1, work)) return false;
    }
    return true;
  }
  if (const Dict *x = a.as_dict(), *y = b.as_dict(); x != nullptr && y != nullptr) {
    if (x == y) return true;
    if (x->is_namespace || y->is_namespace || x->entries.size() != y->entries.size()) return false;
    for (const auto& [key, value] : x->entries) {
      const Value* other = y->find(key);
      if (other == nullptr || !equal_at(value, *other, depth + 1, work)) return false;
    }
    return true;
  }
  if (a.as_callable() != nullptr) return a.as_callable() == b.as_callable();
  if (a.as_loop() != nullptr) return a.as_loop() == b.as_loop();
  return equal_keys(a, b);
}

int compare_at(const Value& a, const Value& b, int depth, Work& work) {
  deeper(depth);
  work.spend(1);
  if (a.is_number() && b.is_number()) {
    if (!a.is_float() && !b.is_float()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
    return a.number() < b.number() ? -1 : a.number() > b.number();
  }
  if (a.is_string() && b.is_string()) return a.string().compare(b.string());
  if (const List *x = a.as_list(), *y = b.as_list(); x != nullptr && y != nullptr && x->tuple == y->tuple) {
    for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i) {
      if (!equal_at(x->items[i], y->items[i], depth, work)) {
        return compare_at(x->items[i], y->items[i], depth + 1, work);
      }
    }
    return int(x->items.size() > y->items.size()) - int(x->items.size() < y->items.size());
  }
  throw UserError(fmt::format("{} and {} have no order", type_name(a), type_name(b)));
}

}  // namespace

bool equal(const Value& a, const Value& b, Work& work) { return equal_at(a, b, 0, work); }
int compare(const Value& a, const Value& b, Work& work) { return compare_at(a, b, 0, work); }

bool contains(const Value& container, const Value& item, Work& work) {
  if (container.is_string()) {
    work.spend(container.string().size() / 64);
    check(item.is_string(), "'in' a string takes a string, not {}", type_name(item));
    return container.string().find(item.string()) != std::string::npos;
  }
  if (const List* list = container.as_list()) {
    return std::any_of(list->items.begin(), list->items.end(),
                       [&](const Value& each) { return equal(each, item, work); });
  }
  if (const Dict* dict = container.as_dict(); dict != nullptr && !dict->is_namespace)
    return dict->find(item) != nullptr;
  check(container.is_undefined(), "'in' takes a string, a list or a dict, not {}", type_name(container));
  return false;
}

std::string type_name(const Value& value) {
  if (value.is_undefined()) return "undefined";
  if (value.is_none()) return "none";
  if (value.is_boolean()) return "a boolean";
  if (value.is_integer()) return "an integer";
  if (value.is_float()) return "a float";
  if (value.is_string()) return "a string";
  if (const List* list = value.as_list()) return list->tuple ? "a tuple" : "a list";
  if (const Dict* dict = value.as_dict()) return dict->is_namespace ? "a namespace" : "a dict";
  return value.as_loop() != nullptr ? "a loop" : "a function";
}

// The fewest digits that give the number again; positional from 1e-4 to 1e16.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  const double size = std::abs(value);
  const bool positional = size == 0 || (size >= 1e-4 && size < 1e16);
  std::array<char, 64> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          positional ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer.data(), end);
  if (positional && text.find('.') == text.npos) text += ".0";
  return text;
}

namespace {

std::string quoted(const std::string& text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string result(1, quote);
  for (const char32_t point : characters(text)) {
    if (point == U'\\' || point == char32_t(quote)) {
      result += '\\', result += static_cast<char>(point);
    } else if (point == '\n') {
      result += "\\n";
    } else if (point == '\r') {
      result += "\\r";
    } else if (point == '\t') {
      result += "\\t";
    } else if (point < 0x20 || (point >= 0x7F && point < 0xA1) || point == 0xAD) {
      result += fmt::format("\\x{:02x}", uint32_t(point));
    } else {
      append_utf8(result, point);
    }
  }
  return result + quote;
}

void append_repr(std::string& out, const Value& value, int depth, Work& work) {
  deeper(depth);
  const size_t before = out.size();
  if (value.is_string()) {
    out += quoted(value.string());
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else if (const List* list = value.as_list()) {
    out += list->tuple ? '(' : '[';
    for (size_t i = 0; i < list->items.size(); ++i) {
      if (i > 0) out += ", ";
      append_repr(out, list->items[i], depth + 1, work);
    }
    if (list->tuple && list->items.size() == 1) out += ',';
    out += list->tuple ? ')' : ']';
    work.allocate(2);
    return;
  } else if (const Dict* dict = value.as_dict()) {
    out += dict->is_namespace ? "<Namespace {" : "{";
    for (size_t i = 0; i < dict->entries.size(); ++i) {
      if (i > 0) out += ", ";
      append_repr(out, dict->entries[i].first, depth + 1, work);
      out += ": ";
      append_repr(out, dict->entries[i].second, depth + 1, work);
    }
    out += dict->is_namespace ? "}>" : "}";
    work.allocate(2);
    return;
  } else {
    out += text_of(value, work);
  }
  work.allocate(out.size() - before + 4);
}

}  // namespace

std::string repr(const Value& value, Work& work) {
  std::string out;
  append_repr(out, value, 0, work);
  return out;
}

std::string text_of(const Value& value, Work& work) {
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (value.is_boolean()) return truth(value) ? "True" : "False";
  if (value.is_integer()) return std::to_string(value.integer());
  if (value.is_float()) return float_text(value.number());
  if (value.is_string()) return value.string();
  check(value.as_callable() == nullptr, "the function '{}' has no text; it wants parentheses",
        value.as_callable() == nullptr ? "" : value.as_callable()->name);
  check(value.as_loop() == nullptr, "loop has no text");
  return repr(value, work);
}

namespace {

void json_string(std::string& out, const std::string& text, bool ascii) {
  const nlohmann::json json = text;
  out += json.dump(-1, ' ', ascii);
}

std::string json_key(const Value& key) {
  if (key.is_string()) return key.string();
  if (key.is_boolean()) return truth(key) ? "true" : "false";
  if (key.is_none()) return "null";
  return key.is_float() ? float_text(key.number()) : std::to_string(key.integer());
}

void append_json(std::string& out, const Value& value, const JsonStyle& style, int depth, Work& work) {
  deeper(depth);
  const size_t before = out.size();
  const auto line = [&](int level) {
    if (style.indent < 0) return;
    work.allocate(size_t(style.indent) * size_t(level));
    out += '\n';
    out.append(size_t(style.indent) * size_t(level), ' ');
  };
  const auto between = [&](size_t i) {
    if (i > 0) out += style.item_separator;
    line(depth + 1);
  };
  if (value.is_none()) {
    out += "null";
  } else if (value.is_boolean()) {
    out += truth(value) ? "true" : "false";
  } else if (value.is_integer()) {
    out += std::to_string(value.integer());
  } else if (value.is_float()) {
    const double number = value.number();
    out += std::isnan(number)   ? "NaN"
           : std::isinf(number) ? (number < 0 ? "-Infinity" : "Infinity")
                                : float_text(number);
  } else if (value.is_string()) {
    json_string(out, value.string(), style.ascii);
  } else if (const List* list = value.as_list()) {
    out += '[';
    for (size_t i = 0; i < list->items.size(); ++i) {
      between(i);
      append_json(out, list->items[i], style, depth + 1, work);
    }
    if (!list->items.empty()) line(depth);
    out += ']';
  } else if (const Dict* dict = value.as_dict(); dict != nullptr && !dict->is_namespace) {
    std::vector<std::pair<std::string, const Value*>> entries;
    for (const auto& [key, item] : dict->entries) entries.emplace_back(json_key(key), &item);
    if (style.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    out += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      between(i);
      json_string(out, entries[i].first, style.ascii);
      out += style.key_separator;
      append_json(out, *entries[i].second, style, depth + 1, work);
    }
    if (!dict->entries.empty()) line(depth);
    out += '}';
  } else {
    throw UserError(fmt::format("tojson: {} has no JSON", type_name(value)));
  }
  // What is inside of a container has been counted by itself.
  work.allocate(value.as_list() != nullptr || value.as_dict() != nullptr ? 4 : out.size() - before + 4);
}

}  // namespace

std::string to_json(const Value& value, const JsonStyle& style, Work& work) {
  std::string out;
  append_json(out, value, style, 0, work);
  return out;
}

}  // namespace surtsey::experiments::text::templates
