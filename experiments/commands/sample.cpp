#include "experiments/commands/commands.h"
#include "experiments/commands/sampling.h"
#include "experiments/model.h"
#include "experiments/tasks/text.h"
#include "experiments/train.h"
#include "graph/graph.h"

#include <filesystem>

namespace surtsey::experiments::commands {
namespace {

using graph::DType;
using graph::Value;

// Logits [N, V] of what follows sample.position (u32 []) in sample.tokens (u32 [N, T]).
graph::Program next_token_program(const Model& model, int64_t rows) {
  auto graph = std::make_shared<graph::Graph>();
  graph::Parameters parameters(*graph, model.store());
  const Value tokens =
      graph->parameter("sample.tokens", {DType::u32, {rows, model.config().block_size}});
  const Value position = graph->parameter("sample.position", {DType::u32, {}});
  const Value hidden = model.hidden(parameters, tokens);
  const Value logits = model.head(parameters, graph::gather(hidden, position, 1));
  return {graph, {{"logits", logits}}};
}

std::string checkpoint_root(const std::string& directory) {
  const std::string inside = (std::filesystem::path(directory) / "checkpoint").string();
  return std::filesystem::is_directory(inside) ? inside : directory;
}

void check_options(const SampleOptions& options) {
  check(options.num_samples > 0, "--num_samples is at least 1, not {}", options.num_samples);
  check(options.max_new_tokens >= 0, "--max_new_tokens cannot be {}", options.max_new_tokens);
  check(options.temperature >= 0, "--temperature cannot be {}", options.temperature);
  check(options.top_k >= 0, "--top_k cannot be {}", options.top_k);
  check(options.top_p > 0 && options.top_p <= 1, "--top_p is above 0 and at most 1, not {}",
        options.top_p);
  check(!options.start.empty(), "--start cannot be empty");
}

// Fills the window of the model: the last T tokens of each text, then padding.
uint32_t write_window(engine::Session& session, const std::vector<std::vector<int32_t>>& texts,
                      size_t block) {
  const size_t length = std::min(texts[0].size(), block);
  std::vector<uint32_t> window;
  for (const std::vector<int32_t>& text : texts) {
    for (size_t i = text.size() - length; i < text.size(); ++i) {
      window.push_back(uint32_t(text[i]));
    }
    window.resize(window.size() + block - length, 0);
  }
  session.write("sample.tokens", window);
  const auto position = uint32_t(length - 1);
  session.write("sample.position", std::vector<uint32_t>{position});
  return position;
}

}  // namespace

void sample(const SampleOptions& options) {
  check_options(options);
  const std::string root = checkpoint_root(options.directory);
  const nlohmann::json saved = load_checkpoint_config(root);
  check(saved.contains("vocabulary") && saved["vocabulary"].is_string(),
        "{}: is no checkpoint of `surtsey train`: its config.json has no vocabulary", root);
  const Model model(model_config_from_json(saved.at("model")));
  const Checkpoint checkpoint = load_checkpoint(root, model.store());
  const auto source = tasks::TextSource::from_vocabulary(saved["vocabulary"].get<std::string>(),
                                                         int32_t(model.config().block_size));
  const std::vector<int32_t> prompt = source.encode(options.start);

  engine::Device device = engine::Device::open({.select = options.device});
  engine::Session session(device, {.quiet = true});
  session.add_program("sample", next_token_program(model, options.num_samples));
  session.allocate();
  session.write(graph::kParameters, checkpoint.state.at(graph::kParameters));
  for (const auto& [name, value] : model.constants()) {
    if (session.has_state(name)) session.write(name, value);
  }

  const TokenChoice choice{options.temperature, options.top_k, options.top_p, options.seed};
  std::vector<std::vector<int32_t>> texts(size_t(options.num_samples), prompt);
  const auto vocabulary = size_t(model.config().vocab_size);
  for (int64_t step = 0; step < options.max_new_tokens; ++step) {
    write_window(session, texts, size_t(model.config().block_size));
    session.run("sample");
    const std::vector<float> logits = session.read_output_floats("sample", "logits");
    for (size_t n = 0; n < texts.size(); ++n) {
      const auto row = std::span(logits).subspan(n * vocabulary, vocabulary);
      texts[n].push_back(choose_token(row, choice, uint32_t(step), uint32_t(n)));
    }
  }
  for (size_t n = 0; n < texts.size(); ++n) {
    fmt::print("{}{}\n", n > 0 ? "---------------\n" : "", source.decode(texts[n]));
  }
}

}  // namespace surtsey::experiments::commands
