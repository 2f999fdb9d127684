// The graphs of a training step: batch slot, forward, loss, gradient, optimizer, in one program.
//
// Letters: E members, G distinct seeds among them, R slots of the data ring, B sequences, T tokens.
//
// Data lies in a ring that the host fills ahead (data_ring.h), shared by all members:
//   data.tokens, data.targets   u32 [R, G, B, T]
//   data.weights                f32 [R, G, B, T]   of the loss: of an encoder those of its masked tokens
//   data.source                 u32 [R, G, B, S]   of an encoder_decoder only: what its encoder reads
//   data.starts                 u32 [R, G, B, T]   with `packed`: where in its row each token's text begins
//   data.distributions          f32 [R, G, B, T, V]   with `soft`: what targets are beside tokens
//   data.kinds                  u32 [R, G, B, T]   with `labels`, of a model with n_types: types of tokens
//   data.lengths                u32 [R, G, B]   with `labels`, whose weights are [R, G, B]: tokens that are no padding
//   data.labels                 f32 [R, G, B, K]   with `labels`, in place of targets
//   data.numbers                f32 [R, G, B, N]   with `numbers`, for an objective
//   data.group                  u32 [] a member: which of the G batches is its own
// A step reads slot (counter mod R), the counter being `step`, or `micro_step` with accumulation:
// members of one seed read the same bytes, and nothing is copied on the device. With generated data
// there is no ring.
//
// What studies train is this graph, and `inspect`, `profile`, `analyze`, `tune`, `selftest`, the benchmarks and the
// tests of fusion and plans look at nothing else.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "experiments/models/members.h"
#include "experiments/models/model.h"
#include "experiments/tasks/tuning/labels.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "graph/optimizer.h"
#include "graph/plan.h"

namespace surtsey::engine {
class Session;
}

namespace surtsey::experiments {

class GeneratedData;

// One model of an ensemble. Its seed decides initialisation, data and dropout.
struct Member {
  uint32_t seed = 0;
  double learning_rate = 1e-3;
  bool operator==(const Member&) const = default;
};

// A batch as its sequences are, for a loss that is of all of them together.
struct Sequences {
  graph::Value log_probs;  // f32 [B]: log-probabilities of the learned tokens, each times its weight, summed
  graph::Value learned;    // f32 [B]: those weights, summed
  graph::Value scores;     // f32 [B, K]: with `labels`, in place of both, and
  graph::Value labels;     // f32 [B, K]
  graph::Value numbers;    // f32 [B, N], DataSource::numbers()
};
struct Objective {
  graph::Value loss;                   // f32 []
  std::vector<graph::Value> measures;  // f32 [], for the log
};

struct TrainConfig {
  graph::OptimizerConfig optimizer;
  std::vector<Member> members = {Member{}};
  int32_t batch_size = 32;  // B, of a micro-batch when gradients are accumulated
  int32_t block_size = 0;   // T; 0: the model's
  int64_t steps = 0;        // optimizer steps of the whole run
  // What activations are stored in, see graph/passes/lower_precision. f16 trains with loss scaling.
  graph::DType dtype = graph::DType::f32;
  graph::MemoryLimit memory = {};  // of the step, or the micro-step
  // Rows of the ring hold several texts behind each other (tasks::DataSource::packs()).
  bool packed = false;
  // Targets are distributions too (tasks::DataSource::soft_targets()), over the vocabulary of the model.
  std::optional<graph::SoftTargets> soft = {};
  // Sequences are texts with the K = n_labels numbers that the model's head is to give them (DataSource::labels()).
  std::optional<tasks::ProblemType> labels = {};
  // What is trained instead of the mean loss, and the names of its measures, of which Trainer::measures() has the
  // means. Its loss counts as a micro-batch's.
  std::function<Objective(const Sequences& batch)> objective = {};
  std::vector<std::string> measures = {};
  int32_t numbers = 0;  // N
  // The loss of a micro-batch is the sum of weight * loss and not their mean: its weights are as if they summed to 1,
  // by a source that knows all of a step (TuningSource).
  bool summed_loss = false;
  // "train" and "accumulate" also put out accuracy f32 [E]: of the batch's weight, the share whose target is likeliest;
  // not of labels that are no single one.
  bool token_accuracy = false;
  // What is frozen is a model's that is kept elsewhere: whoever runs this writes it, and no save has it.
  bool base_elsewhere = false;
  // What the device makes its batches with, instead of the ring (generated.h); must outlive the
  // run.
  const GeneratedData* generated = nullptr;
  // The two doors between backward and optimizer.
  // In the graph: f32 [P], the gradient of one member over the whole step (times the loss scale, where there is one),
  // becomes what the optimizer gets.
  std::function<graph::Value(const graph::Parameters& parameters, graph::Value gradient)> gradient = {};
  // On the host: called once a step when everything that accumulates has been computed, before it is applied; what
  // processes that share a step exchange is the sums in "gradient_accumulator" ([E,] P) and "loss_accumulator" ([E]).
  // With it even a step of one micro-batch is two programs.
  std::function<void(engine::Session& session)> exchange = {};

  bool accumulates() const { return accumulation() > 1 || bool(exchange); }
  int32_t accumulation() const { return static_cast<int32_t>(optimizer.accumulation_steps); }
  // Tokens of one optimizer step of one member.
  int64_t tokens_per_step(const ModelConfig& model) const;
  int32_t block(const ModelConfig& model) const;
};

// With loss scaling where gradients of this type need it.
graph::OptimizerConfig optimizer_for(graph::OptimizerConfig optimizer, graph::DType dtype);

// AdamW (.9, .98), decay .01, clipping at 1, 5% warm-up, linear decay to 5% of the peak: the recipe
// of the chain experiments.
graph::OptimizerConfig recipe_optimizer(int64_t steps, double weight_decay = 0.01);

// Seeds without repetition, in order of first use; and the place of each member's seed among them.
std::vector<uint32_t> distinct_seeds(const std::vector<Member>& members);
std::vector<uint32_t> member_groups(const std::vector<Member>& members);

// R that a run takes: enough for several submissions, within a fixed amount of memory.
int64_t ring_slots(const ModelConfig& model, const TrainConfig& config);

struct TrainPrograms {
  // "train", or with accumulation or an exchange "accumulate" (once a micro-batch) and "apply" (once a step).
  // Outputs of train: loss f32 [E] (f32 [] when E is 1), see also TrainConfig::token_accuracy.
  std::vector<std::pair<std::string, graph::Program>> programs;
};
// With a ring of `slots`, or of ring_slots() for 0.
TrainPrograms train_programs(const Model& model, const TrainConfig& config, int64_t slots = 0);
// And how a run compiles one of them.
graph::CompileOptions compile_options(const TrainConfig& config, const std::string& program);

// One model's step and its data, whatever `config` accumulates: what is inspected, profiled and measured.
graph::Program train_step(const Model& model, TrainConfig config, int64_t slots = 0);

// What a fresh run starts from, with a leading member axis on what members own (when E > 1), the
// data ring excepted.
graph::State initial_train_state(const Model& model, const TrainConfig& config);
// What of it a run changes, or is built on: the names that a save holds.
std::vector<std::string> saved_state(const Model& model, const TrainConfig& config);

}  // namespace surtsey::experiments
