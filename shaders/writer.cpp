#include "shaders/writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace surtsey::shaders {

using namespace graph;

const char* glsl_type(DType dtype) {
  switch (dtype) {
    case DType::i32:
      return "int";
    case DType::u32:
      return "uint";
    case DType::boolean:
      return "bool";
    default:
      return "float";
  }
}

std::string glsl_constant(DType dtype, double value) {
  if (dtype == DType::boolean) return value != 0 ? "true" : "false";
  if (dtype == DType::u32) return fmt::format("{}u", uint32_t(int64_t(value)));
  // The literal 2147483648 is no int, so the least int is written as a bit pattern.
  if (dtype == DType::i32)
    return value < 0 ? fmt::format("int({}u)", uint32_t(int32_t(value))) : fmt::format("{}", int32_t(value));
  const auto f = float(value);
  if (!std::isfinite(f)) {
    uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    return fmt::format("uintBitsToFloat({}u)", bits);
  }
  std::string text = fmt::format("{:.9g}", f);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return f < 0 ? "(" + text + ")" : text;
}

std::string fill_in(const char* pattern, const std::vector<std::string>& operands, const char* type) {
  std::string text;
  for (const char* c = pattern; *c != 0; ++c) {
    if (*c != '$') {
      text += *c;
    } else if (*++c == 't') {
      text += type;
    } else {
      text += operands.at(size_t(*c - '0'));
    }
  }
  return text;
}

Writer::Writer(const Kernel& kernel, const Graph& graph, const Target& target, std::vector<uint32_t> alignment)
    : kernel_(kernel), graph_(graph), target_(target), alignment_(std::move(alignment)) {
  frames_.emplace_back();
  for (size_t i = 0; i < kernel.inputs.size(); ++i) inputs_[kernel.inputs[i].value.node] = i;
}

// ---- frames ----

void Writer::open(std::string header, bool guard) {
  frames_.emplace_back();
  frames_.back().header = std::move(header);
  frames_.back().guard = guard;
}

void Writer::open_loop(const std::string& header, Unroll unroll) {
  needs_.loop_attributes = true;
  open((unroll == Unroll::always ? "[[unroll]] " : "[[dont_unroll]] ") + header);
}

void Writer::close() {
  Frame frame = std::move(frames_.back());
  frames_.pop_back();
  for (const uint32_t v : frame.variables) defined_[v] = -1;
  for (const uint32_t n : frame.bound) bound_[n].pop_back();
  frames_.back().text += frame.header + " {\n" + frame.text + "}\n";
}

void Writer::line(std::string text) { frames_.back().text += text + "\n"; }

void Writer::global(std::string text) { globals_ += text + "\n"; }

std::string Writer::helper(const char* name) {
  needs_.helpers = true;
  return name;
}

int Writer::hoisted(int depth) const {
  int at = int(frames_.size()) - 1;
  while (at > depth && !frames_[size_t(at)].guard) --at;
  return at;
}

Expression Writer::emit(int depth, const char* type, const std::string& text) {
  const int at = hoisted(depth);
  const std::string name = fmt::format("v{}", names_++);
  frames_[size_t(at)].text += fmt::format("{} {} = {};\n", type, name, text);
  return {name, at};
}

std::string Writer::keep(const char* type, const std::string& text) { return emit(depth(), type, text).text; }

void Writer::bind(uint32_t node, const std::string& text) {
  bound_[node].push_back({text, depth()});
  frames_.back().bound.push_back(node);
}

// ---- indices ----

void Writer::declare(const Affine& variable) {
  if (variable.is_constant()) return;
  ensure(variable.terms.size() == 1 && variable.constant == 0, "only a variable can be declared");
  const uint32_t v = variable.terms[0].variable;
  defined_.resize(std::max<size_t>(defined_.size(), context.size()), -1);
  defined_[v] = depth();
  frames_.back().variables.push_back(v);
}

void Writer::define(const Affine& variable, const std::string& text) {
  if (variable.is_constant()) return;
  declare(variable);
  line(fmt::format("uint {} = {};", context[variable.terms[0].variable].name, text));
}

void Writer::define_at(int depth, const Affine& variable, const std::string& text) {
  const int at = hoisted(depth);
  const uint32_t v = variable.terms[0].variable;
  frames_[size_t(at)].text += fmt::format("uint {} = {};\n", context[v].name, text);
  defined_.resize(std::max<size_t>(defined_.size(), context.size()), -1);
  defined_[v] = at;
  frames_[size_t(at)].variables.push_back(v);
}

int Writer::variable_depth(uint32_t v) {
  defined_.resize(std::max<size_t>(defined_.size(), context.size()), -1);
  if (defined_[v] >= 0) return defined_[v];
  const IndexContext::Variable variable = context[v];
  ensure(variable.kind != IndexContext::Kind::free, "loop variable {} is used outside its loop in kernel {}",
         variable.name, kernel_.name);
  const std::string of = index(variable.of);
  const int at = hoisted(affine_depth(variable.of));
  frames_[size_t(at)].text += fmt::format("uint {} = ({}) {} {}u;\n", variable.name, of,
                                          variable.kind == IndexContext::Kind::quotient ? "/" : "%", variable.divisor);
  defined_.resize(std::max<size_t>(defined_.size(), context.size()), -1);
  defined_[v] = at;
  frames_[size_t(at)].variables.push_back(v);
  return at;
}

int Writer::affine_depth(const Affine& affine) {
  int depth = 0;
  for (const auto& term : affine.terms) depth = std::max(depth, variable_depth(term.variable));
  return depth;
}

std::string Writer::terms(const Affine& affine) const {
  std::string text;
  for (const auto& term : affine.terms) {
    if (!text.empty()) text += " + ";
    // Negative factors do not arise from views; unsigned arithmetic would wrap back to the same sum in any case.
    text += term.factor == 1 ? context[term.variable].name
                             : fmt::format("{} * {}u", context[term.variable].name, uint32_t(term.factor));
  }
  if (affine.constant != 0 || text.empty())
    text += fmt::format("{}{}u", text.empty() ? "" : " + ", uint32_t(affine.constant));
  return text;
}

std::string Writer::index(const Affine& affine) {
  const int deepest = affine_depth(affine);
  // The part that outer frames know is summed there.
  Affine outer, inner;
  for (const auto& term : affine.terms) (variable_depth(term.variable) < deepest ? outer : inner).terms.push_back(term);
  if (outer.terms.empty() || (outer.terms.size() == 1 && outer.terms[0].factor == 1)) return terms(affine);
  const std::string key = "index " + terms(outer);
  inner.constant = affine.constant;
  const int at = hoisted(affine_depth(outer));
  auto& cache = frames_[size_t(at)].cache;
  auto found = cache.find(key);
  if (found == cache.end()) {
    const Expression base = emit(at, "uint", terms(outer));
    found = frames_[size_t(at)].cache.emplace(key, base).first;
  }
  return found->second.text + " + " + terms(inner);
}

// ---- values ----

std::string Writer::element(size_t binding, const std::string& at) const {
  return target_.addressing == Addressing::address
             ? fmt::format("b{}.v[{}]", binding, at)
             : fmt::format("b{}.v[arguments.first[{}] + {}]", binding, binding, at);
}

Expression Writer::load(size_t binding, const View& view, const Index& at) {
  const Affine address = context.linearize(at, view.strides);
  const auto even = [](const Affine::Term& term) { return term.factor % 2 == 0; };
  // A pad's index is negative where a guard keeps it from being read.
  if (in_pairs_.contains(binding) && address.constant >= 0 &&
      std::all_of(address.terms.begin(), address.terms.end(), even))
    return load_of_pair(binding, view, address);
  const std::string place = index(address);
  std::string text = element(binding, place);
  if (view.dtype == DType::boolean) text = "(" + text + " != 0u)";
  if (view.dtype == DType::bf16) text = "uintBitsToFloat(uint(" + text + ") << 16)";
  if (view.dtype == DType::f16) text = "float(" + text + ")";
  return emit(affine_depth(address), glsl_type(view.dtype), text);
}

bool Writer::load_in_pairs(size_t input) {
  const View& view = kernel_.inputs[input].view;
  const DType dtype = view.dtype;
  // The last element of an odd number has no neighbour.
  if (element_count(view.shape) == 1) return false;
  for (size_t d = 0; d < view.shape.size(); ++d)
    if (view.strides[d] == 1 && view.shape[d] > 1 && view.shape[d] % 2 != 0) return false;
  if (dtype == DType::boolean || !target_.stores_pairs() || input >= alignment_.size() ||
      alignment_[input] % uint32_t(2 * storage_bytes(dtype)) != 0)
    return false;
  in_pairs_.insert(input);
  return true;
}

Expression Writer::load_of_pair(size_t binding, const View& view, const Affine& address) {
  Affine half = address;
  for (auto& term : half.terms) term.factor /= 2;
  half.constant = address.constant / 2;
  const std::string place = index(half), key = fmt::format("pair {} {}", binding, place);
  const int at = hoisted(affine_depth(half));
  auto& cache = frames_[size_t(at)].cache;
  auto found = cache.find(key);
  if (found == cache.end()) {
    needs_.read_pairs.insert(binding);
    const std::string word = fmt::format("twos{}.v[{}]", binding, place);
    const bool wide = storage_bytes(view.dtype) == 4, halves = view.dtype == DType::f16;
    const Expression pair = emit(at,
                                 wide     ? "uvec2"
                                 : halves ? "vec2"
                                          : "uint",
                                 wide     ? fmt::format("unpackUint2x32({})", word)
                                 : halves ? fmt::format("unpackHalf2x16({})", word)
                                          : word);
    found = frames_[size_t(at)].cache.emplace(key, pair).first;
  }
  const int64_t second = address.constant % 2;
  if (view.dtype == DType::bf16)
    return emit(at, "float",
                fmt::format("uintBitsToFloat({} {})", found->second.text, second ? "& 0xffff0000u" : "<< 16"));
  const std::string word = fmt::format("{}[{}]", found->second.text, second);
  if (view.dtype == DType::u32 || view.dtype == DType::f16) return {word, at};
  return emit(at, glsl_type(view.dtype),
              fmt::format("{}({})", view.dtype == DType::f32 ? "uintBitsToFloat" : "int", word));
}

std::string Writer::key(uint32_t n, const Index& at) {
  std::string text = fmt::format("{}", n);
  for (const Affine& a : at) {
    affine_depth(a);  // defines what it names
    text += " [" + terms(a) + "]";
  }
  return text;
}

void Writer::remember(uint32_t n, const Index& at, const std::string& text) {
  frames_.back().cache[key(n, at)] = {text, depth()};
}

Expression Writer::value(uint32_t n, const Index& at) {
  const auto bound = bound_.find(n);
  if (bound != bound_.end() && !bound->second.empty()) return bound->second.back();
  const Node& node = graph_.node(n);
  if (node.op == Op::constant) return {glsl_constant(node.types[0].dtype, std::get<LeafAttr>(node.attr).value), 0};

  const std::string key = this->key(n, at);
  for (auto frame = frames_.rbegin(); frame != frames_.rend(); ++frame) {
    const auto found = frame->cache.find(key);
    if (found != frame->cache.end()) return found->second;
  }
  const auto input = inputs_.find(n);
  const Expression result =
      input != inputs_.end() ? load(input->second, kernel_.inputs[input->second].view, at) : compute(n, at);
  frames_[size_t(result.depth)].cache[key] = result;
  return result;
}

Expression Writer::compute(uint32_t n, const Index& at) {
  const Node& node = graph_.node(n);
  const OpDef& op = definition(node.op);
  const DType dtype = node.types[0].dtype;
  if (node.op == Op::iota) {
    const Affine& place = at[size_t(std::get<LeafAttr>(node.attr).axis)];
    const std::string text = index(place);
    return emit(affine_depth(place), glsl_type(dtype), fmt::format("{}({})", glsl_type(dtype), text));
  }
  if (node.op == Op::pad) return padded(node, at);
  if (node.op == Op::concat) return concatenated(node, at);
  if (op.family == Family::movement)
    return value(node.inputs[0], context.operand_index(node, node.inputs[0].shape(), at));
  if (node.op == Op::gather) return gathered(node, at);
  if (node.op == Op::slice_update) return updated(node, at);
  ensure(op.family == Family::elementwise, "kernel {} cannot write {} into an expression", kernel_.name, op.name);

  std::vector<std::string> operands;
  int depth = 0;
  for (const Value& input : node.inputs) {
    const Expression operand = value(input, at);
    operands.push_back(operand.text);
    depth = std::max(depth, operand.depth);
  }
  needs_.helpers |= op.calls_helpers;
  return emit(depth, glsl_type(dtype), fill_in(op.glsl, operands, glsl_type(dtype)));
}

Expression Writer::padded(const Node& node, const Index& at) {
  const auto& attr = std::get<PadAttr>(node.attr);
  const Shape& operand = node.inputs[0].shape();
  std::string condition;
  int depth = 0;
  for (size_t d = 0; d < operand.size(); ++d) {
    const int64_t low = attr.low[d], high = attr.high[d];
    if (low == 0 && high == 0) continue;
    // A constant place is inside or it is not: what lies outside must not even be written down, as compilers refuse a
    // constant index out of range.
    if (at[d].is_constant()) {
      if (at[d].constant < low || at[d].constant >= low + operand[d])
        return {glsl_constant(node.types[0].dtype, attr.value), 0};
      continue;
    }
    const std::string place = index(at[d]);
    depth = std::max(depth, affine_depth(at[d]));
    if (low > 0) condition += fmt::format("{}{} >= {}u", condition.empty() ? "" : " && ", place, low);
    if (high > 0) condition += fmt::format("{}{} < {}u", condition.empty() ? "" : " && ", place, low + operand[d]);
  }
  const Index inner = context.operand_index(node, operand, at);
  if (condition.empty()) return value(node.inputs[0], inner);
  // The value may depend on more than the condition does: it lives in this frame.
  const char* type = glsl_type(node.types[0].dtype);
  const std::string name = keep(type, glsl_constant(node.types[0].dtype, attr.value));
  open("if (" + condition + ")", true);
  const Expression inside = value(node.inputs[0], inner);
  line(name + " = " + inside.text + ";");
  close();
  return {name, this->depth()};
}

// The part that the place lies in: the only one where that is known, else all of them at places that they have.
Expression Writer::concatenated(const Node& node, const Index& at) {
  const auto axis = size_t(std::get<AxisAttr>(node.attr).axis);
  const Affine& place = at[axis];
  Expression result;
  int64_t first = 0;
  for (const Value& part : node.inputs) {
    const int64_t extent = part.shape()[axis], least = place.constant, most = context.maximum(place);
    Index inner = at;
    if (least >= first && most < first + extent) {
      inner[axis] = context.add(place, Affine(-first));
      return value(part, inner);
    }
    if (least < first + extent && most >= first) {
      const std::string text = index(place);
      const Affine inside = context.variable(fmt::format("part{}", names_++), extent);
      inner[axis] = inside;
      if (!inside.is_constant()) {
        define_at(affine_depth(place), inside,
                  fmt::format("clamp({}, {}u, {}u) - {}u", text, first, first + extent - 1, first));
      }
      const Expression element = value(part, inner);
      const int depth = std::max({result.depth, element.depth, affine_depth(place)});
      result = result.text.empty() ? element
                                   : emit(depth, glsl_type(node.types[0].dtype),
                                          fmt::format("{} < {}u ? {} : {}", text, first, result.text, element.text));
    }
    first += extent;
  }
  return result;
}

Expression Writer::gathered(const Node& node, const Index& at) {
  GatherIndex place = gather_index(node, at);
  const Expression row = value(node.inputs[1], place.index);
  const auto axis = size_t(std::get<GatherAttr>(node.attr).axis);
  const int64_t rows = node.inputs[0].shape()[axis];
  const std::string name = fmt::format("row{}", names_++);
  const Affine variable = context.variable(name, rows);
  if (!variable.is_constant()) {
    define_at(row.depth, variable, fmt::format("min(uint({}), {}u)", row.text, rows - 1));
  }
  place.table[axis] = variable;
  return value(node.inputs[0], place.table);
}

Expression Writer::updated(const Node& node, const Index& at) {
  const auto axis = size_t(std::get<AxisAttr>(node.attr).axis);
  const int64_t rows = node.inputs[0].shape()[axis], length = node.inputs[1].shape()[axis];
  const Expression start = value(node.inputs[2], graph::start_index(node, at));
  const std::string begin = keep("uint", fmt::format("min(uint({}), {}u)", start.text, rows - length));
  const Expression old = value(node.inputs[0], at);
  const std::string result = keep(glsl_type(node.types[0].dtype), old.text);
  const std::string place = index(at[axis]);
  open(fmt::format("if ({} >= {} && {} - {} < {}u)", place, begin, place, begin, length), true);
  const std::string name = fmt::format("row{}", names_++);
  const Affine variable = context.variable(name, length);
  define(variable, fmt::format("{} - {}", place, begin));
  Index inner = at;
  inner[axis] = variable;
  const Expression update = value(node.inputs[1], inner);
  line(result + " = " + update.text + ";");
  close();
  return {result, depth()};
}

// ---- stores ----

std::vector<size_t> Writer::all_outputs() const {
  std::vector<size_t> outputs(kernel_.outputs.size());
  std::iota(outputs.begin(), outputs.end(), 0);
  return outputs;
}

std::string Writer::place(size_t output, const Affine& flat) {
  const View& view = kernel_.outputs[output].view;
  return element(binding_of(output), index(context.linearize(context.delinearize(flat, view.shape), view.strides)));
}

void Writer::store(const Affine& full, const std::vector<size_t>& outputs) {
  std::vector<std::string> statements;
  for (const size_t o : outputs) {
    const KernelOperand& output = kernel_.outputs[o];
    const Index at = context.delinearize(full, output.view.shape);
    std::string text = value(output.value, at).text;
    if (output.view.dtype == DType::boolean) text += " ? 1u : 0u";
    if (output.view.dtype == DType::f16) text = "float16_t(" + text + ")";
    if (output.view.dtype == DType::bf16) {
      text = "uint16_t(" + helper("surtsey_bf16") + "(" + text + "))";
      needs_.bfloat16 = true;
    }
    std::string place = index(context.linearize(at, output.view.strides));
    if (output.moved.start) {
      const size_t lead = output.moved.start.shape().size();
      const Expression start = value(output.moved.start, {at.begin(), at.begin() + std::ptrdiff_t(lead)});
      const std::string by =
          fmt::format("min(uint({}), {}u) * {}u", start.text, output.moved.last, output.moved.stride);
      place += " + " + emit(start.depth, "uint", by).text;
    }
    statements.push_back(element(binding_of(o), place) + " = " + text + ";");
  }
  for (auto& statement : statements) line(std::move(statement));
}

bool Writer::pairs(size_t o) const {
  const size_t binding = binding_of(o);
  const KernelOperand& output = kernel_.outputs[o];
  const View& view = output.view;
  if (!target_.stores_pairs() || binding >= alignment_.size() || alignment_[binding] % 8 != 0) return false;
  if (view.dtype != DType::f32 || output.moved.start || view.shape.empty() || view.shape.back() % 2 != 0 ||
      view.strides.back() != 1)
    return false;
  for (size_t d = 0; d + 1 < view.shape.size(); ++d)
    if (view.shape[d] > 1 && view.strides[d] % 2 != 0) return false;
  return true;
}

std::string Writer::result(const Affine& full, size_t o) {
  const KernelOperand& output = kernel_.outputs[o];
  return value(output.value, context.delinearize(full, output.view.shape)).text;
}

void Writer::store_pair(const Affine& full, size_t output, const std::string& first, const std::string& second) {
  const View& view = kernel_.outputs[output].view;
  const std::string place = index(context.linearize(context.delinearize(full, view.shape), view.strides));
  needs_.pairs.insert(binding_of(output));
  line(fmt::format("pairs{}.v[({}) / 2u] = packUint2x32(uvec2(floatBitsToUint({}), floatBitsToUint({})));",
                   binding_of(output), place, first, second));
}

int64_t Writer::run_of(size_t input) const {
  constexpr int64_t kBytes = 16;
  const View& view = kernel_.inputs[input].view;
  const bool number = view.dtype == DType::f32 || view.dtype == DType::f16 || view.dtype == DType::bf16;
  if (target_.addressing != Addressing::address || input >= alignment_.size() || alignment_[input] % kBytes != 0 ||
      !number)
    return 1;
  const int64_t run = kBytes / storage_bytes(view.dtype);
  for (size_t d = 0; d < view.shape.size(); ++d)
    if (view.shape[d] > 1 && view.strides[d] != 1 && view.strides[d] % run != 0) return 1;
  return run;
}

std::string Writer::load_run(size_t input, const Index& at) {
  const std::string place = index(context.linearize(at, kernel_.inputs[input].view.strides));
  needs_.runs.insert(input);
  return fmt::format("wide{}.v[({}) / {}u]", input, place, run_of(input));
}

std::string Writer::of_run(DType dtype, const std::string& run, int64_t r) {
  if (dtype == DType::f32) return fmt::format("uintBitsToFloat({}[{}])", run, r);
  if (dtype == DType::f16) return fmt::format("unpackHalf2x16({}[{}])[{}]", run, r / 2, r % 2);
  return fmt::format("uintBitsToFloat({}[{}] {})", run, r / 2, r % 2 == 0 ? "<< 16" : "& 0xffff0000u");
}

}  // namespace surtsey::shaders
