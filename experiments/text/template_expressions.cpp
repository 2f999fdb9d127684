#include "experiments/text/template_expressions.h"

#include <charconv>

#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

constexpr int kNestingLimit = 100;  // of brackets and blocks
// Operators from the left make a tree as deep as they are many.
constexpr int kDepthOfTree = 800;

}  // namespace

using ExpressionPtr = std::unique_ptr<Expression>;

ExpressionParser::Nested::Nested(ExpressionParser& parser) : parser_(parser) {
  if (++parser.nesting_ > kNestingLimit) parser.fail(fmt::format("nested deeper than {} levels", kNestingLimit));
}

void ExpressionParser::fail(const std::string& message) const {
  throw UserError(fmt::format("{}:{}: {}", name_, now().line, message));
}

std::string ExpressionParser::shown() const {
  switch (now().kind) {
    case Kind::end:
      return "the end of the template";
    case Kind::block_end:
    case Kind::print_end:
      return "the end of the tag";
    case Kind::string:
      return "a string";
    default:
      return fmt::format("'{}'", now().text);
  }
}

void ExpressionParser::expect(std::string_view text) {
  if (!skip_symbol(text)) fail(fmt::format("'{}' belongs here, not {}", text, shown()));
}

std::string ExpressionParser::expect_name() {
  if (now().kind != Kind::name) fail(fmt::format("a name belongs here, not {}", shown()));
  return take().text;
}

ExpressionPtr ExpressionParser::make(Expression::Kind kind, int line, std::string text) const {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = line;
  expression->text = std::move(text);
  return expression;
}

ExpressionPtr ExpressionParser::constant(int line, Value value) const {
  auto expression = make(Expression::Kind::constant, line);
  expression->value = std::move(value);
  return expression;
}

ExpressionPtr ExpressionParser::binary(int line, std::string op, ExpressionPtr left, ExpressionPtr right) const {
  auto expression = make(Expression::Kind::binary, line, std::move(op));
  adopt(*expression, std::move(left));
  adopt(*expression, std::move(right));
  return expression;
}

void ExpressionParser::adopt(Expression& parent, ExpressionPtr child) const {
  deepen(parent, child.get());
  parent.children.push_back(std::move(child));
}

void ExpressionParser::deepen(Expression& parent, const Expression* child) const {
  if (child == nullptr) return;
  parent.depth = std::max(parent.depth, child->depth + 1);
  if (parent.depth > kDepthOfTree) fail(fmt::format("an expression is deeper than {} operators", kDepthOfTree));
}

ExpressionPtr ExpressionParser::tuple(bool conditions) {
  const int line = now().line;
  ExpressionPtr first = conditions ? expression() : or_();
  if (!symbol(",")) return first;
  auto all = make(Expression::Kind::tuple, line);
  adopt(*all, std::move(first));
  while (skip_symbol(",")) {
    if (now().kind == Kind::block_end || now().kind == Kind::print_end || symbol(")")) break;
    adopt(*all, conditions ? expression() : or_());
  }
  return all;
}

ExpressionPtr ExpressionParser::expression() {
  const Nested nested(*this);
  ExpressionPtr value = or_();
  while (word("if")) {
    auto condition = make(Expression::Kind::condition, take().line);
    adopt(*condition, std::move(value));
    adopt(*condition, or_());
    adopt(*condition, skip_word("else") ? expression() : nullptr);
    value = std::move(condition);
  }
  return value;
}

template <size_t n>
ExpressionPtr ExpressionParser::chain(Rule rule, Kind kind, const std::array<std::string_view, n>& operators) {
  ExpressionPtr left = (this->*rule)();
  while (now().kind == kind && std::find(operators.begin(), operators.end(), now().text) != operators.end()) {
    const Token op = take();
    left = binary(op.line, op.text, std::move(left), (this->*rule)());
  }
  return left;
}

ExpressionPtr ExpressionParser::or_() { return chain<1>(&ExpressionParser::and_, Kind::name, {"or"}); }

ExpressionPtr ExpressionParser::and_() { return chain<1>(&ExpressionParser::not_, Kind::name, {"and"}); }

ExpressionPtr ExpressionParser::not_() {
  if (!word("not")) return compare();
  const Nested nested(*this);
  auto expression = make(Expression::Kind::unary, take().line, "not");
  adopt(*expression, not_());
  return expression;
}

ExpressionPtr ExpressionParser::compare() {
  static constexpr std::array<std::string_view, 6> kOrders = {"==", "!=", "<", "<=", ">", ">="};
  const int line = now().line;
  ExpressionPtr first = sum();
  ExpressionPtr all;
  while (true) {
    std::string op;
    if (now().kind == Kind::symbol && std::find(kOrders.begin(), kOrders.end(), now().text) != kOrders.end()) {
      op = take().text;
    } else if (skip_word("in")) {
      op = "in";
    } else if (word("not") && is(next(), Kind::name, "in")) {
      take(), take();
      op = "not in";
    } else {
      return all != nullptr ? std::move(all) : std::move(first);
    }
    if (all == nullptr) {
      all = make(Expression::Kind::compare, line);
      adopt(*all, std::move(first));
    }
    all->operators.push_back(op);
    adopt(*all, sum());
  }
}

ExpressionPtr ExpressionParser::sum() { return chain<2>(&ExpressionParser::concatenation, Kind::symbol, {"+", "-"}); }

ExpressionPtr ExpressionParser::concatenation() { return chain<1>(&ExpressionParser::product, Kind::symbol, {"~"}); }

ExpressionPtr ExpressionParser::product() {
  return chain<4>(&ExpressionParser::power, Kind::symbol, {"*", "/", "//", "%"});
}

ExpressionPtr ExpressionParser::power() { return chain<1>(&ExpressionParser::unary, Kind::symbol, {"**"}); }

// A sign is before filters, and after what follows a value.

ExpressionPtr ExpressionParser::signed_value() {
  if (!symbol("-") && !symbol("+")) return postfix(primary());
  const Nested nested(*this);
  const Token sign = take();
  auto expression = make(Expression::Kind::unary, sign.line, sign.text);
  adopt(*expression, signed_value());
  return expression;
}

ExpressionPtr ExpressionParser::primary() {
  const Nested nested(*this);
  const Token token = now();
  switch (token.kind) {
    case Kind::name: {
      take();
      if (token.text == "true" || token.text == "True") return constant(token.line, true);
      if (token.text == "false" || token.text == "False") return constant(token.line, false);
      if (token.text == "none" || token.text == "None") return constant(token.line, None{});
      return make(Expression::Kind::name, token.line, token.text);
    }
    case Kind::string: {
      std::string text = take().text;
      while (now().kind == Kind::string) text += take().text;  // neighbours are one
      return constant(token.line, std::move(text));
    }
    case Kind::integer: {
      int64_t value = 0;
      const auto [end, error] = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
      if (error != std::errc()) fail(fmt::format("the number {} does not fit", token.text));
      take();
      return constant(token.line, value);
    }
    case Kind::floating: {
      double value = 0;
      std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
      take();
      return constant(token.line, value);
    }
    default:
      break;
  }
  if (skip_symbol("(")) {
    if (skip_symbol(")")) return make(Expression::Kind::tuple, token.line);
    ExpressionPtr inner = tuple();
    expect(")");
    return inner;
  }
  if (skip_symbol("[")) return items(make(Expression::Kind::list, token.line), "]", false);
  if (skip_symbol("{")) return items(make(Expression::Kind::dict, token.line), "}", true);
  fail(fmt::format("a value belongs here, not {}", shown()));
}

ExpressionPtr ExpressionParser::items(ExpressionPtr all, std::string_view close, bool pairs) {
  while (!symbol(close)) {
    if (!all->children.empty()) expect(",");
    if (symbol(close)) break;
    adopt(*all, expression());
    if (!pairs) continue;
    expect(":");
    adopt(*all, expression());
  }
  expect(close);
  return all;
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr value) {
  while (true) {
    const int line = now().line;
    if (skip_symbol(".")) {
      auto attribute = make(Expression::Kind::attribute, line);
      if (now().kind == Kind::integer) {
        attribute->kind = Expression::Kind::item;
        adopt(*attribute, std::move(value));
        adopt(*attribute, primary());
      } else {
        attribute->text = expect_name();
        adopt(*attribute, std::move(value));
      }
      value = std::move(attribute);
    } else if (skip_symbol("[")) {
      value = subscript(std::move(value), line);
    } else if (symbol("(")) {
      auto call = make(Expression::Kind::call, line);
      adopt(*call, std::move(value));
      arguments(*call);
      value = std::move(call);
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr object, int line) {
  auto item = make(Expression::Kind::item, line);
  adopt(*item, std::move(object));
  ExpressionPtr first = symbol(":") ? nullptr : expression();
  if (!symbol(":")) {
    adopt(*item, std::move(first));
    expect("]");
    return item;
  }
  item->kind = Expression::Kind::slice;
  adopt(*item, std::move(first));
  for (int part = 0; part < 2; ++part) {
    const bool given = skip_symbol(":") && !symbol(":") && !symbol("]");
    adopt(*item, given ? expression() : nullptr);
  }
  expect("]");
  return item;
}

void ExpressionParser::arguments(Expression& call) {
  expect("(");
  bool first = true;
  while (!symbol(")")) {
    if (!std::exchange(first, false)) expect(",");
    if (symbol(")")) break;
    if (symbol("*") || symbol("**")) fail("* and ** in a call are not supported");
    if (now().kind == Kind::name && is(next(), Kind::symbol, "=")) {
      std::string name = take().text;
      take();
      call.named.push_back({std::move(name), expression()});
      deepen(call, call.named.back().value.get());
    } else {
      if (!call.named.empty()) fail("an argument without a name stands after one with a name");
      adopt(call, expression());
    }
  }
  expect(")");
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr value) {
  while (true) {
    if (symbol("|")) {
      take();
      value = filter(std::move(value));
    } else if (value != nullptr && word("is")) {
      value = test(std::move(value));
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr value) {
  auto filter = make(Expression::Kind::filter, now().line, expect_name());
  while (skip_symbol(".")) filter->text += "." + expect_name();
  adopt(*filter, std::move(value));
  if (symbol("(")) arguments(*filter);
  return filter;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr value) {
  const int line = take().line;
  const bool inverted = skip_word("not");
  auto test = make(Expression::Kind::test, line, expect_name());
  adopt(*test, std::move(value));
  const bool begins_value = now().kind == Kind::string || now().kind == Kind::integer || now().kind == Kind::floating ||
                            symbol("[") || symbol("{") ||
                            (now().kind == Kind::name && !word("else") && !word("or") && !word("and") && !word("is") &&
                             !word("if") && !word("not") && !word("in") && !word("recursive"));
  if (symbol("(")) {
    arguments(*test);
  } else if (begins_value) {
    adopt(*test, postfix(primary()));
  }
  if (!inverted) return test;
  auto negation = make(Expression::Kind::unary, line, "not");
  adopt(*negation, std::move(test));
  return negation;
}

}  // namespace surtsey::experiments::text::templates
