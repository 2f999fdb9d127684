// An encoder of a few lines: a text's tokens are its letters, its vector counts them.
#pragma once

#include "experiments/retrieve/encoder.h"

#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::tests {

inline constexpr int32_t kBegin = 100, kEnd = 101;  // around every text

inline experiments::TextEncoder letters_encoder(int64_t context = 64, const std::string& hash = "letters") {
  experiments::TextEncoder encoder{.model = "/models/letters", .hash = hash, .width = 26, .context = context};
  encoder.tokens = [](std::string_view text) {
    std::vector<int32_t> tokens = {kBegin};
    for (const char c : text) {
      if (std::isalpha(static_cast<unsigned char>(c))) tokens.push_back(std::tolower(c) - 'a');
    }
    tokens.push_back(kEnd);
    return tokens;
  };
  encoder.vectors = [](const std::vector<std::vector<int32_t>>& texts) {
    std::vector<std::vector<float>> vectors;
    for (const auto& text : texts) {
      std::vector<float>& vector = vectors.emplace_back(26, 0.f);
      for (const int32_t token : text) {
        if (token < 26) vector[size_t(token)] += 1;
      }
    }
    return vectors;
  };
  return encoder;
}

}  // namespace surtsey::tests
