#include "experiments/evaluate/harness/prompts.h"

#include "experiments/evaluate/harness/prompt_template.h"
#include "graph/error.h"
#include "graph/random.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <numeric>

namespace surtsey::experiments {
namespace {

using Json = nlohmann::ordered_json;

// A target that names a choice by its place.
std::optional<int64_t> place_of(const Json& target) {
  if (target.is_number_integer()) return target.get<int64_t>();
  if (!target.is_string()) return std::nullopt;
  const std::string& text = target.get_ref<const std::string&>();
  int64_t place = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), place);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return place;
}

class Writer {
 public:
  Writer(const EvalTask& task, bool chat)
      : task_(task),
        delimiter_(chat ? "" : task.target_delimiter),
        text_(task.doc_to_text, task.name + ": doc_to_text"),
        target_(task.doc_to_target, task.name + ": doc_to_target") {
    for (const std::string& choice : task.doc_to_choice) choices_.emplace_back(choice, task.name + ": doc_to_choice");
  }

  // Without the shots.
  Prompt write(const std::string& line) const {
    const Json item = Json::parse(line);
    Prompt prompt;
    prompt.item = line;
    if (task_.output_type == OutputType::loglikelihood_rolling) {
      prompt.target = target_.text(item);
      prompt.continuations = {prompt.target};
      return prompt;
    }
    prompt.context = text_.text(item);
    if (task_.output_type == OutputType::multiple_choice) {
      prompt.choices = choices(item);
      prompt.gold = gold(target_.value(item), prompt.choices);
      prompt.target = prompt.choices[size_t(prompt.gold)];
      for (const std::string& choice : prompt.choices) prompt.continuations.push_back(delimiter_ + choice);
    } else {
      prompt.target = target_.text(item);
      if (task_.output_type == OutputType::loglikelihood) {
        prompt.continuations = {delimiter_ + prompt.target};
      }
    }
    return prompt;
  }

  std::string shot(const std::string& line) const {
    const Prompt prompt = write(line);
    return prompt.context + task_.target_delimiter + prompt.target + task_.fewshot_delimiter;
  }

 private:
  std::vector<std::string> choices(const Json& item) const {
    std::vector<std::string> list;
    for (const PromptTemplate& choice : choices_) {
      const Json value = choice.value(item);
      for (const Json& one : value.is_array() ? value : Json::array({value})) {
        check(one.is_string() || one.is_number(), "a choice is a text, not {}", one.dump());
        list.push_back(one.is_string() ? one.get<std::string>() : one.dump());
      }
    }
    check(list.size() > 1, "{} choices are none", list.size());
    for (const std::string& choice : list) check(!choice.empty(), "a choice is empty");
    return list;
  }

  static int64_t gold(const Json& target, const std::vector<std::string>& choices) {
    const auto written =
        target.is_string() ? std::find(choices.begin(), choices.end(), target.get<std::string>()) : choices.end();
    if (written != choices.end()) return written - choices.begin();
    const std::optional<int64_t> place = place_of(target);
    check(place && 0 <= *place && *place < std::ssize(choices),
          "the answer {} is neither one of the {} choices nor the place of one, from 0", target.dump(), choices.size());
    return *place;
  }

  const EvalTask& task_;
  std::string delimiter_;  // before what is asked; shots have the task's
  PromptTemplate text_, target_;
  std::vector<PromptTemplate> choices_;
};

// `count` of 0 .. size - 1 in random order.
std::vector<size_t> drawn(size_t size, size_t count, uint32_t seed) {
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), 0);
  const uint32_t key = graph::stream_seed(seed, "evaluate.shots");
  for (size_t i = 0; i < count; ++i) {
    std::swap(order[i], order[i + graph::random_range(key, 0, uint32_t(i), uint32_t(size - i))]);
  }
  order.resize(count);
  return order;
}

}  // namespace

std::vector<Prompt> make_prompts(const EvalTask& task, const PromptOptions& options) {
  const Writer writer(task, bool(options.chat));
  const bool own = task.shots.empty();
  const std::vector<std::string>& from = own ? task.items : task.shots;
  const auto shots = size_t(options.shots.value_or(task.num_fewshot));
  check(shots == 0 || task.output_type != OutputType::loglikelihood_rolling,
        "{}: a text whose perplexity is asked for has no shots before it", task.name);
  const size_t wanted = shots > 0 && own ? shots + 1 : shots;
  check(wanted <= from.size(), "{}: {} shots are to be drawn from {} items{}", task.name, shots, from.size(),
        own ? ", and not from the one that is asked; fewshot_dataset names others" : "");
  const std::vector<size_t> order = drawn(from.size(), wanted, options.seed);
  const auto number = [&](const std::string& file, size_t item, const auto& work) {
    try {
      return work();
    } catch (const UserError& error) {
      throw UserError(fmt::format("{}, {} {}: {}", task.name, file, item, error.what()));
    }
  };
  std::vector<std::string> texts;
  for (const size_t place : order) texts.push_back(number("shot", place, [&] { return writer.shot(from[place]); }));

  const size_t count = options.limit > 0 ? std::min(size_t(options.limit), task.items.size()) : task.items.size();
  std::vector<Prompt> prompts;
  std::vector<std::string> questions;
  const bool rolling = task.output_type == OutputType::loglikelihood_rolling;
  for (size_t i = 0; i < count; ++i) {
    Prompt prompt = number("item", i, [&] { return writer.write(task.items[i]); });
    prompt.doc = int64_t(i);
    std::string before = task.description;
    size_t taken = 0;
    for (size_t s = 0; s < order.size() && taken < shots; ++s) {
      if (own && order[s] == i) continue;
      before += texts[s];
      taken += 1;
    }
    questions.push_back(prompt.context);
    if (!rolling) prompt.context = before + prompt.context;
    prompts.push_back(std::move(prompt));
  }
  if (rolling) return prompts;
  if (options.retrieve) options.retrieve(task, prompts, questions);
  for (Prompt& prompt : prompts) {
    if (options.chat) prompt.context = options.chat(prompt.context);
  }
  return prompts;
}

}  // namespace surtsey::experiments
