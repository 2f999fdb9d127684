// Writes the GLSL of one kernel: nested frames (loops, guards) and the expressions of graph nodes at symbolic indices.
// What does not depend on an inner loop is written outside it.
#pragma once

#include "graph/index.h"
#include "graph/kernel.h"
#include "graph/target.h"
#include "shaders/shader.h"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::shaders {

// GLSL text and the depth of the frame it needs: 0 is the whole shader, constants need none.
struct Expression {
  std::string text;
  int depth = 0;
};

// Inputs and outputs of the kernel are named by their place in Kernel::inputs and Kernel::outputs; the binding of an
// output is that after all inputs.
class Writer {
 public:
  // alignment: by binding, the bytes at whose multiples it begins wherever the kernel is dispatched (at most 16);
  // empty: not known.
  Writer(const graph::Kernel& kernel, const graph::Graph& graph, const graph::Target& target,
         std::vector<uint32_t> alignment = {});

  graph::IndexContext context;

  // A nested block `header { ... }`. Values go into the outermost block that their index allows, but never out of a
  // guard: a load that it protects may be illegal before it.
  void open(std::string header, bool guard = false);
  // The same for a loop that the driver shall write out, or shall not.
  enum class Unroll : uint8_t { always, never };
  void open_loop(const std::string& header, Unroll unroll);
  void close();
  void line(std::string text);
  int depth() const { return int(frames_.size()) - 1; }
  // Goes to the top of the file, once: shared arrays.
  void global(std::string text);
  // The name of a function of graph/ops/glsl_helpers.h, to be called in what is written next.
  std::string helper(const char* name);
  // Cooperative matrices are in what is written next.
  void use_cooperative_matrices() { needs_.cooperative_matrices = true; }

  // An index variable must have a value before an index that contains it is written. declare(): it has one from here on
  // in the current frame, as the header of the loop says. define(): it is this text there. A variable of extent 1 is
  // the constant 0 everywhere (IndexContext::variable) and both pass over it.
  void declare(const graph::Affine& variable);
  void define(const graph::Affine& variable, const std::string& text);

  std::string index(const graph::Affine& affine);
  // Element `at` of the value of a node, as an expression.
  Expression value(uint32_t node, const graph::Index& at);
  Expression value(const graph::Value& value, const graph::Index& at) { return this->value(value.node, at); }
  // From here on in the current frame node n, where it is asked for, is this text: accumulators, results of reductions.
  void bind(uint32_t node, const std::string& text);
  // From here on in the current frame element `at` of node n is this text: a value that was loaded ahead.
  void remember(uint32_t node, const graph::Index& at, const std::string& text);
  // A fresh name in the current frame holding the text; type is the GLSL type.
  std::string keep(const char* type, const std::string& text);

  // Where the element with this flat index in the value lies in an output: for kernels that write a value in several
  // steps.
  std::string place(size_t output, const graph::Affine& flat);
  // Writes these outputs at the element whose flat index is `full`; all values are computed before the first store.
  void store(const graph::Affine& full, const std::vector<size_t>& outputs);
  std::vector<size_t> all_outputs() const;
  // Whether the elements of an output at an even flat index and the next one may be stored as one word, which lavapipe
  // does in the time of one: its stores are scatters, lane by lane.
  bool pairs(size_t output) const;
  // The output's value at the flat index, and both of a pair into memory.
  std::string result(const graph::Affine& full, size_t output);
  void store_pair(const graph::Affine& full, size_t output, const std::string& first, const std::string& second);

  // How many elements of an input that lie side by side one load of 16 bytes may bring, from multiples of that number
  // on; else 1.
  int64_t run_of(size_t input) const;
  // The uvec4 that holds the run of an input's elements which begins at this index, and element r of one such.
  std::string load_run(size_t input, const graph::Index& at);
  static std::string of_run(graph::DType dtype, const std::string& run, int64_t r);

  // From here on two neighbours of this input, the first at an even place, are loaded as one word (of 64 bits, or of
  // 32) where what is asked for allows it: lavapipe's loads are gathers, whose time goes by lanes and not by bytes.
  // Only where pairs can be stored, else false.
  bool load_in_pairs(size_t input);

  Shader finish(uint32_t workgroups, uint32_t local_size, uint32_t subgroup_size = 0);

  const graph::Kernel& kernel() const { return kernel_; }
  const graph::Graph& graph() const { return graph_; }
  const graph::Target& target() const { return target_; }

 private:
  struct Frame {
    std::string header;
    std::string text;
    bool guard = false;
    std::map<std::string, Expression> cache;  // node and index -> where its value is
    std::vector<uint32_t> variables;          // index variables defined here
    std::vector<uint32_t> bound;              // nodes bound here
  };

  // What the text needs beyond the core of GLSL, recorded as it is written; finish() declares it.
  struct Needs {
    bool helpers = false;
    bool bfloat16 = false;  // rounding to it
    bool loop_attributes = false;
    bool cooperative_matrices = false;
    std::set<size_t> pairs, runs;  // bindings that are stored by pairs, or loaded by runs of 16 bytes
    std::set<size_t> read_pairs;   // or loaded by pairs
  };

  // define() in the outermost frame that a text which needs `depth` may stand in.
  void define_at(int depth, const graph::Affine& variable, const std::string& text);
  int variable_depth(uint32_t variable);  // defines derived variables on the way
  int affine_depth(const graph::Affine& affine);
  std::string terms(const graph::Affine& affine) const;
  std::string key(uint32_t node, const graph::Index& at);  // of the caches
  // The outermost frame an expression that needs `depth` may stand in, seen from here.
  int hoisted(int depth) const;
  Expression emit(int depth, const char* type, const std::string& text);
  Expression load(size_t binding, const graph::View& view, const graph::Index& at);
  Expression load_of_pair(size_t binding, const graph::View& view, const graph::Affine& address);
  Expression compute(uint32_t node, const graph::Index& at);
  Expression padded(const graph::Node& node, const graph::Index& at);
  Expression concatenated(const graph::Node& node, const graph::Index& at);
  Expression gathered(const graph::Node& node, const graph::Index& at);
  Expression updated(const graph::Node& node, const graph::Index& at);
  std::string element(size_t binding, const std::string& at) const;
  size_t binding_of(size_t output) const { return kernel_.inputs.size() + output; }

  // ---- parts of the file ----
  size_t bindings() const { return kernel_.inputs.size() + kernel_.outputs.size(); }
  bool is_input(size_t binding) const { return binding < kernel_.inputs.size(); }
  graph::DType stored_dtype(size_t binding) const;
  bool addressed() const { return target_.addressing == graph::Addressing::address; }
  std::string reference_type(size_t binding) const;
  bool reads_pairs_of(int64_t bytes) const;
  std::string extensions(bool subgroups) const;
  std::string buffers() const;
  std::string references() const;

  const graph::Kernel& kernel_;
  const graph::Graph& graph_;
  const graph::Target& target_;
  std::vector<uint32_t> alignment_;
  std::vector<Frame> frames_;
  std::vector<int> defined_;  // index variable -> depth, -1: not in scope
  std::map<uint32_t, std::vector<Expression>> bound_;
  std::map<uint32_t, size_t> inputs_;  // node -> binding
  std::set<size_t> in_pairs_;          // inputs that may be loaded so
  std::string globals_;
  Needs needs_;
  uint32_t names_ = 0;
};

const char* glsl_type(graph::DType dtype);  // what arithmetic is done in
std::string glsl_constant(graph::DType dtype, double value);
// A row's OpDef::glsl with these operands for $0, $1, .. and this type for $t.
std::string fill_in(const char* pattern, const std::vector<std::string>& operands, const char* type = "");

}  // namespace surtsey::shaders
