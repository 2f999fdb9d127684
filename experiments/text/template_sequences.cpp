// Filters that take and make lists.
#include <algorithm>
#include <array>

#include "experiments/text/template_tables.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

using E = Evaluator;
using A = Arguments;

Value length(E& e, const Value& value, const A& arguments) {
  Parameters("length", arguments).done();
  if (value.is_string()) {
    e.work.spend(value.string().size() / 64);
    return int64_t(character_count(value.string()));
  }
  if (const List* list = value.as_list()) return int64_t(list->items.size());
  if (const Dict* dict = value.as_dict(); dict != nullptr && !dict->is_namespace) return int64_t(dict->entries.size());
  check(value.is_undefined(), "{} has no length", type_name(value));
  return int64_t{0};
}

Value first(E& e, const Value& value, const A& arguments) {
  Parameters("first", arguments).done();
  const std::vector<Value> items = e.iterate(value);
  return items.empty() ? Value::undefined("there is no first one") : items.front();
}

Value last(E& e, const Value& value, const A& arguments) {
  Parameters("last", arguments).done();
  const std::vector<Value> items = e.iterate(value);
  return items.empty() ? Value::undefined("there is no last one") : items.back();
}

Value list(E& e, const Value& value, const A& arguments) {
  Parameters("list", arguments).done();
  return e.list(e.iterate(value));
}

Value reverse(E& e, const Value& value, const A& arguments) {
  Parameters("reverse", arguments).done();
  std::vector<Value> items = e.iterate(value);
  std::reverse(items.begin(), items.end());
  if (!value.is_string()) return e.list(std::move(items));
  std::string text;
  for (const Value& item : items) text += item.string();
  return e.string(std::move(text));
}

// "a.b.0" of a value, as filters take attributes.
Value deep_attribute(E& e, Value value, const Value& path) {
  if (!path.is_string()) return e.item(value, path);
  const std::string& names = path.string();
  for (size_t at = 0; at <= names.size();) {
    const size_t end = std::min(names.find('.', at), names.size());
    const std::string name = names.substr(at, end - at);
    const bool number = !name.empty() && name.size() < 10 &&
                        std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    value = e.item(value, number ? Value(int64_t(std::stoll(name))) : Value(name));
    at = end + 1;
  }
  return value;
}

Value join(E& e, const Value& value, const A& arguments) {
  Parameters parameters("join", arguments);
  const Value* between = parameters.next("d");
  const Value* attribute = parameters.next("attribute");
  parameters.done();
  const std::string separator = between == nullptr ? "" : e.text(*between);
  std::string text;
  bool begun = false;
  for (const Value& item : e.iterate(value)) {
    const size_t before = text.size();
    if (std::exchange(begun, true)) text += separator;
    text += e.text(attribute == nullptr || attribute->is_none() ? item : deep_attribute(e, item, *attribute));
    e.work.allocate(text.size() - before);
  }
  return text;
}

Value items(E& e, const Value& value, const A& arguments) {
  Parameters("items", arguments).done();
  std::vector<Value> pairs;
  if (!value.is_undefined()) {
    const Dict* dict = value.as_dict();
    check(dict != nullptr && !dict->is_namespace, "items takes a dict, not {}", type_name(value));
    for (const auto& [key, entry] : dict->entries) pairs.push_back(e.list({key, entry}, true));
  }
  return e.list(std::move(pairs));
}

// Letters of either case are the same unless case matters.
Value without_case(const Value& value, bool matters) {
  return value.is_string() && !matters ? Value(lower(value.string())) : value;
}

void sort_values(E& e, std::vector<std::pair<Value, Value>>& keyed, bool backwards) {
  e.work.spend(keyed.size() * 16);
  // Everything is compared once before: std::sort must not meet values without an order.
  for (size_t i = 1; i < keyed.size(); ++i) compare(keyed[0].first, keyed[i].first, e.work);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    const int order = compare(a.first, b.first, e.work);
    return backwards ? order > 0 : order < 0;
  });
}

Value sort(E& e, const Value& value, const A& arguments) {
  Parameters parameters("sort", arguments);
  const bool backwards = parameters.flag("reverse", false), matters = parameters.flag("case_sensitive", false);
  const Value* attribute = parameters.next("attribute");
  parameters.done();
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : e.iterate(value)) {
    const bool whole = attribute == nullptr || attribute->is_none();
    keyed.emplace_back(without_case(whole ? item : deep_attribute(e, item, *attribute), matters), item);
  }
  sort_values(e, keyed, backwards);
  std::vector<Value> result;
  for (auto& [key, item] : keyed) result.push_back(std::move(item));
  return e.list(std::move(result));
}

Value dict_sort(E& e, const Value& value, const A& arguments) {
  Parameters parameters("dictsort", arguments);
  const bool matters = parameters.flag("case_sensitive", false);
  const std::string by = parameters.text("by", "key");
  const bool backwards = parameters.flag("reverse", false);
  parameters.done();
  check(by == "key" || by == "value", "dictsort goes by key or value, not by '{}'", by);
  const Dict* dict = value.as_dict();
  check(dict != nullptr, "dictsort takes a dict, not {}", type_name(value));
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, entry] : dict->entries) {
    keyed.emplace_back(without_case(by == "key" ? key : entry, matters), e.list({key, entry}, true));
  }
  sort_values(e, keyed, backwards);
  std::vector<Value> result;
  for (auto& [key, pair] : keyed) result.push_back(std::move(pair));
  return e.list(std::move(result));
}

Value extreme(E& e, const Value& value, const A& arguments, int sign) {
  Parameters parameters(sign > 0 ? "max" : "min", arguments);
  const bool matters = parameters.flag("case_sensitive", false);
  const Value* attribute = parameters.next("attribute");
  parameters.done();
  Value best = Value::undefined("there is no largest or smallest of none"), best_key;
  bool any = false;
  for (const Value& item : e.iterate(value)) {
    Value key = without_case(attribute == nullptr ? item : deep_attribute(e, item, *attribute), matters);
    if (any && compare(key, best_key, e.work) * sign <= 0) continue;
    any = true;
    best = item;
    best_key = std::move(key);
  }
  return best;
}

Value sum(E& e, const Value& value, const A& arguments) {
  Parameters parameters("sum", arguments);
  const Value* attribute = parameters.next("attribute");
  const Value* start = parameters.next("start");
  parameters.done();
  Value total = start == nullptr ? Value(int64_t{0}) : *start;
  for (const Value& item : e.iterate(value)) {
    const bool whole = attribute == nullptr || attribute->is_none();
    total = arithmetic(e, "+", total, whole ? item : deep_attribute(e, item, *attribute));
  }
  return total;
}

Value unique(E& e, const Value& value, const A& arguments) {
  Parameters parameters("unique", arguments);
  const bool matters = parameters.flag("case_sensitive", false);
  const Value* attribute = parameters.next("attribute");
  parameters.done();
  std::vector<Value> seen, result;
  for (const Value& item : e.iterate(value)) {
    Value key = without_case(attribute == nullptr ? item : deep_attribute(e, item, *attribute), matters);
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& each) { return equal(each, key, e.work); })) continue;
    seen.push_back(std::move(key));
    result.push_back(item);
  }
  return e.list(std::move(result));
}

// Without its first `count` positional arguments.
A rest_of(const A& arguments, size_t count) {
  A rest = arguments;
  rest.positional.erase(rest.positional.begin(), rest.positional.begin() + std::ptrdiff_t(count));
  return rest;
}

// select(test, ..) and reject; with `by_attribute` the first argument is the attribute that is tested.
template <bool wanted, bool by_attribute>
Value select(E& e, const Value& value, const A& arguments) {
  constexpr size_t kPlace = by_attribute ? 1 : 0;
  check(arguments.positional.size() >= kPlace, "selectattr and rejectattr take an attribute");
  const bool tested = arguments.positional.size() > kPlace;
  if (tested) check(arguments.positional[kPlace].is_string(), "the name of a test is a string");
  std::vector<Value> result;
  if (!truth(value)) return e.list({});  // of none as well, which is nothing to go through elsewhere
  for (const Value& item : e.iterate(value)) {
    const Value subject = by_attribute ? deep_attribute(e, item, arguments.positional[0]) : item;
    bool holds = truth(subject);
    if (tested) {
      A rest = rest_of(arguments, kPlace + 1);
      holds = e.test(arguments.positional[kPlace].string(), subject, rest);
    }
    if (holds == wanted) result.push_back(item);
  }
  return e.list(std::move(result));
}

// map(filter, ..), or map(attribute=..).
Value map(E& e, const Value& value, const A& arguments) {
  std::vector<Value> result;
  if (!truth(value)) return e.list({});
  if (arguments.positional.empty()) {
    Parameters parameters("map", arguments);
    const Value *attribute = nullptr, *other = nullptr;
    for (const auto& [name, given] : arguments.named) {
      if (name == "attribute") attribute = &given;
      if (name == "default") other = &given;
    }
    if (attribute == nullptr || arguments.named.size() != size_t(other == nullptr ? 1 : 2)) {
      parameters.fail("takes a filter, or attribute=..");
    }
    for (const Value& item : e.iterate(value)) {
      const Value found = deep_attribute(e, item, *attribute);
      result.push_back(found.is_undefined() && other != nullptr ? *other : found);
    }
    return e.list(std::move(result));
  }
  check(arguments.positional[0].is_string(), "map takes the name of a filter");
  for (const Value& item : e.iterate(value)) {
    A rest = rest_of(arguments, 1);
    result.push_back(e.filter(arguments.positional[0].string(), item, rest));
  }
  return e.list(std::move(result));
}

Value attribute_of(E& e, const Value& value, const A& arguments) {
  Parameters parameters("attr", arguments);
  const Value& name = parameters.required("name");
  parameters.done();
  check(name.is_string(), "attr takes a name");
  return e.attribute(value, name.string());
}

Value batch(E& e, const Value& value, const A& arguments) {
  Parameters parameters("batch", arguments);
  const int64_t count = to_integer(parameters.required("linecount"), "the size of a batch");
  const Value* fill = parameters.next("fill_with");
  parameters.done();
  check(count > 0, "a batch holds at least one, not {}", count);
  std::vector<Value> result, part;
  for (const Value& item : e.iterate(value)) {
    part.push_back(item);
    if (int64_t(part.size()) == count) result.push_back(e.list(std::exchange(part, {})));
  }
  if (!part.empty()) {
    if (fill != nullptr && !fill->is_none()) {
      e.work.allocate(size_t(std::min(count, int64_t{1} << 40)) * sizeof(Value));
      part.resize(size_t(count), *fill);
    }
    result.push_back(e.list(std::move(part)));
  }
  return e.list(std::move(result));
}

Value group_by(E& e, const Value& value, const A& arguments) {
  Parameters parameters("groupby", arguments);
  const Value& attribute = parameters.required("attribute");
  const Value* other = parameters.next("default");
  const bool matters = parameters.flag("case_sensitive", false);
  parameters.done();
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : e.iterate(value)) {
    Value key = deep_attribute(e, item, attribute);
    if (key.is_undefined() && other != nullptr) key = *other;
    keyed.emplace_back(without_case(key, matters), e.list({key, item}, true));
  }
  sort_values(e, keyed, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < keyed.size();) {
    std::vector<Value> members;
    size_t end = begin;
    for (; end < keyed.size() && equal(keyed[begin].first, keyed[end].first, e.work); ++end) {
      members.push_back(keyed[end].second.as_list()->items[1]);
    }
    groups.push_back(e.list({keyed[begin].second.as_list()->items[0], e.list(std::move(members))}, true));
    begin = end;
  }
  return e.list(std::move(groups));
}

constexpr std::array<Named<Filter>, 22> kSequenceFilters = {{
    {"attr", attribute_of},
    {"batch", batch},
    {"count", length},
    {"dictsort", dict_sort},
    {"first", first},
    {"groupby", group_by},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list},
    {"map", map},
    {"max", [](E& e, const Value& value, const A& arguments) { return extreme(e, value, arguments, 1); }},
    {"min", [](E& e, const Value& value, const A& arguments) { return extreme(e, value, arguments, -1); }},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"reverse", reverse},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
}};

}  // namespace

Filter find_sequence_filter(std::string_view name) { return find_named(kSequenceFilters, name); }

}  // namespace surtsey::experiments::text::templates
