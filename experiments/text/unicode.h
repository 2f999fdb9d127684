// Characters by their properties, and the normal forms, as the tokenizers library of Hugging Face has them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::text {

inline constexpr const char* kReplacementText = "\uFFFD";  // stands for what is no character
inline constexpr const char* kMetaSpace = "\u2581";        // SentencePiece's blank

// The same bytes with U+FFFD for every longest part that begins a character and does not end it (Unicode, section 3.9).
std::string replace_invalid_utf8(std::string_view bytes);

// Of text that is UTF-8: its characters, and their number.
std::u32string characters(std::string_view text);
std::string to_utf8(std::u32string_view points);
size_t character_count(std::string_view text);
// Bytes of the character at `at`.
size_t character_length(std::string_view text, size_t at);
// The character at `at`, and the one that ends at `end`.
char32_t character_at(std::string_view text, size_t at);
char32_t character_before(std::string_view text, size_t end);

bool is_whitespace(char32_t point);         // White_Space
bool is_numeric(char32_t point);            // Nd, Nl, No
bool is_punctuation(char32_t point);        // P*, and what ASCII calls punctuation: + is one, U+00D7 is none
bool is_nonspacing_mark(char32_t point);    // Mn
bool is_mark(char32_t point);               // Mn, Mc, Me
bool is_control_or_format(char32_t point);  // Cc, Cf, Co: what BERT's cleaning drops; unassigned ones stay
bool is_word_character(char32_t point);     // \w: letters, marks, decimal digits, connectors
bool is_cjk_ideograph(char32_t point);      // in the blocks that BERT puts blanks around

// Lower case of a character as text: U+0130 becomes two.
void append_lower_case(std::string& text, char32_t point);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
std::string normal_form(std::string_view text, NormalForm form);

// Ends of the extended grapheme clusters, in bytes; the last one is the text's size.
std::vector<size_t> grapheme_ends(std::string_view text);

}  // namespace surtsey::experiments::text
