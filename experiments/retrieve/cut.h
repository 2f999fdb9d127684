// A long text as passages that a model reads as a whole.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

struct CutOptions {
  int64_t room = 256;   // tokens of a passage
  int64_t overlap = 0;  // tokens of its end, at most, that the next passage begins with: whole words
  // The tokens of a part of the text: of a passage, or of a word with the blank before it.
  std::function<int64_t(std::string_view part)> tokens;
};

// Passages are runs of whole words. Each takes as many as there is room for and ends behind the last sentence that ends
// in its second half (a word that ends in . ! or ?, or stands before an empty line), where there is one; a word that
// has no room alone is cut between characters. Blanks at the ends are left out, those inside stay. `text` is UTF-8 and
// more than blanks; what is returned is not empty.
std::vector<std::string> cut_text(std::string_view text, const CutOptions& options);

// Words between blanks, which are tokens where there is no model.
int64_t words_between_blanks(std::string_view text);

}  // namespace surtsey::experiments
