// The precompiled header of engine/: the Vulkan C++ bindings take seconds to parse.
#ifndef SURTSEY_ENGINE_PCH_H
#define SURTSEY_ENGINE_PCH_H

#include "engine/vulkan.h"

#include <fmt/format.h>

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#endif
