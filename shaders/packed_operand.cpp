#include "shaders/packed_operand.h"

#include <bit>
#include <cmath>

namespace surtsey::shaders {

using namespace graph;

namespace {

// A value with so many times fewer elements than the operand is one that neighbours share.
constexpr int64_t kShared = 8;

class Linear {
 public:
  Linear(Writer& writer, const Value& operand) : w_(writer), elements_(element_count(operand.shape())) {}

  // None: not linear in fields.
  std::optional<PackedNumber> of(uint32_t n, const Index& at) {
    const Node& node = w_.graph().node(n);
    if (is_shared(n)) return PackedNumber{{}, "", w_.value(n, at).text};
    if (is_view(node.op) && node.op != Op::pad) return of(node.inputs[0].node, operand_index(node, at));
    switch (node.op) {
      case Op::cast:
        return field(w_.graph().node(node.inputs[0].node), at);
      case Op::add:
      case Op::sub:
        return sum(node, at);
      case Op::mul:
        return product(node, at);
      default:
        return std::nullopt;
    }
  }

 private:
  Index operand_index(const Node& node, const Index& at) {
    return w_.context.operand_index(node, node.inputs[0].shape(), at);
  }

  bool is_shared(uint32_t n) const {
    const Node& base = w_.graph().node(behind_views(w_.graph(), n));
    return element_count(base.types[0].shape) * kShared <= elements_;
  }

  // What an expression without loads is at an element whose place is known.
  std::optional<double> constant(uint32_t n, const Index& at) {
    const Node& node = w_.graph().node(n);
    if (node.op == Op::constant) return std::get<LeafAttr>(node.attr).value;
    if (node.op == Op::iota) {
      const Affine& place = at[size_t(std::get<LeafAttr>(node.attr).axis)];
      return place.is_constant() ? std::optional(double(place.constant)) : std::nullopt;
    }
    if (is_view(node.op) && node.op != Op::pad) return constant(node.inputs[0].node, operand_index(node, at));
    const OpDef& op = definition(node.op);
    if (op.scalar == nullptr || op.family != Family::elementwise) return std::nullopt;
    double operands[3] = {};
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const auto operand = constant(node.inputs[i].node, at);
      if (!operand) return std::nullopt;
      operands[i] = *operand;
    }
    return op.scalar(operands, node.inputs[0].dtype());
  }

  // word / 2^shift mod 2^bits
  std::optional<PackedNumber> field(const Node& mod, const Index& at) {
    if (mod.op != Op::mod || mod.types[0].dtype != DType::u32) return std::nullopt;
    const Node& div = w_.graph().node(mod.inputs[0].node);
    if (div.op != Op::div) return std::nullopt;
    const auto range = constant(mod.inputs[1].node, at), divisor = constant(div.inputs[1].node, at);
    if (!range || !divisor || *divisor < 1) return std::nullopt;
    const auto size = uint32_t(*range), unit = uint32_t(*divisor);
    if (!std::has_single_bit(size) || !std::has_single_bit(unit)) return std::nullopt;
    const uint32_t mask = (size - 1) << std::countr_zero(unit);
    const std::string word = w_.value(div.inputs[0], at).text;
    return PackedNumber{{{w_.keep("float", fmt::format("float({} & {}u)", word, mask)), 1 / double(unit)}}, "", ""};
  }

  std::optional<PackedNumber> sum(const Node& node, const Index& at) {
    auto left = of_operand(node.inputs[0], at), right = of_operand(node.inputs[1], at);
    if (!left || !right) return std::nullopt;
    const bool minus = node.op == Op::sub;
    // Scaled fields on both sides would need both scales; a scaled one beside plain ones likewise.
    if (!left->fields.empty() && !right->fields.empty() && !(left->scale.empty() && right->scale.empty()))
      return std::nullopt;
    if (minus && !right->fields.empty()) return std::nullopt;
    PackedNumber result = left->fields.empty() ? *right : *left;
    if (!left->fields.empty() && !right->fields.empty())
      result.fields.insert(result.fields.end(), right->fields.begin(), right->fields.end());
    result.offset = joined(left->offset, right->offset, minus ? "-" : "+");
    return result;
  }

  std::optional<PackedNumber> product(const Node& node, const Index& at) {
    const auto known = [&](const Value& operand) { return constant(operand.node, at); };
    for (const size_t i : {0, 1}) {
      const auto factor = known(node.inputs[i]);
      if (!factor) continue;
      auto other = of_operand(node.inputs[1 - i], at);
      if (!other || !other->scale.empty() || !other->offset.empty()) break;
      for (PackedNumber::Field& field : other->fields) field.factor *= *factor;
      return other;
    }
    const auto left = of_operand(node.inputs[0], at), right = of_operand(node.inputs[1], at);
    if (!left || !right || left->fields.empty() == right->fields.empty()) return std::nullopt;
    const PackedNumber& shared = left->fields.empty() ? *left : *right;
    PackedNumber result = left->fields.empty() ? *right : *left;
    result.scale = result.scale.empty() ? shared.offset : times(result.scale, shared.offset);
    if (!result.offset.empty()) result.offset = times(result.offset, shared.offset);
    return result;
  }

  // A literal is a shared number too.
  std::optional<PackedNumber> of_operand(const Value& operand, const Index& at) {
    if (const auto value = constant(operand.node, at)) return PackedNumber{{}, "", glsl_constant(DType::f32, *value)};
    return of(operand.node, at);
  }

  static std::string times(const std::string& a, const std::string& b) { return fmt::format("({} * {})", a, b); }
  static std::string joined(const std::string& a, const std::string& b, const char* sign) {
    if (b.empty()) return a;
    if (a.empty()) return *sign == '-' ? fmt::format("(-{})", b) : b;
    return fmt::format("({} {} {})", a, sign, b);
  }

  Writer& w_;
  int64_t elements_;
};

}  // namespace

std::optional<PackedNumber> packed_number(Writer& writer, const Value& operand, const Index& at) {
  auto number = Linear(writer, operand).of(operand.node, at);
  return number && !number->fields.empty() ? number : std::nullopt;
}

}  // namespace surtsey::shaders
