// What makes vectors of texts, as an index needs it: a model and its tokenizer (commands/text_encoder.h), or in tests a
// few lines.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

struct TextEncoder {
  std::string model;  // where it is
  std::string hash;   // of its configuration, weights and tokenizer: another model has another
  int64_t width = 0;
  int64_t context = 0;  // tokens that a text has at most
  // With the tokens that the model wants around a text.
  std::function<std::vector<int32_t>(std::string_view text)> tokens;
  // The means of the last hidden states, of any length: [n][width]. A text's are the same bits whatever is beside it.
  std::function<std::vector<std::vector<float>>(const std::vector<std::vector<int32_t>>& texts)> vectors;
};

// Of length 1, so that products are cosines. A vector of zeros stays one.
void normalize(std::vector<float>& vector);

// UserError that names both: the index was made with another model, or with none.
struct IndexSettings;
void check_encoder(const std::string& index, const IndexSettings& settings, const TextEncoder& encoder);

}  // namespace surtsey::experiments
