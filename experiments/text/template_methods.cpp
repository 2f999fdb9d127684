// Methods of strings, lists and dicts.
#include <algorithm>
#include <array>

#include "experiments/text/template_tables.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

using E = Evaluator;
using Method = Value (*)(E& e, const Value& self, Parameters& parameters);

const std::string& text_argument(const Value& value, const char* what) {
  check(value.is_string(), "{} takes a string, not {}", what, type_name(value));
  return value.string();
}

// Characters before a place in bytes.
int64_t place_of(const std::string& text, size_t at) {
  return at == text.npos ? -1 : int64_t(character_count(std::string_view(text).substr(0, at)));
}

std::vector<std::string> split_at_blanks(const std::string& text, int64_t most, bool from_right) {
  std::vector<std::string> parts;
  const auto blank = [&](size_t at) { return is_whitespace(character_at(text, at)); };
  std::vector<std::pair<size_t, size_t>> words;
  for (size_t at = 0; at < text.size();) {
    if (blank(at)) {
      at += character_length(text, at);
      continue;
    }
    const size_t begin = at;
    while (at < text.size() && !blank(at)) at += character_length(text, at);
    words.emplace_back(begin, at);
  }
  const size_t cuts = most < 0 ? words.size() : size_t(most);
  if (words.size() <= cuts) {
    for (const auto& [begin, end] : words) parts.push_back(text.substr(begin, end - begin));
  } else if (from_right) {
    parts.push_back(text.substr(0, words[words.size() - cuts - 1].second));
    const std::string front = stripped(parts[0], nullptr, false, true);
    parts[0] = front;
    for (size_t i = words.size() - cuts; i < words.size(); ++i) {
      parts.push_back(text.substr(words[i].first, words[i].second - words[i].first));
    }
  } else {
    for (size_t i = 0; i < cuts; ++i) parts.push_back(text.substr(words[i].first, words[i].second - words[i].first));
    parts.push_back(stripped(text.substr(words[cuts].first), nullptr, false, true));
  }
  return parts;
}

std::vector<std::string> split_at(const std::string& text, const std::string& separator, int64_t most,
                                  bool from_right) {
  check(!separator.empty(), "split at an empty string");
  std::vector<size_t> cuts;
  if (from_right) {
    for (size_t end = text.size(); (most < 0 || int64_t(cuts.size()) < most) && end >= separator.size();) {
      const size_t found = text.rfind(separator, end - separator.size());
      if (found == text.npos) break;
      cuts.push_back(found);
      end = found;
    }
    std::reverse(cuts.begin(), cuts.end());
  } else {
    for (size_t at = 0; most < 0 || int64_t(cuts.size()) < most;) {
      const size_t found = text.find(separator, at);
      if (found == text.npos) break;
      cuts.push_back(found);
      at = found + separator.size();
    }
  }
  std::vector<std::string> parts;
  size_t at = 0;
  for (const size_t cut : cuts) {
    parts.push_back(text.substr(at, cut - at));
    at = cut + separator.size();
  }
  parts.push_back(text.substr(at));
  return parts;
}

Value texts(E& e, const std::vector<std::string>& parts) {
  std::vector<Value> items;
  for (const std::string& part : parts) items.push_back(e.string(part));
  return e.list(std::move(items));
}

template <bool from_right>
Value split(E& e, const Value& self, Parameters& p) {
  const Value* separator = p.next("sep");
  const int64_t most = p.integer("maxsplit", -1);
  if (separator == nullptr || separator->is_none()) return texts(e, split_at_blanks(self.string(), most, from_right));
  return texts(e, split_at(self.string(), text_argument(*separator, "split"), most, from_right));
}

template <bool left, bool right>
Value strip(E& e, const Value& self, Parameters& p) {
  const Value* set = p.next("chars");
  const bool given = set != nullptr && !set->is_none();
  return e.string(stripped(self.string(), given ? &text_argument(*set, "strip") : nullptr, left, right));
}

// startswith and endswith take one string, or a tuple of them.
template <bool at_end>
Value begins(E& e, const Value& self, Parameters& p) {
  const Value& given = p.required("prefix");
  const auto holds = [&](const Value& part) {
    const std::string& text = text_argument(part, at_end ? "endswith" : "startswith");
    return at_end ? self.string().ends_with(text) : self.string().starts_with(text);
  };
  if (given.is_string()) return holds(given);
  const std::vector<Value> all = e.iterate(given);
  return std::any_of(all.begin(), all.end(), holds);
}

template <bool from_right, bool needed>
Value find(E& e, const Value& self, Parameters& p) {
  const std::string& part = text_argument(p.required("sub"), "find");
  e.work.spend(self.string().size() / 16);
  const size_t at = from_right ? self.string().rfind(part) : self.string().find(part);
  check(!needed || at != self.string().npos, "the string has no '{}'", part);
  return place_of(self.string(), at);
}

Value count_text(E& e, const Value& self, Parameters& p) {
  const std::string& part = text_argument(p.required("sub"), "count");
  e.work.spend(self.string().size() / 16);
  if (part.empty()) return int64_t(character_count(self.string())) + 1;
  return int64_t(split_at(self.string(), part, -1, false).size()) - 1;
}

Value replace(E& e, const Value& self, Parameters& p) {
  const std::string& before = text_argument(p.required("old"), "replace");
  const std::string& after = text_argument(p.required("new"), "replace");
  return e.string(replaced(e, self.string(), before, after, p.integer("count", -1)));
}

Value join(E& e, const Value& self, Parameters& p) {
  std::string text;
  bool begun = false;
  for (const Value& item : e.iterate(p.required("iterable"))) {
    const std::string& part = text_argument(item, "join");
    e.work.allocate(part.size() + self.string().size());
    if (std::exchange(begun, true)) text += self.string();
    text += part;
  }
  return text;
}

template <std::string (*change)(std::string_view)>
Value changed(E& e, const Value& self, Parameters&) {
  return e.string(change(self.string()));
}
std::string titled_by_letters(std::string_view text) { return titled(text, false); }

// Whether there are characters, and each has a property.
template <bool (*holds)(char32_t)>
Value all_are(E& e, const Value& self, Parameters&) {
  e.work.spend(self.string().size());
  const std::u32string points = characters(self.string());
  return !points.empty() && std::all_of(points.begin(), points.end(), holds);
}
bool is_letter(char32_t c) { return is_word_character(c) && !is_numeric(c) && !is_mark(c) && c != '_'; }
bool is_letter_or_number(char32_t c) { return is_letter(c) || is_numeric(c); }
bool is_decimal(char32_t c) { return is_numeric(c) && is_word_character(c); }

template <std::string (*change)(std::string_view), std::string (*opposite)(std::string_view)>
Value is_case(E& e, const Value& self, Parameters&) {
  e.work.spend(self.string().size());
  return change(self.string()) == self.string() && opposite(self.string()) != self.string();
}

template <bool at_end>
Value without(E& e, const Value& self, Parameters& p) {
  const std::string& part = text_argument(p.required("affix"), "removeprefix");
  const std::string& text = self.string();
  if (at_end ? !text.ends_with(part) : !text.starts_with(part)) return self;
  return e.string(at_end ? text.substr(0, text.size() - part.size()) : text.substr(part.size()));
}

template <char alignment>
Value justified(E& e, const Value& self, Parameters& p) {
  const int64_t width = to_integer(p.required("width"), "the width");
  const std::string fill = p.text("fillchar", " ");
  return e.string(formatted(e, self, fill + alignment + std::to_string(std::max<int64_t>(0, width))));
}

Value zero_filled(E& e, const Value& self, Parameters& p) {
  const int64_t width = to_integer(p.required("width"), "the width");
  const std::string& text = self.string();
  const auto missing = std::max<int64_t>(0, width - int64_t(character_count(text)));
  e.work.allocate(size_t(missing));
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return e.string(text.substr(0, sign) + std::string(size_t(missing), '0') + text.substr(sign));
}

template <bool from_right>
Value partition(E& e, const Value& self, Parameters& p) {
  const std::string& separator = text_argument(p.required("sep"), "partition");
  const std::vector<std::string> parts = split_at(self.string(), separator, 1, from_right);
  if (parts.size() == 2) return e.list({parts[0], separator, parts[1]}, true);
  return from_right ? e.list({"", "", self}, true) : e.list({self, "", ""}, true);
}

Value split_lines(E& e, const Value& self, Parameters& p) {
  return texts(e, lines_of(self.string(), p.flag("keepends", false)));
}

constexpr std::array<Named<Method>, 36> kStringMethods = {{
    {"capitalize", changed<capitalized>},
    {"casefold", changed<lower>},
    {"center", justified<'^'>},
    {"count", count_text},
    {"endswith", begins<true>},
    {"find", find<false, false>},
    {"index", find<false, true>},
    {"isalnum", all_are<is_letter_or_number>},
    {"isalpha", all_are<is_letter>},
    {"isdecimal", all_are<is_decimal>},
    {"isdigit", all_are<is_decimal>},
    {"islower", is_case<lower, upper>},
    {"isnumeric", all_are<is_numeric>},
    {"isspace", all_are<is_whitespace>},
    {"isupper", is_case<upper, lower>},
    {"join", join},
    {"ljust", justified<'<'>},
    {"lower", changed<lower>},
    {"lstrip", strip<true, false>},
    {"partition", partition<false>},
    {"removeprefix", without<false>},
    {"removesuffix", without<true>},
    {"replace", replace},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"rjust", justified<'>'>},
    {"rpartition", partition<true>},
    {"rsplit", split<true>},
    {"rstrip", strip<false, true>},
    {"split", split<false>},
    {"splitlines", split_lines},
    {"startswith", begins<false>},
    {"strip", strip<true, true>},
    {"title", changed<titled_by_letters>},
    {"upper", changed<upper>},
    {"zfill", zero_filled},
}};

Value insert_into(E& e, const Value& self, int64_t at, const Value& value) {
  List& list = *self.as_list();
  check(depth_of(value) < kDepthLimit, "values are nested deeper than {} levels", kDepthLimit);
  e.changing(self);
  const auto size = int64_t(list.items.size());
  at = std::clamp(at < 0 ? at + size : at, int64_t{0}, size);
  list.items.insert(list.items.begin() + at, value);
  list.depth = std::max(list.depth, depth_of(value) + 1);
  return None{};
}

Value pop_from_list(E& e, const Value& self, Parameters& p) {
  List& list = *self.as_list();
  const auto size = int64_t(list.items.size());
  int64_t at = p.integer("index", -1);
  if (at < 0) at += size;
  check(at >= 0 && at < size, "pop from a list of {}", size);
  e.work.spend(size_t(size) / 64);
  const Value value = list.items[size_t(at)];
  list.items.erase(list.items.begin() + at);
  return value;
}

int64_t index_of(E& e, const List& list, const Value& value) {
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (equal(list.items[i], value, e.work)) return int64_t(i);
  }
  return -1;
}

constexpr std::array<Named<Method>, 10> kListMethods = {{
    {"append",
     [](E& e, const Value& self, Parameters& p) {
       return insert_into(e, self, int64_t(self.as_list()->items.size()), p.required("value"));
     }},
    {"clear",
     [](E&, const Value& self, Parameters&) -> Value {
       self.as_list()->items.clear();
       return None{};
     }},
    {"copy", [](E& e, const Value& self, Parameters&) { return e.list(self.as_list()->items); }},
    {"count",
     [](E& e, const Value& self, Parameters& p) -> Value {
       const Value& value = p.required("value");
       int64_t count = 0;
       for (const Value& item : self.as_list()->items) count += int64_t(equal(item, value, e.work));
       return count;
     }},
    {"extend",
     [](E& e, const Value& self, Parameters& p) -> Value {
       for (const Value& item : e.iterate(p.required("values"))) {
         insert_into(e, self, int64_t(self.as_list()->items.size()), item);
       }
       return None{};
     }},
    {"index",
     [](E& e, const Value& self, Parameters& p) -> Value {
       const int64_t at = index_of(e, *self.as_list(), p.required("value"));
       check(at >= 0, "the list has no such value");
       return at;
     }},
    {"insert",
     [](E& e, const Value& self, Parameters& p) {
       const int64_t at = to_integer(p.required("index"), "the place");
       e.work.spend(self.as_list()->items.size() / 64);
       return insert_into(e, self, at, p.required("value"));
     }},
    {"pop", pop_from_list},
    {"remove",
     [](E& e, const Value& self, Parameters& p) -> Value {
       const int64_t at = index_of(e, *self.as_list(), p.required("value"));
       check(at >= 0, "the list has no such value");
       self.as_list()->items.erase(self.as_list()->items.begin() + at);
       return None{};
     }},
    {"reverse",
     [](E& e, const Value& self, Parameters&) -> Value {
       e.work.spend(self.as_list()->items.size());
       std::reverse(self.as_list()->items.begin(), self.as_list()->items.end());
       return None{};
     }},
}};

Value pairs_of(E& e, const Dict& dict) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict.entries) pairs.push_back(e.list({key, value}, true));
  return e.list(std::move(pairs));
}

void set_entry(E& e, const Value& self, const Value& key, const Value& value) {
  e.changing(self);
  if (!key.is_string()) e.work.spend(self.as_dict()->entries.size());
  self.as_dict()->set(key, value);
}

constexpr std::array<Named<Method>, 9> kDictMethods = {{
    {"clear",
     [](E&, const Value& self, Parameters&) -> Value {
       self.as_dict()->clear();
       return None{};
     }},
    {"copy",
     [](E& e, const Value& self, Parameters&) -> Value {
       e.work.allocate(self.as_dict()->entries.size() * sizeof(Value) * 2);
       return std::make_shared<Dict>(*self.as_dict());
     }},
    {"get",
     [](E& e, const Value& self, Parameters& p) -> Value {
       const Value& key = p.required("key");
       const Value* otherwise = p.next("default");
       if (!key.is_string()) e.work.spend(self.as_dict()->entries.size());
       const Value* found = self.as_dict()->find(key);
       return found != nullptr ? *found : otherwise != nullptr ? *otherwise : Value(None{});
     }},
    {"items", [](E& e, const Value& self, Parameters&) { return pairs_of(e, *self.as_dict()); }},
    {"keys", [](E& e, const Value& self, Parameters&) { return e.list(e.iterate(self)); }},
    {"pop",
     [](E& e, const Value& self, Parameters& p) -> Value {
       const Value& key = p.required("key");
       const Value* otherwise = p.next("default");
       e.work.spend(self.as_dict()->entries.size());
       const Value* found = self.as_dict()->find(key);
       check(found != nullptr || otherwise != nullptr, "the dict has no {}", repr(key, e.work));
       const Value value = found != nullptr ? *found : *otherwise;
       self.as_dict()->erase(key);
       return value;
     }},
    {"setdefault",
     [](E& e, const Value& self, Parameters& p) -> Value {
       const Value& key = p.required("key");
       const Value* otherwise = p.next("default");
       if (self.as_dict()->find(key) == nullptr) {
         set_entry(e, self, key, otherwise != nullptr ? *otherwise : Value(None{}));
       }
       return *self.as_dict()->find(key);
     }},
    {"update",
     [](E& e, const Value& self, Parameters& p) -> Value {
       const Value other = p.required("other");
       check(other.as_dict() != nullptr, "update takes a dict, not {}", type_name(other));
       const auto entries = other.as_dict()->entries;
       for (const auto& [key, value] : entries) set_entry(e, self, key, value);
       return None{};
     }},
    {"values",
     [](E& e, const Value& self, Parameters&) {
       std::vector<Value> values;
       for (const auto& [key, value] : self.as_dict()->entries) values.push_back(value);
       return e.list(std::move(values));
     }},
}};

Value bound(const Value& self, const std::string& name, Method method) {
  const auto callable = std::make_shared<Callable>();
  callable->name = name;
  callable->call = [self, name, method](Evaluator& evaluator, Arguments& arguments) {
    Parameters parameters(name, arguments);
    evaluator.work.spend(1);
    Value result = method(evaluator, self, parameters);
    parameters.done();
    return result;
  };
  return callable;
}

// loop.cycle(a, b) and loop.changed(value).
Value loop_method(const std::shared_ptr<Loop>& loop, const std::string& name) {
  const auto callable = std::make_shared<Callable>();
  callable->name = name;
  if (name == "cycle") {
    callable->call = [loop](Evaluator&, Arguments& arguments) {
      check(!arguments.positional.empty(), "cycle() takes what to go round");
      return arguments.positional[loop->index % arguments.positional.size()];
    };
  } else {
    callable->call = [loop](Evaluator& evaluator, Arguments& arguments) -> Value {
      const Value now = Value::list(arguments.positional, true);
      if (loop->any_changed && equal(loop->last_changed, now, evaluator.work)) return false;
      loop->any_changed = true;
      loop->last_changed = now;
      return true;
    };
  }
  return callable;
}

}  // namespace

Value find_method(const Value& object, const std::string& name) {
  Method method = nullptr;
  if (object.is_string()) method = find_named(kStringMethods, name);
  if (const List* list = object.as_list()) {
    if (!list->tuple || name == "count" || name == "index") method = find_named(kListMethods, name);
  }
  if (object.as_dict() != nullptr) method = find_named(kDictMethods, name);
  if (method != nullptr) return bound(object, name, method);
  if (object.as_loop() != nullptr && (name == "cycle" || name == "changed")) {
    return loop_method(*object.get<std::shared_ptr<Loop>>(), name);
  }
  if (object.is_string() && name == "format") {
    const auto callable = std::make_shared<Callable>();
    callable->name = name;
    callable->call = [object](Evaluator& evaluator, Arguments& arguments) {
      return evaluator.string(brace_formatted(evaluator, object.string(), arguments));
    };
    return callable;
  }
  return {};
}

}  // namespace surtsey::experiments::text::templates
