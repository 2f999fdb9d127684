#pragma once

// Which surtsey made a result: env.json records both, so that a run can be repeated.

namespace surtsey::experiments {

// The version of the project, as meson.build states it: "0.1.0".
extern const char* const kVersion;

// The abbreviated git commit of the source tree, with "-dirty" for uncommitted changes; "unknown"
// where the tree is not a git checkout.
extern const char* const kCommit;

}  // namespace surtsey::experiments
