#include "shaders/reflect.h"

#include "graph/error.h"

#include <algorithm>
#include <map>

namespace surtsey::shaders {
namespace {

// The few numbers of the SPIR-V specification that are read here.
enum : uint32_t {
  kOpMemoryModel = 14,
  kOpEntryPoint = 15,
  kOpExecutionMode = 16,
  kOpTypeBool = 20,
  kOpTypeInt = 21,
  kOpTypeFloat = 22,
  kOpTypeVector = 23,
  kOpTypeArray = 28,
  kOpTypeStruct = 30,
  kOpTypePointer = 32,
  kOpConstant = 43,
  kOpVariable = 59,
  kOpDecorate = 71,
  kOpMemberDecorate = 72,
  kExecutionModeLocalSize = 17,
  kDecorationArrayStride = 6,
  kDecorationBinding = 33,
  kDecorationDescriptorSet = 34,
  kDecorationOffset = 35,
  kStorageClassWorkgroup = 4,
  kStorageClassPushConstant = 9,
  kStorageClassStorageBuffer = 12,
  kExecutionModelGLCompute = 5,
  kAddressingPhysicalStorageBuffer64 = 5348,
};

struct Module {
  std::map<uint32_t, std::vector<uint32_t>> definitions;  // id of a type or constant -> words of its instruction
  std::map<uint32_t, uint32_t> array_stride, binding, set;
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> member_offset;

  uint32_t size_of(uint32_t type) const {
    const std::vector<uint32_t>& words = definitions.at(type);
    switch (words[0] & 0xffff) {
      case kOpTypeBool:
        return 4;
      case kOpTypeInt:
      case kOpTypeFloat:
        return words[2] / 8;
      case kOpTypeVector:
        return size_of(words[2]) * words[3];
      case kOpTypeArray:
        // Arrays in shared memory have no layout of their own: elements lie side by side.
        return (array_stride.contains(type) ? array_stride.at(type) : size_of(words[2])) * definitions.at(words[3])[3];
      case kOpTypePointer:
        return 8;
      case kOpTypeStruct: {
        uint32_t end = 0;
        for (uint32_t member = 0; member + 2 < words.size(); ++member)
          end = std::max(end, member_offset.at({type, member}) + size_of(words[member + 2]));
        return end;
      }
      default:
        throw InternalError(fmt::format("internal error: SPIR-V type of opcode {}", words[0] & 0xffff));
    }
  }
};

}  // namespace

Reflection reflect(const Spirv& spirv) {
  ensure(spirv.size() > 5 && spirv[0] == 0x07230203, "not a SPIR-V module");
  Reflection result;
  Module module;
  uint32_t entry_points = 0;
  std::vector<std::pair<uint32_t, uint32_t>> variables;  // storage class, id; pointer type is looked up below
  std::map<uint32_t, uint32_t> pointer_of;
  for (size_t at = 5; at < spirv.size();) {
    uint32_t count = spirv[at] >> 16, op = spirv[at] & 0xffff;
    ensure(count > 0 && at + count <= spirv.size(), "truncated SPIR-V instruction at word {}", at);
    const uint32_t* words = &spirv[at];
    switch (op) {
      case kOpMemoryModel:
        result.physical_addresses = words[1] == kAddressingPhysicalStorageBuffer64;
        break;
      case kOpEntryPoint:
        entry_points += words[1] == kExecutionModelGLCompute;
        break;
      case kOpExecutionMode:
        if (words[2] == kExecutionModeLocalSize) result.local_size = words[3] * words[4] * words[5];
        break;
      case kOpTypeBool:
      case kOpTypeInt:
      case kOpTypeFloat:
      case kOpTypeVector:
      case kOpTypeArray:
      case kOpTypeStruct:
      case kOpTypePointer:
        module.definitions[words[1]].assign(words, words + count);
        break;
      case kOpConstant:
        module.definitions[words[2]].assign(words, words + count);
        break;
      case kOpVariable:
        variables.emplace_back(words[3], words[2]);
        pointer_of[words[2]] = words[1];
        break;
      case kOpDecorate:
        if (words[2] == kDecorationArrayStride) module.array_stride[words[1]] = words[3];
        if (words[2] == kDecorationBinding) module.binding[words[1]] = words[3];
        if (words[2] == kDecorationDescriptorSet) module.set[words[1]] = words[3];
        break;
      case kOpMemberDecorate:
        if (words[3] == kDecorationOffset) module.member_offset[{words[1], words[2]}] = words[4];
        break;
      default:
        break;
    }
    at += count;
  }
  ensure(entry_points == 1, "a SPIR-V module with {} compute entry points", entry_points);
  for (auto [storage, id] : variables) {
    if (storage == kStorageClassPushConstant)
      result.push_constant_bytes = module.size_of(module.definitions.at(pointer_of.at(id))[3]);
    if (storage == kStorageClassWorkgroup)
      result.shared_bytes += module.size_of(module.definitions.at(pointer_of.at(id))[3]);
    if (storage == kStorageClassStorageBuffer) {
      ensure(module.set[id] == 0, "a storage buffer in descriptor set {}", module.set[id]);
      result.storage_bindings.push_back(module.binding.at(id));
    }
  }
  std::sort(result.storage_bindings.begin(), result.storage_bindings.end());
  auto last = std::unique(result.storage_bindings.begin(), result.storage_bindings.end());
  result.storage_bindings.erase(last, result.storage_bindings.end());
  return result;
}

void check_reflection(const Shader& shader, const Reflection& reflection, bool address_mode) {
  ensure(shader.bindings <= kMaxBindings, "kernel {}: {} bindings of at most {}", shader.name, shader.bindings,
         kMaxBindings);
  ensure(reflection.local_size == shader.local_size, "kernel {}: the module has {} invocations, the shader says {}",
         shader.name, reflection.local_size, shader.local_size);
  uint32_t expected = address_mode ? kAddressArgumentBytes : kDescriptorArgumentBytes;
  ensure(reflection.push_constant_bytes == 0 || reflection.push_constant_bytes == expected,
         "kernel {}: {} bytes of push constants, the contract says {}", shader.name, reflection.push_constant_bytes,
         expected);
  if (address_mode) {
    ensure(reflection.storage_bindings.empty(), "kernel {}: descriptors in address mode", shader.name);
    return;
  }
  ensure(!reflection.physical_addresses, "kernel {}: addresses in descriptor mode", shader.name);
  uint32_t end = reflection.storage_bindings.empty() ? 0 : reflection.storage_bindings.back() + 1;
  ensure(end <= shader.bindings, "kernel {}: the module uses binding {}, the shader has {}", shader.name, end - 1,
         shader.bindings);
}

}  // namespace surtsey::shaders
