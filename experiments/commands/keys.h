// `--key=value` arguments, and the keys of a configuration file, routed to what knows them.
#pragma once

#include "experiments/base/config.h"
#include "experiments/models/model_config.h"

#include <set>
#include <string>
#include <vector>

namespace surtsey::experiments::commands {

// What is left of a command line, as "--key=value" each: "--key value" is joined. CommandLineError
// for anything else.
std::vector<std::string> normalise_keys(const std::vector<std::string>& arguments);

// A model configuration and a table of further keys from a file (TOML, or JSON by its name; may be
// empty) and then from `arguments`. Keys that both know go to the model; "model" takes a shape by
// name (shapes.h: d12, SmolLM2-135M), before all other keys. UserError that says where: a key that
// neither knows (with the nearest one, or what stands for one of nanoGPT's here; a CommandLineError
// when it is an argument), a value of the wrong type, an impossible model.
void read_keys(ModelConfig& model, ConfigTable& table, const std::string& file,
               const std::vector<std::string>& arguments);

// For a run in `out` that goes on: both are TOML with a line a key, as ConfigTable writes it. UserError that names the
// first key that differs and would make it another run; keys in `free`, and new ones, may differ.
void check_same_keys(const std::string& saved, const std::string& wanted, const std::set<std::string>& free,
                     const std::string& out);

// -o of a command that prints text or JSON; CommandLineError for another word.
void check_text_or_json(const std::string& format);

}  // namespace surtsey::experiments::commands
