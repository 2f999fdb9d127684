// The small BERT of tests/golden/classify (random weights, three labels) as a folder that tools open; its tokens are
// letters, and its tokenizer puts [CLS] and [SEP] around a text and between two.
#pragma once

#include "experiments/base/file.h"
#include "experiments/formats/safetensors.h"
#include "tests/support/folder.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>

namespace surtsey::tests {

inline std::filesystem::path bert_golden() {
  return std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests/golden/classify";
}

// `architecture`: BertForSequenceClassification has the head; BertModel has a pooler and no head, BertForMaskedLM
// (whose head is made up of zeros) neither of them.
inline std::filesystem::path write_bert_model(const Folder& folder, const std::string& architecture) {
  namespace fs = std::filesystem;
  const fs::path made = folder / architecture;
  fs::create_directories(made);
  nlohmann::json config = nlohmann::json::parse(slurp(bert_golden() / "config.json"));
  config["architectures"] = {architecture};
  std::ofstream(made / "config.json") << config.dump(1);
  experiments::Safetensors file = experiments::read_safetensors((bert_golden() / "model.safetensors").string());
  const bool masked = architecture == "BertForMaskedLM";
  if (architecture != "BertForSequenceClassification")
    std::erase_if(file.tensors, [&](const auto& one) {
      return one.first.starts_with("classifier.") || (masked && one.first.starts_with("bert.pooler."));
    });
  const auto zeros = [&](const std::string& name, graph::Shape shape) {
    file.tensors.emplace("cls.predictions." + name, graph::HostTensor::zeros({graph::DType::f32, std::move(shape)}));
  };
  if (masked) {
    const int64_t width = config["hidden_size"].get<int64_t>();
    zeros("transform.dense.weight", {width, width});
    for (const char* name : {"transform.dense.bias", "transform.LayerNorm.weight", "transform.LayerNorm.bias"})
      zeros(name, {width});
    zeros("bias", {config["vocab_size"].get<int64_t>()});
  }
  const std::vector<std::byte> bytes = experiments::format_safetensors(file);
  experiments::write_file_atomic(made / "model.safetensors",
                                 {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  const std::string letters = "\nABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz .,:?!-";
  nlohmann::json tokens = {{"[PAD]", 0}, {"[CLS]", 1}, {"[SEP]", 2}, {"[UNK]", 3}}, added = nlohmann::json::array();
  for (const char* special : {"[PAD]", "[CLS]", "[SEP]", "[UNK]"})
    added.push_back({{"id", tokens[special]},
                     {"content", special},
                     {"special", true},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false}});
  for (size_t i = 0; i < letters.size(); ++i) tokens[std::string(1, letters[i])] = 4 + i;
  const nlohmann::json tokenizer = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"model", {{"type", "BPE"}, {"vocab", tokens}, {"merges", nlohmann::json::array()}, {"unk_token", "[UNK]"}}},
      {"post_processor", {{"type", "BertProcessing"}, {"cls", {"[CLS]", 1}}, {"sep", {"[SEP]", 2}}}},
      {"decoder", {{"type", "Fuse"}}}};
  std::ofstream(made / "tokenizer.json") << tokenizer.dump();
  return made;
}

}  // namespace surtsey::tests
