#include "graph/ops/rows.h"

namespace surtsey::graph {

namespace {

std::vector<Type> infer_parameter(std::span<const Type>, const Attr& attr) {
  const auto& leaf = attribute<LeafAttr>(attr);
  check(!leaf.name.empty(), "[parameter] the name is empty");
  return {leaf.type};
}

std::vector<Type> infer_constant(std::span<const Type>, const Attr& attr) { return {attribute<LeafAttr>(attr).type}; }

std::vector<Type> infer_iota(std::span<const Type>, const Attr& attr) {
  const auto& leaf = attribute<LeafAttr>(attr);
  check(leaf.axis >= 0 && leaf.axis < static_cast<int64_t>(leaf.type.shape.size()), "[iota] axis {} of {}", leaf.axis,
        to_string(leaf.type));
  const DType dtype = leaf.type.dtype;
  check(is_integer(dtype) || dtype == DType::f32, "[iota] counts in i32, u32 or f32, not {}", name(dtype));
  return {leaf.type};
}

HostTensor interpret_constant(std::span<const HostTensor* const>, const Attr& attr, const Type& type) {
  HostTensor result = HostTensor::zeros(type);
  const double value = std::get<LeafAttr>(attr).value;
  for (double& element : result.values) element = value;
  return result;
}

HostTensor interpret_iota(std::span<const HostTensor* const>, const Attr& attr, const Type& type) {
  HostTensor result = HostTensor::zeros(type);
  const auto axis = static_cast<size_t>(std::get<LeafAttr>(attr).axis);
  const int64_t stride = contiguous_strides(type.shape)[axis];
  for (size_t i = 0; i < result.values.size(); ++i) {
    result.values[i] = static_cast<double>(static_cast<int64_t>(i) / stride % type.shape[axis]);
  }
  return result;
}

std::vector<Type> infer_assign(std::span<const Type> inputs, const Attr&) {
  check(inputs[0] == inputs[1], "[assign] {} takes no {}", to_string(inputs[0]), to_string(inputs[1]));
  return {};
}

std::vector<Type> infer_region(std::span<const Type> inputs, const Attr& attr) {
  const Region& region = *attribute<RegionAttr>(attr).region;
  check(inputs.size() == region.parameters.size(), "[region {}] takes {} operands, not {}", region.name,
        region.parameters.size(), inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    check(inputs[i] == region.parameters[i].type(), "[region {}] operand {} is {}, not {}", region.name, i,
          to_string(region.parameters[i].type()), to_string(inputs[i]));
  }
  std::vector<Type> types;
  for (const Value& result : region.results) types.push_back(result.type());
  return types;
}

LeafAttr filled(Type type, double value) { return LeafAttr{std::move(type), "", value}; }
LeafAttr counted(Type type, int64_t axis) { return LeafAttr{std::move(type), "", 0, axis}; }

}  // namespace

std::vector<OpDef> leaf_rows() {
  return {
      {.op = Op::parameter,
       .name = "parameter",
       .family = Family::leaf,
       .arity = 0,
       .doc = "a named tensor: an input, a weight, optimizer state, a counter",
       .infer = infer_parameter},
      {.op = Op::constant,
       .name = "constant",
       .family = Family::leaf,
       .arity = 0,
       .doc = "one number in every element",
       .infer = infer_constant,
       .interpret = interpret_constant,
       .samples = {{{}, filled(f32_type({7}), 0.5)},
                   {{}, filled(f32_type({}), -1.25)},
                   {{}, filled(i32_type({3, 5}), -7)},
                   {{}, filled(u32_type({2, 1, 3}), 4000000000.0)},
                   {{}, filled(boolean_type({3}), 1)}}},
      {.op = Op::iota,
       .name = "iota",
       .family = Family::leaf,
       .arity = 0,
       .doc = "the index along one axis",
       .infer = infer_iota,
       .interpret = interpret_iota,
       .samples = {{{}, counted(f32_type({7}), 0)},
                   {{}, counted(i32_type({3, 5}), 0)},
                   {{}, counted(u32_type({3, 5}), 1)},
                   {{}, counted(u32_type({2, 33, 17}), 1)},
                   {{}, counted(f32_type({1, 1}), 1)}}},
      {.op = Op::assign,
       .name = "assign",
       .family = Family::state,
       .arity = 2,
       .doc = "the parameter takes the value at the end of the run; every read sees the old one",
       .infer = infer_assign},
      {.op = Op::region,
       .name = "region",
       .family = Family::region,
       .arity = -1,
       .doc = "a named body of primitives with several results; a kernel may claim it whole",
       .infer = infer_region},
  };
}

}  // namespace surtsey::graph
