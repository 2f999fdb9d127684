// Runs a chat template. Filters, tests, methods and functions are tables of their own (template_filters.h and on).
#pragma once

#include "experiments/text/template_syntax.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::text::templates {

// Names, and where else to look for them.
struct Frame {
  std::map<std::string, Value, std::less<>> names;
  std::shared_ptr<Frame> parent;
};

class Evaluator {
 public:
  // `date` is what strftime_now() gives, instead of the present.
  Evaluator(std::string name, Work work, std::optional<std::string> date)
      : work(work), date(std::move(date)), name_(std::move(name)) {}
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  // UserError "NAME:LINE: .." where the template cannot go on.
  std::string run(const Statements& statements, const Dict& variables);

  // For the tables.
  Value call(const Value& function, Arguments& arguments);
  Value filter(const std::string& name, const Value& value, Arguments& arguments);
  bool test(const std::string& name, const Value& value, Arguments& arguments);
  std::vector<Value> iterate(const Value& value);
  Value attribute(const Value& object, const std::string& name);  // object.name
  Value item(const Value& object, const Value& key);              // object[key]
  std::string text(const Value& value) { return text_of(value, work); }
  Value string(std::string text);  // counted
  Value list(std::vector<Value> items, bool tuple = false);
  // Before a container is changed: one that holds itself would never be freed.
  void changing(const Value& container);

  Work work;
  const std::optional<std::string> date;

 private:
  enum class Flow { on, broken, continued };
  class Scope;
  class Deeper;

  Flow execute(const Statements& statements);
  Flow execute(const Statement& statement);
  Flow condition(const Statement& statement);
  Flow loop(const Statement& statement, const Value& iterable, int64_t depth);
  void macro(const Statement& statement);
  void call_block(const Statement& statement);
  void assign(const Expression& target, const Value& value);
  void emit(const std::string& text);
  std::string captured(const Statements& statements);
  Value function_of(const Statement& statement, std::string name);
  std::string run_function(const Statement& statement, const std::shared_ptr<Frame>& closure, Arguments& arguments);

  Value evaluate(const Expression& expression);
  Value optional(const std::unique_ptr<Expression>& expression);
  Value look_up(const std::string& name) const;
  Value call(const Expression& expression, const Value* caller);
  Value filter(const Expression& expression, const Value* value);
  Value condition(const Expression& expression);
  Value compare(const Expression& expression);
  Value binary(const Expression& expression);
  Value slice(const Expression& expression);
  Arguments arguments(const Expression& expression);

  std::string name_;
  int line_ = 1;
  int depth_ = 0;
  std::shared_ptr<Frame> frame_;
  std::vector<std::string> outputs_;  // the last is written to
  std::vector<Value> changed_;
};

// Operators. UserErrors name what does not go together.
Value arithmetic(Evaluator& evaluator, const std::string& op, const Value& left, const Value& right);
Value negative(const Value& value, bool minus);

}  // namespace surtsey::experiments::text::templates
