#include "experiments/evaluate/label_scores.h"

#include "experiments/adapt/adaptation.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/members.h"

#include <algorithm>
#include <optional>

namespace surtsey::experiments {

using graph::DType;
using graph::Value;

namespace {

constexpr const char *kLabelTokens = "labels.tokens", *kLabelKinds = "labels.kinds", *kLabelLengths = "labels.lengths";

// Frozen whole, as what an adapter stands on.
Model frozen_model(const hub::Source& source, int64_t tokens) {
  Model model(hub::model_config(source, {tokens}));
  check(model.config().head == HeadKind::classify, "{}: has no head of labels", source.path().string());
  model.store().freeze([](const graph::ParameterSpec&) { return true; });
  return model;
}

}  // namespace

graph::Program label_program(const Model& model, int64_t rows, int64_t tokens) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Parameters parameters(*program.graph, model.store());
  const auto input = [&](const char* name, graph::Shape shape) {
    return program.graph->parameter(name, {DType::u32, std::move(shape)});
  };
  const Value ids = input(kLabelTokens, {rows, tokens});
  ForwardOptions options;
  options.lengths = input(kLabelLengths, {rows});
  if (model.config().n_types > 0) options.token_types = input(kLabelKinds, {rows, tokens});
  program.outputs = {{"scores", model.logits(parameters, ids, options)}};
  return program;
}

LabelProgram::LabelProgram(engine::Session& session, const Model& model, size_t members, int64_t rows, int64_t tokens)
    : session_(session),
      members_(members),
      rows_(size_t(rows)),
      tokens_(size_t(tokens)),
      labels_(size_t(model.config().n_labels)) {
  program_ = session_.add_program("labels", for_members(label_program(model, rows, tokens), members));
}

std::vector<TextScores> LabelProgram::of(std::span<const text::EncodedText> texts) {
  std::vector<TextScores> result(members_);
  for (size_t first = 0; first < texts.size(); first += rows_) {
    const size_t count = std::min(rows_, texts.size() - first);
    // A row without a text reads its first token.
    std::vector<uint32_t> ids(rows_ * tokens_, 0), kinds(ids.size(), 0), lengths(rows_, 1);
    for (size_t row = 0; row < count; ++row) {
      const text::EncodedText& text = texts[first + row];
      check(!text.ids.empty(), "text {} has no tokens", first + row);
      check(text.ids.size() <= tokens_, "text {} has {} tokens, there is room for {}", first + row, text.ids.size(),
            tokens_);
      std::copy(text.ids.begin(), text.ids.end(), ids.begin() + std::ptrdiff_t(row * tokens_));
      std::copy(text.kinds.begin(), text.kinds.end(), kinds.begin() + std::ptrdiff_t(row * tokens_));
      lengths[row] = uint32_t(text.ids.size());
    }
    for (const auto& [name, words] : {std::pair{kLabelTokens, &ids}, {kLabelKinds, &kinds}, {kLabelLengths, &lengths}})
      if (session_.has_state(name)) session_.write(name, std::span<const uint32_t>(*words));
    program_.run();
    const std::vector<float> scores = program_.read_floats("scores");
    for (size_t e = 0; e < members_; ++e)
      for (size_t row = 0; row < count; ++row) {
        const auto at = scores.begin() + std::ptrdiff_t((e * rows_ + row) * labels_);
        result[e].emplace_back(at, at + std::ptrdiff_t(labels_));
      }
  }
  return result;
}

struct LabelScores::Impl {
  Impl(engine::Device& device, const hub::Source& source, const std::string& folder, int64_t texts, int64_t tokens)
      : model(frozen_model(source, tokens + (folder.empty() ? 0 : adapter_virtual_tokens(folder)))),
        session(device, {.quiet = true}) {
    std::optional<Adaptation> adaptation;
    if (!folder.empty()) {
      adaptation.emplace(folder, source, model);
      adaptation->install_frozen(model);
    }
    program.emplace(session, model, 1, texts, tokens);
    session.allocate();
    const auto write = [&](const std::string& name, const graph::HostTensor& tensor) {
      if (session.has_state(name)) session.write(name, tensor);
    };
    hub::read_weights(source, model, [&](const std::string& name, std::span<const std::byte> bytes) {
      if (session.has_state(name)) session.write_bytes(name, bytes);
    });
    if (adaptation) adaptation->write(model, write);
    for (const auto& [name, tensor] : model.constants()) write(name, tensor);
  }

  Model model;
  engine::Session session;
  std::optional<LabelProgram> program;
};

LabelScores::LabelScores(engine::Device& device, const hub::Source& source, const std::string& adapter, int64_t rows,
                         int64_t tokens)
    : impl_(std::make_unique<Impl>(device, source, adapter, rows, tokens)) {}

LabelScores::~LabelScores() = default;

int64_t LabelScores::labels() const { return impl_->model.config().n_labels; }

TextScores LabelScores::of(std::span<const text::EncodedText> texts) {
  return std::move(impl_->program->of(texts).front());
}

}  // namespace surtsey::experiments
