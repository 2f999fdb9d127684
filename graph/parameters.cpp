#include "graph/parameters.h"

#include "graph/autodiff.h"
#include "graph/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace surtsey::graph {
namespace {

constexpr int64_t kAlignment = 4;

int64_t padded(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }

// The names of a frozen tensor's parts: as a tensor of the model, and as state.
std::string part_name(const ParameterSpec& spec, const StoredPart& part) { return spec.name + part.suffix; }
std::string state_name(const ParameterSpec& spec, const StoredPart& part) {
  return spec.together.empty() ? kFrozen + part_name(spec, part) : kFrozen + spec.together + part.suffix;
}

// The parts as state has them: with all rows that are kept together.
std::vector<StoredPart> state_parts(const ParameterSpec& spec) {
  Shape shape = spec.shape;
  if (!spec.together.empty()) shape[0] = spec.together_rows;
  return spec.storage->parts(shape);
}

// The first element of a tensor's own rows in the state tensor of a part.
int64_t first_element(const ParameterSpec& spec, const StoredPart& part) {
  return spec.together.empty() ? 0 : element_count(part.type.shape) / spec.shape[0] * spec.first_row;
}

// Puts a part of a frozen tensor (`part` has its own rows) where state has it.
void store_part(const ParameterSpec& spec, size_t i, HostTensor part, State& state) {
  const StoredPart whole = state_parts(spec)[i];
  if (spec.together.empty()) {
    state[state_name(spec, whole)] = std::move(part);
    return;
  }
  HostTensor& tensor = state.try_emplace(state_name(spec, whole), HostTensor::zeros(whole.type)).first->second;
  const int64_t first = first_element(spec, {whole.suffix, part.type});
  std::copy(part.values.begin(), part.values.end(), tensor.values.begin() + first);
}

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

HostTensor drawn(const ParameterSpec& spec, uint32_t seed) {
  HostTensor tensor = HostTensor::zeros(spec.type());
  const uint32_t key = stream_seed(seed, spec.name);
  for (size_t i = 0; i < tensor.values.size(); ++i) {
    tensor.values[i] = draw(spec.initialisation, key, uint32_t(i));
  }
  tensor.round_to_storage();
  return tensor;
}

// Adds the state of a frozen tensor with these values.
void store_frozen(const ParameterSpec& spec, const HostTensor& values, State& state) {
  const std::vector<StoredPart> parts = spec.storage->parts(spec.shape);
  std::vector<HostTensor> stored = spec.storage->pack(values);
  ensure(stored.size() == parts.size(), "[storage] {} packs {} parts of {}", spec.storage->name, stored.size(),
         parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    ensure(stored[i].type == parts[i].type, "[storage] {} packs {} into a part of {}", spec.storage->name,
           to_string(stored[i].type), to_string(parts[i].type));
    store_part(spec, i, std::move(stored[i]), state);
  }
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

void ParameterStore::lay_out() {
  flat_size_ = 0;
  for (ParameterSpec& spec : specs_) {
    spec.offset = spec.frozen() ? -1 : flat_size_;
    if (!spec.frozen()) flat_size_ += padded(element_count(spec.shape));
  }
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

void ParameterStore::freeze(const std::function<bool(const ParameterSpec&)>& which, const Storage& storage) {
  const auto shared = std::make_shared<const Storage>(storage);
  for (ParameterSpec& spec : specs_) {
    if (!which(spec)) continue;
    for (const StoredPart& part : shared->parts(spec.shape)) {
      const Shape& shape = part.type.shape;
      ensure(shape.size() == spec.shape.size() && std::equal(shape.begin(), shape.end() - 1, spec.shape.begin()),
             "[storage] {} keeps {} {} in {}", shared->name, spec.name, to_string(spec.shape), to_string(shape));
    }
    take_apart(spec.together);
    spec.storage = shared;
  }
  lay_out();
}

void ParameterStore::take_apart(const std::string& together) {
  if (together.empty()) return;
  const std::string name = together;  // a spec's own
  for (ParameterSpec& spec : specs_) {
    if (spec.together == name) spec.together.clear();
  }
}

bool ParameterStore::can_keep_together(const std::vector<std::string>& names) const {
  const auto alike = [&](const std::string& name) {
    const ParameterSpec &first = spec(names[0]), &other = spec(name);
    return other.frozen() && other.storage == first.storage && other.together.empty() && !other.shape.empty() &&
           other.shape.size() == first.shape.size() &&
           std::equal(other.shape.begin() + 1, other.shape.end(), first.shape.begin() + 1);
  };
  return names.size() > 1 && std::all_of(names.begin(), names.end(), alike);
}

void ParameterStore::keep_together(const std::vector<std::string>& names, const std::string& together) {
  check(can_keep_together(names), "[parameters] {} and what is to be kept with it as {} are not frozen alike",
        names.empty() ? "nothing" : names[0], together);
  check(!contains(together), "[parameters] {} exists already", together);
  int64_t rows = 0;
  for (const std::string& name : names) rows += spec(name).shape[0];
  int64_t row = 0;
  for (const std::string& name : names) {
    ParameterSpec& one = spec(name);
    one.together = together;
    one.together_rows = rows;
    one.first_row = std::exchange(row, row + one.shape[0]);
  }
}

void ParameterStore::train(const std::function<bool(const ParameterSpec&)>& which) {
  for (ParameterSpec& spec : specs_) {
    if (!which(spec)) continue;
    take_apart(spec.together);
    spec.storage = nullptr;
  }
  lay_out();
}

int64_t ParameterStore::parameter_count() const {
  int64_t count = 0;
  for (const ParameterSpec& spec : specs_) count += element_count(spec.shape);
  return count;
}

int64_t ParameterStore::trained_count() const {
  int64_t count = 0;
  for (const ParameterSpec& spec : specs_) count += spec.frozen() ? 0 : element_count(spec.shape);
  return count;
}

HostTensor ParameterStore::initialise(uint32_t seed) const {
  HostTensor flat = HostTensor::zeros(flat_type());
  for (const ParameterSpec& spec : specs_) {
    if (spec.frozen()) continue;
    const HostTensor tensor = drawn(spec, seed);
    std::copy(tensor.values.begin(), tensor.values.end(), flat.values.begin() + spec.offset);
  }
  return flat;
}

State ParameterStore::initialise_frozen(uint32_t seed) const {
  State state;
  for (const ParameterSpec& spec : specs_) {
    if (spec.frozen()) state.merge(initialise_frozen(spec, seed));
  }
  return state;
}

State ParameterStore::initialise_frozen(const ParameterSpec& spec, uint32_t seed) const {
  check(spec.frozen(), "[parameters] {} is not frozen", spec.name);
  State state;
  if (spec.together.empty()) {
    store_frozen(spec, drawn(spec, seed), state);
  } else if (spec.first_row == 0) {
    for (const ParameterSpec& one : specs_) {
      if (one.together == spec.together) store_frozen(one, drawn(one, seed), state);
    }
  }
  return state;
}

std::vector<FrozenPart> ParameterStore::frozen_parts(const ParameterSpec& spec) const {
  check(spec.frozen(), "[parameters] {} is not frozen", spec.name);
  std::vector<FrozenPart> list;
  for (const StoredPart& part : spec.storage->parts(spec.shape))
    list.push_back({state_name(spec, part), first_element(spec, part), part.type});
  return list;
}

std::vector<std::pair<std::string, Type>> ParameterStore::frozen_state() const {
  std::vector<std::pair<std::string, Type>> list;
  for (const ParameterSpec& spec : specs_) {
    if (!spec.frozen() || (!spec.together.empty() && spec.first_row > 0)) continue;
    for (const StoredPart& part : state_parts(spec)) list.emplace_back(state_name(spec, part), part.type);
  }
  return list;
}

State ParameterStore::unpack(const HostTensor& flat) const {
  check(flat.type == flat_type(), "[parameters] the flat tensor is {}, not {}", to_string(flat.type),
        to_string(flat_type()));
  State tensors;
  for (const ParameterSpec& spec : specs_) {
    if (spec.frozen()) continue;
    const auto first = flat.values.begin() + spec.offset;
    tensors.emplace(spec.name, HostTensor(spec.type(), {first, first + element_count(spec.shape)}));
  }
  return tensors;
}

HostTensor ParameterStore::pack(const State& tensors) const {
  HostTensor flat = HostTensor::zeros(flat_type());
  for (const ParameterSpec& spec : specs_) {
    if (spec.frozen()) continue;
    const auto found = tensors.find(spec.name);
    check(found != tensors.end(), "[parameters] the tensor {} is missing", spec.name);
    check(found->second.type == spec.type(), "[parameters] {} is {}, the model wants {}", spec.name,
          to_string(found->second.type), to_string(spec.type()));
    std::copy(found->second.values.begin(), found->second.values.end(), flat.values.begin() + spec.offset);
  }
  for (const auto& [name, tensor] : tensors) {
    check(contains(name), "[parameters] the model has no parameter {}", name);
    check(!spec(name).frozen(), "[parameters] {} is frozen: it is no part of the flat tensor", name);
  }
  return flat;
}

State ParameterStore::to_tensors(const State& state) const {
  const auto wanted = [&](const std::string& name) -> const HostTensor& {
    const auto found = state.find(name);
    check(found != state.end(), "[parameters] the state tensor {} is missing", name);
    return found->second;
  };
  State tensors = flat_size_ > 0 ? unpack(wanted(kParameters)) : State{};
  for (const ParameterSpec& spec : specs_) {
    if (!spec.frozen()) continue;
    const std::vector<StoredPart> whole = state_parts(spec), parts = spec.storage->parts(spec.shape);
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::string name = state_name(spec, whole[i]);
      const HostTensor& tensor = wanted(name);
      check(tensor.type == whole[i].type, "[parameters] {} is {}, not {}", name, to_string(tensor.type),
            to_string(whole[i].type));
      const auto first = tensor.values.begin() + first_element(spec, parts[i]);
      tensors.emplace(part_name(spec, parts[i]),
                      HostTensor(parts[i].type, {first, first + element_count(parts[i].type.shape)}));
    }
  }
  return tensors;
}

State ParameterStore::to_state(State tensors) const {
  State state;
  for (const ParameterSpec& spec : specs_) {
    if (!spec.frozen()) continue;
    const auto plain = tensors.find(spec.name);
    if (plain != tensors.end() && plain->second.type == spec.type()) {
      store_frozen(spec, plain->second, state);
      tensors.erase(plain);
      continue;
    }
    const std::vector<StoredPart> parts = spec.storage->parts(spec.shape);
    for (size_t i = 0; i < parts.size(); ++i) {
      const StoredPart& part = parts[i];
      const auto found = tensors.find(part_name(spec, part));
      check(found != tensors.end(), "[parameters] the tensor {} is missing", part_name(spec, part));
      check(found->second.type == part.type, "[parameters] {} is {}, the model wants {} or {}", found->first,
            to_string(found->second.type), to_string(part.type), to_string(spec.type()));
      store_part(spec, i, std::move(found->second), state);
      tensors.erase(found);
    }
  }
  HostTensor flat = pack(tensors);
  if (flat_size_ > 0) state[kParameters] = std::move(flat);
  return state;
}

HostTensor ParameterStore::multipliers(const std::function<double(const ParameterSpec&)>& of) const {
  HostTensor result(flat_type(), std::vector<double>(size_t(flat_size_), 1.0));
  for (const ParameterSpec& spec : specs_) {
    if (spec.frozen()) continue;
    const auto first = result.values.begin() + spec.offset;
    std::fill(first, first + element_count(spec.shape), of(spec));
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
    if (!spec.frozen() && spec.learning_rate_multiplier != 1) return false;
  }
  return true;
}

bool ParameterStore::uniform_decay() const {
  for (const ParameterSpec& spec : specs_) {
    if (!spec.frozen() && spec.decay_multiplier != 1) return false;
  }
  return true;
}

Parameters::Parameters(Graph& graph, const ParameterStore& store) : graph_(&graph), store_(&store) {
  if (store.flat_size() > 0) flat_ = graph.parameter(kParameters, store.flat_type());
}

Value Parameters::flat() const {
  check(bool(flat_), "[parameters] nothing trains: every tensor is frozen");
  return flat_;
}

std::vector<Value> Parameters::parts(const ParameterSpec& spec) const {
  std::vector<Value> values = state(spec);
  const std::vector<StoredPart> own = spec.storage->parts(spec.shape);
  for (size_t i = 0; i < values.size() && !spec.together.empty(); ++i) {
    const int64_t extent = own[i].type.shape[0], first = extent / spec.shape[0] * spec.first_row;
    values[i] = slice(values[i], 0, first, first + extent);
  }
  return values;
}

std::vector<Value> Parameters::state(const ParameterSpec& spec) const {
  std::vector<Value> values;
  for (const StoredPart& part : state_parts(spec)) {
    values.push_back(graph_->parameter(state_name(spec, part), part.type));
  }
  return values;
}

Value Parameters::get(std::string_view name) {
  const ParameterSpec& spec = store_->spec(name);
  if (spec.frozen()) return spec.storage->unpack(parts(spec), spec.shape.back());
  return view(spec, spec.offset + element_count(spec.shape), spec.shape);
}

Value Parameters::rows(std::string_view name, Value index) {
  const ParameterSpec& spec = store_->spec(name);
  check(spec.shape.size() >= 2, "[parameters] {} {} has no rows", spec.name, to_string(spec.shape));
  if (!spec.frozen()) return gather(get(name), index);
  std::vector<Value> values = parts(spec);
  for (Value& part : values) part = gather(part, index);
  return spec.storage->unpack(values, spec.shape.back());
}

bool Parameters::joins(const std::vector<std::string>& names) const {
  if (names.empty() || !store_->spec(names[0]).frozen())  // none joins none
    return std::none_of(names.begin(), names.end(), [&](const auto& name) { return store_->spec(name).frozen(); });
  const ParameterSpec& first = store_->spec(names[0]);
  int64_t rows = 0;
  for (const std::string& name : names) {
    const ParameterSpec& one = store_->spec(name);
    if (one.together.empty() || one.together != first.together || one.first_row != rows) return false;
    rows += one.shape[0];
  }
  return rows == first.together_rows;
}

Value Parameters::joined(const std::vector<std::string>& names) {
  check(!names.empty(), "[parameters] nothing to join");
  check(joins(names), "[parameters] {} and what is joined with it are frozen, in part at least, and not kept together",
        names[0]);
  const ParameterSpec& first = store_->spec(names[0]);
  if (first.frozen()) return first.storage->unpack(state(first), first.shape.back());
  Shape shape = first.shape;
  int64_t end = first.offset + element_count(first.shape);
  bool side_by_side = true;
  for (size_t i = 1; i < names.size(); ++i) {
    const ParameterSpec& next = store_->spec(names[i]);
    check(!shape.empty() && next.shape.size() == shape.size() &&
              std::equal(shape.begin() + 1, shape.end(), next.shape.begin() + 1),
          "[parameters] {} {} and {} {} cannot be joined", next.name, to_string(next.shape), first.name,
          to_string(first.shape));
    side_by_side = side_by_side && next.offset == end;
    shape[0] += next.shape[0];
    end += element_count(next.shape);
  }
  if (side_by_side) return view(first, end, shape);
  std::vector<Value> parts;
  for (const std::string& name : names) parts.push_back(get(name));
  return concat(parts, 0);
}

Value Parameters::view(const ParameterSpec& first, int64_t end, const Shape& shape) {
  const auto after = views_.upper_bound(first.offset);
  bool overlaps = after != views_.end() && after->first < end;
  if (after != views_.begin()) {
    const auto& [offset, before] = *std::prev(after);
    overlaps = overlaps || (offset == first.offset ? before.end != end : before.end > first.offset);
  }
  check(!overlaps, "[parameters] {} is seen both alone and joined in one graph", first.name);
  const Value value = reshape(slice(flat_, 0, first.offset, end), shape);
  views_.try_emplace(first.offset, View{value, end});
  return value;
}

Value Parameters::flat_gradient(Value loss, Value coefficient) const {
  const int64_t size = flat().dim(0);
  std::vector<Value> wrt;
  for (const auto& [offset, view] : views_) wrt.push_back(view.value);
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
    fill(offset);
    pieces.push_back(reshape(gradients[next++], {view.end - offset}));
    position = view.end;
  }
  fill(size);
  return pieces.size() == 1 ? pieces[0] : concat(pieces, 0);
}

}  // namespace surtsey::graph
