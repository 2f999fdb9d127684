// The ways of teaching a trained model a lesson (tasks/lessons.h): by its weights, in many ways, and by what stands
// before a question. Each is a procedure of an experiment, that trains and asks.
#pragma once

#include "experiments/study/adapted.h"
#include "experiments/tasks/lessons.h"

#include <string>
#include <vector>

namespace surtsey::experiments {

// By weights.
struct Teaching {
  std::string name;
  AdaptConfig config;
  double rate = 1e-3;    // learning rate that others are tried around, at width 32
  double replay = 0;     // share of rows of what the base knew
  bool scratch = false;  // nothing of the base is used but its shape
  std::string updates;   // in words: what is updated ..
  std::string place;     // .. and where the task lives

  // The base stays beside what was learned, and is there again when that is switched off.
  bool leaves_base() const;
  // What was learned starts as no change at all, so that this can be asked.
  bool starts_as_base() const;
};
// All of them, by name.
const std::vector<Teaching>& teachings();
const Teaching& teaching(const std::string& name);  // UserError lists the names

// Arms of cells, beside "new", "old" and "facts" of the lesson.
inline constexpr const char* kOff = "old, off";     // with what was learned switched off
inline constexpr const char* kChanged = "changed";  // facts that have changed, before anything is learned again
inline constexpr const char* kStale = "stale";      // the same questions, and how often their old answer comes
inline constexpr const char* kUpdated = "changed, taught again";
// Measures of cells.
inline constexpr const char* kTrainedShare = "trained_share";  // of the base's parameters
inline constexpr const char* kTaskBytes = "bytes_a_task";
inline constexpr const char* kUpdateSeconds = "update_seconds";     // of the whole lesson, a model
inline constexpr const char* kTargetSeconds = "seconds_to_target";  // until the target was reached; absent: never
inline constexpr const char* kQueryMilliseconds = "ms_a_query";
inline constexpr const char* kQueryTokens = "tokens_a_query";

struct LessonPlan {
  tasks::LessonOptions lesson;  // shares without replay
  int32_t test_items = 1000;
  uint32_t test_seed = 1, selection_seed = 1000;
  int32_t validation_items = 512;
  int32_t rows = 256;  // asked at once
  // The facts change after the lesson, are asked, and the lesson is taught again as they now are.
  bool changes = false;
  // Steps between questions of `target_arm` until it is answered so well; 0: none.
  int32_t ask_every = 0;
  std::string target_arm;
  double target = 1;
};

// Members of the selection seed are only asked for their held-out loss.
PackResult teach(engine::Device& device, const TrainedBase& base, const LessonPlan& plan, const Teaching& teaching,
                 const Experiment& experiment, const std::vector<Member>& members);

// The base, told before each question: a cell a member, whose seed draws the questions. Arms, with
// "ms_a_query, ARM" and "tokens_a_query, ARM" beside each:
//   new, old, facts               without anything
//   "new, 2 examples" ..          of the operation
//   "facts, 8 passages" ..        that of the question among them
//   "facts, 8 separated" ..       in formats that were not trained
//   "facts, retrieved"            behind what BM25 finds in an index of all facts
//   "changed, ..", "stale, .."    after the change, told as it now is: in passages, retrieved
// and "index_seconds", of putting what changed into the index.
struct ContextPlan {
  std::vector<int32_t> examples, passages;
};
PackResult tell(engine::Device& device, const TrainedBase& base, const LessonPlan& plan, const ContextPlan& context,
                const Experiment& experiment, const std::vector<Member>& members);

}  // namespace surtsey::experiments
