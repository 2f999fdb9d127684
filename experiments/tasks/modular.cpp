#include "experiments/tasks/modular.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {

ModularTask::ModularTask(ModularOptions options) : options_(options) {
  const int32_t p = options_.modulus;
  check_range("[modular] modulus", p, 3, 1000);
  check(options_.trained_share >= 0.05 && options_.trained_share <= 0.95,
        "[modular] trained_share is {}, it must be in [0.05, 0.95]", options_.trained_share);
  pairs_.resize(static_cast<size_t>(p) * static_cast<size_t>(p));
  std::iota(pairs_.begin(), pairs_.end(), 0);
  const uint32_t key = graph::stream_seed(options_.table_seed, "modular.table");
  for (auto i = static_cast<uint32_t>(pairs_.size()) - 1; i > 0; --i) {
    std::swap(pairs_[i], pairs_[graph::random_range(key, 0, i, i + 1)]);
  }
  trained_ = std::max<size_t>(1, static_cast<size_t>(options_.trained_share * static_cast<double>(pairs_.size())));
}

std::vector<int32_t> ModularTask::sequence(size_t place) const {
  const int32_t p = options_.modulus, a = pairs_[place] / p, b = pairs_[place] % p;
  return {a, p, b, p + 1, (a + b) % p};
}

void ModularTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                               std::span<int32_t> targets, std::span<float> weights) const {
  const bool train = split == Split::kTrain;
  const auto count = static_cast<uint32_t>(train ? trained_ : pairs_.size() - trained_);
  const uint32_t key = graph::stream_seed(seed, split_name(split));
  const std::vector<int32_t> row = sequence((train ? 0 : trained_) + graph::random_range(key, step, index, count));
  for (size_t t = 0; t < row.size(); ++t) {
    tokens[t] = row[t];
    targets[t] = t + 1 < row.size() ? row[t + 1] : padding_token();
    weights[t] = t + 2 == row.size() ? 1.0f : 0.0f;
  }
}

std::string ModularTask::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t token : tokens) {
    check(token >= 0 && token < vocab_size(), "[modular] there is no token {}", token);
    const std::string symbol = token < options_.modulus ? fmt::to_string(token) : token == options_.modulus ? "+" : "=";
    text += (text.empty() ? "" : " ") + symbol;
  }
  return text;
}

std::vector<int32_t> ModularTask::encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  while (true) {
    const size_t start = text.find_first_not_of(' ');
    if (start == std::string_view::npos) return tokens;
    text.remove_prefix(start);
    const std::string_view word = text.substr(0, text.find(' '));
    int32_t number = word == "+" ? options_.modulus : word == "=" ? options_.modulus + 1 : -1;
    if (number < 0) {
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
      check(error == std::errc() && end == word.data() + word.size() && number >= 0 && number < options_.modulus,
            "[modular] '{}' is not a symbol", word);
    }
    tokens.push_back(number);
    text.remove_prefix(word.size());
  }
}

std::vector<Item> ModularTask::test_items(int32_t arm, int32_t count, uint32_t) const {
  const size_t first = arm == 0 ? 0 : trained_;
  const size_t last = arm == 0 ? trained_ : pairs_.size();
  std::vector<Item> items;
  for (size_t place = first; place < last && items.size() < static_cast<size_t>(count); ++place) {
    Item& item = items.emplace_back();
    item.arm = arm;
    item.sequence = sequence(place);
    item.prompt_length = 4;
    item.answer_length = 1;
  }
  return items;
}

Corruption ModularTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const { return {}; }

}  // namespace surtsey::experiments::tasks
