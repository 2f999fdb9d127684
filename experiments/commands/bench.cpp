#include "experiments/commands/bench.h"

#include <algorithm>

namespace surtsey::experiments::commands {

void check_bench(const BenchOptions& options) {
  check(std::find(kRecordFormats.begin(), kRecordFormats.end(), options.format) !=
            kRecordFormats.end(),
        "-o is md, json, jsonl or csv, not '{}'", options.format);
  check(options.repetitions > 0, "-r (repetitions) is at least 1, not {}", options.repetitions);
  check(options.warmup >= 0, "--warmup cannot be {}", options.warmup);
  matmul_variant(options.variant);
}

graph::MatmulVariant matmul_variant(const std::string& name) {
  using graph::MatmulVariant;
  if (name.empty() || name == "automatic") return MatmulVariant::automatic;
  if (name == "lane_broadcast") return MatmulVariant::lane_broadcast;
  check(name == "shared_tile", "--variant is automatic, lane_broadcast or shared_tile, not '{}'",
        name);
  return MatmulVariant::shared_tile;
}

const char* variant_name(const graph::Target& target) {
  return target.matmul_variant() == graph::MatmulVariant::lane_broadcast ? "lane_broadcast"
                                                                         : "shared_tile";
}

engine::SessionOptions session_options(const engine::Device& device, const BenchOptions& options) {
  engine::SessionOptions session;
  session.quiet = true;
  session.target = device.target();
  session.target->matmul = matmul_variant(options.variant);
  return session;
}

}  // namespace surtsey::experiments::commands
