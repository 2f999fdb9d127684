// Which model a file or a folder holds, as one number: another one in its place is noticed.
#pragma once

#include "experiments/models/hub/source.h"

#include <cstdint>

namespace surtsey::experiments::hub {

// Of the configuration and of every tensor's name, shape, type and bytes, all of which are read.
uint64_t hash_of(const Source& source);

}  // namespace surtsey::experiments::hub
