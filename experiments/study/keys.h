// The keys of a study: one row a key, with its value at each scale.
//
//   struct Keys : StudyKeys {
//     Keys() : StudyKeys({.widths = {{4, 8}, {4, 8, 16, 32}}, .steps = {600, 2000}}) {}
//     Key<int32_t> length{this, "length", {8, 8, 16}, "digits in a problem", 2, 1000};
//     Key<double> solved{this, "solved", {.95}, "claims: exact match from which a task is solved", 0, 1};
//   };
//
// Values stand in the order quick, full, paper; a scale without one has that of the scale before. Every number has
// limits: what a row leaves out is 1 to 100,000 of integers and 0 to 1e9 of others, so a count always ends somewhere.
// Help that starts with "claims:" marks a bound: it is no setting of the training.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <initializer_list>
#include <limits>

#include "experiments/base/config.h"
#include "experiments/results/result.h"
#include "experiments/sweeps/pack.h"

namespace surtsey::experiments {

inline const std::vector<std::string> kScales = {"quick", "full", "paper"};

// Keys that take several values.
using Integers = std::vector<int32_t>;
using Numbers = std::vector<double>;
using Words = std::vector<std::string>;

// A list of values, one a scale.
template <class T>
using Scaled = std::vector<T>;

// What the values of a study's keys stand in. Rows register themselves, so it is never copied.
class KeySet {
 public:
  KeySet() = default;
  KeySet(const KeySet&) = delete;
  KeySet& operator=(const KeySet&) = delete;

  // Sets every key to its value at this scale, one of kScales.
  void set_scale(std::string_view scale);
  std::string_view scale() const { return kScales[scale_]; }
  // Adds the keys to a table, in the order of their rows.
  void add_fields(ConfigTable& table) const;

  // The value of a key as text, lists joined by commas. InternalError for a name that is no key.
  std::string text(std::string_view key) const;
  // The text with every {key} replaced by its value; "{{" stands for a brace.
  std::string fill(std::string_view text) const;
  // What a reader of a report needs of them: no bounds of claims, nothing that only says how a run is done.
  Facts settings() const;

  // A row for a value that stands elsewhere. No value at all: it is no key of this study.
  template <class T>
  void add(std::string name, T* value, Scaled<T> scales, std::string help, double low = kNone, double high = kNone,
           std::vector<std::string> words = {}) {
    if (scales.empty()) return;
    set_limits(ConfigField::Target(value), low, high);
    rows_.push_back({name, value, std::move(help), low, high, std::move(words),
                     [value, scales](size_t scale) { *value = scales[std::min(scale, scales.size() - 1)]; }});
    rows_.back().set(scale_);
  }
  // Says of a key what it means in this study.
  void explain(std::string_view key, std::string help);

  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

 private:
  struct Row {
    std::string name;
    ConfigField::Target target;
    std::string help;
    double low, high;
    std::vector<std::string> words;
    std::function<void(size_t)> set;
  };
  // Those of a number, where the row has none.
  static void set_limits(const ConfigField::Target& target, double& low, double& high);

  std::deque<Row> rows_;
  size_t scale_ = 0;
};

// One key; reads as its value.
template <class T>
class Key {
 public:
  Key(KeySet* set, std::string name, std::initializer_list<T> scales, std::string help, double low = KeySet::kNone,
      double high = KeySet::kNone) {
    set->add(std::move(name), &value_, Scaled<T>(scales), std::move(help), low, high);
  }
  // Of a word, or words, among these.
  Key(KeySet* set, std::string name, std::initializer_list<T> scales, std::string help,
      std::vector<std::string> words) {
    set->add(std::move(name), &value_, Scaled<T>(scales), std::move(help), KeySet::kNone, KeySet::kNone,
             std::move(words));
  }
  Key(const Key&) = delete;

  operator const T&() const { return value_; }
  const T& operator*() const { return value_; }
  const T* operator->() const { return &value_; }

 private:
  T value_{};
};

Integers up_to(int32_t last);   // 0 .. last
Integers seeds(int32_t count);  // so many seeds of a study, from 0 on

// Learning rates: above 0.
struct Rate : Key<double> {
  Rate(KeySet* set, std::string name, std::initializer_list<double> scales, std::string help)
      : Key(set, std::move(name), scales, std::move(help), kLeastRate, kMostRate) {}
};
struct Rates : Key<Numbers> {
  Rates(KeySet* set, std::string name, std::initializer_list<Numbers> scales, std::string help)
      : Key(set, std::move(name), scales, std::move(help), kLeastRate, kMostRate) {}
};

// Optimizer steps.
struct Steps : Key<int32_t> {
  Steps(KeySet* set, std::string name, std::initializer_list<int32_t> scales, std::string help, int32_t least = 1)
      : Key(set, std::move(name), scales, std::move(help), least, kMostSteps) {}
};

// A number from 0 to 1.
struct Share : Key<double> {
  Share(KeySet* set, std::string name, std::initializer_list<double> scales, std::string help)
      : Key(set, std::move(name), scales, std::move(help), 0, 1) {}
};

// What the keys that every sweep has are at each scale. Those of the model and its training are keys only where they
// have a value here; the others always are, with what most studies have.
struct StudyScales {
  Scaled<Integers> widths = {};
  Scaled<int32_t> n_layer = {};
  Scaled<Numbers> learning_rates = {};
  Scaled<int32_t> steps = {};
  Scaled<int32_t> batch_size = {};
  Scaled<Integers> seeds = {{0, 1}, experiments::seeds(5), experiments::seeds(10)};
  bool selection = true;  // learning rates are chosen, by models that may train for fewer steps
  Scaled<int32_t> selection_steps = {0};
  Scaled<int32_t> test_items = {1000};
  Scaled<int32_t> evaluation_rows = {256, 1000};
  Scaled<int32_t> log_interval = {50};
  Scaled<int32_t> checkpoint_interval = {0, 500};
  Scaled<bool> save_models = {false};
  Scaled<int32_t> ensemble_size = {0};
};

struct StudyKeys : KeySet {
  explicit StudyKeys(const StudyScales& scales);
  SweepOptions sweep;
};

// UserError when a value of the list is there twice.
template <class T>
void check_once(const std::vector<T>& list, const char* key) {
  for (size_t i = 0; i < list.size(); ++i)
    for (size_t j = 0; j < i; ++j) check(list[i] != list[j], "{}: {} is there twice", key, list[i]);
}

// UserError for a list that would train nothing.
template <class T>
void check_some(const std::vector<T>& list, const char* key) {
  check(!list.empty(), "{} is empty: there is nothing to train", key);
}

// UserError unless each value is larger than the one before; `why` says what for.
template <class T>
void check_rising(const std::vector<T>& list, const char* key, const char* why = "") {
  const bool rises = std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()) == list.end();
  check(rises && !list.empty(), "{} must rise{}", key, why);
}

// UserError for two lists, one of which says something of each value of the other, that differ in length.
template <class T, class U>
void check_together(const std::vector<T>& list, const char* key, const std::vector<U>& other, const char* other_key) {
  check(list.size() == other.size(), "{} has {} numbers and {} {}: they go together", key, list.size(), other_key,
        other.size());
}

// UserError unless the heads share the width evenly.
void check_heads(int32_t heads, int32_t width);

// Of things that have a name: the words of a key that chooses among them.
template <class T>
Words names_of(const std::vector<T>& list) {
  Words names;
  for (const T& one : list) names.push_back(one.name);
  return names;
}

// Whether a list holds a value.
template <class T, class U>
bool has(const std::vector<T>& list, const U& value) {
  for (const T& one : list)
    if (one == value) return true;
  return false;
}

}  // namespace surtsey::experiments
