#include "experiments/study/shards.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "experiments/base/interrupt.h"
#include "experiments/study/plan.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kShardFormat = 2;  // of a specification; format 1 is that of `surtsey sweep`

std::vector<PlannedPack> packs_to_run(const Study& study, const engine::DeviceInfo& device) {
  return packs_of(with_trained_models(study.experiments()), *study.options, device);
}

json spec_of(const Study& study, const PlannedPack& pack, size_t order, const std::string& toml) {
  json members = json::array();
  for (const Member& member : pack.members)
    members.push_back({{"seed", member.seed}, {"learning_rate", member.learning_rate}});
  return {{"format", kShardFormat},
          {"study", study.name},
          {"scale", study.keys->scale()},
          {"config", toml},
          {"order", order},
          {"cells", pack.cells()},
          {"members", members},
          {"selecting", pack.selecting},
          {"steps", pack.experiment.steps}};
}

size_t order_of(const SweepPack& pack) { return pack.spec->at("order").get<size_t>(); }

// The packs of a plan as things to run. Packs are cut for the device that planned them: experiments come from the
// study, members from the plan.
class Work {
 public:
  Work(const Study& study, SweepDirectory& directory, engine::Device& device, std::vector<std::string> command)
      : study_(study), directory_(directory), device_(device), command_(std::move(command)) {
    for (PlannedPack& pack : packs_to_run(study, device.info())) {
      auto& slot = experiments_[pack.experiment.task + "\n" + pack.experiment.variant + "\n" +
                                std::to_string(pack.experiment.width) + "\n" + std::to_string(pack.experiment.n_layer)];
      slot.push_back(std::move(pack));
    }
    for (const auto& [key, packs] : experiments_)
      for (const PlannedPack& pack : packs)
        for (const std::string& cell : pack.cells()) by_cell_[cell + (pack.selecting ? " (selecting)" : "")] = &pack;
  }

  // Runs a pack that is locked, those that it waits for before it.
  void run(const SweepPack& pack) {
    PlannedPack planned = planned_pack(pack);
    std::vector<Cell> cells;
    for (const int64_t other : pack.waits_for) {
      const StudyResult result = finished(directory_.pack(other));
      cells.insert(cells.end(), result.cells.begin(), result.cells.end());
    }
    take_from(planned, cells);
    directory_.run(pack, device_, command_, [&](const fs::path& checkpoints) {
      return run_planned(device_, *study_.options, planned, checkpoints, directory_.path(), true);
    });
  }

  // The result of a pack, by whoever runs it.
  StudyResult finished(const SweepPack& pack) {
    while (true) {
      if (auto result = directory_.result(pack)) return *result;
      if (const auto lock = directory_.lock(pack)) {
        if (!directory_.result(pack)) run(pack);
        continue;
      }
      if (interrupted()) throw Interrupted("interrupted while another process works on a pack");
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }

 private:
  PlannedPack planned_pack(const SweepPack& pack) const {
    const bool selecting = pack.spec->at("selecting").get<bool>();
    const auto at = by_cell_.find(pack.cells().front() + (selecting ? " (selecting)" : ""));
    check(at != by_cell_.end(), "pack {} trains {}, which this version of {} does not: plan another directory",
          pack.index, pack.cells().front(), study_.name);
    PlannedPack planned = *at->second;
    planned.members.clear();
    for (const json& member : pack.spec->at("members"))
      planned.members.push_back({member.at("seed").get<uint32_t>(), member.at("learning_rate").get<double>()});
    return planned;
  }

  const Study& study_;
  SweepDirectory& directory_;
  engine::Device& device_;
  std::vector<std::string> command_;
  std::map<std::string, std::vector<PlannedPack>> experiments_;
  std::map<std::string, const PlannedPack*> by_cell_;
};

}  // namespace

SweepDirectory shard_study(const Study& study, engine::Device& device, const fs::path& path, const std::string& toml,
                           bool timing) {
  const std::vector<PlannedPack> planned = packs_to_run(study, device.info());
  const std::vector<PackCost> costs = costs_of(planned, device.info().target);
  std::vector<SweepPack> packs;
  for (size_t i = 0; i < planned.size(); ++i) {
    SweepPack& pack = packs.emplace_back();
    pack.spec = spec_of(study, planned[i], i, toml);
    pack.hash = spec_hash(*pack.spec);
    pack.cost = costs[i];
  }
  std::vector<size_t> order(packs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // The largest first; what waits for others after what does not. What is waited for stands before it in the plan.
  std::vector<int> rounds(packs.size(), 0);
  for (size_t i = 0; i < planned.size(); ++i)
    for (const size_t other : planned[i].waits_for()) rounds[i] = std::max(rounds[i], rounds[other] + 1);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return rounds[a] != rounds[b] ? rounds[a] < rounds[b] : costs[a].flops > costs[b].flops;
  });
  std::vector<int64_t> place(packs.size());
  for (size_t i = 0; i < order.size(); ++i) place[order[i]] = static_cast<int64_t>(i);
  std::vector<SweepPack> sorted;
  for (const size_t i : order) {
    SweepPack& pack = sorted.emplace_back(std::move(packs[i]));
    pack.index = place[i];
    for (const size_t other : planned[i].waits_for()) pack.waits_for.push_back(place[other]);
  }
  if (timing) {
    const StudyPlan plan = plan_study(study, device);
    std::map<std::pair<std::string, bool>, double> seconds;
    for (const PackPlan& one : plan.packs) seconds[{one.cell, one.selecting}] = one.expected_seconds;
    for (SweepPack& pack : sorted)
      pack.expected_seconds = seconds[{pack.cells().front(), pack.spec->at("selecting").get<bool>()}];
  }
  return SweepDirectory::create(path, toml, sorted, {study.name, std::string(study.keys->scale())});
}

void work_shards(const Study& study, SweepDirectory& directory, engine::Device& device, const ShardChoice& choice,
                 const std::vector<std::string>& command) {
  Work work(study, directory, device, command);
  if (choice.index >= 0) {
    work.finished(directory.pack(choice.index));
    return;
  }
  size_t failed = 0;
  for (const SweepPack& pack : directory.packs()) {
    if (interrupted()) throw Interrupted("interrupted between two packs");
    if (directory.result(pack) || (choice.only_failed && directory.failure(pack).empty())) continue;
    const auto lock = directory.lock(pack);
    if (!lock || directory.result(pack)) continue;
    try {
      work.run(pack);
    } catch (const UserError& error) {
      ++failed;
      fmt::print(stderr, "pack {} failed: {}\n", pack.index, error.what());
    }
  }
  check(failed == 0, "{} packs failed; `surtsey sweep status` says why, --only-failed runs them again", failed);
}

void gather_shards(const Study& study, const SweepDirectory& directory, StudyRun& run) {
  std::vector<const SweepPack*> packs;
  for (const SweepPack& pack : directory.packs()) packs.push_back(&pack);
  std::sort(packs.begin(), packs.end(),
            [](const SweepPack* a, const SweepPack* b) { return order_of(*a) < order_of(*b); });
  size_t missing = 0;
  for (const SweepPack* pack : packs) missing += directory.result(*pack) ? 0 : 1;
  check(missing == 0, "{} of {} packs of '{}' are not finished: `surtsey sweep status` lists them", missing,
        packs.size(), directory.path().string());
  for (const SweepPack* pack : packs) {
    const fs::path folder = directory.run_path(*pack);
    for (const MetricLine& line : load_metrics(folder / "metrics.jsonl")) run.directory().append(line);
    for (const SampleLine& line : load_samples(folder / kSamplesFile)) run.directory().append(line);
    run.add(directory.result(*pack)->cells);
  }
  mark_chosen(run.result().cells, packs_to_run(study, run.device().info()));
}

}  // namespace surtsey::experiments
