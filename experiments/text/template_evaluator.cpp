#include "experiments/text/template_evaluator.h"

#include <algorithm>
#include <utility>

#include "experiments/text/template_tables.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

constexpr int kDeepest = 1000;  // evaluations inside of each other
constexpr size_t kItemBytes = sizeof(Value) * 2;

}  // namespace

// A frame of its own while it lives. What its names hold is let go at the end, as a macro holds the frame.
class Evaluator::Scope {
 public:
  Scope(Evaluator& evaluator, std::shared_ptr<Frame> parent) : evaluator_(evaluator), before_(evaluator.frame_) {
    evaluator.frame_ = std::make_shared<Frame>(Frame{{}, std::move(parent)});
  }
  explicit Scope(Evaluator& evaluator) : Scope(evaluator, evaluator.frame_) {}
  ~Scope() {
    evaluator_.frame_->names.clear();
    evaluator_.frame_ = std::move(before_);
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Evaluator& evaluator_;
  std::shared_ptr<Frame> before_;
};

class Evaluator::Deeper {
 public:
  explicit Deeper(Evaluator& evaluator) : evaluator_(evaluator) {
    evaluator.work.spend(1);
    check(evaluator.depth_ < kDeepest, "macros and expressions call each other deeper than {} levels", kDeepest);
    ++evaluator.depth_;
  }
  ~Deeper() { --evaluator_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Evaluator& evaluator_;
};

Evaluator::~Evaluator() {
  for (const Value& container : changed_) {
    if (List* list = container.as_list()) list->items.clear();
    if (Dict* dict = container.as_dict()) dict->clear();
  }
  if (frame_ != nullptr) frame_->names.clear();
}

std::string Evaluator::run(const Statements& statements, const Dict& variables) {
  frame_ = std::make_shared<Frame>();
  add_functions(*frame_);
  // The functions are below what the caller gives, and that below what the template sets.
  frame_ = std::make_shared<Frame>(Frame{{}, frame_});
  for (const auto& [key, value] : variables.entries) frame_->names[key.string()] = value;
  outputs_.assign(1, "");
  try {
    execute(statements);
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}:{}: {}", name_, line_, error.what()));
  }
  return std::move(outputs_[0]);
}

Value Evaluator::string(std::string text) {
  work.allocate(text.size() + kItemBytes);
  return text;
}

Value Evaluator::list(std::vector<Value> items, bool tuple) {
  work.allocate((items.size() + 1) * kItemBytes);
  return Value::list(std::move(items), tuple);
}

void Evaluator::changing(const Value& container) {
  work.allocate(kItemBytes);
  changed_.push_back(container);
}

void Evaluator::emit(const std::string& text) {
  work.allocate(text.size());
  outputs_.back() += text;
}

Evaluator::Flow Evaluator::execute(const Statements& statements) {
  for (const auto& statement : statements) {
    const Flow flow = execute(*statement);
    if (flow != Flow::on) return flow;
  }
  return Flow::on;
}

Evaluator::Flow Evaluator::execute(const Statement& statement) {
  const Deeper deeper(*this);
  line_ = statement.line;
  using Kind = Statement::Kind;
  switch (statement.kind) {
    case Kind::text:
      emit(statement.text);
      return Flow::on;
    case Kind::print:
      emit(text(evaluate(*statement.expression)));
      return Flow::on;
    case Kind::condition:
      return condition(statement);
    case Kind::loop:
      return loop(statement, evaluate(*statement.value), 0);
    case Kind::assign: {
      const Value value = evaluate(*statement.value);
      if (statement.expression != nullptr) assign(*statement.expression, value);
      return Flow::on;
    }
    case Kind::assign_block: {
      Value value = captured(statement.body);
      if (statement.filter != nullptr) value = filter(*statement.filter, &value);
      assign(*statement.expression, value);
      return Flow::on;
    }
    case Kind::macro:
      macro(statement);
      return Flow::on;
    case Kind::call_block:
      call_block(statement);
      return Flow::on;
    case Kind::filter_block: {
      const Value value = captured(statement.body);
      emit(text(filter(*statement.expression, &value)));
      return Flow::on;
    }
    case Kind::with: {
      std::vector<Value> values;
      for (const NamedExpression& each : statement.parameters) values.push_back(evaluate(*each.value));
      const Scope scope(*this);
      for (size_t i = 0; i < values.size(); ++i) frame_->names[statement.parameters[i].name] = values[i];
      return execute(statement.body);
    }
    case Kind::group: {
      const Scope scope(*this);
      return execute(statement.body);
    }
    case Kind::break_loop:
      return Flow::broken;
    case Kind::continue_loop:
      return Flow::continued;
  }
  return Flow::on;
}

Evaluator::Flow Evaluator::condition(const Statement& statement) {
  for (const Statement::Branch& branch : statement.branches) {
    if (branch.test == nullptr || truth(evaluate(*branch.test))) return execute(branch.body);
  }
  return Flow::on;
}

Evaluator::Flow Evaluator::loop(const Statement& statement, const Value& iterable, int64_t depth) {
  std::vector<Value> items = iterate(iterable);
  if (statement.filter != nullptr) {
    std::vector<Value> kept;
    for (const Value& item : items) {
      const Scope scope(*this);
      assign(*statement.expression, item);
      if (truth(evaluate(*statement.filter))) kept.push_back(item);
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    const Scope scope(*this);
    return execute(statement.otherwise);
  }
  const auto state = std::make_shared<Loop>();
  state->items = &items;
  state->depth = depth;
  if (statement.recursive) {
    state->again = [this, &statement, depth](const Value& inner) {
      outputs_.emplace_back();
      loop(statement, inner, depth + 1);
      std::string text = std::move(outputs_.back());
      outputs_.pop_back();
      return string(std::move(text));
    };
  }
  // Whoever keeps `loop` finds it empty afterwards.
  struct End {
    Loop& state;
    ~End() { state.items = nullptr, state.again = nullptr; }
  } const end{*state};
  for (size_t i = 0; i < items.size(); ++i) {
    work.spend(1);
    const Scope scope(*this);
    state->index = i;
    frame_->names["loop"] = state;
    assign(*statement.expression, items[i]);
    if (execute(statement.body) == Flow::broken) break;
  }
  return Flow::on;
}

void Evaluator::assign(const Expression& target, const Value& value) {
  if (target.kind == Expression::Kind::name) {
    frame_->names[target.text] = value;
    return;
  }
  if (target.kind == Expression::Kind::attribute) {
    const Value object = evaluate(*target.children[0]);
    Dict* dict = object.as_dict();
    check(dict != nullptr && dict->is_namespace, "only a namespace takes attributes: '{}' is {}",
          target.children[0]->text, type_name(object));
    changing(object);
    dict->set(target.text, value);
    return;
  }
  const std::vector<Value> values = iterate(value);
  check(values.size() == target.children.size(), "{} values for {} names", values.size(), target.children.size());
  for (size_t i = 0; i < values.size(); ++i) assign(*target.children[i], values[i]);
}

std::string Evaluator::captured(const Statements& statements) {
  const Scope scope(*this);
  outputs_.emplace_back();
  execute(statements);
  std::string text = std::move(outputs_.back());
  outputs_.pop_back();
  return text;
}

// A macro, or what {% call %} hands over. It holds its frame weakly: the frame holds it.
Value Evaluator::function_of(const Statement& statement, std::string name) {
  const auto function = std::make_shared<Callable>();
  function->name = std::move(name);
  function->call = [&statement, closure = std::weak_ptr<Frame>(frame_)](Evaluator& evaluator, Arguments& arguments) {
    const std::shared_ptr<Frame> frame = closure.lock();
    check(frame != nullptr, "a macro is called outside of where it was defined");
    return evaluator.string(evaluator.run_function(statement, frame, arguments));
  };
  return function;
}

std::string Evaluator::run_function(const Statement& statement, const std::shared_ptr<Frame>& closure,
                                    Arguments& arguments) {
  const Deeper deeper(*this);
  const int line = line_;
  const Scope scope(*this, closure);
  const std::string name = statement.kind == Statement::Kind::macro ? statement.text : "caller";
  std::vector<Value> rest;
  for (size_t i = statement.parameters.size(); i < arguments.positional.size(); ++i) {
    rest.push_back(arguments.positional[i]);
  }
  frame_->names["varargs"] = list(std::move(rest), true);
  const auto others = std::make_shared<Dict>();
  for (const auto& [key, value] : arguments.named) {
    const bool known = key == "caller" || std::any_of(statement.parameters.begin(), statement.parameters.end(),
                                                      [&](const NamedExpression& each) { return each.name == key; });
    if (!known) others->set(key, value);
  }
  frame_->names["kwargs"] = others;
  for (size_t i = 0; i < statement.parameters.size(); ++i) {
    const NamedExpression& parameter = statement.parameters[i];
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& each) { return each.first == parameter.name; });
    if (i < arguments.positional.size()) {
      check(named == arguments.named.end(), "{}() is given '{}' twice", name, parameter.name);
      frame_->names[parameter.name] = arguments.positional[i];
    } else if (named != arguments.named.end()) {
      frame_->names[parameter.name] = named->second;
    } else if (parameter.value != nullptr) {
      frame_->names[parameter.name] = evaluate(*parameter.value);
    } else {
      frame_->names[parameter.name] =
          Value::undefined(fmt::format("{}() was not given its parameter '{}'", name, parameter.name));
    }
  }
  for (const auto& [key, value] : arguments.named) {
    if (key == "caller") frame_->names["caller"] = value;
  }
  outputs_.emplace_back();
  execute(statement.body);
  std::string text = std::move(outputs_.back());
  outputs_.pop_back();
  line_ = line;
  return text;
}

void Evaluator::macro(const Statement& statement) {
  frame_->names[statement.text] = function_of(statement, statement.text);
}

void Evaluator::call_block(const Statement& statement) {
  const Value caller = function_of(statement, "caller");
  emit(text(call(*statement.expression, &caller)));
}

Value Evaluator::evaluate(const Expression& expression) {
  const Deeper deeper(*this);
  line_ = expression.line;
  using Kind = Expression::Kind;
  switch (expression.kind) {
    case Kind::constant:
      return expression.value;
    case Kind::name:
      return look_up(expression.text);
    case Kind::list:
    case Kind::tuple: {
      std::vector<Value> items;
      for (const auto& child : expression.children) items.push_back(evaluate(*child));
      return list(std::move(items), expression.kind == Kind::tuple);
    }
    case Kind::dict: {
      const auto dict = std::make_shared<Dict>();
      work.allocate((expression.children.size() + 1) * kItemBytes);
      for (size_t i = 0; i + 1 < expression.children.size(); i += 2) {
        Value key = evaluate(*expression.children[i]);
        dict->set(std::move(key), evaluate(*expression.children[i + 1]));
      }
      return dict;
    }
    case Kind::attribute:
      return attribute(evaluate(*expression.children[0]), expression.text);
    case Kind::item: {
      const Value object = evaluate(*expression.children[0]);
      return item(object, evaluate(*expression.children[1]));
    }
    case Kind::slice:
      return slice(expression);
    case Kind::call:
      return call(expression, nullptr);
    case Kind::filter:
      return filter(expression, nullptr);
    case Kind::test: {
      const Value value = evaluate(*expression.children[0]);
      Arguments given = arguments(expression);
      return test(expression.text, value, given);
    }
    case Kind::unary: {
      const Value value = evaluate(*expression.children[0]);
      if (expression.text == "not") return !truth(value);
      return negative(value, expression.text == "-");
    }
    case Kind::binary:
      return binary(expression);
    case Kind::compare:
      return compare(expression);
    case Kind::condition:
      return condition(expression);
  }
  return {};
}

}  // namespace surtsey::experiments::text::templates
