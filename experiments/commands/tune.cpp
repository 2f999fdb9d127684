#include "experiments/kernels/tune.h"

#include "engine/tuned_tiles.h"
#include "experiments/base/computing_device.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/records.h"
#include "experiments/commands/requested_step.h"
#include "graph/compile.h"
#include "shaders/spirv.h"
#include "shaders/tile_cache.h"

#include <algorithm>

namespace surtsey::experiments::commands {
namespace {

std::string choice_text(const Choice& choice, const ChoiceShape& shape) {
  if (const auto* rows = std::get_if<graph::ReduceTile>(&choice)) {
    return fmt::format("{} a row, {} a workgroup, {} columns a turn", rows->lanes, rows->local, rows->unroll);
  }
  const auto& tile = std::get<graph::MatmulTile>(choice);
  const graph::MatmulVariant variant = std::get<graph::MatmulShape>(shape).variant;
  if (variant != graph::MatmulVariant::lane_broadcast) {
    const char* owner = variant == graph::MatmulVariant::shared_tile ? "lane" : "subgroup";
    return fmt::format("{}x{}x{} {}x{} a {}", tile.rows, tile.columns, tile.depth, tile.own, tile.own, owner);
  }
  return fmt::format("{}x{} along {}, {} deep", tile.rows, tile.columns, tile.lanes_along_m ? 'm' : 'n', tile.depth);
}

Record record_of(const TunedKernel& tuned, int64_t dispatches) {
  const Trial &best = tuned.trials[tuned.best], &usual = tuned.trials[0];
  int64_t rejected = 0;
  for (const Trial& trial : tuned.trials) rejected += !trial.rejected.empty();
  Record record;
  record["kernel"] = tuned.name;
  if (const auto* s = std::get_if<graph::MatmulShape>(&tuned.shape)) {
    record["variant"] = graph::name(s->variant);
    record["size"] = fmt::format("{}x{}x{}x{} {}{}", s->batch, s->m, s->n, s->k, s->a_transposed ? 't' : 'n',
                                 s->b_transposed ? 't' : 'n');
  } else {
    const auto& r = std::get<graph::ReduceShape>(tuned.shape);
    record["variant"] = graph::name(r.variant);
    record["size"] = fmt::format("{}x{}", r.rows, r.columns);
  }
  record["dispatches"] = dispatches;
  record["candidates"] = tuned.trials.size();
  record["rejected"] = rejected;
  record["default"] = choice_text(usual.choice, tuned.shape);
  record["best"] = choice_text(best.choice, tuned.shape);
  record["median_ns"] = best.median_ns;
  record["default_ns"] = usual.median_ns;
  record["faster"] = fmt::format("{:.2f}", 1 / best.ratio);
  return record;
}

// The table with what won, without what the default won.
void keep(shaders::MeasuredTiles& tiles, const TunedKernel& tuned) {
  const Choice& best = tuned.trials[tuned.best].choice;
  if (const auto* product = std::get_if<graph::MatmulShape>(&tuned.shape)) {
    tiles.products.erase(*product);
    if (tuned.best != 0) tiles.products[*product] = std::get<graph::MatmulTile>(best);
    return;
  }
  const auto& rows = std::get<graph::ReduceShape>(tuned.shape);
  tiles.reductions.erase(rows);
  if (tuned.best != 0) tiles.reductions[rows] = std::get<graph::ReduceTile>(best);
}

}  // namespace

void tune(const TuneCommandOptions& options) {
  check(std::find(kRecordFormats.begin(), kRecordFormats.end(), options.format) != kRecordFormats.end(),
        "-o is md, json, jsonl or csv, not '{}'", options.format);
  const std::string directory = shaders::default_cache_directory();
  check(!directory.empty(), "there is no folder to keep tiles in: set SURTSEY_CACHE");
  const RequestedStep step = requested_step(options.program, options.members, options.config, options.keys);
  engine::Device device =
      open_computing_device({.select = options.device, .f16 = step.train.dtype == graph::DType::f16});
  const graph::Target& target = device.target();
  const graph::Plan plan = graph::compile(step.program, target, step.compile);
  const std::vector<PlannedKernel> kernels = planned_kernels(plan, target);
  const std::string who = engine::tile_identity(device.info());
  shaders::MeasuredTiles tiles;
  if (shaders::load_tiles(directory, who, target, tiles) == shaders::CacheState::corrupt) {
    fmt::print(stderr, "{} is damaged or of other kernels: it is made anew\n",
               shaders::tile_cache_file(directory, who, target));
  }
  std::vector<Record> records;
  for (const PlannedKernel& kernel : kernels) {
    const TunedKernel tuned = tune_kernel(device, target, plan, kernel, {.rounds = options.rounds});
    for (const Trial& trial : tuned.trials) {
      if (trial.rejected.empty()) continue;
      fmt::print(stderr, "rejected: {}, {}: {}\n", tuned.name, choice_text(trial.choice, tuned.shape), trial.rejected);
    }
    keep(tiles, tuned);
    // Stored as it goes: who stops it keeps what was measured.
    check(shaders::store_tiles(directory, who, target, tiles), "{} cannot be written",
          shaders::tile_cache_file(directory, who, target));
    records.push_back(record_of(tuned, kernel.dispatches));
    fmt::print(stderr, "{} of {} kernels\n", records.size(), kernels.size());
  }
  print_records(records, options.format,
                {"kernel", "variant", "size", "dispatches", "default", "best", "rejected", "faster"});
  fmt::print(stderr, "{} choices in {}\n", tiles.size(), shaders::tile_cache_file(directory, who, target));
}

}  // namespace surtsey::experiments::commands
