// Tests, functions, and how both take their arguments.
#include <algorithm>
#include <array>
#include <ctime>

#include "experiments/text/template_tables.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

using E = Evaluator;
using A = Arguments;

const Value& other(const char* test, const A& arguments) {
  check(arguments.positional.size() == 1 && arguments.named.empty(), "the test '{}' takes one value", test);
  return arguments.positional[0];
}

template <typename Holds>
bool ordered(E& e, const Value& value, const A& arguments, Holds holds) {
  return holds(compare(value, other("order", arguments), e.work));
}

bool is_mapping(const Value& value) { return value.as_dict() != nullptr && !value.as_dict()->is_namespace; }
bool is_sequence(const Value& value) {
  return value.is_string() || value.as_list() != nullptr || is_mapping(value) || value.is_undefined();
}

bool same(const Value& a, const Value& b, Work& work) {
  if (a.as_list() != nullptr || b.as_list() != nullptr) return a.as_list() == b.as_list();
  if (a.as_dict() != nullptr || b.as_dict() != nullptr) return a.as_dict() == b.as_dict();
  return a.is_boolean() == b.is_boolean() && a.is_float() == b.is_float() && equal(a, b, work);
}

constexpr std::array<Named<Test>, 38> kTests = {{
    {"boolean", [](E&, const Value& v, const A&) { return v.is_boolean(); }},
    {"callable", [](E&, const Value& v, const A&) { return v.as_callable() != nullptr; }},
    {"defined", [](E&, const Value& v, const A&) { return !v.is_undefined(); }},
    {"divisibleby",
     [](E& e, const Value& v, const A& a) { return !truth(arithmetic(e, "%", v, other("divisibleby", a))); }},
    {"eq", [](E& e, const Value& v, const A& a) { return equal(v, other("eq", a), e.work); }},
    {"==", [](E& e, const Value& v, const A& a) { return equal(v, other("==", a), e.work); }},
    {"equalto", [](E& e, const Value& v, const A& a) { return equal(v, other("equalto", a), e.work); }},
    {"escaped", [](E&, const Value&, const A&) { return false; }},
    {"even", [](E&, const Value& v, const A&) { return to_integer(v, "even") % 2 == 0; }},
    {"false", [](E&, const Value& v, const A&) { return v.is_boolean() && !truth(v); }},
    {"filter", [](E&, const Value& v, const A&) { return v.is_string() && find_filter(v.string()) != nullptr; }},
    {"float", [](E&, const Value& v, const A&) { return v.is_float(); }},
    {"ge", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o >= 0; }); }},
    {">=", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o >= 0; }); }},
    {"gt", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o > 0; }); }},
    {">", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o > 0; }); }},
    {"greaterthan", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o > 0; }); }},
    {"in", [](E& e, const Value& v, const A& a) { return contains(other("in", a), v, e.work); }},
    {"integer", [](E&, const Value& v, const A&) { return v.is_integer(); }},
    {"iterable", [](E&, const Value& v, const A&) { return is_sequence(v) || v.as_loop() != nullptr; }},
    {"le", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o <= 0; }); }},
    {"<=", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o <= 0; }); }},
    {"lessthan", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o < 0; }); }},
    {"lower",
     [](E& e, const Value& v, const A&) { return lower(e.text(v)) == e.text(v) && upper(e.text(v)) != e.text(v); }},
    {"lt", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o < 0; }); }},
    {"<", [](E& e, const Value& v, const A& a) { return ordered(e, v, a, [](int o) { return o < 0; }); }},
    {"mapping", [](E&, const Value& v, const A&) { return is_mapping(v); }},
    {"ne", [](E& e, const Value& v, const A& a) { return !equal(v, other("ne", a), e.work); }},
    {"!=", [](E& e, const Value& v, const A& a) { return !equal(v, other("!=", a), e.work); }},
    {"none", [](E&, const Value& v, const A&) { return v.is_none(); }},
    {"number", [](E&, const Value& v, const A&) { return v.is_number(); }},
    {"odd", [](E&, const Value& v, const A&) { return to_integer(v, "odd") % 2 != 0; }},
    {"sameas", [](E& e, const Value& v, const A& a) { return same(v, other("sameas", a), e.work); }},
    {"sequence", [](E&, const Value& v, const A&) { return is_sequence(v); }},
    {"string", [](E&, const Value& v, const A&) { return v.is_string(); }},
    {"true", [](E&, const Value& v, const A&) { return v.is_boolean() && truth(v); }},
    {"undefined", [](E&, const Value& v, const A&) { return v.is_undefined(); }},
    {"upper",
     [](E& e, const Value& v, const A&) { return upper(e.text(v)) == e.text(v) && lower(e.text(v)) != e.text(v); }},
}};

constexpr size_t kDateLimit = 256;  // bytes of a format

std::string date_text(const E& e, const std::string& format) {
  if (e.date) return *e.date;
  check(format.size() <= kDateLimit, "strftime_now takes a format of at most {} bytes", kDateLimit);
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  std::array<char, 8 * kDateLimit> buffer{};
  return {buffer.data(), std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts)};
}

Value range(E& e, const A& arguments) {
  check(!arguments.positional.empty() && arguments.positional.size() <= 3 && arguments.named.empty(),
        "range takes one to three integers");
  const auto at = [&](size_t i) { return to_integer(arguments.positional[i], "range"); };
  const bool one = arguments.positional.size() == 1;
  const int64_t start = one ? 0 : at(0), stop = one ? at(0) : at(1);
  const int64_t step = arguments.positional.size() == 3 ? at(2) : 1;
  check(step != 0, "range goes on by 0");
  std::vector<Value> items;
  int64_t value = start;
  while (step > 0 ? value < stop : value > stop) {
    e.work.allocate(sizeof(Value));
    items.emplace_back(value);
    if (__builtin_add_overflow(value, step, &value)) break;
  }
  return e.list(std::move(items));
}

Value dict_of(E& e, const A& arguments, bool is_namespace) {
  const auto dict = std::make_shared<Dict>();
  dict->is_namespace = is_namespace;
  check(arguments.positional.size() <= 1, "dict and namespace take one dict, and values by name");
  for (const Value& given : arguments.positional) {
    if (const Dict* from = given.as_dict()) {
      for (const auto& [key, value] : from->entries) dict->set(key, value);
      continue;
    }
    for (const Value& pair : e.iterate(given)) {
      const std::vector<Value> parts = e.iterate(pair);
      check(parts.size() == 2, "dict takes pairs");
      dict->set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) dict->set(name, value);
  e.work.allocate((dict->entries.size() + 1) * sizeof(Value) * 2);
  return dict;
}

Value joiner(const A& arguments) {
  const std::string separator =
      arguments.positional.empty() || !arguments.positional[0].is_string() ? ", " : arguments.positional[0].string();
  const auto callable = std::make_shared<Callable>();
  callable->name = "joiner";
  callable->call = [separator, used = std::make_shared<bool>(false)](Evaluator&, Arguments&) -> Value {
    return std::exchange(*used, true) ? separator : "";
  };
  return callable;
}

void add(Frame& frame, std::string name, std::function<Value(Evaluator&, Arguments&)> call) {
  const auto callable = std::make_shared<Callable>();
  callable->name = name;
  callable->call = std::move(call);
  frame.names[std::move(name)] = callable;
}

}  // namespace

Test find_test(std::string_view name) { return find_named(kTests, name); }

void add_functions(Frame& frame) {
  add(frame, "range", range);
  add(frame, "dict", [](E& e, A& arguments) { return dict_of(e, arguments, false); });
  add(frame, "namespace", [](E& e, A& arguments) { return dict_of(e, arguments, true); });
  add(frame, "joiner", [](E&, A& arguments) { return joiner(arguments); });
  add(frame, "raise_exception", [](E& e, A& arguments) -> Value {
    Parameters parameters("raise_exception", arguments);
    throw UserError(fmt::format("the template says: {}", e.text(parameters.required("message"))));
  });
  add(frame, "strftime_now", [](E& e, A& arguments) -> Value {
    Parameters parameters("strftime_now", arguments);
    const Value& format = parameters.required("format");
    parameters.done();
    check(format.is_string(), "strftime_now takes a format");
    return e.string(date_text(e, format.string()));
  });
}

const Value* Parameters::next(const char* name) {
  const Value* found = place_ < arguments_.positional.size() ? &arguments_.positional[place_] : nullptr;
  ++place_;
  for (const auto& [key, value] : arguments_.named) {
    if (key != name) continue;
    if (found != nullptr) fail(fmt::format("is given '{}' twice", name));
    ++named_;
    return &value;
  }
  return found;
}

const Value& Parameters::required(const char* name) {
  const Value* found = next(name);
  if (found == nullptr) fail(fmt::format("lacks its argument '{}'", name));
  return *found;
}

std::string Parameters::text(const char* name, std::string otherwise) {
  const Value* found = next(name);
  if (found == nullptr) return otherwise;
  if (!found->is_string()) fail(fmt::format("takes a string for '{}', not {}", name, type_name(*found)));
  return found->string();
}

int64_t Parameters::integer(const char* name, int64_t otherwise) {
  const Value* found = next(name);
  return found == nullptr || found->is_none() ? otherwise : to_integer(*found, what_.c_str());
}

bool Parameters::flag(const char* name, bool otherwise) {
  const Value* found = next(name);
  return found == nullptr ? otherwise : truth(*found);
}

void Parameters::done() const {
  if (arguments_.positional.size() > place_) {
    fail(fmt::format("takes {} arguments, not {}", place_, arguments_.positional.size()));
  }
  if (arguments_.named.size() > named_) fail("is given an argument that it does not have");
}

void Parameters::fail(const std::string& message) const { throw UserError(fmt::format("{} {}", what_, message)); }

int64_t to_integer(const Value& value, const char* what) {
  check(value.is_integer() || value.is_boolean(), "{} takes an integer, not {}", what, type_name(value));
  return value.integer();
}

}  // namespace surtsey::experiments::text::templates
