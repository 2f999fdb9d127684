#include "experiments/tasks/prompt_formats.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "experiments/text/symbols.h"
#include "graph/error.h"
#include "graph/random.h"

namespace surtsey::experiments::tasks {
namespace {

using graph::random_bits;
using graph::random_range;
using graph::stream_seed;

const std::vector<std::string> kTags = {"p", "q", "r", "s"};
const std::vector<std::string> kArrows = {">", ":", "="};
const std::vector<std::string> kSeparators = {";", ","};

// Steps of a draw's random numbers, one a use.
enum Use : uint32_t { kFormat, kRule, kInputs, kTag, kDigit, kInstructed };

std::vector<PromptFormat> trained_formats() {
  std::vector<PromptFormat> formats;
  for (const PromptFormat& format : prompt_formats()) {
    if (!format.held_out()) formats.push_back(format);
  }
  return formats;
}

}  // namespace

std::string PromptFormat::name() const {
  return fmt::format("{}{}{}{}", tag_first ? "ps" : "sp", kArrows[size_t(arrow)], kSeparators[size_t(separator)],
                     held_out() ? "*" : "");
}

const std::vector<PromptFormat>& prompt_formats() {
  static const std::vector<PromptFormat> formats = [] {
    std::vector<PromptFormat> list;
    for (int32_t arrow = 0; arrow < std::ssize(kArrows); ++arrow) {
      for (int32_t separator = 0; separator < std::ssize(kSeparators); ++separator) {
        for (const bool tag_first : {false, true}) list.push_back({arrow, separator, tag_first});
      }
    }
    return list;
  }();
  return formats;
}

PromptFormatsTask::PromptFormatsTask(PromptFormatsOptions options) : options_(options) {
  check_range("[prompt_formats] symbols", options.symbols, 3, 100);
  check_range("[prompt_formats] rules", options.rules, 1, 1000);
  check_range("[prompt_formats] shots", options.shots, 1, options.symbols - 1);
  check_range("[prompt_formats] length", options.length, 2, 100);
  double most = 1;
  for (int32_t i = 2; i <= options.symbols && most < options.rules; ++i) most *= i;
  check(options.rules <= most, "[prompt_formats] {} symbols have only {} permutations, not {}", options.symbols, most,
        options.rules);
  std::set<std::vector<int32_t>> known;
  const uint32_t key = stream_seed(options.task_seed, "prompt_formats.rules");
  for (uint32_t drawn = 0; known.size() < size_t(options.rules); ++drawn) {
    auto rule = shuffled(key, drawn, options.symbols, options.symbols);
    if (known.insert(rule).second) rules_.push_back(std::move(rule));
  }

  for (int32_t i = 0; i < options.symbols; ++i) symbols_.push_back(fmt::to_string(i));
  const auto add = [&](const std::vector<std::string>& texts) {
    const auto first = int32_t(symbols_.size());
    symbols_.insert(symbols_.end(), texts.begin(), texts.end());
    return first;
  };
  tag_ = add(kTags);
  arrow_ = add(kArrows);
  separator_ = add(kSeparators);
  instruction_ = int32_t(symbols_.size());
  for (int32_t i = 0; i < options.rules; ++i) add({fmt::format("R{}", i)});
  steps_ = add({"C"});
  direct_ = add({"D"});
  add({"_"});
  block_size_ = std::max(1 + 5 * (options.shots + 1), 2 + 2 * options.length);

  for (const PromptFormat& format : prompt_formats()) add_arm(format.name(), {format, options.shots});
  for (int32_t shots = 0; shots < options.shots; ++shots) add_arm(fmt::format("{}_shot", shots), {{}, shots});
  for (int32_t turn = 1; turn < options.shots; ++turn)
    add_arm(fmt::format("order_{}", turn), {{}, options.shots, turn});
  add_arm("instructed", {{}, 0, 0, true});
  add_arm("cot", {.kind = Asked::Kind::steps});
  add_arm("direct", {.kind = Asked::Kind::sum});
}

void PromptFormatsTask::add_arm(std::string name, Asked asked) {
  arms_.push_back(std::move(name));
  asked_.push_back(asked);
}

int32_t PromptFormatsTask::answer_length(int32_t arm) const {
  ensure(0 <= arm && arm < std::ssize(asked_), "[prompt_formats] no arm {}", arm);
  return asked_[size_t(arm)].kind == Asked::Kind::steps ? options_.length : 1;
}

void PromptFormatsTask::Text::add(int32_t token, bool is_answer) {
  tokens.push_back(token);
  answer.push_back(is_answer ? 1 : 0);
}

PromptFormatsTask::Rule PromptFormatsTask::draw_rule(uint32_t key) const {
  Rule rule;
  rule.rule = int32_t(random_range(key, kRule, 0, uint32_t(options_.rules)));
  rule.inputs = shuffled(key, kInputs, options_.symbols, options_.shots + 1);
  for (uint32_t i = 0; i < rule.inputs.size(); ++i) {
    rule.tags.push_back(int32_t(random_range(key, kTag, i, uint32_t(kTags.size()))));
  }
  return rule;
}

std::vector<int32_t> PromptFormatsTask::draw_digits(uint32_t key) const {
  std::vector<int32_t> digits;
  for (uint32_t i = 0; i < uint32_t(options_.length); ++i) {
    digits.push_back(int32_t(random_range(key, kDigit, i, uint32_t(options_.symbols))));
  }
  return digits;
}

PromptFormatsTask::Text PromptFormatsTask::write(const Asked& asked, uint32_t key) const {
  Text text;
  if (asked.kind != Asked::Kind::rule) {
    const bool steps = asked.kind == Asked::Kind::steps;
    text.add(steps ? steps_ : direct_);
    const std::vector<int32_t> digits = draw_digits(key);
    for (const int32_t digit : digits) text.add(digit);
    text.add(arrow_ + asked.format.arrow);
    int32_t sum = 0;
    for (size_t i = 0; i < digits.size(); ++i) {
      sum = (sum + digits[i]) % options_.symbols;
      if (steps || i + 1 == digits.size()) text.add(sum, true);
    }
    return text;
  }
  const Rule rule = draw_rule(key);
  if (asked.instructed) text.add(instruction_ + rule.rule);
  const auto ask = [&](int32_t place) {
    const int32_t symbol = rule.inputs[size_t(place)], tag = tag_ + rule.tags[size_t(place)];
    text.add(asked.format.tag_first ? tag : symbol);
    text.add(asked.format.tag_first ? symbol : tag);
    text.add(arrow_ + asked.format.arrow);
    text.add(rules_[size_t(rule.rule)][size_t(symbol)], true);
  };
  for (int32_t shot = 0; shot < asked.shots; ++shot) {
    ask((shot + asked.turned) % asked.shots);
    text.add(separator_ + asked.format.separator);
  }
  ask(options_.shots);
  return text;
}

void PromptFormatsTask::write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index,
                                     std::span<int32_t> tokens, std::span<int32_t> targets,
                                     std::span<float> weights) const {
  static const std::vector<PromptFormat> formats = trained_formats();
  const uint32_t key = random_bits(stream_seed(seed, split_name(split)), step, index);
  const uint32_t format = options_.first_only ? 0 : random_range(key, kFormat, 0, uint32_t(formats.size()));
  Asked asked{formats[format], options_.shots};
  if (index % 4 < 2) {
    asked.kind = index % 4 == 0 ? Asked::Kind::steps : Asked::Kind::sum;
  } else {
    asked.instructed = random_range(key, kInstructed, 0, 2) == 1;
  }
  const Text text = write(asked, key);
  for (size_t t = 0; t < tokens.size(); ++t) {
    tokens[t] = t < text.tokens.size() ? text.tokens[t] : padding_token();
    const bool more = t + 1 < text.tokens.size();
    targets[t] = more ? text.tokens[t + 1] : padding_token();
    weights[t] = more && text.answer[t + 1] != 0 ? 1.0f : 0.0f;
  }
}

std::string PromptFormatsTask::decode(std::span<const int32_t> tokens) const {
  return decode_symbols(tokens, symbols_, name());
}

std::vector<int32_t> PromptFormatsTask::encode(std::string_view text) const {
  return encode_symbols(text, symbols_, name());
}

std::vector<Item> PromptFormatsTask::test_items(int32_t arm, int32_t count, uint32_t seed) const {
  check(count > 0, "[prompt_formats] {} test items", count);
  const int32_t length = answer_length(arm);
  const uint32_t stream = stream_seed(seed, split_name(Split::kTest));
  std::vector<Item> items;
  for (uint32_t i = 0; i < uint32_t(count); ++i) {
    Text text = write(asked_[size_t(arm)], random_bits(stream, 0, i));
    Item& item = items.emplace_back();
    item.arm = arm;
    item.answer_length = length;
    item.prompt_length = int32_t(text.tokens.size()) - length;
    item.sequence = std::move(text.tokens);
    item.sequence.resize(size_t(block_size_), padding_token());
  }
  return items;
}

Corruption PromptFormatsTask::corrupt(uint32_t, uint32_t, const Item&, std::span<const int32_t>) const {
  throw UserError("[prompt_formats] its answers are not corrupted: the chain task asks that");
}

}  // namespace surtsey::experiments::tasks
