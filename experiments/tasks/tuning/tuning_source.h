// Documents in rows of T positions, and rows in batches.
//
// A document of n tokens takes n - 1 positions, as its last token is predicted only; a text with labels takes n.
// Packed, several stand behind each other in a row and do not see one another: they are put in by falling length, each
// into the row with the least room that holds it (best fit decreasing). Not packed, a row is one document and padding.
//
// Rows are drawn without putting back: an epoch is all of them in an order that depends on the seed and the epoch; the
// stream of a seed is its epochs behind each other, B rows a micro-batch, A micro-batches a step. The weights of a
// step's learned tokens are equal and sum to A, so that the mean over its micro-batches of the sums of weight * loss is
// the mean loss of a learned token, however the tokens are spread over micro-batches.
//
// Pairs (what is chosen, what is rejected) are two rows beside each other, drawn together: B counts rows, an epoch is
// all pairs. Their learned tokens weigh 1; beside its tokens a row has one number, what log-probability the reference
// gives to them.
#pragma once

#include "experiments/tasks/task.h"
#include "experiments/tasks/tuning/documents.h"
#include "experiments/text/tokenizer.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace surtsey::experiments::tasks {

// Lists of documents, a list a row, in rows of `room` positions; lengths are in positions, each at most `room`.
// Rows by falling length of their first document.
std::vector<std::vector<uint32_t>> pack_best_fit(std::span<const uint32_t> lengths, int64_t room);

// Place i of `count` places in the order of (seed, epoch): a permutation, computed where it is asked for.
uint32_t shuffled_place(uint32_t seed, uint32_t epoch, uint32_t i, uint32_t count);

struct TuningBatches {
  int32_t block_size = 0;    // T
  int32_t batch_size = 1;    // B
  int32_t accumulation = 1;  // A
  bool packing = true;
  bool pairs = false;
  int32_t padding = 0;  // a token that stands where nothing is
};

class TuningSource : public DataSource {
 public:
  // Trains on the documents `train` and is validated on `held_out` (indices into their stores).
  struct Part {
    std::shared_ptr<const TuningDocuments> documents;
    std::vector<uint32_t> picked;
  };
  TuningSource(const text::Tokenizer& tokenizer, int32_t vocab_size, Part train, Part held_out, TuningBatches batches);

  int32_t vocab_size() const override { return vocab_size_; }
  int32_t block_size() const override { return batches_.block_size; }
  bool packs() const override { return batches_.packing; }
  int32_t labels() const override { return int32_t(train_.part.documents->labels()); }

  // kTrain is the stream above, whose `step` counts micro-batches; the others are the held-out rows in their order,
  // from row `index` on, whatever the step.
  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  void write_starts(Split split, uint32_t seed, uint32_t step, uint32_t index,
                    std::span<int32_t> starts) const override;
  void write_labelled(Split split, uint32_t seed, uint32_t step, uint32_t index,
                      const LabelledSpans& text) const override;
  int32_t numbers() const override { return batches_.pairs && labels() == 0 ? 1 : 0; }
  void write_numbers(Split split, uint32_t seed, uint32_t step, uint32_t index,
                     std::span<float> numbers) const override;
  std::string decode(std::span<const int32_t> tokens) const override { return tokenizer_.decode(tokens); }
  std::vector<int32_t> encode(std::string_view text) const override { return tokenizer_.encode(text); }

  int64_t train_rows() const { return int64_t(train_.rows.size()); }
  int64_t held_out_rows() const { return int64_t(held_out_.rows.size()); }
  // A row is a text; kTrain are the training rows in their order, not in that of a seed.
  Batch in_order(Split split, int64_t first, int64_t count) const;
  // Of pairs: the reference's log-probabilities of the learned tokens, one a row in that order.
  void set_reference(Split split, std::vector<float> log_probs);
  double filled() const;  // share of the training rows' positions that a document has
  // A document of the held-out part (of the training part, where there is none): what samples are asked with.
  int64_t questions() const { return int64_t(asked().part.picked.size()); }
  TuningDocument question(int64_t i) const;

 private:
  struct Rows {
    Part part;
    std::vector<std::vector<uint32_t>> rows;
    std::vector<uint32_t> learned;  // tokens a row
    std::vector<float> reference;   // log-probability a row, of pairs
  };
  Rows arrange(Part part) const;
  static int64_t positions(const Part& part, uint32_t document);
  const Rows& asked() const { return held_out_.rows.empty() ? train_ : held_out_; }
  Rows& rows(Split split) { return split == Split::kTrain ? train_ : held_out_; }
  const Rows& rows(Split split) const { return split == Split::kTrain ? train_ : held_out_; }
  uint32_t place(uint32_t seed, uint64_t row) const;  // in the training rows, of a row of the stream
  uint32_t place_of(Split split, uint32_t seed, uint32_t step, uint32_t index) const;
  const std::vector<uint32_t>& row_of(Split split, uint32_t seed, uint32_t step, uint32_t index) const;
  void write_row(const Rows& rows, size_t place, float weight, std::span<int32_t> tokens, std::span<int32_t> targets,
                 std::span<float> weights) const;
  double weight(Split split, uint32_t seed, uint32_t step) const;

  const text::Tokenizer& tokenizer_;
  int32_t vocab_size_;
  TuningBatches batches_;
  Rows train_, held_out_;
};

}  // namespace surtsey::experiments::tasks
