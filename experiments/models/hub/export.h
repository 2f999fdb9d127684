// A model in the form of other programs' files.
#pragma once

#include "experiments/models/hub/source.h"

#include <filesystem>
#include <optional>
#include <string>

namespace surtsey::experiments::hub {

// What matrices are stored as; absent: as they are. What is kept is copied bit for bit.
using KeptType = std::optional<StoredType>;

// A folder as transformers saves it: config.json (the model's own where it has one), generation_config.json,
// model.safetensors with Hugging Face's names, and the files of the tokenizer. The type is f32, f16 or bf16 and holds
// for vectors too; blocks of quantized numbers become f32 where none is said. UserError: the folder has files, another
// type, what a config.json cannot say.
void export_folder(const Source& source, const std::filesystem::path& folder, KeptType type = {});

// One GGUF file. Vectors and GPT-2's positions are f32 always, as its readers want them. A matrix whose rows are no
// whole blocks of `type` becomes q8_0, or f16; `told` is called with a line for each such choice. UserError: what GGUF
// cannot say.
void export_gguf(const Source& source, const std::filesystem::path& file, KeptType type = {},
                 const std::function<void(const std::string& line)>& told = {});

}  // namespace surtsey::experiments::hub
