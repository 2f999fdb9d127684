// The bytes of tokens: what each adds to a text, also where that is a part of a character.
#pragma once

#include "experiments/text/tokenizer.h"

#include <string>
#include <vector>

namespace surtsey::experiments::text {

// By id, 0 to vocab_size() - 1; "" of special tokens and of ids without a token. A token is taken as it stands in the
// middle of a text: blanks that a tokenizer leaves out at the beginning are there.
std::vector<std::string> token_bytes(const Tokenizer& tokenizer);

}  // namespace surtsey::experiments::text
