#include <algorithm>
#include <cmath>

#include "experiments/base/utf8.h"
#include "experiments/text/template_evaluator.h"
#include "experiments/text/template_tables.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

constexpr const char* kTooLarge = "the result does not fit into 64 bits";

bool is_ascii(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) < 0x80; });
}

void check_defined(const Value& value) {
  const auto* undefined = value.get<Undefined>();
  check(undefined == nullptr, "{}",
        undefined == nullptr || !undefined->what ? "a value is undefined" : *undefined->what);
}

// Python's // and %: the remainder has the sign of the divisor.
int64_t floor_divide(int64_t a, int64_t b) { return a / b - int64_t(a % b != 0 && (a % b < 0) != (b < 0)); }

Value integer_arithmetic(const std::string& op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+") {
    check(!__builtin_add_overflow(a, b, &result), "{}", kTooLarge);
  } else if (op == "-") {
    check(!__builtin_sub_overflow(a, b, &result), "{}", kTooLarge);
  } else if (op == "*") {
    check(!__builtin_mul_overflow(a, b, &result), "{}", kTooLarge);
  } else if (op == "**") {
    if (b < 0) return std::pow(double(a), double(b));
    if (a == 0 || a == 1) return b == 0 ? int64_t{1} : a;
    if (a == -1) return b % 2 == 0 ? int64_t{1} : int64_t{-1};
    check(b < 64, "{}", kTooLarge);
    result = 1;
    for (int64_t i = 0; i < b; ++i) check(!__builtin_mul_overflow(result, a, &result), "{}", kTooLarge);
  } else {
    check(b != 0, "division by zero");
    if (op == "/") return double(a) / double(b);
    check(!(a == INT64_MIN && b == -1), "{}", kTooLarge);
    result = op == "//" ? floor_divide(a, b) : a - floor_divide(a, b) * b;
  }
  return result;
}

Value float_arithmetic(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  check(b != 0, "division by zero");
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

// Where a slice of `size` things begins, ends and how it goes on.
struct Range {
  int64_t start, stop, step;
};
Range range_of(const Value& start, const Value& stop, const Value& step, int64_t size) {
  const auto given = [](const Value& value, int64_t otherwise) {
    return value.is_undefined() || value.is_none() ? otherwise : to_integer(value, "a slice");
  };
  const int64_t by = given(step, 1);
  check(by != 0, "a slice cannot go on by 0");
  const int64_t least = by > 0 ? 0 : -1, most = by > 0 ? size : size - 1;
  const auto place = [&](const Value& value, int64_t otherwise) {
    if (value.is_undefined() || value.is_none()) return otherwise;
    const int64_t at = given(value, 0);
    return at < 0 ? std::max(at + size, least) : std::min(at, most);
  };
  return {place(start, by > 0 ? least : most), place(stop, by > 0 ? most : least), by};
}

template <typename Visit>
void for_each_in(const Range& range, Visit visit) {
  int64_t at = range.start;
  while (range.step > 0 ? at < range.stop : at > range.stop) {
    visit(size_t(at));
    if (__builtin_add_overflow(at, range.step, &at)) return;
  }
}

}  // namespace

Value negative(const Value& value, bool minus) {
  check_defined(value);
  check(value.is_number(), "a sign stands before {}", type_name(value));
  if (value.is_float()) return minus ? -value.number() : value.number();
  check(value.integer() != INT64_MIN, "{}", kTooLarge);
  return minus ? -value.integer() : value.integer();
}

Value arithmetic(Evaluator& evaluator, const std::string& op, const Value& left, const Value& right) {
  if (op == "~") return evaluator.string(evaluator.text(left) + evaluator.text(right));
  check_defined(left);
  if (op == "%" && left.is_string()) {
    return evaluator.string(percent_formatted(evaluator, left.string(), right));
  }
  check_defined(right);
  if (left.is_number() && right.is_number()) {
    const bool floating = left.is_float() || right.is_float();
    return floating ? float_arithmetic(op, left.number(), right.number())
                    : integer_arithmetic(op, left.integer(), right.integer());
  }
  const List *a = left.as_list(), *b = right.as_list();
  if (op == "+") {
    if (left.is_string() && right.is_string()) return evaluator.string(left.string() + right.string());
    if (a != nullptr && b != nullptr && a->tuple == b->tuple) {
      std::vector<Value> items = a->items;
      items.insert(items.end(), b->items.begin(), b->items.end());
      return evaluator.list(std::move(items), a->tuple);
    }
  }
  if (op == "*" && (right.is_integer() || left.is_integer())) {
    const Value& many = right.is_integer() ? left : right;
    const auto times = size_t(std::max<int64_t>(0, (right.is_integer() ? right : left).integer()));
    const auto grow = [&](size_t size) {
      check(size == 0 || times <= (size_t{1} << 40) / size, "the template makes more text than any real one does");
      evaluator.work.allocate(size * times);
    };
    if (many.is_string()) {
      grow(many.string().size());
      std::string text;
      if (!many.string().empty()) {
        for (size_t i = 0; i < times; ++i) text += many.string();
      }
      return text;
    }
    if (const List* list = many.as_list()) {
      grow(list->items.size() * sizeof(Value));
      std::vector<Value> items;
      if (!list->items.empty()) {
        for (size_t i = 0; i < times; ++i) items.insert(items.end(), list->items.begin(), list->items.end());
      }
      return evaluator.list(std::move(items), list->tuple);
    }
  }
  throw UserError(fmt::format("{} {} {} cannot be computed", type_name(left), op, type_name(right)));
}

Value Evaluator::look_up(const std::string& name) const {
  for (const Frame* frame = frame_.get(); frame != nullptr; frame = frame->parent.get()) {
    const auto found = frame->names.find(name);
    if (found != frame->names.end()) return found->second;
  }
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Value Evaluator::optional(const std::unique_ptr<Expression>& expression) {
  return expression == nullptr ? Value() : evaluate(*expression);
}

Arguments Evaluator::arguments(const Expression& expression) {
  Arguments given;
  for (size_t i = 1; i < expression.children.size(); ++i) {
    given.positional.push_back(evaluate(*expression.children[i]));
  }
  for (const NamedExpression& each : expression.named) given.named.emplace_back(each.name, evaluate(*each.value));
  return given;
}

Value Evaluator::call(const Value& function, Arguments& given) {
  check_defined(function);
  if (const Loop* loop = function.as_loop()) {
    check(loop->again != nullptr, "loop() wants a loop that is recursive");
    check(given.positional.size() == 1 && given.named.empty(), "loop() takes what to go through");
    const std::function<Value(const Value&)> again = loop->again;
    return again(given.positional[0]);
  }
  const Callable* callable = function.as_callable();
  check(callable != nullptr, "{} cannot be called", type_name(function));
  const std::function<Value(Evaluator&, Arguments&)> run = callable->call;
  return run(*this, given);
}

Value Evaluator::call(const Expression& expression, const Value* caller) {
  const Value function = evaluate(*expression.children[0]);
  Arguments given = arguments(expression);
  if (caller != nullptr) given.named.emplace_back("caller", *caller);
  line_ = expression.line;
  return call(function, given);
}

Value Evaluator::filter(const Expression& expression, const Value* value) {
  // A chain in a filter block begins with what the block holds.
  const Value object = expression.children[0] == nullptr ? *value
                       : value != nullptr                ? filter(*expression.children[0], value)
                                                         : evaluate(*expression.children[0]);
  Arguments given = arguments(expression);
  line_ = expression.line;
  return filter(expression.text, object, given);
}

Value Evaluator::filter(const std::string& name, const Value& value, Arguments& given) {
  const Filter found = find_filter(name);
  check(found != nullptr, "the filter '{}' is not supported", name);
  work.spend(1);
  return found(*this, value, given);
}

bool Evaluator::test(const std::string& name, const Value& value, Arguments& given) {
  const Test found = find_test(name);
  check(found != nullptr, "the test '{}' is not supported", name);
  work.spend(1);
  return found(*this, value, given);
}

Value Evaluator::condition(const Expression& expression) {
  if (truth(evaluate(*expression.children[1]))) return evaluate(*expression.children[0]);
  if (expression.children[2] != nullptr) return evaluate(*expression.children[2]);
  return Value::undefined("the condition is false, and there is no else");
}

Value Evaluator::compare(const Expression& expression) {
  Value left = evaluate(*expression.children[0]);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.children[i + 1]);
    const std::string& op = expression.operators[i];
    bool holds = false;
    if (op == "==" || op == "!=") {
      holds = equal(left, right, work) == (op == "==");
    } else if (op == "in" || op == "not in") {
      holds = contains(right, left, work) == (op == "in");
    } else {
      check_defined(left);
      check_defined(right);
      const bool ordered =
          !(left.is_float() && std::isnan(left.number())) && !(right.is_float() && std::isnan(right.number()));
      const int order = templates::compare(left, right, work);
      holds = ordered && (op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0);
    }
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::binary(const Expression& expression) {
  Value left = evaluate(*expression.children[0]);
  if (expression.text == "and") return truth(left) ? evaluate(*expression.children[1]) : left;
  if (expression.text == "or") return truth(left) ? left : evaluate(*expression.children[1]);
  const Value right = evaluate(*expression.children[1]);
  line_ = expression.line;
  return arithmetic(*this, expression.text, left, right);
}

std::vector<Value> Evaluator::iterate(const Value& value) {
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (const List* list = value.as_list()) {
    items = list->items;
  } else if (const Dict* dict = value.as_dict(); dict != nullptr && !dict->is_namespace) {
    for (const auto& [key, entry] : dict->entries) items.push_back(key);
  } else if (value.is_string()) {
    const std::string& text = value.string();
    work.allocate(text.size() * sizeof(Value) * 4);
    for (size_t at = 0; at < text.size(); at += character_length(text, at)) {
      items.emplace_back(text.substr(at, character_length(text, at)));
    }
  } else {
    throw UserError(fmt::format("{} is nothing to go through", type_name(value)));
  }
  work.allocate(items.size() * sizeof(Value));
  return items;
}

namespace {

Value loop_attribute(const Loop& loop, const std::string& name) {
  check(loop.items != nullptr, "loop is used outside of its loop");
  const auto size = int64_t(loop.items->size()), index = int64_t(loop.index);
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return size - index;
  if (name == "revindex0") return size - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == size;
  if (name == "length") return size;
  if (name == "depth") return loop.depth + 1;
  if (name == "depth0") return loop.depth;
  if (name == "previtem" && index > 0) return (*loop.items)[size_t(index) - 1];
  if (name == "nextitem" && index + 1 < size) return (*loop.items)[size_t(index) + 1];
  return Value::undefined(fmt::format("loop has no '{}' here", name));
}

}  // namespace

Value Evaluator::attribute(const Value& object, const std::string& name) {
  check_defined(object);
  const Dict* dict = object.as_dict();
  if (dict == nullptr || !dict->is_namespace) {
    const Value method = find_method(object, name);
    if (!method.is_undefined()) return method;
  }
  if (dict != nullptr) {
    if (const Value* found = dict->find_name(name)) return *found;
  }
  if (const Loop* loop = object.as_loop()) return loop_attribute(*loop, name);
  return Value::undefined(fmt::format("{} has no '{}'", type_name(object), name));
}

Value Evaluator::item(const Value& object, const Value& key) {
  check_defined(object);
  if (const Dict* dict = object.as_dict()) {
    if (!key.is_string()) work.spend(dict->entries.size());
    if (const Value* found = dict->find(key)) return *found;
  }
  if (key.is_integer() || key.is_boolean()) {
    int64_t at = key.integer();
    if (const List* list = object.as_list()) {
      const auto size = int64_t(list->items.size());
      if (at < 0) at += size;
      if (at >= 0 && at < size) return list->items[size_t(at)];
    }
    if (object.is_string()) {
      const std::string& text = object.string();
      if (is_ascii(text)) {
        work.spend(text.size() / 64);
        if (at < 0) at += int64_t(text.size());
        if (at >= 0 && at < int64_t(text.size())) return std::string(1, text[size_t(at)]);
      } else {
        work.spend(text.size());
        const std::u32string points = characters(text);
        if (at < 0) at += int64_t(points.size());
        if (at >= 0 && at < int64_t(points.size())) return to_utf8(points.substr(size_t(at), 1));
      }
    }
  }
  if (key.is_string() && object.as_dict() == nullptr) return attribute(object, key.string());
  if (key.is_string()) {
    const Value method = find_method(object, key.string());
    if (!method.is_undefined()) return method;
  }
  return Value::undefined(fmt::format("{} has no {}", type_name(object), repr(key, work)));
}

Value Evaluator::slice(const Expression& expression) {
  const Value object = evaluate(*expression.children[0]);
  const Value start = optional(expression.children[1]), stop = optional(expression.children[2]),
              step = optional(expression.children[3]);
  check_defined(object);
  if (object.is_string()) {
    work.spend(object.string().size());
    const std::u32string points = characters(object.string());
    std::u32string result;
    for_each_in(range_of(start, stop, step, int64_t(points.size())), [&](size_t at) { result += points[at]; });
    return string(to_utf8(result));
  }
  const List* all = object.as_list();
  check(all != nullptr, "a slice is of a list or a string, not of {}", type_name(object));
  std::vector<Value> items;
  for_each_in(range_of(start, stop, step, int64_t(all->items.size())),
              [&](size_t at) { items.push_back(all->items[at]); });
  return list(std::move(items), all->tuple);
}

}  // namespace surtsey::experiments::text::templates
