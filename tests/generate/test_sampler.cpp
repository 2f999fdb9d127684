// From logits to a token on the host: each processor by hand, and all of them against their definitions.
#include "experiments/generate/processors.h"
#include "experiments/generate/sampler.h"
#include "graph/error.h"
#include "graph/random.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;

namespace {

using Tokens = std::vector<int32_t>;
using Scores = std::vector<float>;

hub::GenerationConfig plain() {
  hub::GenerationConfig how;
  how.max_new_tokens = 100;
  how.top_k = 0;
  return how;
}

Scores processed(const hub::GenerationConfig& how, size_t given, const Tokens& text, Scores scores) {
  Processors(how, int64_t(given), int64_t(scores.size())).process(text, scores);
  return scores;
}

Scores warped(hub::GenerationConfig how, Scores scores, int64_t least = 1) {
  how.do_sample = true;
  Processors(how, 1, int64_t(scores.size())).warp(scores, least);
  return scores;
}

std::vector<size_t> kept(const Scores& scores) {
  std::vector<size_t> result;
  for (size_t i = 0; i < scores.size(); ++i)
    if (scores[i] != kBanned) result.push_back(i);
  return result;
}

std::vector<double> shares(const Scores& scores) {
  std::vector<double> result;
  double sum = 0;
  for (const float score : scores) {
    result.push_back(std::exp(double(score)));
    sum += result.back();
  }
  for (double& share : result) share /= sum;
  return result;
}

// Logarithms of 0.5, 0.2, 0.15, 0.1, 0.05.
Scores five() {
  Scores scores;
  for (const double share : {.2, .5, .05, .15, .1}) scores.push_back(float(std::log(share)));
  return scores;
}

Scores random_scores(uint32_t seed, size_t count) {
  Scores scores;
  for (uint32_t i = 0; i < count; ++i) scores.push_back(8 * graph::random_uniform(seed, 0, i) - 4);
  return scores;
}

}  // namespace

TEST_CASE("what is repeated is made less likely, or banned", "[sampler]") {
  hub::GenerationConfig how = plain();
  how.repetition_penalty = 2;
  // Once a token, however often it was there; what is below 0 moves away from it.
  CHECK(processed(how, 1, {1, 3, 3}, {1, 1, -1, -1}) == Scores{1, .5f, -1, -2});
  how = plain();
  how.no_repeat_ngram_size = 2;
  CHECK(kept(processed(how, 1, {1, 2, 3, 1}, {0, 0, 0, 0})) == std::vector<size_t>{0, 1, 3});
  CHECK(kept(processed(how, 1, {1}, {0, 0, 0, 0})).size() == 4);
  how.no_repeat_ngram_size = 3;
  CHECK(kept(processed(how, 1, {1, 2, 3, 1, 2}, {0, 0, 0, 0})) == std::vector<size_t>{0, 1, 2});
  CHECK(kept(processed(how, 1, {1, 2}, {0, 0, 0, 0})).size() == 4);
  how.no_repeat_ngram_size = 1;
  CHECK(kept(processed(how, 1, {1, 2}, {0, 0, 0, 0})) == std::vector<size_t>{0, 3});
}

TEST_CASE("tokens are banned and forced by name and place", "[sampler]") {
  hub::GenerationConfig how = plain();
  how.tokens.eos = {0, 99};  // of which the model has one
  how.bad_words_ids = {{2}, {1, 3}, {0}, {1, 1, 1, 1}};
  // An end token alone is no bad word; a word longer than the text is not looked for.
  CHECK(kept(processed(how, 1, {4, 1}, Scores(5))) == std::vector<size_t>{0, 1, 4});
  CHECK(kept(processed(how, 1, {1, 4}, Scores(5))) == std::vector<size_t>{0, 1, 3, 4});
  CHECK(kept(processed(how, 1, {1}, Scores(5))) == std::vector<size_t>{0, 1, 3, 4});  // transformers' rule
  CHECK(kept(processed(how, 1, {1, 1, 1}, Scores(5))) == std::vector<size_t>{0, 1, 4});
  CHECK(kept(processed(how, 1, {4, 1, 1, 1}, Scores(5))) == std::vector<size_t>{0, 4});

  how = plain();
  how.tokens.eos = {0};
  how.min_length = 3;
  CHECK(kept(processed(how, 1, {1, 1}, Scores(3))) == std::vector<size_t>{1, 2});
  CHECK(kept(processed(how, 1, {1, 1, 1}, Scores(3))).size() == 3);
  how.min_new_tokens = 3;
  CHECK(kept(processed(how, 1, {1, 1, 1}, Scores(3))) == std::vector<size_t>{1, 2});
  CHECK(kept(processed(how, 1, {1, 1, 1, 1}, Scores(3))).size() == 3);

  how = plain();
  how.forced_bos_token_id = 2;
  how.forced_eos_token_id = {0, 1};
  how.max_new_tokens = 4;
  CHECK(processed(how, 1, {1}, {1, 2, 3}) == Scores{kBanned, kBanned, 0});
  CHECK(processed(how, 1, {1, 2}, {1, 2, 3}) == Scores{1, 2, 3});
  CHECK(processed(how, 1, {1, 2, 2, 2}, {1, 2, 3}) == Scores{0, 0, kBanned});
  how.max_new_tokens.reset();
  how.max_length = 3;
  CHECK(processed(how, 1, {1, 2}, {1, 2, 3}) == Scores{0, 0, kBanned});

  how = plain();
  how.suppress_tokens = {1, 50};
  how.begin_suppress_tokens = {2};
  CHECK(kept(processed(how, 2, {0, 0}, Scores(4))) == std::vector<size_t>{0, 3});
  CHECK(kept(processed(how, 2, {0, 0, 0}, Scores(4))) == std::vector<size_t>{0, 2, 3});
  // Behind a forced first token the second is the first that is free.
  how.forced_bos_token_id = 3;
  CHECK(kept(processed(how, 1, {0, 3}, Scores(4))) == std::vector<size_t>{0, 3});
}

TEST_CASE("draws are among the tokens that temperature, top_k, top_p, min_p and typical_p leave", "[sampler]") {
  hub::GenerationConfig how = plain();
  how.temperature = .5;
  CHECK(warped(how, {1, -2}) == Scores{2, -4});
  how = plain();
  how.top_k = 2;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{0, 1});
  CHECK(kept(warped(how, {1, 1, 1, 0})).size() == 3);  // what equals the last stays
  CHECK(kept(warped(how, five(), 3)) == std::vector<size_t>{0, 1, 3});
  how = plain();
  how.top_p = .6;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{0, 1});
  how.top_p = .75;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{0, 1, 3});
  how.top_p = 0;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{1});
  CHECK(kept(warped(how, five(), 2)) == std::vector<size_t>{0, 1});
  how.top_p = .5;
  CHECK(kept(warped(how, {0, 0, 0, 0})).size() == 2);  // exactly
  how = plain();
  how.min_p = .25;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{0, 1, 3});
  CHECK(kept(warped(how, five(), 4)) == std::vector<size_t>{0, 1, 3, 4});
  // The entropy is 1.333 nats: .2 (1.609) is nearest, then .15 (1.897) and .5 (.693), .1 (2.303), .05 (2.996).
  how = plain();
  how.typical_p = .2;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{0});
  how.typical_p = .3;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{0, 3});
  how.typical_p = .8;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{0, 1, 3});
  // One after the other: the two likeliest are .714 and .286, of which .714 is enough.
  how = plain();
  how.top_k = 2;
  how.top_p = .7;
  CHECK(kept(warped(how, five())) == std::vector<size_t>{1});
}

TEST_CASE("what a draw leaves is what its definition says", "[sampler]") {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    const Scores scores = random_scores(seed, 60);
    const std::vector<double> share = shares(scores);
    const double p = .05 + .9 * double(graph::random_uniform(seed, 1, 0));
    const auto mass = [&](auto&& of) {
      double sum = 0;
      for (size_t j = 0; j < share.size(); ++j)
        if (of(j)) sum += share[j];
      return sum;
    };
    double entropy = 0;
    for (const double s : share) entropy -= s * std::log(s);
    const auto distance = [&](size_t i) { return std::abs(-std::log(share[i]) - entropy); };
    const double largest = *std::max_element(share.begin(), share.end());
    std::vector<size_t> nucleus, above, typical, likeliest;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (mass([&](size_t j) { return share[j] > share[i]; }) < p) nucleus.push_back(i);
      if (share[i] >= p * largest) above.push_back(i);
      if (mass([&](size_t j) { return distance(j) < distance(i); }) < p) typical.push_back(i);
      if (std::count_if(share.begin(), share.end(), [&](double s) { return s > share[i]; }) < 7) likeliest.push_back(i);
    }
    hub::GenerationConfig how = plain();
    how.top_p = p;
    CHECK(kept(warped(how, scores)) == nucleus);
    how = plain();
    how.min_p = p;
    CHECK(kept(warped(how, scores)) == above);
    how = plain();
    how.typical_p = p;
    CHECK(kept(warped(how, scores)) == typical);
    how = plain();
    how.top_k = 7;
    CHECK(kept(warped(how, scores)) == likeliest);
  }
}

TEST_CASE("draws follow their distribution, and are the same for the same seed and stream", "[sampler]") {
  hub::GenerationConfig how = plain();
  how.do_sample = true;
  how.temperature = 1.5;
  how.top_p = .9;
  how.max_new_tokens = 100000;
  const Scores logits = random_scores(5, 12);
  const std::vector<double> expected = shares(warped(how, logits));
  constexpr size_t kDraws = 20000;
  std::vector<double> counts(logits.size(), 0);
  const auto drawn = [&](uint64_t seed, uint32_t stream, size_t count) {
    Sampler sampler(how, Tokens{0}, int64_t(logits.size()), seed, stream);
    Tokens tokens;
    for (size_t i = 0; i < count; ++i) tokens.push_back(sampler.draw(logits).token);
    return tokens;
  };
  for (const int32_t token : drawn(3, 0, kDraws)) ++counts[size_t(token)];
  for (size_t i = 0; i < logits.size(); ++i) {
    const double deviation = std::sqrt(expected[i] * (1 - expected[i]) * double(kDraws));
    CHECK(std::abs(counts[i] - expected[i] * double(kDraws)) <= 5 * deviation);
  }
  const Tokens some = drawn(7, 2, 50);
  CHECK(drawn(7, 2, 50) == some);
  CHECK(drawn(7, 3, 50) != some);
  CHECK(drawn(8, 2, 50) != some);
  CHECK(drawn(7 + (uint64_t(1) << 32), 2, 50) != some);
  CHECK(drawn(7, 2, 20) == Tokens(some.begin(), some.begin() + 20));
}

TEST_CASE("the greedy choice, log-probabilities, and where a text ends", "[sampler]") {
  hub::GenerationConfig how = plain();
  how.max_new_tokens = 3;
  how.tokens.eos = {2};
  Sampler sampler(how, Tokens{4, 4}, 5, 0);
  CHECK(sampler.left() == 3);
  const Drawn drawn = sampler.draw(five(), 3);
  CHECK(drawn.token == 1);
  CHECK(drawn.logprob == Approx(std::log(.5)));
  REQUIRE(drawn.top.size() == 3);
  CHECK(drawn.top[0].token == 1);
  CHECK(drawn.top[1].token == 0);
  CHECK(drawn.top[2].token == 3);
  CHECK(drawn.top[2].logprob == Approx(std::log(.15)));
  // Of plain logits, whatever shifts them.
  Scores shifted = five();
  for (float& score : shifted) score = score + 3;
  CHECK(log_probabilities(shifted, 4, 0).logprob == Approx(std::log(.1)));
  CHECK(log_probabilities({{1, 1, 0}}, 0, 2).top[1].token == 1);
  CHECK(sampler.text() == Tokens{4, 4, 1});
  CHECK(sampler.left() == 2);
  CHECK(sampler.ends(2));
  CHECK(!sampler.ends(1));
  sampler.push(2);
  sampler.push(2);
  CHECK(sampler.left() == 0);
  CHECK(sampler.draw(five()).top.empty());
}

TEST_CASE("callers add penalties, biases and masks", "[sampler]") {
  const Scores logits = {1, 2, 3};
  Sampler sampler(plain(), Tokens{2}, 3, 0);
  sampler.set_openai_penalties(.6, .5);
  // The prompt does not count.
  CHECK(sampler.draw(logits).token == 2);
  CHECK(sampler.draw(logits).token == 1);  // 3 - 1.1 < 2
  CHECK(sampler.draw(logits).token == 2);  // 1.9 > 2 - 1.1
  CHECK(sampler.draw(logits).token == 2);  // 3 - 1.7 > 1
  CHECK(sampler.draw(logits).token == 0);  // 3 - 2.3, .9
  sampler.set_openai_penalties(0, 0);
  sampler.set_logit_bias({{0, 5.0f}, {2, -100.0f}});
  CHECK(sampler.draw(logits, 0).token == 0);
  sampler.set_logit_bias({});
  size_t asked = 0;
  sampler.set_mask([&](std::vector<bool>& allowed) {
    ++asked;
    CHECK(allowed == std::vector<bool>(3, true));
    allowed[2] = false;
    if (asked > 1) allowed.assign(3, false);
  });
  CHECK(sampler.draw(logits).token == 1);
  CHECK_THROWS_AS(sampler.draw(logits), UserError);
  CHECK_THROWS_AS(sampler.set_logit_bias({{3, 1.0f}}), UserError);
  CHECK_THROWS_AS(sampler.set_logit_bias({{0, std::nanf("")}}), UserError);
  CHECK_THROWS_AS(sampler.push(3), UserError);
}

TEST_CASE("what no sampler can do is refused by name", "[sampler]") {
  const auto refused = [](auto&& change) {
    hub::GenerationConfig how = plain();
    how.do_sample = true;
    change(how);
    try {
      Sampler(how, Tokens{0}, 4, 0);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refused([](auto&) {}).empty());
  CHECK(refused([](auto& how) { how.temperature = 0; }).starts_with("temperature"));
  CHECK(refused([](auto& how) { how.top_p = 1.5; }).starts_with("top_p"));
  CHECK(refused([](auto& how) { how.min_p = -1; }).starts_with("min_p"));
  CHECK(refused([](auto& how) { how.typical_p = 0; }).starts_with("typical_p"));
  CHECK(refused([](auto& how) { how.repetition_penalty = 0; }).starts_with("repetition_penalty"));
  CHECK(refused([](auto& how) { how.bad_words_ids = {{1, 4}}; }).starts_with("bad_words_ids"));
  CHECK(refused([](auto& how) { how.forced_bos_token_id = 4; }).starts_with("forced_bos_token_id"));
  CHECK_THROWS_AS(Sampler(plain(), Tokens{4}, 4, 0), UserError);
}
