// Debug switches. The one table of environment variables; the only place that reads them.
//   SURTSEY_DEBUG=1..6   1 a line per compile, 2 a line per dispatch, 3 kernels and bindings, 4 GLSL, 5 what each pass
//                        left behind where it changed something, 6 SPIR-V text
//   SURTSEY_DUMP=DIR     writes every artefact (what passes left, plans, GLSL, SPIR-V) into DIR
//   SURTSEY_DEVICE       index, name or UUID of the device
//   SURTSEY_WITHOUT      optional paths of the device to do without: f16_storage,fusion
//   SURTSEY_ADDRESSING   address | descriptor
//   SURTSEY_VALIDATION   1: core and synchronization validation
//   SURTSEY_CACHE        directory of the SPIR-V cache (default: $XDG_CACHE_HOME/surtsey or ~/.cache/surtsey)
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace surtsey {

struct EnvironmentVariable {
  const char* name;
  const char* help;
};
std::span<const EnvironmentVariable> environment_variables();

// The value, or empty when it is unset. InternalError when the name is not in the table.
std::string environment(std::string_view name);
int debug_level();
// Writes an artefact under SURTSEY_DUMP when that is set; the name is a relative path.
void dump(std::string_view name, std::string_view content);

}  // namespace surtsey
