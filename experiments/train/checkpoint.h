// Checkpoints: a directory a save, whole or not there at all.
//
//   ROOT/step-00001000/config.json            what to rebuild the run from, as given, and "step"
//   ROOT/step-00001000/model.safetensors      every parameter by name (see model.h), f32; frozen ones as they are kept
//   ROOT/step-00001000/optimizer.safetensors  every other state tensor: moments, step, seed, counters,
//                                             metrics; the padding of the flat tensors included
//   ROOT/latest                               the name of the newest directory
//
// A save writes a hidden directory beside the others, syncs its files and itself, renames it, syncs
// ROOT, and only then moves the pointer: a crash at any moment leaves the last save readable. The
// two newest saves are kept; nothing that cannot be read is ever removed, nor what stands behind the
// newest save. Where the pointer is missing or broken the newest whole save is taken. One ROOT holds
// one model; give each member of an ensemble a ROOT of its own, and write it under the lock of its
// run (base/folder_lock.h).
//
// `trained_only`: what is frozen belongs to a model that is kept elsewhere, and is in no save.
#pragma once

#include "experiments/base/json.h"
#include "graph/parameters.h"

#include <set>
#include <string>

namespace surtsey::experiments {

struct Checkpoint {
  HeldJson config;  // an object: model configuration, data position, kernel choices, ..
  int64_t step = 0;
  graph::State state;  // every state tensor of the session, "parameters" included
};

// Returns the directory it wrote. UserError when anything cannot be written (a full disk, say),
// after removing what was half done; older saves are untouched then, so a caller may warn and go
// on.
std::string save_checkpoint(const std::string& root, const Checkpoint& checkpoint, const graph::ParameterStore& store,
                            bool trained_only = false);

// The newest save under ROOT, or a save's own directory; a warning on stderr says when the pointer was of no use.
// UserError that names the file when one is missing, truncated or does not fit the store. The state is bit for bit what
// was saved.
Checkpoint load_checkpoint(const std::string& path, const graph::ParameterStore& store, bool trained_only = false);

// config.json of the same, for building the store in the first place.
nlohmann::json load_checkpoint_config(const std::string& path);
// And its step.
int64_t load_checkpoint_step(const std::string& path);

// Whether ROOT has a save, be it one that cannot be read: then it is no place for a run that begins.
bool has_checkpoint(const std::string& root);

// Where the checkpoints of a directory are that a user names: its folder "checkpoint" where it is a
// run, else itself.
std::string checkpoint_folder(const std::string& directory);

// Steps of the whole saves under ROOT, ascending.
std::vector<int64_t> checkpoint_steps(const std::string& root);
// ROOT's save of this step.
std::string checkpoint_directory(const std::string& root, int64_t step);

// One member of an ensemble's state: the leading axis of every tensor in `per_member` (a name, or a
// prefix ending in '*', as vectorize() takes them) is cut at `member`, shared tensors are copied.
// And the members joined again; shared tensors are the first's.
graph::State member_state(const graph::State& state, const std::set<std::string>& per_member, int64_t member);
graph::State ensemble_state(const std::vector<graph::State>& members, const std::set<std::string>& per_member);

}  // namespace surtsey::experiments
