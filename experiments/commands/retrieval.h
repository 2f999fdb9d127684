// `--retrieve INDEX` of the commands that have it.
#pragma once

#include "experiments/commands/commands.h"
#include "experiments/models/hub/generation.h"
#include "experiments/retrieve/prompts.h"

#include <memory>
#include <optional>
#include <string>

namespace surtsey::experiments::commands {

// An index with the model of its vectors: the one it was made with, or what `model` says stands elsewhere now. Without
// vectors, or where words alone are asked for, no model is opened.
std::shared_ptr<Retriever> open_retriever(const std::string& index, const std::string& model, RetrieveBy by,
                                          const std::string& device);

// Nothing where no index is named; UserError where one of the other flags is given without one.
std::optional<PassagePrompts> open_passages(const RetrieveFlags& flags, const std::string& device);

// Tokens that passages leave to an answer: as many as are asked for, a quarter of the context at most.
int64_t room_for_answer(const hub::GenerationConfig& how, int64_t context);

// "retrieved 'a' 0, 'b' 3; 1 left out for want of room"
std::string told_passages(const PassagePrompt& prompt);

}  // namespace surtsey::experiments::commands
