// What trained models answer: greedy decoding on the device, and loss per token.
//
// Decoding is a program that is replayed: it reads tokens and a position from state tensors, runs
// the forward pass, writes argmax at the position and advances it. Nothing comes back to the host
// between tokens, and no answer is ever fed to the model: a row holds its prompt, then padding.
//
//   decode.tokens    u32 [N, T] a member   rows of prompt, response so far, padding
//   decode.length    u32 [N] a member      tokens that are given; positions before are not written
//   decode.position  u32 []                the position that the next step writes
//   evaluate.tokens, evaluate.targets u32 [N, T], evaluate.weights f32 [N, T]   teacher-forced
//
// Letters: E members, N rows in a chunk, T tokens.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "experiments/model.h"
#include "experiments/tasks/task.h"

namespace surtsey::experiments {

// One replay predicts one position of every row.
graph::Program decode_program(const Model& model, int64_t rows, int64_t block);
// Outputs: nll f32 [N], the sum over the row of weight * -log p(target); right f32 [N, T], weight
// where the most likely token is the target.
graph::Program evaluate_program(const Model& model, int64_t rows, int64_t block);

// Rows to decode: a prompt each, padded to T, and how many of its tokens are given.
struct DecodeRow {
  std::vector<int32_t> tokens;  // [T]
  int32_t length = 0;
};

struct LossResult {
  std::vector<std::vector<double>> nll;  // [E][rows]: nats, summed over the weighted tokens
  std::vector<double> mean;              // [E]: per unit of weight
  // [E][T]: share of right tokens at each target position under teacher forcing; NaN where no row
  // has weight.
  std::vector<std::vector<double>> position_accuracy;
};

// How one arm of a task was answered by every member.
struct ArmAnswers {
  int32_t arm = 0;
  std::vector<tasks::Item> items;
  std::vector<std::vector<int32_t>> responses;  // [E][items x answer_length], row by row
  std::vector<std::vector<double>> nll;         // [E][items], over the answer tokens
};

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
  // Adds programs "decode" and "evaluate" to a session that is not yet allocated; it reads the
  // "parameters" of that session. `rows` is N, the most that go through at once.
  Evaluator(engine::Session& session, const Model& model, size_t members, int32_t rows,
            int32_t block);

  // Writes position `start` .. `stop` - 1 of the rows of each member ([E][rows]), each from its own
  // length on, and returns the rows with what was written, [E][rows][T] flat.
  std::vector<std::vector<int32_t>> decode(const std::vector<std::vector<DecodeRow>>& rows,
                                           int32_t start, int32_t stop, int32_t padding);

  LossResult loss(const tasks::Batch& batch);

  // Greedy answers from the prompt alone, and the teacher-forced loss of the right answers.
  ArmAnswers answer(const tasks::Task& task, int32_t arm, int32_t count, uint32_t seed);
  // Corrupts a step of each answer and decodes on from there.
  CorruptedAnswers corrupt(const tasks::Task& task, const ArmAnswers& answers, uint32_t seed);

  // Held-out loss per token of each member over `rows` sequences of the validation stream.
  std::vector<double> validation_loss(const tasks::DataSource& source, uint32_t seed, int32_t rows);

 private:
  engine::Session& session_;
  size_t members_;
  size_t rows_;
  size_t block_;
};

}  // namespace surtsey::experiments
