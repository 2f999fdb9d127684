// What a model is trained and tested on: data sources, and tasks with prompts and answers.
//
// Every sample is a pure function of (split, seed, step, index): the same seed gives the same data
// on any machine, in any order, with any number of ensemble members or host threads.
//
// Letters: B sequences in a batch, T = block_size positions, V = vocab_size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/functions.h"

namespace surtsey::experiments::tasks {

// Three streams that never share a random number. Learning rates are chosen on kValidation, scores
// are reported on kTest.
enum class Split { kTrain, kValidation, kTest };

// Name of the random stream of a split.
std::string_view split_name(Split split);

// Next-token data, all three [B, T] row by row. targets[b, t] is the token that follows
// tokens[b, t]; weights[b, t] is its weight in the loss, 0 where there is nothing to predict
// (inside the prompt, padding, the last position). Targets of weight 0 are valid tokens all the
// same.
struct Batch {
  int32_t batch_size = 0;  // B
  int32_t block_size = 0;  // T
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  std::vector<float> weights;
  std::vector<int32_t> starts = {};       // [B, T] too, of a source that packs(); else empty
  std::vector<float> distributions = {};  // [B, T, V], of one with soft_targets()

  Batch() = default;
  Batch(int32_t batch_size, int32_t block_size);
};

// Texts and the numbers that each is to be given: B of them, row by row.
struct LabelledSpans {
  std::span<int32_t> tokens, kinds;  // [B, T]: ids, and the type of each (0, or 1 of a pair's second text)
  std::span<int32_t> lengths;        // [B]: tokens that there are; what is behind them is padding
  std::span<float> labels;           // [B, K]
  std::span<float> weights;          // [B], of a text in the loss
};
struct LabelledBatch {
  std::vector<int32_t> tokens, kinds, lengths;
  std::vector<float> labels, weights;

  LabelledBatch(int64_t batch_size, int64_t block_size, int64_t labels);
  LabelledSpans spans() { return {tokens, kinds, lengths, labels, weights}; }
};

class DataSource {
 public:
  virtual ~DataSource() = default;

  virtual int32_t vocab_size() const = 0;  // V
  virtual int32_t block_size() const = 0;  // T

  // Writes one sequence: the sample (seed, step, index) of a split. Spans have length T.
  virtual void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                            std::span<int32_t> targets, std::span<float> weights) const = 0;

  // Whether a sequence holds several texts behind each other, which do not see one another; where that of each token
  // begins: starts[t] <= t, and never less than starts[t - 1].
  virtual bool packs() const { return false; }
  virtual void write_starts(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> starts) const;

  // Whether targets are distributions too, and how they count (graph/functions.h).
  virtual std::optional<graph::SoftTargets> soft_targets() const { return std::nullopt; }
  // Those of a sequence, [T, V], at the temperature; where targets weigh 0 they may be anything. InternalError: the
  // source has none.
  virtual void write_distributions(Split split, uint32_t seed, uint32_t step, uint32_t index,
                                   std::span<float> distributions) const;

  // Numbers that the loss of whole sequences reads, N of each; 0: none.
  virtual int32_t numbers() const { return 0; }
  // Those of a sequence. InternalError: the source has none.
  virtual void write_numbers(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<float> numbers) const;

  // Whether sequences are texts with K numbers each, which stand in place of targets: a head of labels learns them. 0:
  // they are not.
  virtual int32_t labels() const { return 0; }
  // One of them (B is 1). InternalError: the source has none.
  virtual void write_labelled(Split split, uint32_t seed, uint32_t step, uint32_t index,
                              const LabelledSpans& text) const;

  // Tokens as text and back. encode throws UserError on a symbol outside the vocabulary.
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;

  // Writes samples first_index .. first_index + B - 1 into [B, T] buffers of the caller (a data
  // ring). B follows from the size of the spans, which must be equal multiples of T.
  void fill(Split split, uint32_t seed, uint32_t step, uint32_t first_index, std::span<int32_t> tokens,
            std::span<int32_t> targets, std::span<float> weights) const;
  void fill_starts(Split split, uint32_t seed, uint32_t step, uint32_t first_index, std::span<int32_t> starts) const;
  void fill_distributions(Split split, uint32_t seed, uint32_t step, uint32_t first_index,
                          std::span<float> distributions) const;
  void fill_numbers(Split split, uint32_t seed, uint32_t step, uint32_t first_index, std::span<float> numbers) const;
  void fill_labelled(Split split, uint32_t seed, uint32_t step, uint32_t first_index, const LabelledSpans& texts) const;

  Batch sample(Split split, uint32_t seed, uint32_t step, int32_t batch_size, uint32_t first_index = 0) const;
};

// One test question. sequence is prompt, then answer, then padding up to T.
struct Item {
  int32_t arm = 0;                // index into Task::arms()
  std::vector<int32_t> sequence;  // [T]
  int32_t prompt_length = 0;
  int32_t answer_length = 0;  // the last answer token is the final answer
  // Tokens that a response may have, where that is more than the answer's: a task with an end token
  // does not tell how long its answers are.
  int32_t room = 0;

  int32_t response_length() const { return std::max(room, answer_length); }

  std::span<const int32_t> prompt() const { return std::span(sequence).first(static_cast<size_t>(prompt_length)); }
  std::span<const int32_t> answer() const {
    return std::span(sequence).subspan(static_cast<size_t>(prompt_length), static_cast<size_t>(answer_length));
  }
};

// How one response compares with the answer of its item.
struct ItemScore {
  bool final_correct = false;             // last token, or the value where the task has one
  bool chain_correct = false;             // every token
  std::vector<uint8_t> position_correct;  // [answer_length], 0 or 1
};

// The same over the items of one arm.
struct ArmScore {
  int64_t items = 0;
  int64_t final_correct = 0;
  int64_t chain_correct = 0;
  std::vector<int64_t> position_correct;  // [answer_length]

  double exact_match() const;
  double chain_exact_match() const;
  std::vector<double> position_accuracy() const;
  // Product of the position accuracies: what independent errors would give for the whole chain.
  double position_product() const;
};

// An intervention on a response: the token at answer position `position` was moved by `amount`, and
// decoding goes on after `forced`. The chain is causal if the final answer moves as predicted.
struct Corruption {
  bool possible = false;  // false when the response has no token there that could be moved
  int32_t position = 0;
  int32_t amount = 0;
  std::vector<int32_t> forced;        // the response up to and including the moved token
  int32_t expected_final_token = -1;  // the final answer if it moves by exactly the amount
};

// A data source with questions. An arm is a kind of prompt ("cot", "direct", ...); arms share the
// problem, so item i is the same problem in every arm.
class Task : public DataSource {
 public:
  virtual std::string_view name() const = 0;
  virtual const std::vector<std::string>& arms() const = 0;

  // Final-answer accuracy of guessing.
  virtual double chance() const = 0;

  // What ends the answers of a task whose answers have different lengths, and is their last token;
  // what is written after it counts for nothing. -1: there is none.
  virtual int32_t end_token() const { return -1; }

  // The padding token, which fills the positions that a decoder has not reached yet.
  virtual int32_t padding_token() const = 0;

  // Answer tokens of an arm: how many steps greedy decoding takes.
  virtual int32_t answer_length(int32_t arm) const = 0;

  // At most `count` items of the test stream; fewer only when the task keeps a finite set of
  // prompts out of training and it holds fewer.
  virtual std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const = 0;

  // Moves one token of a response other than the last, chosen uniformly by (seed, item index).
  virtual Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                             std::span<const int32_t> response) const = 0;

  // Numbers of one answer beside right and wrong, the same names for every item of an arm; their
  // means become the measures of a cell. `nll` is the loss of the right answer in nats.
  virtual std::vector<std::pair<std::string, double>> measures(const Item& /*item*/,
                                                               std::span<const int32_t> /*response*/,
                                                               double /*nll*/) const {
    return {};
  }

  // What an answer comes to where that is more than its last token: a whole word, the number that a
  // program computes. Empty: the last token is the final answer.
  virtual std::string value(std::span<const int32_t>) const { return ""; }

  // Index of an arm by name; throws UserError with the known names.
  int32_t arm_index(std::string_view arm) const;

  // Items as a teacher-forced batch: the loss per answer token is its weighted mean.
  Batch to_batch(std::span<const Item> items) const;

  // The part of a response that counts: up to its end token, or where else the answer ends.
  virtual std::span<const int32_t> written(std::span<const int32_t> response) const;

  // response holds response_length() tokens.
  ItemScore score(const Item& item, std::span<const int32_t> response) const;
  // responses [items, response_length()] row by row; the items share one arm, and their answers one
  // length.
  ArmScore score(std::span<const Item> items, std::span<const int32_t> responses) const;
};

// Fisher and Yates: the first `count` of 0 .. size - 1 in random order.
std::vector<int32_t> shuffled(uint32_t key, uint32_t step, int32_t size, int32_t count);

// UserError that names the option, "[TASK] OPTION", outside of low .. high.
void check_range(const char* option, int32_t value, int32_t low, int32_t high);

}  // namespace surtsey::experiments::tasks
