// Tokenizers and chat templates from the command line.
#include <nlohmann/json.hpp>

#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/json_text.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/text/byte_bpe_training.h"
#include "experiments/text/chat_template.h"
#include "experiments/text/tokenizer_json.h"

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

}  // namespace

void tokenize(const TokenizeOptions& options) {
  check_text_or_json(options.format);
  if (options.text.has_value() == !options.file.empty()) {
    throw CommandLineError("tokenize takes either --text or --file");
  }
  const text::Tokenizer tokenizer = text::load_tokenizer(options.model);
  const std::string given = options.text ? *options.text : read_text(options.file);
  const std::vector<int32_t> ids = tokenizer.encode(given, {.special_tokens = true});
  const std::vector<int32_t> plain = tokenizer.encode(given, {.special_tokens = false});
  const std::string decoded = tokenizer.decode(ids, {.skip_special_tokens = true});
  std::vector<std::string> tokens;
  for (const int32_t id : ids) tokens.push_back(tokenizer.token(id));
  if (options.format == "json") {
    print_line(json_text(json{{"ids", ids}, {"ids_plain", plain}, {"tokens", tokens}, {"decoded", decoded}}));
    return;
  }
  for (size_t i = 0; i < ids.size(); ++i) print_line(fmt::format("{:7} {}", ids[i], json_text(json(tokens[i]))));
}

void render_template(const TemplateOptions& options) {
  check_text_or_json(options.format);
  const text::ChatTemplate chat = text::load_chat_template(options.model, options.name, options.file);
  ordered_json variables = ordered_json::parse(read_file(options.messages), nullptr, false);
  check(!variables.is_discarded(), "{}: no JSON", options.messages);
  // A list is the messages; an object is all that the template is given.
  if (variables.is_array()) variables = ordered_json{{"messages", std::move(variables)}};
  check(variables.is_object() && variables.contains("messages"),
        "{}: a list of messages belongs here, or an object with 'messages'", options.messages);
  if (options.add_generation_prompt || !variables.contains("add_generation_prompt")) {
    variables["add_generation_prompt"] = options.add_generation_prompt;
  }
  const std::string text = chat.render(variables, {options.date});
  if (options.format == "json") {
    print_line(json_text(json{{"text", text}}));
  } else {
    fmt::print("{}", text);  // to the byte: no line break of our own
  }
}

void train_tokenizer(const TrainTokenizerOptions& options) {
  const fs::path path = fs::path(options.out) / "tokenizer.json";
  check(!fs::exists(path), "{} exists: choose another --out", path.string());
  std::string data;
  for (const std::string& file : options.data) data += read_text(file);
  const text::TrainedTokenizer trained = text::train_byte_bpe(data, int32_t(options.vocab_size));
  const text::Tokenizer tokenizer = text::parse_tokenizer_json(trained.json, path.string());
  fs::create_directories(options.out);
  write_file_atomic(path, trained.json);
  const size_t tokens = tokenizer.encode(data, {.special_tokens = false}).size();
  print_line(fmt::format("{}: {} tokens; {} bytes are {} tokens, {:.2f} bytes each", path.string(), trained.vocab_size,
                         data.size(), tokens, tokens > 0 ? double(data.size()) / double(tokens) : 0.0));
  if (trained.vocab_size < options.vocab_size) {
    print_line(fmt::format("fewer than the {} asked for: no pair of tokens occurs twice any more", options.vocab_size));
  }
}

}  // namespace surtsey::experiments::commands
