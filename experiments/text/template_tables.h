// What chat templates can call: filters, tests, methods of strings, lists and dicts, and functions.
#pragma once

#include "experiments/text/template_evaluator.h"

#include <array>

namespace surtsey::experiments::text::templates {

// Takes the arguments of a call one by one, by place or by name.
class Parameters {
 public:
  Parameters(std::string what, const Arguments& arguments) : what_(std::move(what)), arguments_(arguments) {}

  // The next argument; nullptr where it is not given.
  const Value* next(const char* name);
  const Value& required(const char* name);
  std::string text(const char* name, std::string otherwise);
  int64_t integer(const char* name, int64_t otherwise);
  bool flag(const char* name, bool otherwise);
  // UserError: arguments that nobody took.
  void done() const;
  [[noreturn]] void fail(const std::string& message) const;

 private:
  std::string what_;
  const Arguments& arguments_;
  size_t place_ = 0;
  size_t named_ = 0;
};

// A row of a table that is looked up by name.
template <class T>
struct Named {
  const char* name;
  T value;
};

// nullptr where no row has this name.
template <class T, size_t count>
T find_named(const std::array<Named<T>, count>& rows, std::string_view name) {
  for (const Named<T>& row : rows) {
    if (name == row.name) return row.value;
  }
  return nullptr;
}

using Filter = Value (*)(Evaluator& evaluator, const Value& value, const Arguments& arguments);
using Test = bool (*)(Evaluator& evaluator, const Value& value, const Arguments& arguments);

// nullptr where there is none of this name.
Filter find_filter(std::string_view name);
Filter find_text_filter(std::string_view name);      // those of find_filter() that make text
Filter find_sequence_filter(std::string_view name);  // and those that take lists
Test find_test(std::string_view name);
// A method bound to its object; undefined where the object has none of this name.
Value find_method(const Value& object, const std::string& name);

// range, namespace, raise_exception, strftime_now and the like.
void add_functions(Frame& frame);

// A number, a text and so on from a value, for tables; UserError that says what belongs there.
int64_t to_integer(const Value& value, const char* what);
// Cut or padded as Python's format() does: fill, alignment, sign, width, precision, type.
std::string formatted(Evaluator& evaluator, const Value& value, const std::string& specification);
std::string brace_formatted(Evaluator& evaluator, const std::string& format, const Arguments& arguments);
std::string percent_formatted(Evaluator& evaluator, const std::string& format, const Value& values);

// Text by characters.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalized(std::string_view text);
std::string titled(std::string_view text, bool at_blanks);
std::string stripped(const std::string& text, const std::string* characters, bool left, bool right);
std::string replaced(Evaluator& evaluator, const std::string& text, const std::string& before, const std::string& after,
                     int64_t most);
std::vector<std::string> lines_of(const std::string& text, bool keep_ends);

}  // namespace surtsey::experiments::text::templates
