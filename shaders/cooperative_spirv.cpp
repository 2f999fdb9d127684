#include "shaders/cooperative_spirv.h"

#include "graph/error.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <string_view>

namespace surtsey::shaders {
namespace {

using Words = std::vector<uint32_t>;

// The grammar's numbers (SPIR-V unified1; both extensions' specifications).
constexpr uint32_t kExtension = 10, kTypeInt = 21, kConstantTrue = 41, kConstantFalse = 42, kConstant = 43,
                   kDecorate = 71, kCapability = 17;
constexpr uint32_t kTypeNv = 5358, kLoadNv = 5359, kStoreNv = 5360, kMultiplyNv = 5361, kLengthNv = 5362;
constexpr uint32_t kTypeKhr = 4456, kLoadKhr = 4457, kStoreKhr = 4458, kMultiplyKhr = 4459, kLengthKhr = 4460;
constexpr uint32_t kCapabilityNv = 5357, kCapabilityKhr = 6022, kSpecId = 1;
constexpr std::string_view kExtensionNv = "SPV_NV_cooperative_matrix", kExtensionKhr = "SPV_KHR_cooperative_matrix";
constexpr size_t kHeaderWords = 5, kBoundAt = 3;
// Names of the constants 0, 1 and 2, which are uses and, the first two, layouts: rows or columns
// side by side in memory.
constexpr uint32_t kConstants = 3;

// Calls f(opcode, words of the instruction with its first one).
template <typename F>
void for_each_instruction(const Words& module, F&& f) {
  for (size_t at = kHeaderWords; at < module.size();) {
    const uint32_t count = module[at] >> 16;
    ensure(count > 0 && at + count <= module.size(), "a SPIR-V module ends within an instruction");
    f(module[at] & 0xffff, std::span(module).subspan(at, count));
    at += count;
  }
}

struct Facts {
  uint32_t uint_type = 0;
  std::map<uint32_t, uint32_t> spec_ids;  // specialization constant -> SpecId
  std::map<uint32_t, bool> booleans;
  bool cooperative = false;
};

Facts find_facts(const Words& module) {
  Facts facts;
  for_each_instruction(module, [&](uint32_t op, std::span<const uint32_t> words) {
    if (op == kTypeInt && words[2] == 32 && words[3] == 0) facts.uint_type = words[1];
    if (op == kDecorate && words[2] == kSpecId) facts.spec_ids[words[1]] = words[3];
    if (op == kConstantTrue || op == kConstantFalse) facts.booleans[words[2]] = op == kConstantTrue;
    facts.cooperative |= op == kTypeNv;
  });
  return facts;
}

class Rewriter {
 public:
  explicit Rewriter(const Words& module) : module_(module), facts_(find_facts(module)) {}

  Words run() {
    if (!facts_.cooperative) return module_;
    result_.assign(module_.begin(), module_.begin() + kHeaderWords);
    constants_ = result_[kBoundAt];
    result_[kBoundAt] += kConstants;
    for_each_instruction(module_, [&](uint32_t op, std::span<const uint32_t> words) { instruction(op, words); });
    return std::move(result_);
  }

 private:
  void put(uint32_t op, std::vector<uint32_t> operands) {
    result_.push_back(uint32_t(operands.size() + 1) << 16 | op);
    // One by one: of an insertion of all of them GCC 14 says that it may write past the end.
    for (const uint32_t operand : operands) result_.push_back(operand);
  }

  void instruction(uint32_t op, std::span<const uint32_t> w) {
    const auto rest = [&](size_t from) {
      return std::vector<uint32_t>(w.begin() + std::ptrdiff_t(std::min(from, w.size())), w.end());
    };
    const auto with_rest = [&](std::vector<uint32_t> first, size_t from) {
      const std::vector<uint32_t> more = rest(from);
      first.insert(first.end(), more.begin(), more.end());
      return first;
    };
    switch (op) {
      case kCapability:
        put(op, {w[1] == kCapabilityNv ? kCapabilityKhr : w[1]});
        break;
      case kExtension:
        extension(w);
        break;
      case kTypeInt:
        put(op, rest(1));
        if (w[1] == facts_.uint_type)
          for (uint32_t value = 0; value < kConstants; ++value)
            put(kConstant, {facts_.uint_type, constants_ + value, value});
        break;
      // Result, component type, scope, rows, columns
      case kTypeNv:
        put(kTypeKhr, {w[1], w[2], w[3], w[4], w[5], constants_ + use(w[4])});
        break;
      // Result type, result, pointer, stride, are columns side by side?, memory operands
      case kLoadNv:
        put(kLoadKhr, with_rest({w[1], w[2], w[3], layout(w[5]), w[4]}, 6));
        break;
      // Pointer, object, stride, are columns side by side?, memory operands
      case kStoreNv:
        put(kStoreKhr, with_rest({w[1], w[2], layout(w[4]), w[3]}, 5));
        break;
      case kMultiplyNv:
        put(kMultiplyKhr, rest(1));
        break;
      case kLengthNv:
        put(kLengthKhr, rest(1));
        break;
      default:
        put(op, rest(1));
    }
  }

  void extension(std::span<const uint32_t> w) {
    const auto* text = reinterpret_cast<const char*>(w.data() + 1);
    if (std::string_view(text, strnlen(text, 4 * (w.size() - 1))) != kExtensionNv)
      return put(kExtension, {w.begin() + 1, w.end()});
    std::vector<uint32_t> words(kExtensionKhr.size() / 4 + 1, 0);
    std::memcpy(words.data(), kExtensionKhr.data(), kExtensionKhr.size());
    put(kExtension, std::move(words));
  }

  uint32_t use(uint32_t rows) const {
    const auto found = facts_.spec_ids.find(rows);
    ensure(found != facts_.spec_ids.end() && found->second < kConstants,
           "a cooperative matrix type names no use: its rows are no specialization constant 0, 1 "
           "or 2");
    return found->second;
  }

  uint32_t layout(uint32_t columns_first) const {
    const auto found = facts_.booleans.find(columns_first);
    ensure(found != facts_.booleans.end(), "a cooperative matrix is loaded or stored in a layout that is not constant");
    return constants_ + (found->second ? 1 : 0);
  }

  const Words& module_;
  Facts facts_;
  Words result_;
  uint32_t constants_ = 0;
};

}  // namespace

std::vector<uint32_t> with_khr_cooperative_matrices(std::vector<uint32_t> module) {
  ensure(module.size() >= kHeaderWords, "a SPIR-V module of {} words", module.size());
  return Rewriter(module).run();
}

}  // namespace surtsey::shaders
