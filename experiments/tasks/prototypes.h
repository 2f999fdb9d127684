// Classes with noisy examples and noisy labels (E23): a problem whose best answer is a distribution.
//
//   a c b h a d e f > C3     eight symbols of class 3, whose prototype they agree with about half the time; its label
//
// A class has a prototype, a string of symbols; an example keeps each symbol with probability `kept` and has any other
// one instead, all as likely. Its label is the class, or with probability `label_noise` one of the other classes. The
// posterior over classes, and so over labels, is known exactly: what a model says beyond the likeliest label can be
// held against it.
//
// Text: symbols separated by blanks; PAD is '_'.
#pragma once

#include <map>
#include <memory>

#include "experiments/tasks/task.h"

namespace surtsey::experiments::tasks {

struct PrototypeOptions {
  int32_t classes = 10;     // in [2, 100]
  int32_t symbols = 8;      // in [2, 26]
  int32_t length = 8;       // of an example, in [1, 64]
  double kept = .5;         // in [0, 1)
  double label_noise = .3;  // in [0, 1)
};

// What is learned from.
struct PrototypeLesson {
  // How many different examples; 0: new ones at every step. Each has one label, however often it comes.
  int32_t examples = 0;
  bool clean = false;    // labels are classes, without noise
  double smoothing = 0;  // soft targets that give this to all classes alike, in [0, 1]; 0: none (Szegedy et al. 2016)
};

// What somebody else says of the examples of a lesson, in place of labels or beside them.
struct SoftLabels {
  graph::SoftTargets soft;
  std::map<uint32_t, std::vector<std::vector<float>>> by_seed;  // [example][classes]; of a seed without: all alike
};

class PrototypeTask : public Task {
 public:
  // UserError: options out of range; soft labels of examples without end.
  explicit PrototypeTask(PrototypeOptions options = {}, PrototypeLesson lesson = {},
                         std::shared_ptr<const SoftLabels> taught = nullptr);

  const PrototypeOptions& options() const { return options_; }
  const PrototypeLesson& lesson() const { return lesson_; }

  std::string_view name() const override { return "prototypes"; }
  const std::vector<std::string>& arms() const override { return arms_; }  // "label", "class": what answers are
  int32_t vocab_size() const override { return static_cast<int32_t>(names_.size()); }
  int32_t block_size() const override { return options_.length + 2; }
  double chance() const override { return 1.0 / options_.classes; }
  int32_t padding_token() const override { return vocab_size() - 1; }
  int32_t answer_length(int32_t) const override { return 1; }

  // Of a lesson with examples these in training; new ones in the other splits, whose labels have the lesson's noise.
  void write_sample(Split split, uint32_t seed, uint32_t step, uint32_t index, std::span<int32_t> tokens,
                    std::span<int32_t> targets, std::span<float> weights) const override;
  std::optional<graph::SoftTargets> soft_targets() const override;
  void write_distributions(Split split, uint32_t seed, uint32_t step, uint32_t index,
                           std::span<float> distributions) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::vector<int32_t> encode(std::string_view text) const override;
  std::vector<Item> test_items(int32_t arm, int32_t count, uint32_t seed) const override;
  Corruption corrupt(uint32_t seed, uint32_t item_index, const Item& item,
                     std::span<const int32_t> response) const override;
  // Of "label": "bayes_loss" of the posterior, and "excess_loss" over it.
  std::vector<std::pair<std::string, double>> measures(const Item& item, std::span<const int32_t> response,
                                                       double nll) const override;

  // An example of a seed's training set, as a sequence up to the arrow.
  std::vector<int32_t> example(uint32_t seed, int32_t number) const;
  int32_t class_token(int32_t one) const { return options_.symbols + one; }
  // Probabilities of the noisy labels of an example, [classes].
  std::vector<double> label_posterior(std::span<const int32_t> example) const;

 private:
  struct Drawn {
    std::vector<int32_t> tokens;  // up to the arrow
    int32_t type = 0, label = 0;  // classes
  };
  Drawn draw(uint32_t key) const;
  int32_t number_of(Split split, uint32_t seed, uint32_t step, uint32_t index) const;
  Drawn drawn(Split split, uint32_t seed, uint32_t step, uint32_t index) const;
  std::vector<double> posterior(std::span<const int32_t> example) const;

  PrototypeOptions options_;
  PrototypeLesson lesson_;
  std::shared_ptr<const SoftLabels> taught_;
  std::vector<std::vector<int32_t>> prototypes_;
  std::vector<std::string> arms_ = {"label", "class"};
  std::vector<std::string> names_;
};

}  // namespace surtsey::experiments::tasks
