#include "tests/serve/fake_model.h"

#include "experiments/text/byte_bpe_training.h"
#include "experiments/text/tokenizer_json.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace surtsey::tests {

using namespace experiments;
using namespace experiments::serve;

namespace {

uint64_t mixed(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

class FakeGenerator : public Generator {
 public:
  FakeGenerator(std::shared_ptr<FakeControl> control, int64_t vocabulary, int32_t end_token)
      : control_(std::move(control)),
        vocabulary_(vocabulary),
        end_(end_token),
        texts_(size_t(control_->slots)),
        adapters_(texts_.size()) {
    if (control_->fail_opens > 0) {
      --control_->fail_opens;
      throw std::runtime_error("there is no device now");
    }
    ++control_->opened;
  }

  int64_t slots() const override { return control_->slots; }
  int64_t context() const override { return control_->context; }
  int64_t vocabulary() const override { return vocabulary_; }
  int64_t chunk() const override { return control_->chunk; }

  void read(int32_t slot, std::span<const int32_t> tokens, int64_t first, const Told& told) override {
    auto& text = texts_.at(size_t(slot));
    if (tokens.empty() || int64_t(tokens.size()) > context()) throw InternalError("a text of no good length");
    if (first < 0 || first > int64_t(tokens.size())) throw InternalError("no such token");
    const auto common = std::mismatch(text.begin(), text.end(), tokens.begin(), tokens.end()).first - text.begin();
    control_->columns += int64_t(tokens.size()) - std::min(first, int64_t(common));
    // At most one chunk, or others wait.
    if (int64_t(tokens.size()) - common > chunk()) throw InternalError("more than a chunk was read at once");
    ++control_->chunks;
    std::this_thread::sleep_for(control_->read_time);
    text.assign(tokens.begin(), tokens.end());
    check_finite({slot});
    for (auto i = size_t(first); i < tokens.size(); ++i) told(int64_t(i), logits_of(slot, tokens.first(i + 1)));
  }

  std::span<const float> step(std::span<const Next> next) override {
    std::this_thread::sleep_for(control_->step_time);
    if (control_->lose_steps > 0) {
      --control_->lose_steps;
      throw GeneratorLost("the device was lost");
    }
    std::vector<int32_t> slots;
    for (const Next& one : next) {
      if (std::find(slots.begin(), slots.end(), one.slot) != slots.end()) throw InternalError("a slot twice");
      slots.push_back(one.slot);
      texts_.at(size_t(one.slot)).push_back(one.token);
      if (int64_t(texts_[size_t(one.slot)].size()) > context())
        throw InternalError("a text is longer than the context");
    }
    try {
      check_finite(slots);
    } catch (...) {
      for (const Next& one : next) texts_[size_t(one.slot)].pop_back();
      throw;
    }
    ++control_->steps;
    control_->most_together = std::max(control_->most_together.load(), int(next.size()));
    logits_.clear();
    for (const Next& one : next) {
      const std::vector<float> row = logits_of(one.slot, texts_[size_t(one.slot)]);
      logits_.insert(logits_.end(), row.begin(), row.end());
    }
    return logits_;
  }
  const std::vector<int32_t>& text(int32_t slot) const override { return texts_.at(size_t(slot)); }
  void choose(int32_t slot, int32_t adapter) override {
    if (adapters_.at(size_t(slot)) != adapter) texts_[size_t(slot)].clear();
    adapters_[size_t(slot)] = adapter;
  }
  int32_t adapter(int32_t slot) const override { return adapters_.at(size_t(slot)); }

 private:
  std::vector<float> logits_of(int32_t slot, std::span<const int32_t> text) const {
    std::vector<int32_t> whole = fake_adapter_text(adapters_[size_t(slot)]);
    whole.insert(whole.end(), text.begin(), text.end());
    return fake_logits(whole, vocabulary_, *control_, end_);
  }
  void check_finite(const std::vector<int32_t>& slots) const {
    std::vector<int32_t> bad;
    for (const int32_t slot : slots) {
      const auto& text = texts_[size_t(slot)];
      if (std::find(text.begin(), text.end(), control_->broken_token.load()) != text.end()) bad.push_back(slot);
    }
    if (!bad.empty()) throw SlotsFailed("the model's logits are not finite", bad);
  }

  std::shared_ptr<FakeControl> control_;
  int64_t vocabulary_;
  int32_t end_;
  std::vector<std::vector<int32_t>> texts_;
  std::vector<int32_t> adapters_;
  std::vector<float> logits_;
};

}  // namespace

std::vector<int32_t> fake_adapter_text(int32_t adapter) { return std::vector<int32_t>(size_t(adapter), 1); }

void FakeControl::say(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer) {
  const std::lock_guard lock(mutex_);
  said_.emplace_back(prompt, answer);
}

std::optional<int32_t> FakeControl::next_word(std::span<const int32_t> text) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [prompt, answer] : said_) {
    const size_t more = text.size() - prompt.size();
    if (text.size() < prompt.size() || more > answer.size()) continue;
    if (!std::equal(prompt.begin(), prompt.end(), text.begin())) continue;
    if (!std::equal(text.begin() + std::ptrdiff_t(prompt.size()), text.end(), answer.begin())) continue;
    return more < answer.size() ? answer[more] : -1;
  }
  return std::nullopt;
}

std::vector<float> fake_logits(std::span<const int32_t> text, int64_t vocabulary, const FakeControl& control,
                               int32_t end_token) {
  uint64_t state = 1;
  for (const int32_t token : text) state = mixed(state * 31 + uint64_t(token) + 1);
  std::vector<float> logits(static_cast<size_t>(vocabulary));
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = float(int(mixed(state + i * 0x9E3779B97F4A7C15) >> 40 & 0xFFFF) - 32768) / 8192.0f;
  if (const auto word = control.next_word(text)) logits[size_t(*word < 0 ? end_token : *word)] = 40;
  return logits;
}

GeneratorFactory fake_factory(std::shared_ptr<FakeControl> control, int64_t vocabulary, int32_t end_token) {
  return [control = std::move(control), vocabulary, end_token] {
    return std::make_unique<FakeGenerator>(control, vocabulary, end_token);
  };
}

std::unique_ptr<ServedModel> fake_served_model() {
  static const std::string json = [] {
    std::string data;
    for (int i = 0; i < 60; ++i) data += "the cat and the dog said hello to the world; {\"name\": \"value\"} stop it\n";
    return text::train_byte_bpe(data, 320).json;
  }();
  text::Tokenizer tokenizer = text::parse_tokenizer_json(json, "tokenizer.json");
  hub::GenerationConfig how;
  how.tokens.eos = {int64_t(tokenizer.vocab_size() - 1)};
  auto model = std::make_unique<ServedModel>("fake", std::move(tokenizer), how);
  model->chat_source =
      "{% for m in messages %}{% if m.role == 'bad' %}{{ raise_exception('no such role') }}{% endif %}"
      "<|{{ m.role }}|>{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{{ '\\n' }}{% endfor "
      "%}"
      "{% if tools %}<|tools|>{{ tools | tojson }}{{ '\\n' }}{% endif %}"
      "{% if add_generation_prompt %}<|assistant|>{% endif %}";
  model->chat.emplace(model->chat_source, "chat_template");
  return model;
}

FakeServer::FakeServer(const Options& options) : model(fake_served_model()) {
  if (options.model) options.model(*model);
  if (options.control) options.control(*control);
  model->generates = options.generates;
  GeneratorFactory factory;
  // Some more logits than there are tokens, as models have.
  const int64_t vocabulary = model->tokenizer.vocab_size() + 5;
  if (options.generates) factory = fake_factory(control, vocabulary, int32_t(model->generation.tokens.eos.at(0)));
  scheduler = std::make_unique<Scheduler>(factory, *model, options.scheduler, metrics);
  api = std::make_unique<Api>(*model, *scheduler, metrics, options.api);
  HttpOptions how = options.http;
  how.port = 0;
  how.log_requests = false;
  http = std::make_unique<HttpServer>(*api, metrics, how);
  port_ = http->bind();
  thread_ = std::thread([this] { http->run({}); });
}

void FakeServer::wait() {
  if (thread_.joinable()) thread_.join();
}

FakeServer::~FakeServer() {
  http->stop();
  wait();
}

Events events_of(const std::string& body) {
  Events events;
  for (size_t at = 0; at < body.size();) {
    const size_t end = std::min(body.find("\n\n", at), body.size());
    const std::string line = body.substr(at, end - at);
    at = end + 2;
    if (line == "data: [DONE]") {
      events.done = true;
    } else if (line.starts_with("data: ")) {
      events.parts.push_back(nlohmann::ordered_json::parse(line.substr(6)));
    }
  }
  return events;
}

}  // namespace surtsey::tests
