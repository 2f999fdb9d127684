// Likelihoods and answers of models that others trained, against the logits that their own code computed.
#include "experiments/evaluate/harness/slots_scorer.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"
#include "tests/support/support_device.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using nlohmann::json;

namespace {

// log softmax of logits [V] at a token, in double.
double logprob(const std::vector<double>& logits, int32_t token) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double one : logits) sum += std::exp(one - most);
  return logits[size_t(token)] - most - std::log(sum);
}

bool likeliest(const std::vector<double>& logits, int32_t token) {
  return logits[size_t(token)] == *std::max_element(logits.begin(), logits.end());
}

}  // namespace

TEST_CASE("likelihoods of models that others trained are those of their logits", "[device][hub][harness]") {
  const std::filesystem::path goldens = tests::shared_folder("goldens");
  engine::Device device = tests::open_test_device();
  for (const char* name : {"gpt2", "llama-headdim", "mistral-window4", "qwen2", "t5"}) {
    CAPTURE(name);
    const json golden = json::parse(tests::slurp(goldens / name / "golden.json"));
    const auto source = hub::open_model(goldens / name);
    const bool answers = source->config().family() == hub::Family::t5;
    auto ids = golden.at("input_ids").get<std::vector<int32_t>>();
    if (golden.contains("attention_mask")) {
      const auto mask = golden.at("attention_mask").get<std::vector<int32_t>>();
      ids.resize(size_t(std::count(mask.begin(), mask.end(), 1)));
    }
    const auto logits = golden.at("logits").get<std::vector<std::vector<double>>>();
    double largest = 0;
    for (const auto& row : logits) {
      for (const double one : row) largest = std::max(largest, std::abs(one));
    }
    Slots slots(device, *source, {.slots = 2, .context = 40, .source = answers ? 16 : 0, .scores = true});
    SlotsScorer scorer(slots, source->generation().tokens);
    CHECK(scorer.is_encoder_decoder() == answers);
    const auto check_scores = [&](std::span<const int32_t> context, std::span<const int32_t> continuation,
                                  size_t first) {
      const std::vector<TokenLikelihood> scores = scorer.score(context, continuation);
      REQUIRE(scores.size() == continuation.size());
      for (size_t i = 0; i < scores.size(); ++i) {
        CAPTURE(i);
        CHECK(scores[i].logprob == Catch::Approx(logprob(logits[first + i], continuation[i])).margin(2e-4 * largest));
        CHECK(scores[i].likeliest == likeliest(logits[first + i], continuation[i]));
      }
    };
    if (answers) {
      const auto target = golden.at("decoder_input_ids").get<std::vector<int32_t>>();
      REQUIRE(target.front() == source->generation().tokens.decoder_start);
      check_scores(ids, std::span(target).subspan(1), 0);
    } else {
      // From the whole and from parts, in whatever order: what stands in the cache changes nothing.
      for (const size_t cut : {1, 7, 11, 3})
        check_scores(std::span(ids).first(cut), std::span(ids).subspan(cut), cut - 1);
      std::vector<int32_t> best;
      for (const auto& row : logits) best.push_back(int32_t(std::max_element(row.begin(), row.end()) - row.begin()));
      // A single token that is the likeliest, for each beginning.
      for (size_t cut = 1; cut <= ids.size(); ++cut)
        check_scores(std::span(ids).first(cut), {{best[cut - 1]}}, cut - 1);
    }

    // Greedy, three texts in two slots; two of the texts are the golden one, and one is another.
    auto expected = golden.at("greedy").get<std::vector<int32_t>>();
    expected.erase(expected.begin(), expected.begin() + (answers ? 1 : std::ptrdiff_t(ids.size())));
    std::vector<Scorer::Request> requests(3, {ids, std::ssize(expected)});
    requests[1].prompt.resize(4);
    requests[1].most = 3;
    std::vector<std::vector<int32_t>> told(3);
    std::vector<size_t> done;
    scorer.generate(
        requests, {}, 0,
        [&](size_t place, int32_t token) {
          told[place].push_back(token);
          return true;
        },
        [&](size_t place) { done.push_back(place); });
    CHECK(told[0] == expected);
    CHECK(told[2] == expected);
    CHECK(told[1].size() == 3);
    std::sort(done.begin(), done.end());
    CHECK(done == std::vector<size_t>{0, 1, 2});
    // Stopped by who listens.
    size_t tokens = 0;
    scorer.generate(requests, {}, 0, [&](size_t, int32_t) { return ++tokens > 1000; }, [](size_t) {});
    CHECK(tokens == 3);
  }
}
