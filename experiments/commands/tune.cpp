#include "experiments/tune.h"

#include "engine/tuned_tiles.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/records.h"
#include "experiments/commands/step_program.h"
#include "graph/compile.h"
#include "shaders/spirv.h"
#include "shaders/tile_cache.h"

#include <algorithm>

namespace surtsey::experiments::commands {
namespace {

std::string tile_text(const graph::MatmulTile& tile, graph::MatmulVariant variant) {
  if (variant == graph::MatmulVariant::shared_tile) {
    return fmt::format("{}x{}x{} {}x{} a lane", tile.rows, tile.columns, tile.depth, tile.own,
                       tile.own);
  }
  return fmt::format("{}x{} along {}, {} deep", tile.rows, tile.columns,
                     tile.lanes_along_m ? 'm' : 'n', tile.depth);
}

Record record_of(const TunedProduct& tuned, int64_t kernels) {
  const graph::MatmulShape& s = tuned.shape;
  const TileTrial &best = tuned.trials[tuned.best], &usual = tuned.trials[0];
  int64_t rejected = 0;
  for (const TileTrial& trial : tuned.trials) rejected += !trial.rejected.empty();
  Record record;
  record["variant"] = graph::name(s.variant);
  record["batch"] = s.batch;
  record["m"] = s.m;
  record["n"] = s.n;
  record["k"] = s.k;
  record["layout"] = fmt::format("{}{}", s.a_transposed ? 't' : 'n', s.b_transposed ? 't' : 'n');
  record["kernels"] = kernels;
  record["candidates"] = tuned.trials.size();
  record["rejected"] = rejected;
  record["default"] = tile_text(usual.tile, s.variant);
  record["best"] = tile_text(best.tile, s.variant);
  record["median_ns"] = best.median_ns;
  record["default_ns"] = usual.median_ns;
  record["faster"] = fmt::format("{:.2f}", 1 / best.ratio);
  return record;
}

}  // namespace

void tune(const TuneCommandOptions& options) {
  check(std::find(kRecordFormats.begin(), kRecordFormats.end(), options.format) !=
            kRecordFormats.end(),
        "-o is md, json, jsonl or csv, not '{}'", options.format);
  const std::string directory = shaders::default_cache_directory();
  check(!directory.empty(), "there is no folder to keep tiles in: set SURTSEY_CACHE");
  engine::Device device = engine::Device::open({.select = options.device});
  const graph::Target& target = device.target();
  const RequestedStep step =
      requested_step(options.program, options.members, options.config, options.keys);
  const std::vector<PlannedProduct> products =
      planned_products(graph::compile(step.program, target, step.compile), target);
  const std::string who = engine::tile_identity(device.info());
  graph::MatmulTiles tiles;
  if (shaders::load_tiles(directory, who, target, tiles) == shaders::CacheState::corrupt) {
    fmt::print(stderr, "{} is damaged or of other kernels: it is made anew\n",
               shaders::tile_cache_file(directory, who, target));
  }
  std::vector<Record> records;
  for (const auto& [shape, kernels] : products) {
    const TunedProduct tuned = tune_product(device, target, shape, {.rounds = options.rounds});
    for (const TileTrial& trial : tuned.trials) {
      if (trial.rejected.empty()) continue;
      fmt::print(stderr, "rejected: {}: {}\n", tile_text(trial.tile, shape.variant),
                 trial.rejected);
    }
    tiles.erase(shape);
    if (tuned.best != 0) tiles[shape] = tuned.trials[tuned.best].tile;
    // Stored as it goes: who stops it keeps what was measured.
    check(shaders::store_tiles(directory, who, target, tiles), "{} cannot be written",
          shaders::tile_cache_file(directory, who, target));
    records.push_back(record_of(tuned, kernels));
    fmt::print(stderr, "{} of {} products\n", records.size(), products.size());
  }
  print_records(records, options.format,
                {"variant", "batch", "m", "n", "k", "layout", "kernels", "default", "best",
                 "rejected", "faster"});
  fmt::print(stderr, "{} choices in {}\n", tiles.size(),
             shaders::tile_cache_file(directory, who, target));
}

}  // namespace surtsey::experiments::commands
