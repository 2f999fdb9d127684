// Adapters as PEFT writes them: a folder with adapter_config.json and adapter_model.safetensors over a model that
// others trained. LoRA (Hu et al. 2021): a matrix W [out, in] becomes
//
//   x W^T + scale (x A^T) B^T,   A [r, in], B [out, r], scale = alpha / r, or alpha / sqrt(r) (rsLoRA, Kalajdzievski
// 2023)
//
//   LoraAdapter adapter(folder, source, model);
//   adapter.install(model);  // after the model is frozen, before programs are made
//   ...
//   adapter.write(write);    // into a session, beside hub::read_weights()
#pragma once

#include "experiments/models/hub/source.h"
#include "experiments/models/model.h"
#include "graph/host_tensor.h"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace surtsey::experiments {

class LoraAdapter {
 public:
  // Reads both files. UserError: no such file; another kind of adapter, or a variant that is not supported (DoRA,
  // biases, layers that are saved whole, embeddings), by name; a tensor that fits no matrix of the model, by name and
  // shape.
  LoraAdapter(const std::filesystem::path& folder, const hub::Source& source, const Model& model);

  // Adds "adapter.MATRIX.a" and ".b" to the model's frozen parameters, in f32, and what reads them at each matrix.
  void install(Model& model) const;
  void write(const std::function<void(const std::string& name, const graph::HostTensor& tensor)>& write) const;

  std::vector<std::string> matrices() const;  // by the names of Projection, sorted

 private:
  struct Pair {
    std::string matrix;  // "blocks.0.attention.q"
    graph::HostTensor a, b;
    double scale = 1;
  };
  std::vector<Pair> pairs_;
};

}  // namespace surtsey::experiments
