#include "experiments/commands/chat.h"

#include "experiments/text/shown_text.h"
#include "graph/platform.h"

#include <chrono>
#include <cstdio>
#include <iostream>

namespace surtsey::experiments::commands {
namespace {

using nlohmann::ordered_json;

text::ChatTemplate template_of(const hub::Source& source, const text::Tokenizer& tokenizer, const std::string& file) {
  const auto& held = source.description().tokenizer;
  if (!held) return text::load_chat_template(source.description().folder, "", file);
  if (!file.empty()) return text::load_chat_template("", "", file);
  const std::string where = source.path().string();
  check(!held->chat_template.empty(), "{}: there is no chat template; --template names a file of its own", where);
  text::ChatTemplate made(held->chat_template, where);
  nlohmann::json tokens = nlohmann::json::object();
  const auto add = [&](const char* name, int64_t id) {
    if (id >= 0) tokens[name] = tokenizer.token(int32_t(id));
  };
  add("bos_token", held->bos);
  add("eos_token", held->eos);
  add("unk_token", held->unknown);
  add("pad_token", held->padding);
  made.set_tokens(tokens);
  return made;
}

}  // namespace

Chat::Chat(const hub::Source& source, const text::Tokenizer& tokenizer, const ChatOptions& options)
    : tokenizer_(tokenizer), seed_(options.seed), template_(template_of(source, tokenizer, options.template_file)) {
  if (!options.system.empty()) messages_.push_back({{"role", "system"}, {"content", options.system}});
}

std::vector<int32_t> Chat::prompt() const {
  const std::string text = template_.render({{"messages", messages_}, {"add_generation_prompt", true}});
  // The template writes what stands around a text.
  return tokenizer_.encode(text, {.special_tokens = false});
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
  model.generate(prompt(), how, seed_ + answers_, [&](int64_t, int32_t token) {
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
  for (std::string line;;) {
    if (asks) {
      fmt::print("> ");
      std::fflush(stdout);
    }
    if (!std::getline(std::cin, line) || line == "/exit") break;
    if (line.empty()) continue;
    messages_.push_back({{"role", "user"}, {"content", line}});
    messages_.push_back({{"role", "assistant"}, {"content", answer(model, how)}});
  }
  fmt::print(stderr, "generate: {} answers of {} tokens, {:.1f} a second; their first tokens after {:.2f} s\n",
             answers_, tokens_, seconds_ > 0 ? double(tokens_) / seconds_ : 0,
             answers_ > 0 ? first_seconds_ / double(answers_) : 0);
}

}  // namespace surtsey::experiments::commands
