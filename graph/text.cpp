#include "graph/text.h"

#include "graph/rewrite.h"

#include <cctype>
#include <charconv>
#include <cstdlib>
#include <type_traits>

namespace surtsey::graph {

namespace {

// ---- printing ----
std::string number(double value, DType dtype) {
  if (dtype == DType::f32) return fmt::format("{}", static_cast<float>(value));
  if (is_float(dtype)) return fmt::format("{}", value);
  return fmt::format("{}", static_cast<int64_t>(value));
}

std::string in_quotes(std::string_view name) {
  std::string text = "\"";
  for (const char letter : name) {
    if (letter == '"' || letter == '\\') text += '\\';
    text += letter;
  }
  return text + '"';
}

// What stands between the operands and the type. Each kind of attribute prints one way.
struct PrintAttr {
  const Node& node;
  std::string operator()(const NoAttr&) const { return ""; }
  std::string operator()(const LeafAttr& a) const {
    if (node.op == Op::parameter) return " " + in_quotes(a.name);
    if (node.op == Op::iota) return fmt::format(" axis={}", a.axis);
    return " " + number(a.value, a.type.dtype);
  }
  std::string operator()(const AxisAttr& a) const { return fmt::format(" axis={}", a.axis); }
  std::string operator()(const AxesAttr& a) const { return " axes=" + to_string(a.axes); }
  std::string operator()(const TypeAttr&) const { return ""; }
  std::string operator()(const SliceAttr& a) const {
    return fmt::format(" start={} stop={}", to_string(a.start), to_string(a.stop));
  }
  std::string operator()(const PadAttr& a) const {
    return fmt::format(" low={} high={} value={}", to_string(a.low), to_string(a.high),
                       number(a.value, node.types[0].dtype));
  }
  std::string operator()(const GatherAttr& a) const { return fmt::format(" axis={} batch={}", a.axis, a.batch); }
  std::string operator()(const ScatterAttr& a) const { return fmt::format(" rows={} batch={}", a.rows, a.batch); }
  std::string operator()(const RegionAttr& a) const { return " " + in_quotes(a.region->name); }
};

template <typename Rename>
std::string line(const Graph& graph, uint32_t index, Rename rename) {
  const Node& node = graph.node(index);
  std::string text = fmt::format("%{} = {}", rename(index), definition(node.op).name);
  for (const Value& input : node.inputs) {
    text += fmt::format(" %{}", rename(input.node));
    if (graph.node(input.node).types.size() > 1) text += fmt::format(".{}", input.output);
  }
  text += std::visit(PrintAttr{node}, node.attr);
  text += " : ";
  for (size_t output = 0; output < node.types.size(); ++output) {
    if (output > 0) text += ", ";
    text += to_string(node.types[output]);
  }
  const Scope& scope = graph.scope(index);
  if (!scope.path.empty()) {
    text.resize(std::max<size_t>(text.size(), 56), ' ');
    text += fmt::format("  @{} {}:{}", scope.path, scope.file, scope.line);
    if (scope.phase != Phase::forward) text += fmt::format(" {}", name(scope.phase));
  }
  return text;
}

// ---- parsing ----
// Reads one line at a time and complains with line and column.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Program parse() {
    Program program{std::make_shared<Graph>(), {}};
    graph_ = program.graph.get();
    while (next_line()) {
      if (at_end() || peek() == '#') continue;
      if (peek() == '%') {
        parse_node();
      } else if (const std::string word = identifier(); word == "assign") {
        const Value parameter = operand();
        const Value value = operand();
        blame([&] { graph_->assign(parameter, value); });
      } else if (word == "output") {
        std::string name = string();
        program.outputs.emplace_back(std::move(name), operand());
      } else {
        fail("expected a node, 'assign' or 'output', not '" + word + "'");
      }
      if (!at_end()) fail("unexpected text");
    }
    return program;
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw UserError(fmt::format("line {}, column {}: {}", line_number_, at_ + 1, message));
  }

  // Gives errors of the builder the position in the text.
  template <typename Function>
  std::invoke_result_t<Function> blame(Function function) const {
    try {
      return function();
    } catch (const UserError& error) {
      fail(error.what());
    }
  }

  bool next_line() {
    if (text_.empty()) return false;
    const size_t end = text_.find('\n');
    line_ = text_.substr(0, end);
    text_ = end == std::string_view::npos ? std::string_view() : text_.substr(end + 1);
    at_ = 0;
    ++line_number_;
    return true;
  }

  void skip_spaces() {
    while (at_ < line_.size() && (line_[at_] == ' ' || line_[at_] == '\t' || line_[at_] == '\r')) {
      ++at_;
    }
  }
  bool at_end() {
    skip_spaces();
    return at_ >= line_.size();
  }
  char peek() {
    skip_spaces();
    return at_ < line_.size() ? line_[at_] : '\0';
  }
  bool accept(std::string_view token) {
    skip_spaces();
    if (line_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token)) fail(fmt::format("expected '{}'", token));
  }

  std::string identifier() {
    skip_spaces();
    const size_t start = at_;
    while (at_ < line_.size() && (std::isalnum(static_cast<unsigned char>(line_[at_])) || line_[at_] == '_')) {
      ++at_;
    }
    if (at_ == start) fail("expected a name");
    return std::string(line_.substr(start, at_ - start));
  }

  std::string string() {
    expect("\"");
    std::string result;
    while (at_ < line_.size() && line_[at_] != '"') {
      if (line_[at_] == '\\') ++at_;
      if (at_ < line_.size()) result += line_[at_++];
    }
    if (at_ >= line_.size()) fail("the string does not end");
    ++at_;
    return result;
  }

  int64_t integer() {
    skip_spaces();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(line_.data() + at_, line_.data() + line_.size(), value);
    if (error != std::errc()) fail("expected a whole number");
    at_ = static_cast<size_t>(end - line_.data());
    return value;
  }

  double real() {
    skip_spaces();
    const std::string rest(line_.substr(at_));
    char* end = nullptr;
    const double value = std::strtod(rest.c_str(), &end);
    if (end == rest.c_str()) fail("expected a number");
    at_ += static_cast<size_t>(end - rest.c_str());
    return value;
  }

  Shape list() {
    Shape result;
    expect("[");
    if (accept("]")) return result;
    do result.push_back(integer());
    while (accept(","));
    expect("]");
    return result;
  }

  Type type() {
    const std::string word = identifier();
    const DType dtype = blame([&] { return dtype_from_name(word); });
    return Type{dtype, list()};
  }

  Value operand() {
    expect("%");
    const auto index = static_cast<size_t>(integer());
    if (index >= values_.size()) fail(fmt::format("%{} is not defined yet", index));
    return values_[index];
  }

  int64_t field(std::string_view name) {
    expect(name);
    expect("=");
    return integer();
  }
  Shape list_field(std::string_view name) {
    expect(name);
    expect("=");
    return list();
  }

  // The attribute of an op without its type, which comes later on the line. The samples of the row
  // show its kind.
  Attr attribute(const OpDef& row) {
    if (row.op == Op::parameter) return LeafAttr{{}, string()};
    if (row.op == Op::constant) return LeafAttr{{}, "", real()};
    if (row.op == Op::iota) return LeafAttr{{}, "", 0, field("axis")};
    if (row.samples.empty()) fail(fmt::format("'{}' has no text form that can be read", row.name));
    Attr attr = row.samples.front().attr;
    if (auto* axis = std::get_if<AxisAttr>(&attr)) axis->axis = field("axis");
    if (auto* axes = std::get_if<AxesAttr>(&attr)) axes->axes = list_field("axes");
    if (auto* slice = std::get_if<SliceAttr>(&attr)) {
      slice->start = list_field("start");
      slice->stop = list_field("stop");
    }
    if (auto* pad = std::get_if<PadAttr>(&attr)) {
      pad->low = list_field("low");
      pad->high = list_field("high");
      expect("value");
      expect("=");
      pad->value = real();
    }
    if (auto* gather = std::get_if<GatherAttr>(&attr)) {
      gather->axis = field("axis");
      gather->batch = field("batch");
    }
    if (auto* scatter = std::get_if<ScatterAttr>(&attr)) {
      scatter->rows = field("rows");
      scatter->batch = field("batch");
    }
    return attr;
  }

  void parse_node() {
    expect("%");
    if (static_cast<size_t>(integer()) != values_.size()) {
      fail(fmt::format("nodes must be numbered in order: expected %{}", values_.size()));
    }
    expect("=");
    const std::string op_name = identifier();
    const OpDef* row = find_op(op_name);
    if (row == nullptr) fail("there is no op '" + op_name + "'");
    std::vector<Value> inputs;
    while (peek() == '%') inputs.push_back(operand());
    Attr attr = attribute(*row);
    expect(":");
    const Type declared = type();
    if (auto* leaf = std::get_if<LeafAttr>(&attr)) leaf->type = declared;
    if (auto* typed = std::get_if<TypeAttr>(&attr)) typed->type = declared;
    parse_scope();
    const Value value = blame([&] { return graph_->add(row->op, std::move(inputs), std::move(attr)); });
    if (value.type() != declared) {
      fail(fmt::format("'{}' gives {}, not {}", op_name, to_string(value.type()), to_string(declared)));
    }
    values_.push_back(value);
  }

  void parse_scope() {
    Scope scope;
    if (accept("@")) {
      const auto word = [&] {
        skip_spaces();
        const size_t start = at_;
        while (at_ < line_.size() && line_[at_] != ' ') ++at_;
        return std::string(line_.substr(start, at_ - start));
      };
      scope.path = word();
      const std::string place = word();
      const size_t colon = place.rfind(':');
      if (colon != std::string::npos) {
        scope.file = place.substr(0, colon);
        scope.line = static_cast<uint32_t>(std::strtoul(place.c_str() + colon + 1, nullptr, 10));
      }
      const std::string phase = word();
      for (const Phase known : {Phase::backward, Phase::optimizer}) {
        if (phase == name(known)) scope.phase = known;
      }
    }
    graph_->set_scope(scope);
  }

  std::string_view text_;
  std::string_view line_;
  size_t at_ = 0;
  int line_number_ = 0;
  Graph* graph_ = nullptr;
  std::vector<Value> values_;
};

}  // namespace

std::string print(const Program& program, bool everything) {
  const Graph& graph = *program.graph;
  std::vector<Value> wanted = roots(program);
  for (const Assignment& assignment : graph.assignments()) wanted.push_back(assignment.parameter);
  std::vector<uint32_t> order;
  if (everything) {
    for (uint32_t index = 0; index < graph.size(); ++index) order.push_back(index);
  } else {
    order = reachable(graph, wanted);
  }
  std::vector<uint32_t> numbers(graph.size(), 0);
  for (uint32_t i = 0; i < order.size(); ++i) numbers[order[i]] = i;
  const auto rename = [&](uint32_t index) { return numbers[index]; };
  const auto reference = [&](const Value& value) {
    std::string text = fmt::format("%{}", numbers[value.node]);
    if (graph.node(value).types.size() > 1) text += fmt::format(".{}", value.output);
    return text;
  };
  std::string text;
  for (const uint32_t index : order) text += line(graph, index, rename) + "\n";
  for (const Assignment& assignment : graph.assignments()) {
    text += fmt::format("assign {} {}\n", reference(assignment.parameter), reference(assignment.value));
  }
  for (const auto& [name, value] : program.outputs) {
    text += fmt::format("output {} {}\n", in_quotes(name), reference(value));
  }
  return text;
}

std::string print_node(const Graph& graph, uint32_t node) {
  return line(graph, node, [](uint32_t index) { return index; });
}

Program parse(std::string_view text) { return Parser(text).parse(); }

}  // namespace surtsey::graph
