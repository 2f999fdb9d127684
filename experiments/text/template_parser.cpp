#include <algorithm>
#include <set>

#include "experiments/text/template_expressions.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

using StatementPtr = std::unique_ptr<Statement>;

class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Statements run() {
    Statements statements = body({});
    if (now().kind != Kind::end) fail("the template goes on where it should end");
    return statements;
  }

 private:
  Statements body(const std::vector<std::string_view>& ends) {
    const Nested nested(*this);
    Statements statements;
    while (now().kind != Kind::end) {
      if (now().kind == Kind::text) {
        auto statement = start(Statement::Kind::text);
        statement->text = take().text;
        statements.push_back(std::move(statement));
      } else if (now().kind == Kind::print_begin) {
        take();
        auto statement = start(Statement::Kind::print);
        statement->expression = tuple();
        if (now().kind != Kind::print_end) fail(fmt::format("the end of the tag belongs here, not {}", shown()));
        take();
        statements.push_back(std::move(statement));
      } else {
        if (std::find(ends.begin(), ends.end(), next().text) != ends.end() && next().kind == Kind::name) {
          return statements;
        }
        take();
        statements.push_back(block());
      }
    }
    if (!ends.empty()) fail(fmt::format("{{% {} %}} is missing", ends.back()));
    return statements;
  }

  StatementPtr start(Statement::Kind kind) const {
    auto statement = std::make_unique<Statement>();
    statement->kind = kind;
    statement->line = now().line;
    return statement;
  }

  // The end tag of a block: its word and what may follow.
  void end_tag() {
    take();
    take();
    expect_end();
  }

  StatementPtr block() {
    const std::string tag = now().text;
    if (now().kind != Kind::name) fail(fmt::format("the name of a tag belongs here, not {}", shown()));
    if (tag == "if") return condition();
    if (tag == "for") return loop();
    if (tag == "set") return assign();
    if (tag == "macro") return macro();
    if (tag == "call") return call_block();
    if (tag == "filter") return filter_block();
    if (tag == "with") return with();
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail(fmt::format("'{}' outside of a loop", tag));
      auto statement = start(tag == "break" ? Statement::Kind::break_loop : Statement::Kind::continue_loop);
      take();
      expect_end();
      return statement;
    }
    if (tag == "generation" || tag == "block" || tag == "autoescape") return group(tag);
    if (tag == "do") {
      auto statement = start(Statement::Kind::assign);
      take();
      statement->value = tuple();
      expect_end();
      return statement;
    }
    static const std::set<std::string, std::less<>> kEnds = {
        "endif",     "endfor",  "else",          "elif",     "endset",        "endmacro", "endcall",
        "endfilter", "endwith", "endgeneration", "endblock", "endautoescape", "endraw"};
    if (kEnds.contains(tag)) fail(fmt::format("{{% {} %}} ends nothing that is open", tag));
    fail(fmt::format("the tag '{}' is not supported", tag));
  }

  StatementPtr condition() {
    auto statement = start(Statement::Kind::condition);
    take();
    while (true) {
      Statement::Branch& branch = statement->branches.emplace_back();
      branch.test = tuple(true);
      expect_end();
      branch.body = body({"elif", "else", "endif"});
      take();
      if (skip_word("elif")) continue;
      if (skip_word("else")) {
        expect_end();
        statement->branches.push_back({nullptr, body({"endif"})});
        take();
      }
      take();
      expect_end();
      return statement;
    }
  }

  StatementPtr loop() {
    auto statement = start(Statement::Kind::loop);
    take();
    statement->expression = targets();
    if (!skip_word("in")) fail(fmt::format("'in' belongs here, not {}", shown()));
    statement->value = tuple(false);
    if (skip_word("if")) statement->filter = expression();
    statement->recursive = skip_word("recursive");
    expect_end();
    ++loops_;
    statement->body = body({"else", "endfor"});
    --loops_;
    take();
    if (skip_word("else")) {
      expect_end();
      statement->otherwise = body({"endfor"});
      take();
    }
    take();
    expect_end();
    return statement;
  }

  // What is assigned to: names, attributes of namespaces, or several with commas between.
  ExpressionPtr targets() {
    const int line = now().line;
    ExpressionPtr first = target();
    if (!symbol(",")) return first;
    auto all = make(Expression::Kind::tuple, line);
    all->children.push_back(std::move(first));
    while (skip_symbol(",")) {
      if (word("in") || symbol("=")) break;
      all->children.push_back(target());
    }
    return all;
  }
  ExpressionPtr target() {
    const Nested nested(*this);
    const int line = now().line;
    if (skip_symbol("(")) {
      ExpressionPtr inner = targets();
      expect(")");
      return inner;
    }
    ExpressionPtr name = make(Expression::Kind::name, line, expect_name());
    if (!skip_symbol(".")) return name;
    auto attribute = make(Expression::Kind::attribute, line, expect_name());
    attribute->children.push_back(std::move(name));
    return attribute;
  }

  StatementPtr assign() {
    auto statement = start(Statement::Kind::assign);
    take();
    statement->expression = targets();
    if (skip_symbol("=")) {
      statement->value = tuple();
      expect_end();
      return statement;
    }
    statement->kind = Statement::Kind::assign_block;
    if (symbol("|")) statement->filter = filters(nullptr);
    expect_end();
    statement->body = body({"endset"});
    end_tag();
    return statement;
  }

  // (a, b=1)
  std::vector<NamedExpression> parameters() {
    std::vector<NamedExpression> all;
    expect("(");
    while (!symbol(")")) {
      if (!all.empty()) expect(",");
      if (symbol(")")) break;
      NamedExpression parameter{expect_name(), nullptr};
      if (skip_symbol("=")) {
        parameter.value = expression();
      } else if (!all.empty() && all.back().value != nullptr) {
        fail(fmt::format("the parameter '{}' has no value of its own and stands after one that has", parameter.name));
      }
      all.push_back(std::move(parameter));
    }
    expect(")");
    return all;
  }

  // Loops outside of a macro are none inside of it.
  Statements own_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Statements statements = body({end});
    loops_ = loops;
    return statements;
  }

  StatementPtr macro() {
    auto statement = start(Statement::Kind::macro);
    take();
    statement->text = expect_name();
    statement->parameters = parameters();
    expect_end();
    statement->body = own_body("endmacro");
    end_tag();
    return statement;
  }

  StatementPtr call_block() {
    auto statement = start(Statement::Kind::call_block);
    take();
    if (symbol("(")) statement->parameters = parameters();
    statement->expression = expression();
    if (statement->expression->kind != Expression::Kind::call) fail("{% call %} takes the call of a macro");
    expect_end();
    statement->body = own_body("endcall");
    end_tag();
    return statement;
  }

  StatementPtr filter_block() {
    auto statement = start(Statement::Kind::filter_block);
    take();
    statement->expression = filter_chain();
    expect_end();
    statement->body = body({"endfilter"});
    end_tag();
    return statement;
  }

  StatementPtr with() {
    auto statement = start(Statement::Kind::with);
    take();
    while (now().kind == Kind::name) {
      NamedExpression value{expect_name(), nullptr};
      expect("=");
      value.value = expression();
      statement->parameters.push_back(std::move(value));
      if (!skip_symbol(",")) break;
    }
    expect_end();
    statement->body = body({"endwith"});
    end_tag();
    return statement;
  }

  // Tags that do nothing to what stands in them: `generation` marks what an assistant wrote.
  StatementPtr group(const std::string& tag) {
    auto statement = start(Statement::Kind::group);
    take();
    if (tag == "block") expect_name();
    if (tag == "autoescape" && !skip_word("false")) fail("autoescape is not supported, only autoescape false");
    expect_end();
    const std::string end = "end" + tag;
    statement->body = body({end});
    take();
    take();
    if (tag == "block" && now().kind == Kind::name) take();
    expect_end();
    return statement;
  }

  void expect_end() {
    if (now().kind != Kind::block_end) fail(fmt::format("the end of the tag belongs here, not {}", shown()));
    take();
  }

  int loops_ = 0;  // around the statement
};

}  // namespace

Statements parse(const std::string& source, const std::string& name) {
  return Parser(tokenize(source, name), name).run();
}

}  // namespace surtsey::experiments::text::templates
