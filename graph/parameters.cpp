#include "graph/parameters.h"

#include "graph/autodiff.h"
#include "graph/random.h"

#include <cmath>
#include <numbers>

namespace surtsey::graph {
namespace {

constexpr int64_t kAlignment = 4;

int64_t padded(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }

double draw(const Initialisation& initialisation, uint32_t key, uint32_t index) {
  const uint32_t first = random_bits(key, 0, index);
  switch (initialisation.kind) {
    case Initialisation::Kind::constant:
      return initialisation.scale;
    case Initialisation::Kind::uniform:
      return initialisation.scale * (2 * double(uniform_from_bits(first)) - 1);
    case Initialisation::Kind::normal: {
      // Half a step inside the open interval: the logarithm is finite.
      const double u = (double(first) + 0.5) / 4294967296.0;
      const double v = (double(random_bits(key, 1, index)) + 0.5) / 4294967296.0;
      return initialisation.scale * std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
    }
  }
  ensure(false, "unknown initialisation");
  return 0;
}

}  // namespace

ParameterSpec& ParameterStore::add(std::string name, Shape shape, Initialisation initialisation) {
  check(!contains(name), "[parameters] {} exists already", name);
  for (const int64_t extent : shape) {
    check(extent > 0, "[parameters] {} has the shape {}", name, to_string(shape));
  }
  index_.emplace(name, specs_.size());
  specs_.push_back({std::move(name), std::move(shape), flat_size_, initialisation});
  flat_size_ += padded(element_count(specs_.back().shape));
  return specs_.back();
}

const ParameterSpec& ParameterStore::spec(std::string_view name) const {
  const auto found = index_.find(name);
  check(found != index_.end(), "[parameters] there is no parameter {}", name);
  return specs_[found->second];
}

ParameterSpec& ParameterStore::spec(std::string_view name) {
  return const_cast<ParameterSpec&>(std::as_const(*this).spec(name));
}

bool ParameterStore::contains(std::string_view name) const { return index_.find(name) != index_.end(); }

void ParameterStore::for_each(const std::function<void(ParameterSpec&)>& change) {
  for (ParameterSpec& spec : specs_) change(spec);
}

int64_t ParameterStore::parameter_count() const {
  int64_t count = 0;
  for (const ParameterSpec& spec : specs_) count += element_count(spec.shape);
  return count;
}

HostTensor ParameterStore::initialise(uint32_t seed) const {
  HostTensor flat = HostTensor::zeros(flat_type());
  for (const ParameterSpec& spec : specs_) {
    const uint32_t key = stream_seed(seed, spec.name);
    const int64_t count = element_count(spec.shape);
    for (int64_t i = 0; i < count; ++i) {
      flat.values[size_t(spec.offset + i)] = draw(spec.initialisation, key, uint32_t(i));
    }
  }
  flat.round_to_storage();
  return flat;
}

State ParameterStore::unpack(const HostTensor& flat) const {
  check(flat.type == flat_type(), "[parameters] the flat tensor is {}, not {}", to_string(flat.type),
        to_string(flat_type()));
  State tensors;
  for (const ParameterSpec& spec : specs_) {
    const auto first = flat.values.begin() + spec.offset;
    tensors.emplace(spec.name, HostTensor({DType::f32, spec.shape}, {first, first + element_count(spec.shape)}));
  }
  return tensors;
}

HostTensor ParameterStore::pack(const State& tensors) const {
  HostTensor flat = HostTensor::zeros(flat_type());
  for (const ParameterSpec& spec : specs_) {
    const auto found = tensors.find(spec.name);
    check(found != tensors.end(), "[parameters] the tensor {} is missing", spec.name);
    const Type type = {DType::f32, spec.shape};
    check(found->second.type == type, "[parameters] {} is {}, the model wants {}", spec.name,
          to_string(found->second.type), to_string(type));
    std::copy(found->second.values.begin(), found->second.values.end(), flat.values.begin() + spec.offset);
  }
  for (const auto& [name, tensor] : tensors) {
    check(contains(name), "[parameters] the model has no parameter {}", name);
  }
  return flat;
}

HostTensor ParameterStore::multipliers(const std::function<double(const ParameterSpec&)>& of) const {
  HostTensor result(flat_type(), std::vector<double>(size_t(flat_size_), 1.0));
  for (const ParameterSpec& spec : specs_) {
    const auto first = result.values.begin() + spec.offset;
    std::fill(first, first + element_count(spec.shape), spec.frozen ? 0 : of(spec));
  }
  result.round_to_storage();
  return result;
}

HostTensor ParameterStore::learning_rate_multipliers() const {
  return multipliers([](const ParameterSpec& spec) { return spec.learning_rate_multiplier; });
}

HostTensor ParameterStore::decay_multipliers() const {
  return multipliers([](const ParameterSpec& spec) { return spec.decay_multiplier; });
}

bool ParameterStore::uniform_learning_rate() const {
  for (const ParameterSpec& spec : specs_) {
    if (spec.frozen || spec.learning_rate_multiplier != 1) return false;
  }
  return true;
}

bool ParameterStore::uniform_decay() const {
  for (const ParameterSpec& spec : specs_) {
    // A frozen tensor's learning rate is 0, and decay is scaled by the learning rate.
    if (!spec.frozen && spec.decay_multiplier != 1) return false;
  }
  return true;
}

Parameters::Parameters(Graph& graph, const ParameterStore& store)
    : store_(&store), flat_(graph.parameter(kParameters, store.flat_type())) {}

Value Parameters::get(std::string_view name) { return joined({std::string(name)}); }

Value Parameters::joined(const std::vector<std::string>& names) {
  check(!names.empty(), "[parameters] nothing to join");
  const ParameterSpec& first = store_->spec(names[0]);
  Shape shape = first.shape;
  int64_t end = first.offset + element_count(first.shape);
  bool side_by_side = true;
  for (size_t i = 1; i < names.size(); ++i) {
    const ParameterSpec& next = store_->spec(names[i]);
    check(!shape.empty() && next.shape.size() == shape.size() &&
              std::equal(shape.begin() + 1, shape.end(), next.shape.begin() + 1),
          "[parameters] {} {} and {} {} cannot be joined", next.name, to_string(next.shape), first.name,
          to_string(first.shape));
    side_by_side = side_by_side && next.offset == end && next.frozen == first.frozen;
    shape[0] += next.shape[0];
    end += element_count(next.shape);
  }
  if (!side_by_side) {
    std::vector<Value> parts;
    for (const std::string& name : names) parts.push_back(get(name));
    return concat(parts, 0);
  }
  const auto after = views_.upper_bound(first.offset);
  bool overlaps = after != views_.end() && after->first < end;
  if (after != views_.begin()) {
    const auto& [offset, before] = *std::prev(after);
    overlaps = overlaps || (offset == first.offset ? before.end != end : before.end > first.offset);
  }
  check(!overlaps, "[parameters] {} is seen both alone and joined in one graph", first.name);
  const Value view = reshape(slice(flat_, 0, first.offset, end), shape);
  views_.try_emplace(first.offset, View{view, end, first.frozen});
  return view;
}

Value Parameters::flat_gradient(Value loss, Value coefficient) const {
  std::vector<Value> wrt;
  for (const auto& [offset, view] : views_) {
    if (!view.frozen) wrt.push_back(view.value);
  }
  const std::vector<Value> gradients = differentiate(loss, wrt, coefficient);
  ScopeGuard scope(graph(), "gradient", Phase::backward);
  std::vector<Value> pieces;
  int64_t position = 0;
  const auto fill = [&](int64_t until) {
    if (until > position) pieces.push_back(constant(graph(), 0, {DType::f32, {until - position}}));
    position = until;
  };
  size_t next = 0;
  for (const auto& [offset, view] : views_) {
    if (view.frozen) continue;
    fill(offset);
    pieces.push_back(reshape(gradients[next++], {view.end - offset}));
    position = view.end;
  }
  fill(store_->flat_size());
  return pieces.size() == 1 ? pieces[0] : concat(pieces, 0);
}

}  // namespace surtsey::graph
