#pragma once

#include "shaders/spirv.h"

#include <string>

namespace surtsey::experiments::commands {

// A module as text, by the program spirv-dis (Debian: spirv-tools). UserError when it is not there.
std::string disassemble(const shaders::Spirv& spirv);

}  // namespace surtsey::experiments::commands
