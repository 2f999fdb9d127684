// Parameters: many named tensors in one flat f32 state tensor "parameters" of shape [P].
//
// One buffer is what makes a one-dispatch optimizer, a one-reduction gradient norm and an ensemble
// axis possible. Each tensor starts at a multiple of 4 elements (16 bytes); the at most 3 elements
// after it are padding: zero at the start, zero gradient, never counted as parameters.
//
// ParameterStore is the layout, without a graph: it initialises, packs and unpacks on the host.
// Parameters is the same layout seen from one graph: it gives views and collects the gradient.
#pragma once

#include "graph/graph.h"
#include "graph/interpret.h"

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::graph {

inline constexpr const char* kParameters = "parameters";

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
  int64_t offset = 0;  // of the first element in the flat tensor
  Initialisation initialisation;
  double learning_rate_multiplier = 1;
  double decay_multiplier = 1;
  bool frozen = false;  // takes no gradient, no decay and no update
};

class ParameterStore {
 public:
  // Appends a tensor. UserError when the name exists or an extent is not positive.
  ParameterSpec& add(std::string name, Shape shape, Initialisation initialisation);

  const ParameterSpec& spec(std::string_view name) const;  // UserError when there is none
  ParameterSpec& spec(std::string_view name);
  bool contains(std::string_view name) const;
  const std::vector<ParameterSpec>& specs() const { return specs_; }  // by rising offset

  // Sets a group's multipliers: applies `change` to each spec that `match` picks.
  void for_each(const std::function<void(ParameterSpec&)>& change);

  int64_t flat_size() const { return flat_size_; }  // P, padding included
  int64_t parameter_count() const;                  // padding excluded
  Type flat_type() const { return {DType::f32, {flat_size_}}; }

  // f32 [P]. Counter-based: every element is a function of (seed, tensor name, its index in the
  // tensor), so the same seed gives the same model on any machine and in any layout. Normal numbers
  // by Box-Muller in double.
  HostTensor initialise(uint32_t seed) const;

  // The flat tensor as named tensors, and back. pack() wants every tensor and no other: UserError
  // names the first that is missing, unknown or of another shape.
  State unpack(const HostTensor& flat) const;
  HostTensor pack(const State& tensors) const;

  // f32 [P] with a spec's learning-rate or decay multiplier in each of its elements; 0 where
  // frozen.
  HostTensor learning_rate_multipliers() const;
  HostTensor decay_multipliers() const;
  // Whether these are 1 throughout, so that no tensor need be kept for them.
  bool uniform_learning_rate() const;
  bool uniform_decay() const;

 private:
  HostTensor multipliers(const std::function<double(const ParameterSpec&)>& of) const;

  std::vector<ParameterSpec> specs_;
  std::map<std::string, size_t, std::less<>> index_;
  int64_t flat_size_ = 0;
};

class Parameters {
 public:
  Parameters(Graph& graph, const ParameterStore& store);

  Graph& graph() const { return *flat_.graph; }
  const ParameterStore& store() const { return *store_; }
  Value flat() const { return flat_; }  // the state tensor itself

  Value get(std::string_view name);
  // Tensors that agree in all but their first extent as one (q, k, v as one [3C, C]): a single view
  // where they lie side by side, else (padding between them) a concat of views. In one graph a
  // tensor is seen alone or joined, not both: UserError, the gradient would miss a part.
  Value joined(const std::vector<std::string>& names);

  // d loss / d parameters as f32 [P]: the gradients of the views that were taken, in order, zeros
  // for what was not viewed, is frozen, or is padding.
  Value flat_gradient(Value loss, Value coefficient = {}) const;

 private:
  struct View {
    Value value;
    int64_t end = 0;
    bool frozen = false;
  };

  const ParameterStore* store_;
  Value flat_;
  std::map<int64_t, View> views_;  // by offset
};

}  // namespace surtsey::graph
