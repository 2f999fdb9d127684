#include "experiments/tasks/prototypes.h"

#include <fmt/format.h>

#include <cmath>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

using graph::random_bits;
using graph::random_range;
using graph::random_uniform;

constexpr uint32_t kPrototypes = graph::stream_seed(0, "prototypes.classes");

// What one example draws, as steps of its key.
enum ExampleDraw : uint32_t { kDrawClass, kDrawKept, kDrawSymbol, kDrawNoise, kDrawLabel };

// Any of `count` but this one, all as likely.
int32_t another(int32_t one, uint32_t key, ExampleDraw what, uint32_t index, int32_t count) {
  const auto drawn = static_cast<int32_t>(random_range(key, what, index, static_cast<uint32_t>(count - 1)));
  return drawn < one ? drawn : drawn + 1;
}

}  // namespace

PrototypeTask::PrototypeTask(PrototypeOptions options, PrototypeLesson lesson, std::shared_ptr<const SoftLabels> taught)
    : options_(options), lesson_(lesson), taught_(std::move(taught)) {
  check_range("[prototypes] classes", options.classes, 2, 100);
  check_range("[prototypes] symbols", options.symbols, 2, 26);
  check_range("[prototypes] length", options.length, 1, 64);
  check_range("[prototypes] examples", lesson.examples, 0, 1 << 24);
  check(0 <= options.kept && options.kept < 1, "[prototypes] kept {} is not in [0, 1)", options.kept);
  check(0 <= options.label_noise && options.label_noise < 1, "[prototypes] label_noise {} is not in [0, 1)",
        options.label_noise);
  check(0 <= lesson.smoothing && lesson.smoothing <= 1, "[prototypes] smoothing {} is not in [0, 1]", lesson.smoothing);
  check(taught_ == nullptr || (lesson.examples > 0 && lesson.smoothing == 0),
        "[prototypes] soft labels are of so many examples, and not smoothed");
  for (int32_t i = 0; i < options.symbols; ++i) names_.emplace_back(1, static_cast<char>('a' + i));
  for (int32_t i = 0; i < options.classes; ++i) names_.push_back(fmt::format("C{}", i));
  names_.insert(names_.end(), {">", "_"});
  for (int32_t i = 0; i < options.classes; ++i) {
    std::vector<int32_t>& one = prototypes_.emplace_back();
    for (int32_t t = 0; t < options.length; ++t)
      one.push_back(static_cast<int32_t>(random_range(kPrototypes, static_cast<uint32_t>(i), static_cast<uint32_t>(t),
                                                      static_cast<uint32_t>(options.symbols))));
  }
}

PrototypeTask::Drawn PrototypeTask::draw(uint32_t key) const {
  Drawn drawn;
  drawn.type = static_cast<int32_t>(random_range(key, kDrawClass, 0, static_cast<uint32_t>(options_.classes)));
  for (uint32_t t = 0; t < static_cast<uint32_t>(options_.length); ++t) {
    const int32_t symbol = prototypes_[static_cast<size_t>(drawn.type)][t];
    const bool kept = random_uniform(key, kDrawKept, t) < options_.kept;
    drawn.tokens.push_back(kept ? symbol : another(symbol, key, kDrawSymbol, t, options_.symbols));
  }
  drawn.tokens.push_back(class_token(options_.classes));
  const bool noisy = random_uniform(key, kDrawNoise, 0) < options_.label_noise;
  drawn.label = noisy ? another(drawn.type, key, kDrawLabel, 0, options_.classes) : drawn.type;
  return drawn;
}

int32_t PrototypeTask::number_of(Split split, uint32_t seed, uint32_t step, uint32_t index) const {
  if (split != Split::kTrain || lesson_.examples == 0) return -1;
  const uint32_t key = graph::stream_seed(seed, "prototypes.order");
  return static_cast<int32_t>(random_range(key, step, index, static_cast<uint32_t>(lesson_.examples)));
}

PrototypeTask::Drawn PrototypeTask::drawn(Split split, uint32_t seed, uint32_t step, uint32_t index) const {
  const int32_t number = number_of(split, seed, step, index);
  const uint32_t key = graph::stream_seed(seed, number < 0 ? split_name(split) : "prototypes.examples");
  return draw(number < 0 ? random_bits(key, step, index) : random_bits(key, 0, static_cast<uint32_t>(number)));
}

std::vector<int32_t> PrototypeTask::example(uint32_t seed, int32_t number) const {
  ensure(0 <= number && number < lesson_.examples, "[prototypes] no example {} of {}", number, lesson_.examples);
  return draw(random_bits(graph::stream_seed(seed, "prototypes.examples"), 0, static_cast<uint32_t>(number))).tokens;
}

void PrototypeTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                                 std::span<int32_t> targets, std::span<float> weights) const {
  const Drawn one = drawn(split, seed, step, index);
  std::copy(one.tokens.begin(), one.tokens.end(), tokens.begin());
  tokens.back() = class_token(lesson_.clean ? one.type : one.label);
  std::copy(tokens.begin() + 1, tokens.end(), targets.begin());
  targets.back() = padding_token();
  std::fill(weights.begin(), weights.end(), 0.0f);
  weights[one.tokens.size() - 1] = 1;
}

std::optional<graph::SoftTargets> PrototypeTask::soft_targets() const {
  if (taught_ != nullptr) return taught_->soft;
  if (lesson_.smoothing > 0) return graph::SoftTargets{};
  return std::nullopt;
}

void PrototypeTask::write_distributions(Split split, uint32_t seed, uint32_t step, uint32_t index,
                                        std::span<float> distributions) const {
  ensure(soft_targets().has_value(), "[prototypes] labels are not soft");
  std::fill(distributions.begin(), distributions.end(), 0.0f);
  const auto classes = static_cast<size_t>(options_.classes);
  const auto own = distributions.subspan(static_cast<size_t>(options_.length * vocab_size() + class_token(0)), classes);
  const auto even = static_cast<float>(1.0 / options_.classes);
  if (taught_ != nullptr) {
    const auto found = taught_->by_seed.find(seed);
    const int32_t number = number_of(split, seed, step, index);
    if (found == taught_->by_seed.end() || number < 0) return std::fill(own.begin(), own.end(), even);
    const std::vector<float>& said = found->second.at(static_cast<size_t>(number));
    ensure(said.size() == classes, "[prototypes] {} soft labels for {} classes", said.size(), classes);
    std::copy(said.begin(), said.end(), own.begin());
    return;
  }
  const Drawn one = drawn(split, seed, step, index);
  std::fill(own.begin(), own.end(), static_cast<float>(lesson_.smoothing) * even);
  own[static_cast<size_t>(lesson_.clean ? one.type : one.label)] += static_cast<float>(1 - lesson_.smoothing);
}

std::vector<Item> PrototypeTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[prototypes] {} test items", count);
  ensure(arm == 0 || arm == 1, "[prototypes] no arm {}", arm);
  std::vector<Item> items;
  for (uint32_t i = 0; i < static_cast<uint32_t>(count); ++i) {
    const Drawn one = drawn(Split::kTest, seed, 0, i);
    Item& item = items.emplace_back();
    item.arm = arm;
    item.sequence = one.tokens;
    item.sequence.push_back(class_token(arm == 0 ? one.label : one.type));
    item.prompt_length = options_.length + 1;
    item.answer_length = 1;
  }
  return items;
}

std::vector<double> PrototypeTask::posterior(std::span<const int32_t> example) const {
  // Classes are as likely before: the likelihoods of the symbols, and their sum to one.
  const double other = (1 - options_.kept) / (options_.symbols - 1);
  std::vector<double> probability;
  double total = 0;
  for (const std::vector<int32_t>& prototype : prototypes_) {
    double likelihood = 1;
    for (size_t t = 0; t < prototype.size(); ++t) likelihood *= example[t] == prototype[t] ? options_.kept : other;
    probability.push_back(likelihood);
    total += likelihood;
  }
  for (double& one : probability) one /= total;
  return probability;
}

std::vector<double> PrototypeTask::label_posterior(std::span<const int32_t> example) const {
  std::vector<double> labels = posterior(example);
  for (double& one : labels)
    one = (1 - options_.label_noise) * one + options_.label_noise * (1 - one) / (options_.classes - 1);
  return labels;
}

std::vector<std::pair<std::string, double>> PrototypeTask::measures(const Item& item, std::span<const int32_t>,
                                                                    double nll) const {
  if (item.arm != 0) return {};
  const int32_t label = item.answer().front() - class_token(0);
  const double bayes = -std::log(label_posterior(item.prompt())[static_cast<size_t>(label)]);
  return {{"bayes_loss", bayes}, {"excess_loss", nll - bayes}};
}

std::string PrototypeTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, names_, name());
}

std::vector<int32_t> PrototypeTask::encode(std::string_view text) const { return encode_symbols(text, names_, name()); }

Corruption PrototypeTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  throw UserError("[prototypes] a class has no step to corrupt");
}

}  // namespace surtsey::experiments::tasks
