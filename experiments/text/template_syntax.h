// A chat template as a tree.
#pragma once

#include "experiments/text/template_value.h"

#include <memory>
#include <string>
#include <vector>

namespace surtsey::experiments::text::templates {

struct Expression;
using Expressions = std::vector<std::unique_ptr<Expression>>;

struct NamedExpression {
  std::string name;
  std::unique_ptr<Expression> value;
};

// What a `children` holds, in order, stands beside each kind. An empty pointer is a part that was left out.
struct Expression {
  enum class Kind {
    constant,   // value
    name,       // text
    list,       // items
    tuple,      // items
    dict,       // key, value, key, value, ..
    attribute,  // object; text is the attribute
    item,       // object, key
    slice,      // object, start, stop, step
    call,       // function, arguments; named
    filter,     // object, arguments; text is the filter; named. The object is empty in a filter block
    test,       // object, arguments; text is the test; named
    unary,      // operand; text is -, + or not
    binary,     // left, right; text is the operator, also `and`, `or`
    compare,    // first, second, third, ..; operators between them
    condition,  // then, if, else
  };
  Kind kind = Kind::constant;
  int line = 0;
  int depth = 1;  // of the tree below
  std::string text;
  Value value;
  Expressions children;
  std::vector<NamedExpression> named;
  std::vector<std::string> operators;
};

struct Statement;
using Statements = std::vector<std::unique_ptr<Statement>>;

struct Statement {
  enum class Kind {
    text,          // text
    print,         // expression
    condition,     // branches: a test each, the last may have none
    loop,          // targets in expression; iterable, filter; body, otherwise
    assign,        // targets in expression, value
    assign_block,  // targets in expression, filter; body
    macro,         // text, parameters; body
    call_block,    // call in expression, parameters; body
    filter_block,  // filter in expression; body
    with,          // parameters; body
    group,         // body in a scope of its own: `generation`, `block`
    break_loop,
    continue_loop,
  };
  struct Branch {
    std::unique_ptr<Expression> test;
    Statements body;
  };
  Kind kind = Kind::text;
  int line = 0;
  std::string text;
  std::unique_ptr<Expression> expression, value, filter;
  std::vector<NamedExpression> parameters;
  Statements body, otherwise;
  std::vector<Branch> branches;
  bool recursive = false;  // a loop that may call itself
};

// UserError "NAME:LINE: .." for what is no template, and what is one that is not supported.
Statements parse(const std::string& source, const std::string& name);

}  // namespace surtsey::experiments::text::templates
