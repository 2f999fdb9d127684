// A model without weights whose every number can be computed by hand: behind token t comes t + 1 (after the last one 0)
// with probability 1/2, each other of V with 1 / (2 (V - 1)).
#pragma once

#include "experiments/evaluate/harness/scorer.h"
#include "experiments/text/tokenizer_json.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace surtsey::tests {

class CountingScorer : public experiments::Scorer {
 public:
  CountingScorer(int32_t vocabulary, int64_t context) : vocabulary_(vocabulary), context_(context) {}

  double likely() const { return std::log(.5); }
  double unlikely() const { return -std::log(2.0 * (vocabulary_ - 1)); }

  int64_t context() const override { return context_; }
  bool is_encoder_decoder() const override { return false; }

  std::vector<experiments::TokenLikelihood> score(std::span<const int32_t> context,
                                                  std::span<const int32_t> continuation) override {
    if (before_score) before_score();
    REQUIRE_FALSE(context.empty());
    REQUIRE(std::ssize(context) + std::ssize(continuation) <= context_ + 1);
    asked.push_back({context.begin(), context.end()});
    std::vector<experiments::TokenLikelihood> result;
    int32_t last = context.back();
    for (const int32_t token : continuation) {
      const bool next = token == (last + 1) % vocabulary_;
      result.push_back({next ? likely() : unlikely(), next});
      last = token;
    }
    return result;
  }

  void generate(std::span<const Request> requests, const experiments::hub::GenerationConfig&, uint64_t,
                const std::function<bool(size_t, int32_t)>& token, const std::function<void(size_t)>& done) override {
    // The last text comes to its end first: places are told, not guessed.
    for (size_t i = requests.size(); i-- > 0;) {
      asked.push_back(requests[i].prompt);
      int32_t last = requests[i].prompt.back();
      for (int64_t n = 0; n < requests[i].most; ++n) {
        last = (last + 1) % vocabulary_;
        if (!token(i, last)) break;
      }
      done(i);
    }
  }

  std::vector<std::vector<int32_t>> asked;  // contexts
  std::function<void()> before_score;

 private:
  int32_t vocabulary_;
  int64_t context_;
};

// A token a character, in this order.
inline experiments::text::Tokenizer by_characters(const std::string& characters) {
  nlohmann::json tokens = nlohmann::json::object();
  for (size_t i = 0; i < characters.size(); ++i) tokens[characters.substr(i, 1)] = i;
  const nlohmann::json file = {{"model", {{"type", "BPE"}, {"vocab", tokens}, {"merges", nlohmann::json::array()}}},
                               {"decoder", {{"type", "Fuse"}}}};
  return experiments::text::parse_tokenizer_json(file.dump(), "characters");
}

}  // namespace surtsey::tests
