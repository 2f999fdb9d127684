#include "experiments/evaluate/label_scores.h"

#include "engine/session.h"
#include "experiments/adapt/adaptation.h"
#include "experiments/models/hub/import.h"

#include <algorithm>

namespace surtsey::experiments {

using graph::DType;
using graph::Value;

namespace {

// Frozen whole, as what an adapter stands on.
Model frozen_model(const hub::Source& source, int64_t tokens) {
  Model model(hub::model_config(source, {tokens}));
  model.store().freeze([](const graph::ParameterSpec&) { return true; });
  return model;
}

}  // namespace

struct LabelScores::Impl {
  Impl(engine::Device& device, const hub::Source& source, const std::string& folder, int64_t texts, int64_t tokens)
      : rows(texts),
        length(tokens),
        model(frozen_model(source, tokens + adapter_virtual_tokens(folder))),
        adaptation(folder, source, model),
        session(device, {.quiet = true}) {
    check(labels() > 0, "{}: the adapter has no head of labels", folder);
    adaptation.install_frozen(model);
    graph::Program program{std::make_shared<graph::Graph>(), {}};
    graph::Parameters parameters(*program.graph, model.store());
    const Value ids = program.graph->parameter("tokens", {DType::u32, {rows, length}});
    const Value last = program.graph->parameter("last", {DType::u32, {rows}});
    const bool encoder = model.config().architecture == Architecture::encoder;
    // What stands behind a text is seen by an encoder alone.
    Value exists;
    if (encoder) exists = program.graph->parameter("exists", {DType::boolean, {rows, length}});
    const Value hidden = model.hidden(parameters, ids, {.token_mask = exists});
    program.outputs.emplace_back("scores", adaptation.scores(model, parameters, hidden, last));
    forward = session.add_program("labels", program);
    session.allocate();
    const auto write = [&](const std::string& name, const graph::HostTensor& tensor) {
      if (session.has_state(name)) session.write(name, tensor);
    };
    hub::read_weights(source, model, [&](const std::string& name, std::span<const std::byte> bytes) {
      if (session.has_state(name)) session.write_bytes(name, bytes);
    });
    adaptation.write(model, write);
    for (const auto& [name, tensor] : model.constants()) write(name, tensor);
  }

  int64_t labels() const { return adaptation.config().num_labels; }

  int64_t rows, length;
  Model model;
  Adaptation adaptation;
  engine::Session session;
  engine::SessionProgram forward;
};

LabelScores::LabelScores(engine::Device& device, const hub::Source& source, const std::string& adapter, int64_t rows,
                         int64_t tokens)
    : impl_(std::make_unique<Impl>(device, source, adapter, rows, tokens)) {}

LabelScores::~LabelScores() = default;

int64_t LabelScores::labels() const { return impl_->labels(); }

std::vector<std::vector<float>> LabelScores::of(std::span<const std::vector<int32_t>> texts) {
  const auto rows = size_t(impl_->rows), length = size_t(impl_->length), labels = size_t(impl_->labels());
  std::vector<std::vector<float>> result;
  for (size_t first = 0; first < texts.size(); first += rows) {
    const size_t count = std::min(rows, texts.size() - first);
    std::vector<uint32_t> ids(rows * length, 0), exists(rows * length, 0), last(rows, 0);
    for (size_t row = 0; row < count; ++row) {
      const std::vector<int32_t>& text = texts[first + row];
      check(!text.empty(), "text {} has no tokens", first + row);
      check(text.size() <= length, "text {} has {} tokens, there is room for {}", first + row, text.size(), length);
      std::copy(text.begin(), text.end(), ids.begin() + std::ptrdiff_t(row * length));
      std::fill_n(exists.begin() + std::ptrdiff_t(row * length), text.size(), 1u);
      last[row] = uint32_t(text.size() - 1);
    }
    for (const auto& [name, words] : {std::pair{"tokens", &ids}, {"exists", &exists}, {"last", &last}})
      if (impl_->session.has_state(name)) impl_->session.write(name, std::span<const uint32_t>(*words));
    impl_->forward.run();
    const std::vector<float> scores = impl_->forward.read_floats("scores");
    for (size_t row = 0; row < count; ++row)
      result.emplace_back(scores.begin() + std::ptrdiff_t(row * labels),
                          scores.begin() + std::ptrdiff_t((row + 1) * labels));
  }
  return result;
}

}  // namespace surtsey::experiments
