#include "experiments/evaluate/text_vectors.h"

#include "engine/session.h"
#include "experiments/models/hub/import.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <list>
#include <numeric>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Value;
using Texts = std::vector<std::vector<int32_t>>;

constexpr size_t kShortest = 16;  // tokens that a text is padded to at least
constexpr int64_t kTogether = 8;  // texts of one program
constexpr size_t kKept = 3;       // programs, each with weights of its own

// Which kernel takes attention depends on how many texts there are; its primitives add up alike for any number.
engine::SessionOptions encoder_session_options(const engine::Device& device) {
  graph::Target target = device.target();
  target.attention = graph::AttentionVariant::expanded;
  return {.target = target, .quiet = true};
}

}  // namespace

// One program: texts of one length, side by side.
struct Padded {
  Padded(engine::Device& device, const hub::Source& source, int64_t batch, int64_t tokens)
      : rows(batch),
        length(tokens),
        model(hub::model_config(source, {tokens})),
        session(device, encoder_session_options(device)) {
    model.store().freeze([](const graph::ParameterSpec&) { return true; });
    graph::Program program{std::make_shared<graph::Graph>(), {}};
    graph::Parameters parameters(*program.graph, model.store());
    const Value ids = program.graph->parameter("tokens", {DType::u32, {rows, length}});
    const Value exists = program.graph->parameter("exists", {DType::boolean, {rows, length}});
    program.outputs.emplace_back("hidden", model.hidden(parameters, ids, {.token_mask = exists}));
    forward = session.add_program("hidden", program);
    session.allocate();
    hub::read_weights(source, model, [&](const std::string& name, std::span<const std::byte> bytes) {
      if (session.has_state(name)) session.write_bytes(name, bytes);
    });
    for (const auto& [name, tensor] : model.constants()) {
      if (session.has_state(name)) session.write(name, tensor);
    }
  }

  // Of the texts at these places, at most `rows` of them.
  void run(const Texts& texts, std::span<const size_t> places, std::vector<std::vector<float>>& means) {
    std::vector<uint32_t> ids(size_t(rows * length), 0), exists(size_t(rows * length), 0);
    for (size_t row = 0; row < size_t(rows); ++row) {
      const std::vector<int32_t>& text = texts[places[std::min(row, places.size() - 1)]];
      for (size_t t = 0; t < text.size(); ++t) {
        ids[row * size_t(length) + t] = uint32_t(text[t]);
        exists[row * size_t(length) + t] = 1;
      }
    }
    session.write("tokens", std::span<const uint32_t>(ids));
    session.write("exists", std::span<const uint32_t>(exists));
    forward.run();
    const std::vector<float> hidden = forward.read_floats("hidden");
    const size_t width = hidden.size() / size_t(rows * length);
    for (size_t row = 0; row < places.size(); ++row) {
      const size_t count = texts[places[row]].size();
      std::vector<double> sum(width, 0);
      for (size_t t = 0; t < count; ++t) {
        const float* state = hidden.data() + (row * size_t(length) + t) * width;
        for (size_t c = 0; c < width; ++c) sum[c] += double(state[c]);
      }
      std::vector<float>& mean = means[places[row]];
      for (const double value : sum) {
        mean.push_back(float(value / double(count)));
        check(std::isfinite(mean.back()), "the model's last hidden states are not finite");
      }
    }
  }

  int64_t rows, length;
  Model model;
  engine::Session session;
  engine::SessionProgram forward;
};

struct TextVectors::Impl {
  engine::Device& device;
  const hub::Source& source;
  ModelConfig config;
  int64_t context = 0;
  std::list<Padded> kept;  // the last used first

  Padded& program(int64_t rows, int64_t length) {
    for (auto at = kept.begin(); at != kept.end(); ++at) {
      if (at->rows != rows || at->length != length) continue;
      kept.splice(kept.begin(), kept, at);
      return kept.front();
    }
    if (kept.size() >= kKept) kept.pop_back();
    kept.emplace_front(device, source, rows, length);
    return kept.front();
  }

  int64_t padded(size_t tokens) const {
    return std::min<int64_t>(context, int64_t(std::bit_ceil(std::max(tokens, kShortest))));
  }
};

TextVectors::TextVectors(engine::Device& device, const hub::Source& source) {
  check(has(source), "{}: embeddings are made by models of one stack, an encoder or a decoder", source.path().string());
  ModelConfig config = hub::model_config(source);
  const int64_t context = config.block_size;
  impl_ = std::make_unique<Impl>(Impl{device, source, std::move(config), context, {}});
}

TextVectors::~TextVectors() = default;

bool TextVectors::has(const hub::Source& source) {
  return hub::model_config(source).architecture != Architecture::encoder_decoder;
}

int64_t TextVectors::context(const hub::Source& source) { return hub::model_config(source).block_size; }
int64_t TextVectors::context() const { return impl_->context; }
int64_t TextVectors::width() const { return impl_->config.n_embd; }

std::vector<std::vector<float>> TextVectors::of(const Texts& texts) {
  for (size_t i = 0; i < texts.size(); ++i) {
    check(!texts[i].empty(), "text {} has no tokens", i);
    check(std::ssize(texts[i]) <= impl_->context, "text {} has {} tokens, the model reads {}", i, texts[i].size(),
          impl_->context);
    for (const int32_t token : texts[i]) {
      check(token >= 0 && token < impl_->config.vocab_size, "text {} has token {}; there are 0 to {}", i, token,
            impl_->config.vocab_size - 1);
    }
  }
  std::vector<size_t> order(texts.size());
  std::iota(order.begin(), order.end(), 0);
  const auto length = [&](size_t place) { return impl_->padded(texts[place].size()); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return length(a) < length(b); });
  // Products of fewer rows are cut in the same way on devices whose lanes have tiles of their own, not where workgroups
  // have them (graph/passes/decompose.cpp): there a text alone has as many rows as one in company.
  const bool any_rows = impl_->device.target().matmul_variant() == graph::MatmulVariant::lane_broadcast;
  std::vector<std::vector<float>> means(texts.size());
  for (size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    const int64_t tokens = length(order[begin]);
    while (end < order.size() && end - begin < size_t(kTogether) && length(order[end]) == tokens) ++end;
    const bool alone = any_rows && end - begin == 1;
    impl_->program(alone ? 1 : kTogether, tokens).run(texts, std::span(order).subspan(begin, end - begin), means);
  }
  return means;
}

}  // namespace surtsey::experiments
