#include "experiments/commands/chat.h"

#include "experiments/base/utf8.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/commands/retrieval.h"
#include "experiments/text/shown_text.h"
#include "graph/platform.h"

#include <chrono>
#include <cstdio>
#include <iostream>

namespace surtsey::experiments::commands {

using nlohmann::ordered_json;

Chat::Chat(const hub::Source& source, const text::Tokenizer& tokenizer, const ChatOptions& options)
    : tokenizer_(tokenizer),
      seed_(options.seed),
      passages_(options.passages),
      template_(template_of(source, tokenizer, options.template_file)) {
  if (!options.system.empty()) messages_.push_back({{"role", "system"}, {"content", options.system}});
}

std::vector<int32_t> Chat::prompt(const ordered_json& messages) const {
  const std::string text = template_.render({{"messages", messages}, {"add_generation_prompt", true}});
  // The template writes what stands around a text.
  return tokenizer_.encode(text, {.special_tokens = false});
}

ordered_json Chat::with_passages(int64_t context, const hub::GenerationConfig& how) const {
  ordered_json messages = messages_;
  if (passages_ == nullptr) return messages;
  const std::string said = messages.back()["content"];
  const PassagePrompt made = passages_->make(said, [&](const std::string& text) {
    messages.back()["content"] = text;
    return std::ssize(prompt(messages)) + room_for_answer(how, context) <= context;
  });
  messages.back()["content"] = made.text;
  fmt::print(stderr, "generate: {}\n", told_passages(made));
  return messages;
}

std::string Chat::answer(TextModel& model, const hub::GenerationConfig& how) {
  text::ShownText shown(tokenizer_, how.stop_strings);
  const auto show = [](const std::string& piece) {
    fmt::print("{}", piece);
    std::fflush(stdout);
  };
  const auto started = std::chrono::steady_clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(); };
  size_t count = 0;
  // Other answers draw other numbers.
  model.generate(prompt(with_passages(model.slots().context(), how)), how, seed_ + answers_,
                 [&](int64_t, int32_t token) {
                   if (count++ == 0) first_seconds_ += passed();
                   show(shown.push(token));
                   return !shown.stopped();
                 });
  show(shown.finish() + "\n");
  seconds_ += passed();
  tokens_ += count;
  ++answers_;
  return shown.text();
}

void Chat::run(TextModel& model, const hub::GenerationConfig& how) {
  check(how.num_return_sequences == 1, "a conversation goes on with one answer: num_return_sequences is {}",
        how.num_return_sequences);
  check(how.num_beams == 1 || how.stop_strings.empty(),
        "stop_strings with num_beams above 1 is not supported: beams end by tokens");
  const bool asks = platform::terminal_columns(stdout) > 0;
  int64_t number = 0;
  for (std::string line;;) {
    if (asks) {
      fmt::print("> ");
      std::fflush(stdout);
    }
    if (!std::getline(std::cin, line) || line == "/exit") break;
    check_utf8(line, fmt::format("line {} of stdin", ++number));
    if (line.empty()) continue;
    messages_.push_back({{"role", "user"}, {"content", line}});
    messages_.push_back({{"role", "assistant"}, {"content", answer(model, how)}});
  }
  fmt::print(stderr, "generate: {} answers of {} tokens, {:.1f} a second; their first tokens after {:.2f} s\n",
             answers_, tokens_, seconds_ > 0 ? double(tokens_) / seconds_ : 0,
             answers_ > 0 ? first_seconds_ / double(answers_) : 0);
}

}  // namespace surtsey::experiments::commands
