// `surtsey generate`: a model that others trained goes on with a text.
#include "experiments/generate/text_model.h"

#include <nlohmann/json.hpp>

#include "experiments/base/computing_device.h"
#include "experiments/base/config.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/join.h"
#include "experiments/base/json_text.h"
#include "experiments/base/utf8.h"
#include "experiments/commands/chat.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/commands/retrieval.h"
#include "experiments/models/hub/import.h"
#include "experiments/text/shown_text.h"

#include <algorithm>
#include <chrono>

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
                                        "decoder_start_token_id",
                                        "forced_bos_token_id",
                                        "forced_eos_token_id",
                                        "suppress_tokens",
                                        "begin_suppress_tokens",
                                        "bad_words_ids"};
constexpr int64_t kUsualTokens = 128;  // where neither the model nor the user says how many
constexpr int64_t kMostNewTokens = 1 << 24;
constexpr int64_t kLeastContext = 256;  // contexts are powers of two from here on: kernels are compiled for few of them

// The model's own generation_config.json, and over it --key=value by the same names.
hub::GenerationConfig generation_of(const hub::Source& source, const GenerateOptions& options) {
  json merged = hub::generation_json(source.generation());
  for (const std::string& key : options.keys) {
    const size_t equals = key.find('=');
    if (!key.starts_with("--") || equals == std::string::npos) {
      throw CommandLineError(fmt::format("'{}': keys of generation are given as --key=value", key));
    }
    const std::string name = key.substr(2, equals - 2), value = key.substr(equals + 1);
    if (std::find(kKeys.begin(), kKeys.end(), name) == kKeys.end()) {
      throw CommandLineError(fmt::format("--{} is no key of generation; there are {}", name, join(kKeys, ", ")));
    }
    // Numbers may begin with their point, as those of other commands.
    json parsed = json::parse(value.starts_with('.') ? "0" + value : value, nullptr, false);
    const bool is_choice = name == "do_sample" || name == "early_stopping";
    const std::optional<bool> word = is_choice ? parse_bool(value) : std::nullopt;
    check_utf8(value, "--" + name);
    merged[name] = word ? json(*word) : parsed.is_discarded() ? json(value) : std::move(parsed);
  }
  // An answer is as long as it is.
  const int64_t usual = options.chat ? kMostNewTokens : kUsualTokens;
  if (!merged.contains("max_new_tokens") && !merged.contains("max_length")) merged["max_new_tokens"] = usual;
  return hub::parse_generation(merged, "generation", source.config().tokens);
}

// As long as what is asked for, and not longer: attention looks at all of it.
int64_t context_for(const hub::Source& source, const hub::GenerationConfig& how, int64_t prompt) {
  const ModelConfig model = hub::model_config(source);
  const int64_t given = model.architecture == Architecture::encoder_decoder ? 1 : prompt;
  const int64_t length = how.max_new_tokens ? given + *how.max_new_tokens : how.max_length;
  int64_t context = kLeastContext;
  while (context < length && context < model.block_size) context *= 2;
  return std::min(context, model.block_size);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The texts of one prompt: the only one as it comes, several one after the other.
void continue_prompt(const GenerateOptions& options, TextModel& model, const text::Tokenizer& tokenizer,
                     const hub::GenerationConfig& how, const std::vector<int32_t>& prompt,
                     const std::optional<PassagePrompt>& retrieved, double opened) {
  const auto texts = size_t(how.num_return_sequences);
  const bool stream = texts == 1 && options.format == "text";
  std::vector<text::ShownText> shown;
  for (size_t i = 0; i < texts; ++i) shown.emplace_back(tokenizer, how.stop_strings);
  const auto show = [&](const std::string& piece) {
    if (!stream) return;
    fmt::print("{}", piece);
    std::fflush(stdout);
  };
  double first = 0;
  size_t count = 0;
  const auto started = std::chrono::steady_clock::now();
  const auto results = model.generate(prompt, how, options.seed, [&](int64_t text, int32_t token) {
    if (count++ == 0) first = seconds_since(started);
    show(shown[size_t(text)].push(token));
    return !shown[size_t(text)].stopped();
  });
  for (text::ShownText& text : shown) show(text.finish());
  const double all = seconds_since(started);
  if (options.format == "json") {
    json sequences = json::array();
    for (size_t i = 0; i < texts; ++i) sequences.push_back({{"ids", results[i]}, {"text", shown[i].text()}});
    json record = {{"prompt_ids", prompt}, {"ids", results[0]}, {"text", shown[0].text()}};
    if (retrieved) {
      record["prompt"] = retrieved->text;
      record["retrieved"] = passages_json(retrieved->used);
      record["left_out"] = retrieved->left_out;
    }
    if (texts > 1) record["sequences"] = std::move(sequences);
    print_line(json_text(record));
  } else if (stream) {
    print_line("");
  } else {
    for (size_t i = 0; i < texts; ++i) print_line(fmt::format("{}[{}] {}", i == 0 ? "" : "\n", i, shown[i].text()));
  }
  // Beams are told at the end, all at once.
  const bool beams = how.num_beams > 1;
  const size_t timed = beams ? count : count > 0 ? count - 1 : 0;
  const double taken = beams ? all : all - first;
  fmt::print(stderr, "generate: opened in {:.2f} s; {} tokens of prompt, {}; {} tokens{}, {:.1f} a second\n", opened,
             prompt.size(),
             beams ? fmt::format("{} beams", how.num_beams) : fmt::format("the first token after {:.2f} s", first),
             timed, beams ? "" : " more", timed > 0 && taken > 0 ? double(timed) / taken : 0);
}

}  // namespace

void generate(const GenerateOptions& options) {
  check_text_or_json(options.format);
  if (options.chat == options.prompt.has_value()) throw CommandLineError("generate takes either --prompt or --chat");
  if (!options.chat && (!options.system.empty() || !options.chat_template.empty())) {
    throw CommandLineError("--system and --template are of a conversation: they go with --chat");
  }
  if (options.chat && options.format != "text") throw CommandLineError("--chat writes text");
  const auto began = std::chrono::steady_clock::now();
  const std::unique_ptr<hub::Source> source = open_source(options.model);
  const hub::GenerationConfig how = generation_of(*source, options);
  const text::Tokenizer tokenizer = tokenizer_of(*source);
  SlotOptions slots{.slots = TextModel::slots_for(how),
                    .context = options.context,
                    .weights = options.weights,
                    .cache_type = options.cache_type,
                    .adapter = options.adapter};
  const std::optional<PassagePrompts> passages = open_passages(options.retrieve, options.device);
  if (options.chat) {
    Chat chat(*source, tokenizer,
              {options.system, options.chat_template, options.seed, passages ? &*passages : nullptr});
    engine::Device device = open_computing_device({.select = options.device});
    TextModel model(device, *source, slots);
    chat.run(model, how);
    return;
  }
  check(how.num_beams == 1 || how.stop_strings.empty(),
        "{}: stop_strings with num_beams above 1 is not supported: beams end by tokens", options.model);
  std::optional<PassagePrompt> retrieved;
  if (passages) {
    const int64_t most = options.context > 0 ? options.context : hub::model_config(*source).block_size;
    retrieved = passages->make(*options.prompt, [&](const std::string& text) {
      return std::ssize(tokenizer.encode(text)) + room_for_answer(how, most) <= most;
    });
    fmt::print(stderr, "generate: {}\n", told_passages(*retrieved));
  }
  tell_left_out(tokenizer, *options.prompt, "--prompt");
  const std::vector<int32_t> prompt =
      tokenizer.encode(retrieved ? retrieved->text : *options.prompt, {.special_tokens = true});
  if (slots.context == 0) slots.context = context_for(*source, how, int64_t(prompt.size()));
  engine::Device device = open_computing_device({.select = options.device});
  TextModel model(device, *source, slots);
  continue_prompt(options, model, tokenizer, how, prompt, retrieved, seconds_since(began));
}

}  // namespace surtsey::experiments::commands
