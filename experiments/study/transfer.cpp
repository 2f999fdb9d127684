#include "experiments/study/transfer.h"

#include <cmath>

namespace surtsey::experiments {

std::vector<ArmRow> exact_matches(Evaluator& evaluator, const tasks::Task& task, size_t members, int32_t count,
                                  uint32_t seed) {
  std::vector<ArmRow> rows(members);
  for (size_t arm = 0; arm < task.arms().size(); ++arm) {
    const ArmAnswers answers = evaluator.write(task, task.test_items(int32_t(arm), count, seed));
    for (size_t e = 0; e < members; ++e) {
      const std::vector<int32_t>& own = answers.responses[e];
      rows[e].push_back(is_written(own) ? task.score(answers.items, own).exact_match() : 0);
    }
  }
  return rows;
}

std::vector<Measure> transfer_measures(const TransferTable& table) {
  const size_t T = table.names.size();
  const auto& R = table.learned;
  ensure(T > 1 && R.size() == T && table.untrained.size() == T, "[transfer] {} rows of {} tasks", R.size(), T);
  const auto variance = [&](double share) { return share * (1 - share) / double(table.items); };
  std::vector<Measure> list = {{"ACC"}, {"BWT"}, {"FWT"}, {"learned"}};
  double variances[4] = {};
  const auto add = [&](size_t which, double share, double sign, size_t count) {
    list[which].mean += sign * share / double(count);
    variances[which] += variance(share) / double(count * count);
  };
  for (size_t j = 0; j < T; ++j) {
    ensure(R[j].size() == T, "[transfer] a row of {} of {} tasks", R[j].size(), T);
    add(0, R[T - 1][j], 1, T);
    if (j + 1 < T) {
      add(1, R[T - 1][j], 1, T - 1);
      add(1, R[j][j], -1, T - 1);
    }
    if (j > 0) {
      add(2, R[j - 1][j], 1, T - 1);
      add(2, table.untrained[j], -1, T - 1);
      add(3, R[j][j], 1, T - 1);
    }
  }
  for (size_t i = 0; i < list.size(); ++i) {
    list[i].standard_error = std::sqrt(variances[i]);
    list[i].n = table.items;
  }
  for (size_t i = 0; i < T; ++i)
    for (size_t j = 0; j < T; ++j)
      list.push_back({table.names[j] + " after " + table.names[i], R[i][j], std::sqrt(variance(R[i][j])), table.items});
  return list;
}

const SequenceStarts::Start& SequenceStarts::of(engine::Device& device, int32_t width, uint32_t seed) {
  const auto found = starts_.find({width, seed});
  if (found != starts_.end()) return found->second;
  const TrainedBase& base = bases_.of(device, width, seed);
  const Model model(base.model);
  const TrainedBase untrained{base.model, model.store().unpack(model.store().initialise(seed))};
  Start start{base, {task_.arms(), options_.test_items, answers(device, untrained), {answers(device, base)}}};
  return starts_.emplace(std::pair{width, seed}, std::move(start)).first->second;
}

ArmRow SequenceStarts::answers(engine::Device& device, const TrainedBase& base) const {
  BaseRun run(device, base, options_.evaluation_rows, task_.block_size());
  return exact_matches(run.evaluator(), task_, 1, options_.test_items, uint32_t(options_.test_seed)).front();
}

}  // namespace surtsey::experiments
