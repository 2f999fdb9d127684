// The graph: append-only, typed, single assignment, hash-consed. Building the same node twice gives the same node, so
// common subexpressions cost nothing; parameter and assign are told apart by name and never merged wrongly.
#pragma once

#include "graph/error.h"
#include "graph/op.h"

#include <map>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace surtsey::graph {

// A handle to one output of one node.
struct Value {
  Graph* graph = nullptr;
  uint32_t node = 0;
  uint32_t output = 0;

  explicit operator bool() const { return graph != nullptr; }
  bool operator==(const Value&) const = default;
  const Type& type() const;
  const Shape& shape() const { return type().shape; }
  DType dtype() const { return type().dtype; }
  int64_t rank() const { return int64_t(shape().size()); }
  int64_t dim(int64_t axis) const;  // negative counts from the back
};

struct Node {
  Op op;
  std::vector<Value> inputs;
  Attr attr;
  std::vector<Type> types;  // one per output
  uint32_t scope = 0;       // index into Graph::scopes()
};

// What of a training step a node belongs to. Everything is forward but what differentiate() adds and what a scope is
// opened as.
enum class Phase : uint8_t { forward, backward, optimizer };
const char* name(Phase phase);

// Where a node came from: the scope path of the model (`blocks.0.attention`) and the line that opened the scope. A node
// of the backward graph has the place of the forward node it differentiates.
struct Scope {
  std::string path;
  std::string file;
  uint32_t line = 0;
  Phase phase = Phase::forward;
  bool operator==(const Scope&) const = default;
};

// A state tensor takes a new value at the end of a run. Every read of the parameter, anywhere in the graph, sees the
// old value.
struct Assignment {
  Value parameter;
  Value value;
};

class Graph {
 public:
  Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Appends (or finds) a node; infers and checks its types.
  Value add(Op op, std::vector<Value> inputs, Attr attr = NoAttr{});
  // The tensor of that name: an input, a weight, optimizer state, a counter. UserError when it exists with another
  // type.
  Value parameter(std::string name, Type type);
  void assign(Value parameter, Value value);  // UserError: not a parameter, types differ, assigned twice

  const Node& node(uint32_t index) const { return nodes_[index]; }
  const Node& node(Value value) const { return nodes_[value.node]; }
  uint32_t size() const { return uint32_t(nodes_.size()); }
  const std::vector<Assignment>& assignments() const { return assignments_; }
  const std::map<std::string, Value>& parameters() const { return parameters_; }
  const std::vector<Scope>& scopes() const { return scopes_; }
  const Scope& scope(uint32_t node) const { return scopes_[nodes_[node].scope]; }

  // Nodes added while a scope is open belong to it. See ScopeGuard. Without a phase it is that of the scope outside.
  void push_scope(std::string_view name, std::source_location where, std::optional<Phase> phase = {});
  void pop_scope();
  // For passes that copy nodes from another graph: new nodes take this origin until it is changed.
  void set_scope(const Scope& scope);
  const Scope& current_scope() const { return scopes_[scope_stack_.back()]; }

 private:
  std::vector<Node> nodes_;
  std::vector<Assignment> assignments_;
  std::map<std::string, Value> parameters_;
  std::vector<Scope> scopes_;
  std::vector<uint32_t> scope_stack_;
  std::unordered_multimap<size_t, uint32_t> index_;  // hash of a node -> node
};

class ScopeGuard {
 public:
  ScopeGuard(Graph& graph, std::string_view name, std::source_location where = std::source_location::current())
      : graph_(graph) {
    graph_.push_scope(name, where);
  }
  ScopeGuard(Graph& graph, std::string_view name, Phase phase,
             std::source_location where = std::source_location::current())
      : graph_(graph) {
    graph_.push_scope(name, where, phase);
  }
  ~ScopeGuard() { graph_.pop_scope(); }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Graph& graph_;
};

struct AttentionForm;

// A named body of primitives with several results (attention, say). Its body is its meaning and its default lowering; a
// kernel may claim it whole. `gradient`, where given, builds the operand gradients from (inputs, results, result
// gradients; an empty Value is zero).
struct Region {
  std::string name;
  std::shared_ptr<Graph> body;
  std::vector<Value> parameters;  // of body, in operand order
  std::vector<Value> results;     // of body
  std::function<std::vector<Value>(std::span<const Value> inputs, std::span<const Value> results,
                                   std::span<const Value> gradients)>
      gradient;
  std::shared_ptr<const AttentionForm>
      attention;  // attention and its gradients: what a kernel must know to claim it (attention.h)
};

// What is compiled or interpreted: a graph, the values to read back, and the graph's assignments.
struct Program {
  std::shared_ptr<Graph> graph;
  std::vector<std::pair<std::string, Value>> outputs;
};

// ---- builders: elementwise ops broadcast their operands by numpy's rule ----
Value constant(Graph& graph, double value, Type type);
Value constant_like(Value like, double value);  // same type as `like`
Value scalar(Graph& graph, double value, DType dtype = DType::f32);
Value iota(Graph& graph, Type type, int64_t axis);  // the index along axis; i32, u32 or f32

Value neg(Value x);
Value abs(Value x);
Value exp(Value x);
Value log(Value x);
Value sqrt(Value x);
Value rsqrt(Value x);
Value sin(Value x);
Value cos(Value x);
Value tanh(Value x);
Value erf(Value x);
Value floor(Value x);
Value is_finite(Value x);  // boolean, by the bits
Value logical_not(Value x);
Value cast(Value x, DType dtype);  // float to integer truncates towards zero

Value add(Value a, Value b);
Value sub(Value a, Value b);
Value mul(Value a, Value b);
Value div(Value a, Value b);
Value mod(Value a, Value b);  // integers; the result of u32 % u32, i32 operands must not be negative
Value max(Value a, Value b);
Value min(Value a, Value b);
Value equal(Value a, Value b);
Value less(Value a, Value b);
Value logical_and(Value a, Value b);
Value logical_or(Value a, Value b);
Value select(Value condition, Value if_true, Value if_false);
// Philox-2x32-10 (Salmon et al. 2011): u32 bits from key `seed` and counter (`index`, `step`); see random.h.
Value random_bits(Value seed, Value step, Value index);

Value operator+(Value a, Value b);
Value operator-(Value a, Value b);
Value operator*(Value a, Value b);
Value operator/(Value a, Value b);
Value operator-(Value a);
Value operator+(Value a, double b);
Value operator-(Value a, double b);
Value operator*(Value a, double b);
Value operator/(Value a, double b);
Value operator+(double a, Value b);
Value operator-(double a, Value b);
Value operator*(double a, Value b);
Value operator/(double a, Value b);

Value reshape(Value x, Shape shape);                // one extent may be -1
Value permute(Value x, std::vector<int64_t> axes);  // result axis i is source axis axes[i]
Value transpose(Value x);                           // swaps the last two axes
Value broadcast(Value x, Shape shape);              // numpy's rule, any rank
Value slice(Value x, int64_t axis, int64_t start, int64_t stop);
Value slice(Value x, Shape start, Shape stop);
Value pad(Value x, Shape low, Shape high, double value = 0);
Value concat(std::vector<Value> parts, int64_t axis);

// Reductions keep the reduced axes with extent 1 in the IR; keep = false drops them with a reshape. Negative axes count
// from the back.
Value sum(Value x, std::vector<int64_t> axes, bool keep = true);
Value mean(Value x, std::vector<int64_t> axes, bool keep = true);
Value reduce_max(Value x, std::vector<int64_t> axes, bool keep = true);
Value argmax(Value x, int64_t axis, bool keep = true);  // u32, the first of equals

// [..., M, K] @ [..., K, N] -> [..., M, N]. Leading axes broadcast.
Value matmul(Value a, Value b);

// x[batch..., pre..., R, post...], index[batch..., n...] (u32) -> x.shape[:axis] + n... + post..., reading row index
// along `axis`; the first `batch` axes of x and index go together. An index past the end reads row R-1.
Value gather(Value x, Value index, int64_t axis = 0, int64_t batch = 0);
// index[batch..., n...], updates[batch..., n..., tail...] -> [batch..., rows, tail...]: sums updates by index. The
// gradient of gather.
Value scatter_add(Value index, Value updates, int64_t rows, int64_t batch = 0);
// x with x[start : start + update.dim(axis)] along axis replaced. start is u32, clamped so that the update fits: one
// for all, or one for each place of x's first axes (before `axis`).
Value slice_update(Value x, Value update, Value start, int64_t axis);

// Inlines nothing: adds one region node and returns its results.
std::vector<Value> region(std::shared_ptr<const Region> region, std::vector<Value> inputs);
// Copies the body of a region into `graph` with `inputs` for its parameters.
std::vector<Value> inline_region(Graph& graph, const Region& region, std::span<const Value> inputs);

}  // namespace surtsey::graph
