// The matrices of a model by the names that its files have for them: what PEFT calls modules.
//
// One module may be several of our matrices: GPT-2's c_attn is q, k and v, rows 0 .. C - 1, C .. 2C - 1 and the rest.
#pragma once

#include "experiments/models/hub/source.h"
#include "experiments/models/model.h"

#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

struct ModulePart {
  std::string matrix;     // "blocks.0.attention.q", as Projection::name
  std::string weight;     // its parameter [rows, in]
  std::string bias;       // its parameter [rows]; empty: it has none
  int64_t first_row = 0;  // of the module's
  int64_t rows = 0;
};

struct Module {
  std::string name;  // "transformer.h.0.attn.c_attn"
  int64_t in = 0, out = 0;
  bool transposed = false;  // the file has [in, out]: fan_in_fan_out
  bool head = false;        // of the logits: no part of "all-linear"
  std::vector<ModulePart> parts;
};

// In the order of the model's parameters, first parts first. Without a source by hugging_face_name(), or by our names.
std::vector<Module> modules_of(const Model& model, const hub::Source* source);

// The index of the module that a file names, with or without the prefix of the class with a head; -1: none.
int64_t find_module(const std::vector<Module>& modules, const hub::Source* source, const std::string& name);

// The parameter of a model that a tensor of an adapter is: "adapter.NAME".
std::string adapter_parameter(const std::string& name);

}  // namespace surtsey::experiments
