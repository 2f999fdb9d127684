// Driver defects and needs, one row each: match, effect, reason, link. The only place that knows a
// vendor or a driver.
#pragma once

#include "engine/features.h"

#include <span>
#include <string>
#include <vector>

namespace surtsey::engine {

struct QuirkEffects {
  int preference = 0;                // among devices of one type, higher is chosen
  uint32_t subgroup_size = 0;        // 0: the one that the driver reports
  uint32_t cooperative_floats = 0;   // graph::Target's
  std::vector<const char*> without;  // optional rows of the features that the driver cannot do
};

struct Quirk {
  const char* name;
  bool (*match)(const Capabilities&);
  void (*effect)(QuirkEffects&);
  const char* reason;
  const char* link;
};
std::span<const Quirk> quirk_table();

// Needs that have to be met before a driver is loaded, as environment variables.
struct ProcessQuirk {
  const char* variable;
  const char* value;
  bool (*match)(bool validation);         // whether the process may need it
  bool (*concerns)(const Capabilities&);  // whether it changes how this device runs kernels
  const char* reason;
  const char* link;
};
std::span<const ProcessQuirk> process_quirk_table();

// Sets the variables of matching rows that are not set.
void apply_process_quirks(bool validation);

QuirkEffects quirk_effects(const Capabilities& capabilities);
uint32_t preferred_subgroup_size(const Capabilities& capabilities);

// A row of the features that a quirk takes away, and the quirk's name.
struct WithoutRow {
  std::string row, quirk;
};
std::vector<WithoutRow> rows_without(const Capabilities& capabilities);

// The quirks that change how this device runs kernels: "name: reason".
std::vector<std::string> quirks_in_use(const Capabilities& capabilities);

}  // namespace surtsey::engine
