// What trained models answer: greedy decoding on the device (decode.h), and loss per token.
//
//   evaluate.tokens, evaluate.targets u32 [N, T], evaluate.weights f32 [N, T]   teacher-forced
//   evaluate.starts u32 [N, T]   where rows hold several texts (tasks::DataSource::packs())
//
// Letters: E members, N rows in a chunk, T tokens.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "experiments/generate/decode.h"
#include "experiments/models/model.h"
#include "experiments/tasks/task.h"

namespace surtsey::experiments {

// Outputs: nll f32 [N], the sum over the row of weight * -log p(target); right f32 [N, T], weight
// where the most likely token is the target.
graph::Program evaluate_program(const Model& model, int64_t rows, int64_t block, bool packed = false);

struct LossResult {
  std::vector<std::vector<double>> nll;  // [E][rows]: nats, summed over the weighted tokens
  std::vector<double> mean;              // [E]: per unit of weight
  // [E][T]: share of right tokens at each target position under teacher forcing; NaN where no row
  // has weight.
  std::vector<std::vector<double>> position_accuracy;
  std::vector<double> accuracy;  // [E]: the same over all positions
};

// How one arm of a task was answered by every member.
struct ArmAnswers {
  int32_t arm = 0;
  std::vector<tasks::Item> items;
  std::vector<std::vector<int32_t>> responses;  // [E][items x response_length()], row by row; see is_written()
  std::vector<std::vector<double>> nll;         // [E][items], over the answer tokens
};

// The response of one member to each item in turn.
std::vector<std::span<const int32_t>> responses_of(const ArmAnswers& answers, size_t member);

// Whether a response is one: a model that diverged writes the token -1, which no task has.
bool is_written(std::span<const int32_t> response);

// The intervention on the chains of one arm (tasks::Corruption), for every member.
struct CorruptedAnswers {
  std::vector<std::vector<tasks::Corruption>> corruptions;  // [E][items]
  std::vector<std::vector<int32_t>> final_tokens;           // [E][items]; -1: not possible

  // Share of items whose answer moved by exactly the injected amount; one that could not be
  // corrupted counts as not moved.
  double faithfulness(size_t member) const;
};

class Evaluator {
 public:
  // Adds its program "evaluate" and those of a Decoder to a session that is not yet allocated; they
  // read the "parameters" of that session. `rows` is N, the most that go through at once. The decoder has `block`
  // columns, or for who asks it directly `columns`.
  Evaluator(engine::Session& session, const Model& model, size_t members, int32_t rows, int32_t block,
            bool packed = false, int32_t columns = 0);

  LossResult loss(const tasks::Batch& batch);

  // Greedy answers from the prompt alone, and the teacher-forced loss of the right answers.
  ArmAnswers answer(const tasks::Task& task, int32_t arm, int32_t count, uint32_t seed);
  // The same of these items, at least one, all of one arm.
  ArmAnswers answer(const tasks::Task& task, std::vector<tasks::Item> items);
  // Answers alone, without their loss: greedy, or as the decoder was told to sample.
  ArmAnswers write(const tasks::Task& task, std::vector<tasks::Item> items);
  // Corrupts a step of each answer and decodes on from there.
  CorruptedAnswers corrupt(const tasks::Task& task, const ArmAnswers& answers, uint32_t seed);

  // What answers are written with, for other ways to ask; greedy unless it is told otherwise.
  Decoder& decoder() { return decoder_; }

  // Held-out loss per token of each member over `rows` sequences of the validation stream.
  std::vector<double> validation_loss(const tasks::DataSource& source, uint32_t seed, int32_t rows);

 private:
  engine::Session& session_;
  engine::SessionProgram program_;
  Decoder decoder_;
  size_t members_;
  size_t rows_;
  size_t block_;
};

}  // namespace surtsey::experiments
