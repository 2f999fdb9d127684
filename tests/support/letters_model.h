// A small LLaMA with random weights whose tokens are letters, as a folder that tools open.
#pragma once

#include "experiments/models/hub/export.h"
#include "tests/support/folder.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>

namespace surtsey::tests {

// 61 tokens, each a character. Its template writes "U" or "A" before what is said and `turn_end` after it; `end_token`
// ends an answer.
inline std::filesystem::path write_letters_model(const Folder& folder, const std::string& turn_end, int end_token) {
  const auto golden = std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests/golden/gguf/llama-rope-llama3.gguf";
  const auto made = folder / "model";
  experiments::hub::export_folder(*experiments::hub::open_model(golden), made);
  const std::string letters = "\nABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz .,:?!-";
  nlohmann::json tokens = nlohmann::json::object();
  for (size_t i = 0; i < letters.size(); ++i) tokens[std::string(1, letters[i])] = i;
  const nlohmann::json tokenizer = {
      {"model", {{"type", "BPE"}, {"vocab", tokens}, {"merges", nlohmann::json::array()}}},
      {"decoder", {{"type", "Fuse"}}}};
  std::ofstream(made / "tokenizer.json") << tokenizer.dump();
  const nlohmann::json config = {
      {"chat_template", fmt::format("{{% for message in messages %}}{{{{ {{'system': 'S', 'user': 'U', 'assistant': "
                                    "'A'}}[message.role] }}}}{{{{ message.content }}}}{}{{% endfor %}}"
                                    "{{% if add_generation_prompt %}}A{{% endif %}}",
                                    turn_end)}};
  std::ofstream(made / "tokenizer_config.json") << config.dump();
  std::ofstream(made / "generation_config.json") << nlohmann::json({{"eos_token_id", end_token}}).dump();
  return made;
}

}  // namespace surtsey::tests
