#include "experiments/evaluate/model_outputs.h"

#include "engine/session.h"
#include "experiments/adapt/adaptation.h"
#include "experiments/models/hub/import.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Value;
using NumberRows = std::vector<std::vector<int32_t>>;

int64_t length_of(const NumberRows& rows) { return rows.empty() ? 0 : int64_t(rows.front().size()); }

// Each of [B][T] with numbers below `limit`.
void check_rows(const char* name, const NumberRows& rows, size_t batch, int64_t length, int64_t limit) {
  check(rows.size() == batch, "{} has {} rows, input_ids has {}", name, rows.size(), batch);
  for (size_t b = 0; b < rows.size(); ++b) {
    check(int64_t(rows[b].size()) == length, "{}: row {} has {} numbers, the others have {}", name, b, rows[b].size(),
          length);
    for (size_t t = 0; t < rows[b].size(); ++t) {
      check(rows[b][t] >= 0 && rows[b][t] < limit, "{}: row {} has {} at place {}; there are 0 to {}", name, b,
            rows[b][t], t, limit - 1);
    }
  }
}

void check_inputs(const ModelConfig& config, const ModelInputs& inputs) {
  const size_t batch = inputs.input_ids.size();
  const int64_t length = length_of(inputs.input_ids);
  check(batch > 0 && length > 0, "input_ids is empty");
  check_rows("input_ids", inputs.input_ids, batch, length, config.vocab_size);
  if (!inputs.attention_mask.empty()) check_rows("attention_mask", inputs.attention_mask, batch, length, 2);
  check(inputs.token_type_ids.empty() || config.n_types > 0, "this model has no token types: leave out token_type_ids");
  if (config.n_types > 0 && !inputs.token_type_ids.empty()) {
    check_rows("token_type_ids", inputs.token_type_ids, batch, length, config.n_types);
  }
  const bool two = config.architecture == Architecture::encoder_decoder;
  check(two == !inputs.decoder_input_ids.empty(), "{}",
        two ? "an encoder-decoder wants decoder_input_ids" : "this model has one stack: leave out decoder_input_ids");
  if (!two) return;
  check(length_of(inputs.decoder_input_ids) > 0, "decoder_input_ids is empty");
  check_rows("decoder_input_ids", inputs.decoder_input_ids, batch, length_of(inputs.decoder_input_ids),
             config.vocab_size);
}

std::vector<uint32_t> flat(const NumberRows& rows) {
  std::vector<uint32_t> words;
  for (const auto& row : rows) words.insert(words.end(), row.begin(), row.end());
  return words;
}

// Where the tokens of a decoder stand: those before them that are no padding are counted.
std::vector<uint32_t> positions_of(const NumberRows& mask) {
  std::vector<uint32_t> positions;
  for (const auto& row : mask) {
    uint32_t count = 0;
    for (const int32_t exists : row) {
      if (exists != 0) ++count;
      positions.push_back(count == 0 ? 0 : count - 1);
    }
  }
  return positions;
}

// The place behind the last token of each row that is no padding.
std::vector<uint32_t> ends_of(const NumberRows& mask) {
  std::vector<uint32_t> ends;
  for (const auto& row : mask)
    ends.push_back(uint32_t(std::max<std::ptrdiff_t>(1, row.rend() - std::find(row.rbegin(), row.rend(), 1))));
  return ends;
}

class OutputsProgram {
 public:
  OutputsProgram(const Model& model, const ModelInputs& inputs)
      : model_(model), config_(model.config()), inputs_(inputs), parameters_(*program_.graph, model.store()) {}

  graph::Program build() {
    const bool two = config_.architecture == Architecture::encoder_decoder;
    ForwardOptions options;
    Value tokens = input("input_ids", flat(inputs_.input_ids), length_of(inputs_.input_ids));
    Value mask;
    if (!inputs_.attention_mask.empty()) {
      mask = input("attention_mask", flat(inputs_.attention_mask), tokens.dim(1), DType::boolean);
    }
    if (two) {
      options.source_mask = mask;
      options.memory = model_.encode(parameters_, tokens, mask);
      program_.outputs.push_back({"encoder_last_hidden_state", options.memory});
      tokens = input("decoder_input_ids", flat(inputs_.decoder_input_ids), length_of(inputs_.decoder_input_ids));
    } else {
      options.token_mask = mask;
      if (mask && config_.architecture == Architecture::decoder) {
        options.positions = input("positions", positions_of(inputs_.attention_mask), tokens.dim(1));
        if (config_.head == HeadKind::classify) options.lengths = input("lengths", ends_of(inputs_.attention_mask));
      }
      if (!inputs_.token_type_ids.empty()) {
        options.token_types = input("token_type_ids", flat(inputs_.token_type_ids), tokens.dim(1));
      }
    }
    const Value hidden = model_.hidden(parameters_, tokens, options);
    if (config_.has_logits()) {
      program_.outputs.push_back({"logits", model_.head(parameters_, hidden, options)});
    } else {
      program_.outputs.push_back({"last_hidden_state", hidden});
      if (config_.has_pooler()) program_.outputs.push_back({"pooler_output", model_.pooled(parameters_, hidden)});
    }
    return program_;
  }

  void write(engine::Session& session) const {
    for (const auto& [name, words] : given_) {
      // What no kernel reads (positions of a model with relative ones) is no state.
      if (session.has_state(name)) session.write(name, words);
    }
  }

 private:
  // A number a row.
  Value input(const std::string& name, std::vector<uint32_t> words) {
    const auto rows = int64_t(words.size());
    given_.emplace(name, std::move(words));
    return program_.graph->parameter(name, {DType::u32, {rows}});
  }
  Value input(const std::string& name, std::vector<uint32_t> words, int64_t length, DType dtype = DType::u32) {
    given_.emplace(name, std::move(words));
    return program_.graph->parameter(name, {dtype, {int64_t(inputs_.input_ids.size()), length}});
  }

  const Model& model_;
  const ModelConfig& config_;
  const ModelInputs& inputs_;
  graph::Program program_{std::make_shared<graph::Graph>(), {}};
  graph::Parameters parameters_;
  std::map<std::string, std::vector<uint32_t>> given_;
};

}  // namespace

std::map<std::string, graph::HostTensor> model_outputs(engine::Device& device, const hub::Source& source,
                                                       const ModelInputs& inputs, const std::string& adapter_folder) {
  const bool two = !inputs.decoder_input_ids.empty();
  const int64_t length = std::max<int64_t>(1, length_of(two ? inputs.decoder_input_ids : inputs.input_ids));
  const int64_t before = adapter_folder.empty() ? 0 : adapter_virtual_tokens(adapter_folder);
  Model model(
      hub::model_config(source, {length + before, two ? std::max<int64_t>(1, length_of(inputs.input_ids)) : 0}));
  check_inputs(model.config(), inputs);
  model.store().freeze([](const graph::ParameterSpec&) { return true; });
  std::optional<Adaptation> adapter;
  if (!adapter_folder.empty()) {
    adapter.emplace(adapter_folder, source, model);
    adapter->install_frozen(model);
  }

  OutputsProgram builder(model, inputs);
  engine::Session session(device, {.quiet = true});
  const graph::Program program = builder.build();
  const engine::SessionProgram forward = session.add_program("outputs", program);
  session.allocate();
  const auto write = [&](const std::string& name, const graph::HostTensor& tensor) {
    if (session.has_state(name)) session.write(name, tensor);
  };
  hub::read_weights(source, model, [&](const std::string& name, std::span<const std::byte> bytes) {
    if (session.has_state(name)) session.write_bytes(name, bytes);
  });
  if (adapter) adapter->write(model, write);
  for (const auto& [name, tensor] : model.constants()) write(name, tensor);
  builder.write(session);
  forward.run();
  std::map<std::string, graph::HostTensor> outputs;
  for (const auto& [name, value] : program.outputs) {
    outputs.emplace(name, forward.read(name));
  }
  return outputs;
}

}  // namespace surtsey::experiments
