// The file around what a Writer wrote: extensions, buffers, helpers, main().
#include "graph/ops/glsl_helpers.h"
#include "shaders/writer.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

namespace {

// What elements are stored as. Booleans are words; bf16 has no type of its own in GLSL.
const char* storage_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float";
    case DType::i32:
      return "int";
    case DType::f16:
      return "float16_t";
    case DType::bf16:
      return "uint16_t";
    default:
      return "uint";
  }
}

}  // namespace

DType Writer::stored_dtype(size_t binding) const {
  return is_input(binding) ? kernel_.inputs[binding].view.dtype
                           : kernel_.outputs[binding - kernel_.inputs.size()].view.dtype;
}

bool Writer::reads_pairs_of(int64_t bytes) const {
  return std::any_of(needs_.read_pairs.begin(), needs_.read_pairs.end(),
                     [&](size_t i) { return storage_bytes(stored_dtype(i)) == bytes; });
}

std::string Writer::extensions(bool subgroups) const {
  std::string text;
  const auto require = [&](const char* name) { text += fmt::format("#extension GL_{} : require\n", name); };
  bool half = false;
  for (size_t i = 0; i < bindings(); ++i) half |= storage_bytes(stored_dtype(i)) == 2;
  if (addressed()) {
    require("EXT_buffer_reference");
    require("EXT_buffer_reference_uvec2");
  }
  if (half) require("EXT_shader_16bit_storage");
  if (!needs_.pairs.empty() || reads_pairs_of(4)) require("EXT_shader_explicit_arithmetic_types_int64");
  if (needs_.cooperative_matrices) {
    require("NV_cooperative_matrix");
    require("KHR_memory_scope_semantics");
    require("EXT_shader_explicit_arithmetic_types_float16");
  }
  if (subgroups) {
    require("KHR_shader_subgroup_basic");
    require("KHR_shader_subgroup_ballot");
  }
  if (needs_.loop_attributes) require("EXT_control_flow_attributes");
  return text;
}

// The name of a buffer_reference type: in_float.
std::string Writer::reference_type(size_t binding) const {
  return fmt::format("{}_{}", is_input(binding) ? "in" : "out", storage_type(stored_dtype(binding)));
}

// Types of buffers in address mode, buffers in descriptor mode; and the push constants (shader.h).
std::string Writer::buffers() const {
  std::string text;
  const auto reference = [&](uint32_t bytes, const std::string& name, const char* element, bool readonly) {
    text += fmt::format("layout(buffer_reference, std430, buffer_reference_align = {}) {}buffer {} {{ {} v[]; }};\n",
                        bytes, readonly ? "readonly " : "", name, element);
  };
  std::set<std::string> seen;
  for (size_t i = 0; i < bindings(); ++i) {
    if (!addressed())
      text += fmt::format("layout(std430, set = 0, binding = {0}) {1}buffer B{0} {{ {2} v[]; }} b{0};\n", i,
                          is_input(i) ? "readonly " : "", storage_type(stored_dtype(i)));
    else if (seen.insert(reference_type(i)).second)
      reference(uint32_t(storage_bytes(stored_dtype(i))), reference_type(i), storage_type(stored_dtype(i)),
                is_input(i));
  }
  if (!needs_.pairs.empty()) reference(8, "out_pairs", "uint64_t", false);
  if (reads_pairs_of(4)) reference(8, "in_twos", "uint64_t", true);
  if (reads_pairs_of(2)) reference(4, "in_halves", "uint", true);
  if (!needs_.runs.empty()) reference(16, "in_wide", "uvec4", true);
  return text +
         fmt::format("layout(push_constant) uniform Arguments {{ {}[{}]; uint base; uint reserved; }} arguments;\n",
                     addressed() ? "uvec2 address" : "uint first", kMaxBindings);
}

// In address mode: the bindings as variables of main().
std::string Writer::references() const {
  std::string text;
  const auto reference = [&](const std::string& type, const char* name, size_t i) {
    text += fmt::format("{0} {1}{2} = {0}(arguments.address[{2}]);\n", type, name, i);
  };
  for (size_t i = 0; i < bindings() && addressed(); ++i) {
    reference(reference_type(i), "b", i);
    if (needs_.runs.contains(i)) reference("in_wide", "wide", i);
    if (needs_.read_pairs.contains(i))
      reference(storage_bytes(stored_dtype(i)) == 4 ? "in_twos" : "in_halves", "twos", i);
    if (needs_.pairs.contains(i)) reference("out_pairs", "pairs", i);
  }
  return text;
}

Shader Writer::finish(uint32_t workgroups, uint32_t local_size, uint32_t subgroup_size) {
  ensure(frames_.size() == 1, "kernel {} has an open block", kernel_.name);
  ensure(bindings() <= kMaxBindings, "kernel {} has {} bindings", kernel_.name, bindings());
  std::string text = "#version 460\n" + extensions(subgroup_size != 0);
  text += fmt::format("layout(local_size_x = {}) in;\n", local_size);
  text += buffers();
  if (needs_.helpers) text += kGlslHelpers;
  if (needs_.bfloat16) text += kGlslBfloat16;
  text += globals_ + "void main() {\n" + references();
  text += "uint group = gl_WorkGroupID.x + arguments.base;\n" + frames_[0].text + "}\n";

  Shader shader;
  shader.name = kernel_.name;
  shader.glsl = std::move(text);
  shader.workgroups = workgroups;
  shader.local_size = local_size;
  shader.bindings = uint32_t(bindings());
  shader.subgroup_size = subgroup_size;
  return shader;
}

}  // namespace surtsey::shaders
