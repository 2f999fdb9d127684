#include "experiments/serve/scheduler.h"

#include "experiments/serve/token_mask.h"
#include "experiments/text/shown_text.h"

#include <algorithm>
#include <cmath>
#include <future>

namespace surtsey::experiments::serve {
namespace {

constexpr size_t kTextBefore = 4;       // tokens of a prompt that say how the answer's first one is written
constexpr float kLeastLogprob = -9999;  // JSON has no infinity

float bounded(float logprob) { return std::max(logprob, kLeastLogprob); }

std::vector<TokenScore> bounded(std::vector<TokenScore> scores) {
  for (TokenScore& score : scores) score.logprob = bounded(score.logprob);
  return scores;
}

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

// An answer on its way: waiting, reading its prompt, or generating.
struct Scheduler::Text {
  TextRequest request;
  std::shared_ptr<Ticket> ticket;
  size_t index = 0;
  Clock::time_point submitted, deadline, last_token;

  std::optional<Sampler> sampler;
  std::unique_ptr<TokenMask> mask;
  std::optional<text::ShownText> shown;
  int32_t slot = -1;
  size_t read = 0;  // of the prompt's tokens
  int64_t generated = 0;
  int32_t next = -1;  // drawn, and not given to the model yet
  bool finished = false;

  bool reading() const { return read < request.prompt.size(); }
};

std::optional<TextEvent> Ticket::next(std::chrono::milliseconds wait) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, wait, [&] { return !events_.empty() || left_ == 0; });
  if (events_.empty()) return std::nullopt;
  TextEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

bool Ticket::done() const {
  const std::lock_guard lock(mutex_);
  return left_ == 0 && events_.empty();
}

void Ticket::put(TextEvent event) {
  {
    const std::lock_guard lock(mutex_);
    if (event.finish != Finish::none) --left_;
    events_.push_back(std::move(event));
  }
  changed_.notify_all();
}

Scheduler::Scheduler(GeneratorFactory factory, const ServedModel& model, const SchedulerOptions& options,
                     Metrics& metrics)
    : factory_(std::move(factory)), model_(model), options_(options), metrics_(metrics) {
  // The device is opened by the thread that will use it.
  std::promise<void> opened;
  thread_ = std::thread([&, this] {
    try {
      if (factory_) {
        generator_ = factory_();
        context_ = generator_->context();
        vocabulary_ = generator_->vocabulary();
        slots_ = generator_->slots();
      }
      ready_ = true;
      opened.set_value();
    } catch (...) {
      opened.set_exception(std::current_exception());
      return;
    }
    loop();
  });
  try {
    opened.get_future().get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::shared_ptr<Ticket> Scheduler::submit(std::vector<TextRequest> texts, Clock::time_point deadline) {
  auto ticket = std::make_shared<Ticket>(texts.size());
  std::deque<TextPointer> fresh;
  const auto now = Clock::now();
  for (TextRequest& request : texts) {
    auto text = std::make_unique<Text>();
    hub::GenerationConfig how = request.how;
    how.max_new_tokens = std::max<int64_t>(1, request.max_tokens);
    if (request.ignore_eos) how.tokens.eos.clear();
    try {
      text->sampler.emplace(how, request.prompt, vocabulary_, request.seed, request.stream);
      text->sampler->set_openai_penalties(request.frequency_penalty, request.presence_penalty);
      text->sampler->set_logit_bias(request.logit_bias);
    } catch (const UserError& error) {
      throw invalid_request("{}", error.what());
    }
    if (request.schema != nullptr) {
      const auto& eos = how.tokens.eos;
      text->mask =
          std::make_unique<TokenMask>(model_.trie(), request.schema, std::vector<int32_t>(eos.begin(), eos.end()));
      text->sampler->set_mask([mask = text->mask.get()](std::vector<bool>& allowed) { mask->apply(allowed); });
    }
    const size_t before = request.continues ? std::min(kTextBefore, request.prompt.size()) : 0;
    text->shown.emplace(model_.tokenizer, request.stop, std::span(request.prompt).last(before));
    text->request = std::move(request);
    text->ticket = ticket;
    text->index = fresh.size();
    text->submitted = now;
    text->deadline = deadline;
    fresh.push_back(std::move(text));
  }
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) throw unavailable("the server is stopping");
    if (!ready_) throw unavailable("the device was lost and is being opened again", 5);
    if (waiting_.size() + fresh.size() > size_t(options_.queue))
      throw unavailable(
          fmt::format("{} answers are waiting already, there is room for {}", waiting_.size(), options_.queue));
    for (TextPointer& text : fresh) waiting_.push_back(std::move(text));
    metrics_.texts_waiting = int64_t(waiting_.size());
  }
  changed_.notify_all();
  return ticket;
}

void Scheduler::run(const std::function<void()>& work) {
  std::packaged_task<void()> task(work);
  std::future<void> result = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) throw unavailable("the server is stopping");
    if (work_.size() >= size_t(options_.queue)) throw unavailable("too much is waiting already");
    work_.emplace_back([&task] { task(); });
  }
  changed_.notify_all();
  result.get();
}

void Scheduler::loop() {
  while (true) {
    std::function<void()> work;
    {
      std::unique_lock lock(mutex_);
      const auto something = [&] { return stopping_ || !work_.empty() || !waiting_.empty(); };
      if (running_.empty() && ready_) changed_.wait(lock, something);
      if (!ready_) changed_.wait_for(lock, reopen_wait_, [&] { return stopping_ || !work_.empty(); });
      if (stopping_) break;
      if (!work_.empty()) {
        work = std::move(work_.front());
        work_.pop_front();
      }
    }
    if (work) work();
    if (!ready_) {
      open_again();
      continue;
    }
    try {
      drop_abandoned();
      admit();
      // Both in one turn: a prompt's part, then a token of every text.
      read_some();
      step_all();
    } catch (const GeneratorLost& lost) {
      lose(lost.what());
    }
    remove_finished();
  }
  const ApiError stopped = unavailable("the server is stopping");
  std::deque<TextPointer> waiting;
  std::deque<std::function<void()>> rest;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(waiting_);
    rest.swap(work_);
  }
  for (const auto& work : rest) work();
  for (TextPointer& text : waiting) fail(*text, stopped);
  for (TextPointer& text : running_) fail(*text, stopped);
}

int32_t Scheduler::slot_for(const TextRequest& request) const {
  const std::vector<int32_t>& prompt = request.prompt;
  // Of the free slots the one whose text goes on most alike: a chat's next turn finds its last one.
  int32_t best = -1;
  std::ptrdiff_t most = -1;
  size_t shortest = 0;
  for (int32_t slot = 0; slot < slots_; ++slot) {
    const bool used = std::any_of(running_.begin(), running_.end(),
                                  [&](const TextPointer& text) { return text->slot == slot && !text->finished; });
    if (used) continue;
    const std::vector<int32_t>& has = generator_->text(slot);
    const bool alike = generator_->adapter(slot) == request.adapter;
    const std::ptrdiff_t common =
        alike ? std::mismatch(has.begin(), has.end(), prompt.begin(), prompt.end()).first - has.begin() : 0;
    // Of equals the one that loses least.
    if (common > most || (common == most && has.size() < shortest)) {
      best = slot;
      most = common;
      shortest = has.size();
    }
  }
  return best;
}

void Scheduler::admit() {
  while (int64_t(running_.size()) < slots_) {
    TextPointer text;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty()) break;
      text = std::move(waiting_.front());
      waiting_.pop_front();
      metrics_.texts_waiting = int64_t(waiting_.size());
    }
    text->slot = slot_for(text->request);
    generator_->choose(text->slot, text->request.adapter);
    running_.push_back(std::move(text));
  }
  metrics_.texts_running = int64_t(running_.size());
}

void Scheduler::drop_abandoned() {
  const auto now = Clock::now();
  const auto check_one = [&](Text& text) {
    const bool gone = text.ticket->cancelled_;
    if (!gone && now < text.deadline) return;
    ++metrics_.texts_cancelled;
    fail(text, unavailable(gone ? "the request was cancelled" : "the time that a request may take is over"));
  };
  for (TextPointer& text : running_) check_one(*text);
  remove_finished();
  const std::lock_guard lock(mutex_);
  for (TextPointer& text : waiting_) check_one(*text);
  std::erase_if(waiting_, [](const TextPointer& text) { return text->finished; });
  metrics_.texts_waiting = int64_t(waiting_.size());
}

// A part of the prompt that has waited longest. False: there is none.
bool Scheduler::read_some() {
  const auto found =
      std::find_if(running_.begin(), running_.end(), [](const TextPointer& text) { return text->reading(); });
  if (found == running_.end()) return false;
  Text& text = **found;
  const std::vector<int32_t>& prompt = text.request.prompt;
  const bool scores = text.request.score_prompt;
  const size_t chunk = size_t(std::max<int64_t>(1, generator_->chunk()));
  // What the slot has of the prompt costs nothing, except where each of its tokens is scored.
  size_t begin = text.read;
  if (begin == 0 && !scores) {
    const std::vector<int32_t>& has = generator_->text(text.slot);
    begin = size_t(std::mismatch(has.begin(), has.end(), prompt.begin(), prompt.end()).first - has.begin());
  }
  const size_t end = std::min(prompt.size(), (begin / chunk + 1) * chunk);
  const bool last = end == prompt.size();
  TextEvent event{.index = text.index};
  if (scores && text.read == 0) event.prompt.push_back({prompt[0], std::nullopt, {}});
  const size_t first = scores ? text.read : last ? end - 1 : end;
  std::exception_ptr refused;  // what the generator is not to see
  const auto told = [&](int64_t position, std::span<const float> logits) {
    const auto after = size_t(position) + 1;
    if (after < prompt.size()) {
      if (!scores) return;
      const Drawn drawn = log_probabilities(logits, prompt[after], text.request.logprobs);
      event.prompt.push_back({drawn.token, bounded(drawn.logprob), bounded(drawn.top)});
      return;
    }
    metrics_.prompt_tokens += prompt.size();
    try {
      take(text, logits, event);
    } catch (...) {
      refused = std::current_exception();
    }
  };
  try {
    generator_->read(text.slot, std::span(prompt).first(end), int64_t(first), told);
    text.read = end;
    if (refused) std::rethrow_exception(refused);
    if (!text.finished && (!event.prompt.empty() || !event.tokens.empty())) text.ticket->put(std::move(event));
  } catch (const SlotsFailed& failed) {
    fail(text, server_error(failed.what()));
  } catch (const ApiError& error) {
    fail(text, error);
  } catch (const UserError& error) {
    fail(text, server_error(error.what()));
  }
  return true;
}

// A token of every text that has read its prompt. False: there is none.
bool Scheduler::step_all() {
  std::vector<Text*> texts;
  for (TextPointer& text : running_) {
    if (!text->reading() && !text->finished) texts.push_back(text.get());
  }
  while (!texts.empty()) {
    std::vector<Generator::Next> next;
    for (const Text* text : texts) next.push_back({text->slot, text->next});
    std::span<const float> logits;
    try {
      logits = generator_->step(next);
    } catch (const SlotsFailed& failed) {
      // The others are asked for again, without these.
      const auto bad = [&](const Text* text) {
        return std::find(failed.slots().begin(), failed.slots().end(), text->slot) != failed.slots().end();
      };
      const size_t before = texts.size();
      for (Text* text : texts) {
        if (bad(text)) fail(*text, server_error(failed.what()));
      }
      std::erase_if(texts, bad);
      if (texts.size() < before) continue;
      for (Text* text : texts) fail(*text, server_error(failed.what()));
      return true;
    } catch (const UserError& error) {
      for (Text* text : texts) fail(*text, server_error(error.what()));
      return true;
    }
    ++metrics_.steps;
    for (size_t i = 0; i < texts.size(); ++i) {
      TextEvent event{.index = texts[i]->index};
      try {
        take(*texts[i], logits.subspan(i * size_t(vocabulary_), size_t(vocabulary_)), event);
      } catch (const ApiError& error) {
        fail(*texts[i], error);
        continue;
      } catch (const std::runtime_error& error) {
        fail(*texts[i], server_error(error.what()));
        continue;
      }
      if (!texts[i]->finished) texts[i]->ticket->put(std::move(event));
    }
    return true;
  }
  return false;
}

// The text goes on by a token that is drawn from `logits`, or it ends.
void Scheduler::take(Text& text, std::span<const float> logits, TextEvent& event) {
  if (text.request.max_tokens == 0) return finish(text, std::move(event), Finish::length);
  const Drawn drawn = text.sampler->draw(logits, text.request.logprobs);
  const auto now = Clock::now();
  if (text.generated == 0) {
    metrics_.first_token.add(seconds(now - text.submitted));
  } else {
    metrics_.token.add(seconds(now - text.last_token));
  }
  text.last_token = now;
  text.next = drawn.token;
  ++text.generated;
  ++metrics_.generated_tokens;
  TextEvent::Token told{drawn.token, std::nullopt, {}};
  if (text.request.logprobs >= 0) {
    told.logprob = bounded(drawn.logprob);
    told.top = bounded(drawn.top);
  }
  event.tokens.push_back(std::move(told));
  const bool allowed = text.mask == nullptr || text.mask->push(drawn.token);
  if (!allowed) throw UserError("a token was drawn that the grammar does not allow");
  const bool ends = !text.request.ignore_eos && text.sampler->ends(drawn.token);
  if (ends) return finish(text, std::move(event), Finish::stop);
  event.text += text.shown->push(drawn.token);
  if (text.shown->stopped() || (text.mask != nullptr && text.mask->closed()))
    return finish(text, std::move(event), Finish::stop);
  const bool full = int64_t(text.request.prompt.size()) + text.generated >= context_;
  if (full || text.generated >= text.request.max_tokens) finish(text, std::move(event), Finish::length);
}

void Scheduler::finish(Text& text, TextEvent event, Finish how) {
  event.text += text.shown->finish();
  // A stop string may be complete only with what was held back.
  event.finish = text.shown->stopped() ? Finish::stop : how;
  text.finished = true;
  ++metrics_.texts_finished;
  text.ticket->put(std::move(event));
}

void Scheduler::fail(Text& text, const ApiError& error) {
  if (text.finished) return;
  text.finished = true;
  text.ticket->put({.index = text.index, .finish = Finish::failed, .error = error});
}

void Scheduler::remove_finished() {
  std::erase_if(running_, [](const TextPointer& text) { return text->finished; });
  metrics_.texts_running = int64_t(running_.size());
}

void Scheduler::lose(const std::string& why) {
  fmt::print(stderr, "serve: {}\n", why);
  ++metrics_.devices_lost;
  const ApiError lost = unavailable("the device was lost and is being opened again", 5);
  // Before anybody is told: who asks for the health then must not hear that all is well.
  std::deque<TextPointer> waiting;
  {
    const std::lock_guard lock(mutex_);
    ready_ = false;
    waiting.swap(waiting_);
    metrics_.texts_waiting = 0;
  }
  for (TextPointer& text : running_) fail(*text, lost);
  for (TextPointer& text : waiting) fail(*text, lost);
  reopen_wait_ = std::chrono::milliseconds(0);
}

void Scheduler::open_again() {
  generator_.reset();
  try {
    generator_ = factory_();
    const bool same =
        generator_->context() == context_ && generator_->vocabulary() == vocabulary_ && generator_->slots() == slots_;
    check(same, "the model's sizes are others than before");
    fmt::print(stderr, "serve: the device was opened again\n");
    ready_ = true;
  } catch (const std::exception& error) {
    generator_.reset();
    reopen_wait_ = std::clamp(reopen_wait_ * 2, options_.reopen_least, options_.reopen_most);
    fmt::print(stderr, "serve: the device cannot be opened again yet: {}\n", error.what());
  }
}

}  // namespace surtsey::experiments::serve
