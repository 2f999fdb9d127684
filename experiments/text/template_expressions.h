// The two halves of the parser of chat templates: expressions here, statements on top of them in template_parser.cpp.
#pragma once

#include "experiments/text/template_lexer.h"
#include "experiments/text/template_syntax.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::text::templates {

class ExpressionParser {
 public:
  // The name stands in messages and outlives the parser.
  ExpressionParser(std::vector<Token> tokens, const std::string& name) : tokens_(std::move(tokens)), name_(name) {}

 protected:
  using Kind = Token::Kind;
  using ExpressionPtr = std::unique_ptr<Expression>;

  // Counts how deep the parser is in itself.
  class Nested {
   public:
    explicit Nested(ExpressionParser& parser);
    ~Nested() { --parser_.nesting_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    ExpressionParser& parser_;
  };

  [[noreturn]] void fail(const std::string& message) const;
  const Token& now() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  static bool is(const Token& token, Kind kind, std::string_view text) {
    return token.kind == kind && token.text == text;
  }
  bool symbol(std::string_view text) const { return is(now(), Kind::symbol, text); }
  bool word(std::string_view text) const { return is(now(), Kind::name, text); }
  bool skip_symbol(std::string_view text) { return symbol(text) && (take(), true); }
  bool skip_word(std::string_view text) { return word(text) && (take(), true); }
  std::string shown() const;  // the token, for a message
  void expect(std::string_view text);
  std::string expect_name();
  ExpressionPtr make(Expression::Kind kind, int line, std::string text = "") const;

  // With commas it is a tuple. Without conditions the `if` after it is somebody else's.
  ExpressionPtr tuple(bool conditions = true);
  ExpressionPtr expression();
  // | filter(..) and `is` test(..), after a value; and the filters of a filter block, the first without a bar.
  ExpressionPtr filters(ExpressionPtr value);
  ExpressionPtr filter_chain() { return filters(filter(nullptr)); }

 private:
  using Rule = ExpressionPtr (ExpressionParser::*)();
  // Operators of one rank, from the left.
  template <size_t n>
  ExpressionPtr chain(Rule rule, Kind kind, const std::array<std::string_view, n>& operators);
  void adopt(Expression& parent, ExpressionPtr child) const;
  void deepen(Expression& parent, const Expression* child) const;
  ExpressionPtr constant(int line, Value value) const;
  ExpressionPtr binary(int line, std::string op, ExpressionPtr left, ExpressionPtr right) const;

  ExpressionPtr or_();
  ExpressionPtr and_();
  ExpressionPtr not_();
  ExpressionPtr compare();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary() { return filters(signed_value()); }
  ExpressionPtr signed_value();
  ExpressionPtr primary();
  ExpressionPtr items(ExpressionPtr all, std::string_view close, bool pairs);
  ExpressionPtr postfix(ExpressionPtr value);
  ExpressionPtr subscript(ExpressionPtr object, int line);
  void arguments(Expression& call);
  ExpressionPtr filter(ExpressionPtr value);
  ExpressionPtr test(ExpressionPtr value);

  std::vector<Token> tokens_;
  const std::string& name_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace surtsey::experiments::text::templates
