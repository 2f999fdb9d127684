#include "experiments/serve/answers.h"

#include <nlohmann/json.hpp>

#include <chrono>

namespace surtsey::experiments::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::chrono::milliseconds kLook{50};  // between two looks at whether the client is there

// Whoever stops waiting stops the texts.
class Waiter {
 public:
  Waiter(std::shared_ptr<Ticket> ticket, Alive alive) : ticket_(std::move(ticket)), alive_(std::move(alive)) {}
  ~Waiter() { cancel(); }
  void cancel() { ticket_->cancel(); }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  // Nothing when all has been told. ApiError as collect_answer() has them.
  std::optional<TextEvent> next() {
    while (!ticket_->done()) {
      if (Clock::now() >= look_) {
        if (!alive_()) throw unavailable("the client went away");
        look_ = Clock::now() + kLook;
      }
      std::optional<TextEvent> event = ticket_->next(kLook);
      if (event && event->error) throw *event->error;
      if (event) return event;
    }
    return std::nullopt;
  }

 private:
  std::shared_ptr<Ticket> ticket_;
  Alive alive_;
  Clock::time_point look_ = Clock::now() + kLook;
};

void append(std::vector<TextEvent::Token>& to, std::vector<TextEvent::Token>& from) {
  for (TextEvent::Token& token : from) to.push_back(std::move(token));
}

std::string event_line(const Json& value) { return "data: " + line_of(value) + "\n\n"; }

// A stream's state, choice by choice.
class Streamer {
 public:
  Streamer(const AnswerPlan& plan, const ServedModel& model) : plan_(plan), model_(model) {
    for (int64_t i = 0; i < plan.choices; ++i) choices_.push_back({ToolStream(plan.tools)});
  }

  // What a reader is told of the event; empty: nothing yet.
  std::string part(TextEvent event) {
    State& state = choices_[event.index];
    Choice choice{.index = int64_t(event.index), .offset = state.offset};
    choice.begins = !state.begun && plan_.head.chat;
    if (!state.begun && !plan_.echoes.empty()) choice.text = plan_.echoes[event.index];
    state.begun = true;
    usage_.completion_tokens += int64_t(event.tokens.size());
    if (plan_.head.logprobs) {
      append(choice.tokens, event.prompt);
      append(choice.tokens, event.tokens);
    }
    choice.text += plan_.tools.empty() ? event.text : state.tools.push(event.text);
    if (event.finish != Finish::none && !plan_.tools.empty()) {
      ToolAnswer rest = state.tools.finish();
      choice.text += rest.content;
      choice.calls = std::move(rest.calls);
    }
    choice.finish = event.finish;
    for (const TextEvent::Token& token : choice.tokens) {
      const auto& bytes = model_.token_bytes();
      if (size_t(token.token) >= bytes.size()) continue;
      for (const char byte : bytes[size_t(token.token)])
        state.offset += (static_cast<unsigned char>(byte) & 0xC0) != 0x80 ? 1 : 0;
    }
    const bool silent = choice.text.empty() && choice.tokens.empty() && choice.calls.empty() && !choice.begins &&
                        choice.finish == Finish::none;
    if (silent) return "";
    Json answer = answer_part(plan_.head, model_, {choice});
    if (!begun_) add_retrieved(answer, plan_.head);
    begun_ = true;
    return event_line(answer);
  }

  std::string end() {
    usage_.prompt_tokens = plan_.prompt_tokens;
    return (plan_.include_usage ? event_line(answer_part(plan_.head, model_, {}, &usage_)) : "") + "data: [DONE]\n\n";
  }

 private:
  struct State {
    ToolStream tools;
    bool begun = false;
    size_t offset = 0;
  };
  const AnswerPlan& plan_;
  const ServedModel& model_;
  std::vector<State> choices_;
  Usage usage_;
  bool begun_ = false;  // a part was sent
};

}  // namespace

Reply collect_answer(const AnswerPlan& plan, const ServedModel& model, const std::shared_ptr<Ticket>& ticket,
                     const Alive& alive) {
  std::vector<Choice> choices(size_t(plan.choices));
  for (size_t i = 0; i < choices.size(); ++i) choices[i].index = int64_t(i);
  Usage usage{.prompt_tokens = plan.prompt_tokens};
  Waiter waiter(ticket, alive);
  while (std::optional<TextEvent> event = waiter.next()) {
    Choice& choice = choices[event->index];
    usage.completion_tokens += int64_t(event->tokens.size());
    append(choice.tokens, event->prompt);
    append(choice.tokens, event->tokens);
    choice.text += event->text;
    if (event->finish != Finish::none) choice.finish = event->finish;
  }
  for (size_t i = 0; i < choices.size(); ++i) {
    if (!plan.tools.empty()) {
      ToolAnswer answer = parse_tool_calls(choices[i].text, plan.tools);
      choices[i].text = std::move(answer.content);
      choices[i].calls = std::move(answer.calls);
    }
    if (!plan.echoes.empty()) choices[i].text = plan.echoes[i] + choices[i].text;
  }
  return {.body = line_of(whole_answer(plan.head, model, choices, usage))};
}

Reply stream_answer(AnswerPlan plan, const ServedModel& model, std::shared_ptr<Ticket> ticket, Alive alive) {
  // Held by the reply: the texts are cancelled also where its stream is never asked for.
  auto waiter = std::make_shared<Waiter>(std::move(ticket), std::move(alive));
  Reply reply{.type = "text/event-stream"};
  reply.stream = [plan = std::move(plan), &model, waiter](const Reply::Write& write) {
    try {
      Streamer streamer(plan, model);
      while (std::optional<TextEvent> event = waiter->next()) {
        const std::string part = streamer.part(std::move(*event));
        if (!part.empty() && !write(part)) return waiter->cancel();
      }
      write(streamer.end());
    } catch (const ApiError& error) {
      waiter->cancel();
      write(event_line(error_answer(error)));
    }
  };
  return reply;
}

}  // namespace surtsey::experiments::serve
