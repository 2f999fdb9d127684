// Several LoRA adapters over one base at once, without a copy of it: each text is read with one of them, or with none.
//
//   const AdapterSet set({"runs/a", "runs/b"}, source, model);
//   set.install(model);                          // after the base is frozen, before programs are built
//   options.adapter = index;                     // ForwardOptions: u32 [] or [B]; 0: none, i: the i-th
//   .. allocate .. set.write(write);
//
// A matrix W [out, in] that any of N adapters changes has them stacked, padded with zeros to the largest rank R:
//   adapter.set.MATRIX.a   f32 [N + 1, R, in]
//   adapter.set.MATRIX.b   f32 [N + 1, out, R]   times the adapter's scale
// A text takes the rows of its index: x W^T + (x A^T) B^T. With index 0 it has the bits of the base.
#pragma once

#include "experiments/adapt/adaptation.h"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace surtsey::experiments {

class AdapterSet {
 public:
  // UserError: what Adaptation says of a folder; an adapter that is no LoRA, or has DoRA's lengths or a head, or
  // changes the model's head, by its folder.
  AdapterSet(const std::vector<std::string>& folders, const hub::Source& source, const Model& model);

  size_t size() const { return size_; }  // N

  void install(Model& model) const;
  void write(const std::function<void(const std::string& state, const graph::HostTensor& tensor)>& write) const;

 private:
  struct Stack {
    graph::HostTensor a, b;
  };
  size_t size_ = 0;
  std::map<std::string, Stack> stacks_;  // by matrix
};

}  // namespace surtsey::experiments
