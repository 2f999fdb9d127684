// Parameters: named tensors. What trains lies in one flat f32 state tensor "parameters" of shape [P]; each frozen
// tensor stands beside it as state of its own.
//
// One buffer is what makes a one-dispatch optimizer, a one-reduction gradient norm and an ensemble
// axis possible. Each tensor starts at a multiple of 4 elements (16 bytes); the at most 3 elements
// after it are padding: zero at the start, zero gradient, never counted as parameters.
//
// A frozen tensor takes no gradient, no optimizer state and no update: nothing of its size exists but itself. It is
// kept as its Storage says (f32, f16, bf16, packed) in the state tensors "frozen.NAME" with the parts' suffixes. As it
// is no part of the flat tensor, it has an allocation of its own, and members of an ensemble share it.
//
// ParameterStore is the layout, without a graph: it initialises, packs and unpacks on the host.
// Parameters is the same layout seen from one graph: it gives views and collects the gradient.
#pragma once

#include "graph/graph.h"
#include "graph/interpret.h"
#include "graph/storage.h"

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::graph {

inline constexpr const char* kParameters = "parameters";
inline constexpr const char* kFrozen = "frozen.";  // before the name of a frozen tensor's state

struct Initialisation {
  enum class Kind : uint8_t { constant, normal, uniform };
  Kind kind = Kind::constant;
  double scale = 0;  // the constant; the standard deviation; the bound of [-scale, scale)

  static Initialisation constant(double value) { return {Kind::constant, value}; }
  static Initialisation normal(double deviation) { return {Kind::normal, deviation}; }
  static Initialisation uniform(double bound) { return {Kind::uniform, bound}; }
};

struct ParameterSpec {
  std::string name;
  Shape shape;
  int64_t offset = 0;  // of the first element in the flat tensor; -1: frozen
  Initialisation initialisation;
  double learning_rate_multiplier = 1;
  double decay_multiplier = 1;
  std::shared_ptr<const Storage> storage = {};  // of a frozen tensor; empty: it trains
  // Of a frozen tensor that is kept in one with others: that one's name, how many rows it has, and the first of these.
  std::string together = {};
  int64_t together_rows = 0, first_row = 0;

  bool frozen() const { return storage != nullptr; }
  Type type() const { return {DType::f32, shape}; }  // of its values
};

// Where a part of a frozen tensor stands.
struct FrozenPart {
  std::string state;  // the state tensor
  int64_t first = 0;  // its element that is the part's first
  Type type;          // of the part
};

class ParameterStore {
 public:
  // Appends a tensor. UserError when the name exists or an extent is not positive.
  ParameterSpec& add(std::string name, Shape shape, Initialisation initialisation);

  const ParameterSpec& spec(std::string_view name) const;  // UserError when there is none
  ParameterSpec& spec(std::string_view name);
  bool contains(std::string_view name) const;
  const std::vector<ParameterSpec>& specs() const { return specs_; }  // in the order of add(), which offsets follow

  // Sets a group's multipliers: applies `change` to each spec that `match` picks.
  void for_each(const std::function<void(ParameterSpec&)>& change);
  // Freezes the tensors that `which` picks, or changes how they are kept; the others close up in the flat tensor, so
  // this comes before anything is built on the layout. UserError: the storage cannot hold a tensor.
  void freeze(const std::function<bool(const ParameterSpec&)>& which, const Storage& storage = whole(DType::f32));
  // Frozen tensors that may be kept in one, rows below rows: frozen alike, and all but their first extent agrees.
  bool can_keep_together(const std::vector<std::string>& names) const;
  // Keeps them so, in the state tensors "frozen.TOGETHER" with the parts' suffixes, until one of them is frozen anew:
  // Parameters::joined() then has them as one. UserError: they cannot be, or are already.
  void keep_together(const std::vector<std::string>& names, const std::string& together);

  // The same the other way: what `which` picks trains again.
  void train(const std::function<bool(const ParameterSpec&)>& which);

  int64_t flat_size() const { return flat_size_; }  // P, padding included; 0: nothing trains
  int64_t parameter_count() const;                  // padding excluded, what is frozen included
  int64_t trained_count() const;                    // padding and what is frozen excluded
  Type flat_type() const { return {DType::f32, {flat_size_}}; }

  // f32 [P]. Counter-based: every element is a function of (seed, tensor name, its index in the
  // tensor), so the same seed gives the same model on any machine and in any layout. Normal numbers
  // by Box-Muller in double.
  HostTensor initialise(uint32_t seed) const;
  // The state of frozen tensors by the same numbers, rounded to their storage; of all, or of one of them (a model's
  // numbers need not be on the host all at once). Of those that are kept together the first has the state of all.
  State initialise_frozen(uint32_t seed) const;
  State initialise_frozen(const ParameterSpec& spec, uint32_t seed) const;
  std::vector<FrozenPart> frozen_parts(const ParameterSpec& spec) const;
  // Name and type of that state.
  std::vector<std::pair<std::string, Type>> frozen_state() const;

  // The flat tensor as named tensors, and back. pack() wants every tensor that trains and no other: UserError
  // names the first that is missing, unknown or of another shape.
  State unpack(const HostTensor& flat) const;
  HostTensor pack(const State& tensors) const;
  // The same for whole models. Frozen tensors go by the names of their parts, as they are stored; to_state() also takes
  // one as f32 under its own name, rounding it. Other tensors in `state` are left out.
  State to_tensors(const State& state) const;
  State to_state(State tensors) const;

  // f32 [P] with a spec's learning-rate or decay multiplier in each of its elements.
  HostTensor learning_rate_multipliers() const;
  HostTensor decay_multipliers() const;
  // Whether these are 1 throughout, so that no tensor need be kept for them.
  bool uniform_learning_rate() const;
  bool uniform_decay() const;

 private:
  HostTensor multipliers(const std::function<double(const ParameterSpec&)>& of) const;
  void lay_out();
  void take_apart(const std::string& together);

  std::vector<ParameterSpec> specs_;
  std::map<std::string, size_t, std::less<>> index_;
  int64_t flat_size_ = 0;
};

class Parameters {
 public:
  Parameters(Graph& graph, const ParameterStore& store);

  Graph& graph() const { return *graph_; }
  const ParameterStore& store() const { return *store_; }
  Value flat() const;  // the state tensor itself; UserError when nothing trains

  // The values of a tensor, f32; of a frozen one as its storage unpacks them.
  Value get(std::string_view name);
  // Rows of a tensor [rows, ..] by an index u32 [..]: of a frozen one, only these are unpacked.
  Value rows(std::string_view name, Value index);
  // Tensors that agree in all but their first extent as one (q, k, v as one [3C, C]): a single view
  // where they lie side by side, else (padding between them) a concat of views. In one graph a
  // tensor that trains is seen alone or joined, not both: UserError, the gradient would miss a part. Tensors that are
  // frozen are joined where they are kept together, as else they would be copied: UserError, see joins().
  Value joined(const std::vector<std::string>& names);
  // All of these train, or are all that is kept together, in this order.
  bool joins(const std::vector<std::string>& names) const;

  // d loss / d parameters as f32 [P]: the gradients of the views that were taken, in order, zeros
  // for what was not viewed or is padding. Nothing is differentiated with respect to frozen tensors.
  Value flat_gradient(Value loss, Value coefficient = {}) const;

 private:
  struct View {
    Value value;
    int64_t end = 0;
  };

  Value view(const ParameterSpec& first, int64_t end, const Shape& shape);
  std::vector<Value> state(const ParameterSpec& spec) const;  // of its parts, with all that is kept together
  std::vector<Value> parts(const ParameterSpec& spec) const;  // its own rows of it

  Graph* graph_;
  const ParameterStore* store_;
  Value flat_;                     // empty: nothing trains
  std::map<int64_t, View> views_;  // by offset
};

}  // namespace surtsey::graph
