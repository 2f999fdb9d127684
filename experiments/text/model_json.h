// tokenizer.json's bytes: its vocabulary and merges as they come by, the rest as a tree. A vocabulary of 150,000 tokens
// and 300,000 merges would take twenty times its bytes as a tree.
#pragma once

#include "experiments/base/json.h"
#include "experiments/text/models.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace surtsey::experiments::text {

struct ModelJson {
  HeldJson rest;                                       // the file without model.vocab and model.merges
  bool vocab_is_list = false;                          // as Unigram has it
  std::vector<std::pair<std::string, int64_t>> vocab;  // token and id; of a list its place
  std::vector<double> scores;                          // of a list, by place
  Merges merges;
  bool has_vocab = false, has_merges = false;
};

// UserError that names the place: what is no JSON, is nested deeper than 64 levels, names a token twice, or has
// anything else where vocabulary and merges belong.
ModelJson read_model_json(std::string_view text, const std::string& path);

}  // namespace surtsey::experiments::text
