// What the benchmarks share.
#pragma once

#include "engine/session.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/records.h"

namespace surtsey::experiments::commands {

// UserError: format, repetitions, warm-up or variant are not possible.
void check_bench(const BenchOptions& options);

engine::SessionOptions session_options(const engine::Device& device, const BenchOptions& options);

// automatic, lane_broadcast or shared_tile from its name, empty for automatic; UserError.
graph::MatmulVariant matmul_variant(const std::string& name);
const char* variant_name(const graph::Target& target);  // of the kernel that runs

}  // namespace surtsey::experiments::commands
