// A study is a value: what it is called and asks, its keys, its experiments, claims, figures and caveats. README.md has
// an example. Everything that can be done with a study reads this value:
//
//   STUDY [run]                      trains what is not finished, judges, writes the report
//   STUDY plan | try                 what it would train and cost (plan.h); three steps of each model (attempt.h)
//   STUDY --profile | --analyze T    the step of its largest cell (largest_step.h)
//   STUDY --shards N                 the same run by N processes; STUDY shard, work and collect are its parts, for
//                                    machines that share a directory (shards.h)
//
// Flags: --scale --config --device --seeds --out --resume --replace, and --key=value for every key of the study. The
// order is scale, file, overrides. A finished run holds result.json; while it runs, cells.json holds the cells that
// are done, which is what --resume starts from.
//
// Exit status: 0; 1 after an error, with one message on stderr; 2 for a wrong command line or a scale that there is
// not; 130 after an interrupt.
//
// A study includes this for the whole vocabulary: keys, rules, curves.
#pragma once

#include <algorithm>
#include <cmath>

#include "experiments/base/join.h"
#include "experiments/study/curves.h"
#include "experiments/study/keys.h"
#include "experiments/sweeps/experiments.h"

namespace surtsey::experiments {

// A claim with its bounds as {keys}.
using ClaimRow = DeclaredClaim;

// The experiments of a study, in the order of its plan.
class Experiments {
 public:
  explicit Experiments(const SweepOptions& options) : options_(options) {}

  // What the keys of the sweep say of a task, a variant and a width; null where the device makes the data. The
  // reference holds until the next one.
  Experiment& add(std::string task, std::string variant, Shared<tasks::Task> data, int32_t width) {
    return add(sweep_experiment(options_, std::move(task), std::move(variant), std::move(data), width));
  }
  Experiment& add(Experiment experiment) { return list_.emplace_back(std::move(experiment)); }

  const std::vector<Experiment>& list() const { return list_; }

 private:
  const SweepOptions& options_;
  std::vector<Experiment> list_;
};

// What a study makes of its keys. What it has not it leaves out.
template <class K>
struct StudyParts {
  // UserError for keys that do not go together. Before anything is built of them, and after check_sweep_options() of
  // StudyKeys.
  void (*check)(const K& keys) = nullptr;
  void (*experiments)(const K& keys, Experiments& list) = nullptr;
  // Every claim that the study can judge; the key `claims` chooses among them.
  std::vector<ClaimRow> (*claims)(const K& keys) = nullptr;
  std::vector<Figure> (*figures)(const K& keys, const StudyResult& result) = nullptr;
  // Tables of its own, at the top of its page.
  std::vector<Grid> (*grids)(const K& keys, const StudyResult& result) = nullptr;
};

struct StudyHead {
  const char* name;      // of its program
  const char* title;     // of its page
  const char* question;  // one or two sentences
};

// A study whose keys are of type K.
template <class K>
struct StudyOf {
  StudyHead head;
  StudyParts<K> parts;
  // What a reader must know beside the keys and what the report derives; {keys} are filled in.
  std::vector<std::string> caveats = {};

  // What few studies have.
  // UserError for files that the study reads and that are not there. Before a run, not before a plan, which may come
  // before what they are made by.
  void (*check_inputs)(const K& keys) = nullptr;
  // Settings beside the keys: what follows from them, or from the result.
  Facts (*settings)(const K& keys, const StudyResult& result) = nullptr;
  // After the last experiment: files of the study's own, or cells that nobody trains.
  void (*finish)(const K& keys, StudyRun& run) = nullptr;
  // What this scale trains only on request, in a hint such as "--problems=arithmetic"; null: all of it.
  const char* (*on_request)(const K& keys) = nullptr;
};

// The same with its keys bound: what every command works with.
struct Study {
  std::string name, title, question;
  KeySet* keys = nullptr;
  const SweepOptions* options = nullptr;
  std::function<void()> check, check_inputs;
  std::function<std::vector<Experiment>()> experiments;
  std::function<std::vector<DeclaredClaim>()> claims;  // statements filled in
  // Settings, figures and caveats into a result whose cells are there.
  std::function<void(StudyResult&)> describe;
  std::function<void(StudyRun&)> finish;
  std::function<const char*()> on_request;
};

template <class K>
Study bind(const StudyOf<K>& of, K& keys) {
  Study study{of.head.name, of.head.title, of.head.question, &keys, &keys.sweep};
  const auto call = [&keys](auto function, auto&... arguments) {
    if (function != nullptr) function(keys, arguments...);
  };
  study.check = [&, call] {
    if constexpr (std::is_base_of_v<StudyKeys, K>) check_sweep_options(keys.sweep);
    call(of.parts.check);
  };
  study.check_inputs = [&, call] { call(of.check_inputs); };
  study.experiments = [&, call] {
    Experiments experiments(keys.sweep);
    call(of.parts.experiments, experiments);
    return experiments.list();
  };
  study.claims = [&] {
    std::vector<DeclaredClaim> rows;
    if (of.parts.claims != nullptr) rows = of.parts.claims(keys);
    for (DeclaredClaim& row : rows) row.statement = keys.fill(row.statement);
    return rows;
  };
  study.describe = [&](StudyResult& result) {
    result.settings = keys.settings();
    if (of.settings != nullptr)
      for (auto& fact : of.settings(keys, result)) result.settings.push_back(std::move(fact));
    if (of.parts.figures != nullptr) result.figures = of.parts.figures(keys, result);
    if (of.parts.grids != nullptr) result.grids = of.parts.grids(keys, result);
    for (const std::string& caveat : of.caveats) result.caveats.push_back(keys.fill(caveat));
  };
  study.finish = [&, call](StudyRun& run) { call(of.finish, run); };
  study.on_request = [&] { return of.on_request == nullptr ? nullptr : of.on_request(keys); };
  return study;
}

int run_study(int argc, char** argv, const Study& study);

// A study whatever its keys: a whole program.
class StudyProgram {
 public:
  template <class K>
  StudyProgram(StudyOf<K> study)
      : main_([study = std::move(study)](int argc, char** argv) {
          K keys;
          return run_study(argc, argv, bind(study, keys));
        }) {}

  int main(int argc, char** argv) const { return main_(argc, argv); }

 private:
  std::function<int(int, char**)> main_;
};

// Every file of studies/ has one; main() in main.cpp runs it.
extern const StudyProgram kStudy;

}  // namespace surtsey::experiments
