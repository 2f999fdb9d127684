// `surtsey generate`: a model that others trained goes on with a text.
#include "experiments/generate/text_model.h"

#include <nlohmann/json.hpp>

#include "experiments/base/exit_status.h"
#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/model_tokenizer.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace surtsey::experiments::commands {
namespace {

using nlohmann::json;

const std::vector<std::string> kKeys = {"max_new_tokens",
                                        "max_length",
                                        "min_new_tokens",
                                        "min_length",
                                        "do_sample",
                                        "temperature",
                                        "top_k",
                                        "top_p",
                                        "min_p",
                                        "typical_p",
                                        "num_beams",
                                        "repetition_penalty",
                                        "length_penalty",
                                        "no_repeat_ngram_size",
                                        "early_stopping",
                                        "stop_strings",
                                        "num_return_sequences",
                                        "eos_token_id",
                                        "decoder_start_token_id"};
constexpr int64_t kUsualTokens = 128;  // where neither the model nor the user says how many

// The model's own generation_config.json, and over it --key=value by the same names.
hub::GenerationConfig generation_of(const hub::Source& source, const std::vector<std::string>& keys) {
  json merged = hub::generation_json(source.generation());
  for (const std::string& key : keys) {
    const size_t equals = key.find('=');
    if (!key.starts_with("--") || equals == std::string::npos) {
      throw CommandLineError(fmt::format("'{}': keys of generation are given as --key=value", key));
    }
    const std::string name = key.substr(2, equals - 2), value = key.substr(equals + 1);
    if (std::find(kKeys.begin(), kKeys.end(), name) == kKeys.end()) {
      throw CommandLineError(fmt::format("--{} is no key of generation; there are {}", name, join(kKeys, ", ")));
    }
    json parsed = json::parse(value, nullptr, false);
    merged[name] = parsed.is_discarded() ? json(value) : std::move(parsed);
  }
  if (!merged.contains("max_new_tokens") && !merged.contains("max_length")) merged["max_new_tokens"] = kUsualTokens;
  return hub::parse_generation(merged, "generation", source.config().tokens);
}

// Text on its way to a reader, who is to see nothing of a stop string.
class Stops {
 public:
  explicit Stops(const std::vector<std::string>& stops) : stops_(stops) {
    for (const std::string& stop : stops) longest_ = std::max(longest_, stop.size());
  }

  // What of the text can be shown now that `piece` came.
  std::string push(const std::string& piece) {
    held_ += piece;
    for (const std::string& stop : stops_) {
      const size_t at = stop.empty() ? std::string::npos : held_.find(stop);
      if (at == std::string::npos) continue;
      stopped_ = true;
      return std::exchange(held_, "").substr(0, at);
    }
    const size_t keep = longest_ > 0 ? std::min(held_.size(), longest_ - 1) : 0;
    std::string shown = held_.substr(0, held_.size() - keep);
    held_.erase(0, shown.size());
    return shown;
  }
  std::string finish() { return std::exchange(held_, ""); }
  bool stopped() const { return stopped_; }

 private:
  const std::vector<std::string>& stops_;
  size_t longest_ = 0;
  std::string held_;
  bool stopped_ = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void generate(const GenerateOptions& options) {
  if (options.format != "text" && options.format != "json") {
    throw CommandLineError(fmt::format("-o is text or json, not '{}'", options.format));
  }
  const auto began = std::chrono::steady_clock::now();
  const std::unique_ptr<hub::Source> source = open_source(options.model);
  const hub::GenerationConfig how = generation_of(*source, options.keys);
  const std::vector<std::string> missing = TextModel::unsupported(how);
  check(missing.empty(), "{}: not supported yet: {}; give them their default to do without", options.model,
        join(missing, ", "));
  const text::Tokenizer tokenizer = tokenizer_of(*source);
  const std::vector<int32_t> prompt = tokenizer.encode(options.prompt, {.special_tokens = true});

  engine::Device device = engine::Device::open({.select = options.device});
  TextModel model(device, *source,
                  {.context = options.context, .weights = options.weights, .filter = TextModel::filter(how)});
  const double opened = seconds_since(began);
  text::DecodeStream stream(tokenizer, {.skip_special_tokens = true});
  Stops stops(how.stop_strings);
  std::string text;
  double first = 0;
  size_t count = 0;
  const auto show = [&](const std::string& piece) {
    text += piece;
    if (options.format == "text") {
      fmt::print("{}", piece);
      std::fflush(stdout);
    }
  };
  const auto started = std::chrono::steady_clock::now();
  const std::vector<int32_t> fresh = model.generate(prompt, how, options.seed, [&](int32_t token) {
    if (count++ == 0) first = seconds_since(started);
    show(stops.push(stream.push(token)));
    return !stops.stopped();
  });
  if (!stops.stopped()) show(stops.push(stream.finish()) + stops.finish());
  const double rest = seconds_since(started) - first;
  if (options.format == "json") {
    print_line(json_text(json{{"prompt_ids", prompt}, {"ids", fresh}, {"text", text}}));
  } else {
    print_line("");
  }
  fmt::print(
      stderr,
      "generate: opened in {:.2f} s; {} tokens of prompt, the first token after {:.2f} s; then {} tokens, {:.1f} "
      "a second\n",
      opened, prompt.size(), first, fresh.empty() ? 0 : fresh.size() - 1,
      rest > 0 && fresh.size() > 1 ? double(fresh.size() - 1) / rest : 0);
}

}  // namespace surtsey::experiments::commands
