// A chat template as tokens.
#pragma once

#include <string>
#include <vector>

namespace surtsey::experiments::text::templates {

struct Token {
  enum class Kind {
    text,  // between tags
    block_begin,
    block_end,
    print_begin,
    print_end,
    name,
    integer,
    floating,
    string,  // what its escapes stand for
    symbol,  // an operator, a bracket
    end,
  };
  Kind kind = Kind::end;
  std::string text;
  int line = 0;
};

// With trim_blocks and lstrip_blocks, as templates are rendered by transformers: the line break after a block is
// dropped, and the blanks before it where it begins its line. UserError "NAME:LINE: ..".
std::vector<Token> tokenize(const std::string& source, const std::string& name);

}  // namespace surtsey::experiments::text::templates
