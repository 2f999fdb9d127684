#include "experiments/base/computing_device.h"
#include "experiments/commands/commands.h"
#include "experiments/generate/decode.h"
#include "experiments/tasks/text.h"
#include "experiments/text/tokenizer_json.h"
#include "experiments/train/train.h"
#include "graph/graph.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

constexpr int64_t kMostSamples = 1 << 16;  // rows of one session
constexpr int64_t kMostSampleTokens = 1 << 30;

void check_options(const SampleOptions& options) {
  check(options.num_samples > 0 && options.num_samples <= kMostSamples, "--num_samples is from 1 to {}, not {}",
        kMostSamples, options.num_samples);
  check(options.max_new_tokens >= 0 && options.max_new_tokens <= kMostSampleTokens,
        "--max_new_tokens is from 0 to {}, not {}", kMostSampleTokens, options.max_new_tokens);
  check(options.temperature >= 0 && std::isfinite(options.temperature), "--temperature is a number from 0, not {}",
        options.temperature);
  check(options.top_k >= 0 && options.top_k <= kMostSampleTokens, "--top_k is from 0 to {}, not {}", kMostSampleTokens,
        options.top_k);
  check(options.top_p > 0 && options.top_p <= 1, "--top_p is above 0 and at most 1, not {}", options.top_p);
  check(!options.start.empty(), "--start cannot be empty");
}

std::vector<int32_t> encode_start(const tasks::TextSource& source, const std::string& start) {
  try {
    return source.encode(start);
  } catch (const UserError& error) {
    throw UserError(
        fmt::format("--start{}: {}", start == "\n" ? ", a line break unless it is given" : "", error.what()));
  }
}

using Text = std::vector<int32_t>;

// Writes `count` tokens after each text. As long as a text fits the positions of the model all of
// it is read, and a token costs one replay. After that it is its last block_size tokens (nanoGPT's
// rule): each of them moves to another position with every token, so the cache is filled anew.
void write_on(Decoder& decoder, std::vector<Text>& texts, int64_t count) {
  const int64_t block = decoder.config().columns - 1;
  while (count > 0) {
    const auto length = int64_t(texts[0].size());
    const int64_t given = std::min(length, block);
    const int64_t step = length < block ? std::min(count, block + 1 - length) : 1;
    std::vector<DecodeRow> rows;
    for (const Text& text : texts) {
      rows.push_back({{text.end() - given, text.end()}, int32_t(given)});
    }
    const auto written = decoder.decode({rows}, int32_t(given), int32_t(given + step), 0, length - given)[0];
    check(decoder.finite(), "the model's output is not a number: its training diverged");
    for (size_t n = 0; n < texts.size(); ++n) {
      const auto first = written.begin() + int64_t(n) * (block + 1) + given;
      texts[n].insert(texts[n].end(), first, first + step);
    }
    count -= step;
  }
}

}  // namespace

void sample(const SampleOptions& options) {
  check_options(options);
  const std::string root = checkpoint_folder(options.directory);
  const nlohmann::json saved = load_checkpoint_config(root);
  check(saved.contains("vocabulary") && saved["vocabulary"].is_string(),
        "{}: is no checkpoint of `surtsey train`: its config.json has no vocabulary", root);
  const Model model(model_config_from_json(saved.at("model")));
  const Checkpoint checkpoint = load_checkpoint(root, model.store());
  const auto block_size = int32_t(model.config().block_size);
  const tasks::TextSource source =
      saved.contains("tokenizer")
          ? tasks::TextSource::from_tokenizer(std::make_shared<const text::Tokenizer>(text::parse_tokenizer_json(
                                                  saved["tokenizer"].get<std::string>(), root + "/config.json")),
                                              block_size)
          : tasks::TextSource::from_vocabulary(saved["vocabulary"].get<std::string>(), block_size);
  const std::vector<int32_t> prompt = encode_start(source, options.start);

  engine::Device device = open_computing_device({.select = options.device, .f16 = false});
  engine::Session session(device, {.quiet = true});
  const int64_t block = model.config().block_size;
  DecodeConfig config;
  config.rows = options.num_samples;
  config.columns = block + 1;
  config.filter = {options.top_k, options.top_p};
  // A prompt is read once, a full window with every token.
  const auto given = int64_t(prompt.size());
  if (given + options.max_new_tokens <= block + 1) config.prefill = std::max<int64_t>(1, given - 1);
  Decoder decoder(session, model, 1, config);
  session.allocate();
  session.write(graph::kParameters, checkpoint.state.at(graph::kParameters));
  for (const auto& [name, value] : model.constants()) {
    if (session.has_state(name)) session.write(name, value);
  }
  decoder.set_sampling(options.temperature, options.seed);
  std::vector<Text> texts(size_t(options.num_samples), prompt);
  write_on(decoder, texts, options.max_new_tokens);
  for (size_t n = 0; n < texts.size(); ++n) {
    fmt::print("{}{}\n", n > 0 ? "---------------\n" : "", source.decode(texts[n]));
  }
}

}  // namespace surtsey::experiments::commands
