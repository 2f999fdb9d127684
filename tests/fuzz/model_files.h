// Mutated files of models, opened and read to the end.
#pragma once

#include "tests/support/folder.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace surtsey::tests {

// What is mutated, the rest of the model being right.
inline constexpr const char* kModelFiles[] = {"gguf", "safetensors", "config.json", "index.json"};

struct FuzzCount {
  uint64_t accepted = 0;  // the model opened and every tensor of it was read
  uint64_t refused = 0;   // UserError, which names the file
};

// `count` files of a kind, numbers `first` on (the same number gives the same file). `around` is called with the size
// of the mutated file and what is to be done with it: it may measure that. Anything but a UserError is thrown on, its
// file left in `folder`. `golden` has the files of tests/golden/gguf, which the seeds are made from.
FuzzCount fuzz_models(const std::string& kind, uint64_t first, uint64_t count, const std::string& golden,
                      const Folder& folder,
                      const std::function<void(uint64_t size, const std::function<void()>& work)>& around);

}  // namespace surtsey::tests
