#include "shaders/archetypes.h"
#include "shaders/reduce_tile.h"

#include <algorithm>

namespace surtsey::shaders {

using namespace graph;

namespace {

// A reduction of the kernel, and the stage that can compute it: 1 + the latest stage whose results its operand needs.
struct Reduction {
  uint32_t node;
  int stage;
  std::string accumulator, second;  // second: the index of an argmax
};

class ReduceKernel {
 public:
  explicit ReduceKernel(Writer& writer)
      : w_(writer), loop_(loop_index(w_.context, Archetype::reduce, w_.kernel().space, w_.kernel().reduced)) {
    columns_ = loop_.full_count / std::max<int64_t>(1, loop_.row_count);
    for (const uint32_t n : w_.kernel().members)
      if (definition(w_.graph().node(n).op).family == Family::reduce) {
        const int stage = 1 + stage_of(w_.graph().node(n).inputs[0].node);
        reductions_.push_back({n, stage, {}, {}});
        stages_ = std::max(stages_, stage);
      }
    for (const size_t o : w_.all_outputs()) {
      const KernelOperand& output = w_.kernel().outputs[o];
      // One element a row and no more: written once the row is known.
      const bool row = element_count(output.view.shape) == loop_.row_count && is_row(output.value.node);
      (row ? row_outputs_ : full_outputs_).push_back(o);
    }
  }

  int64_t rows() const { return loop_.row_count; }
  int64_t columns() const { return columns_; }
  const LoopIndex& loop() const { return loop_; }

  // `stride` lanes share a row (1: sequential); `unroll` columns are written out in a turn of the loop, all of them
  // where it is their number, so that the stages share what the first has loaded. combine() is called after each
  // stage's loop to merge lanes.
  // `guard`, where not empty, is the condition under which a lane's row is its own to store.
  template <typename Combine>
  void write(const std::string& first_column, int64_t stride, int64_t unroll, const std::string& guard,
             const Combine& combine) {
    unroll_ = unroll;
    if (unroll_ > 1 && unroll_ < columns_) turn_ = w_.context.variable("turn", columns_ / unroll_);
    for (int stage = 1; stage <= stages_; ++stage) {
      std::vector<Reduction*> now;
      for (Reduction& reduction : reductions_)
        if (reduction.stage == stage) now.push_back(&reduction);
      for (Reduction* reduction : now) start(*reduction);
      for_columns(first_column, stride, [&](const Affine& column, const Affine& full) {
        for (const Reduction* reduction : now) accumulate(*reduction, column, full);
      });
      for (Reduction* reduction : now) combine(*reduction);
      for (const Reduction* reduction : now)
        w_.bind(reduction->node, reduction->second.empty() ? reduction->accumulator : reduction->second);
    }
    if (!full_outputs_.empty()) {
      if (!guard.empty()) w_.open("if (" + guard + ")", true);
      if (written_out()) {
        store_written_out();
      } else {
        for_columns(first_column, stride, [&](const Affine&, const Affine& full) { w_.store(full, full_outputs_); });
      }
      if (!guard.empty()) w_.close();
    }
  }

  void write_rows() {
    if (!row_outputs_.empty()) w_.store(loop_.row, row_outputs_);
  }

  const Node& node(const Reduction& reduction) const { return w_.graph().node(reduction.node); }
  const char* type(const Reduction& reduction) const { return glsl_type(node(reduction).inputs[0].dtype()); }

  // GLSL that merges (value, index) into the accumulator; sums and maxima ignore the index.
  std::string merge(const Reduction& reduction, const std::string& value, const std::string& index) const {
    return fill_in(definition(node(reduction).op).glsl, {{reduction.accumulator, value, reduction.second, index}});
  }

 private:
  int stage_of(uint32_t n) {
    for (const Reduction& reduction : reductions_)
      if (reduction.node == n) return reduction.stage;
    const auto known = stage_.find(n);
    if (known != stage_.end()) return known->second;
    int stage = 0;
    const bool stored = std::any_of(w_.kernel().inputs.begin(), w_.kernel().inputs.end(),
                                    [&](const auto& i) { return i.value.node == n; });
    if (!stored)
      for (const Value& input : w_.graph().node(n).inputs) stage = std::max(stage, stage_of(input.node));
    return stage_[n] = stage;
  }

  // A value of the row: a reduction or computed from reductions and row operands, never from a whole column.
  bool is_row(uint32_t n) const {
    return loop_.row_count != loop_.full_count || definition(w_.graph().node(n).op).family == Family::reduce;
  }

  Affine element(const Affine& column) {
    const Kernel& kernel = w_.kernel();
    return reduced_element(w_.context, kernel.space, kernel.reduced, loop_.first, column);
  }

  // More than one column in a turn, which may be all of them.
  bool written_out() const { return unroll_ == columns_ || unroll_ > 1; }

  // turn(columns of it), a loop around it unless it has all
  template <typename Turn>
  void for_turns(const Turn& turn) {
    const bool all = unroll_ == columns_;
    if (!all) {
      const std::string& name = w_.context[turn_.terms[0].variable].name;
      w_.open(fmt::format("for (uint {0} = 0u; {0} < {1}u; ++{0})", name, columns_ / unroll_));
      w_.declare(turn_);
    }
    std::vector<Affine> columns;
    for (int64_t c = 0; c < unroll_; ++c)
      columns.push_back(all ? Affine(c) : w_.context.add(w_.context.scale(turn_, unroll_), Affine(c)));
    turn(columns);
    if (!all) w_.close();
  }

  // body(column, its flat index in the space)
  template <typename Body>
  void for_columns(const std::string& first, int64_t stride, const Body& body) {
    if (stride == 1 && written_out()) {
      for_turns([&](const std::vector<Affine>& columns) {
        for (const Affine& column : columns) body(column, element(column));
      });
      return;
    }
    if (loop_.second.is_constant()) {
      // One column: the other lanes of the row have nothing to do.
      w_.open(stride == 1 ? "" : fmt::format("if ({} == 0u)", first), stride != 1);
    } else {
      const std::string& k = w_.context[loop_.second.terms[0].variable].name;
      w_.open(fmt::format("for (uint {0} = {1}; {0} < {2}u; {0} += {3}u)", k, first, columns_, stride));
      w_.declare(loop_.second);
    }
    body(loop_.second, loop_.full);
    w_.close();
  }

  // Two columns at a time, where they lie side by side and may be stored as one word.
  void store_written_out() {
    for_turns([&](const std::vector<Affine>& columns) {
      std::vector<size_t> paired, single;
      const bool adjacent = unroll_ % 2 == 0 && w_.context.add(element(columns[0]), Affine(1)) == element(columns[1]);
      for (const size_t output : full_outputs_) (adjacent && w_.pairs(output) ? paired : single).push_back(output);
      for (size_t c = 0; c < columns.size(); ++c) {
        if (c % 2 == 0)
          for (const size_t output : paired)
            w_.store_pair(element(columns[c]), output, w_.result(element(columns[c]), output),
                          w_.result(element(columns[c + 1]), output));
        if (!single.empty()) w_.store(element(columns[c]), single);
      }
    });
  }

  void start(Reduction& reduction) {
    const Node& n = node(reduction);
    const DType dtype = n.inputs[0].dtype();
    reduction.accumulator = w_.keep(type(reduction), glsl_constant(dtype, definition(n.op).identity(dtype)));
    if (n.op == Op::argmax) reduction.second = w_.keep("uint", "0xffffffffu");
  }

  void accumulate(const Reduction& reduction, const Affine& column, const Affine& full) {
    const Value operand = node(reduction).inputs[0];
    const Expression value = w_.value(operand, w_.context.delinearize(full, operand.shape()));
    w_.line(merge(reduction, value.text, w_.index(column)));
  }

  Writer& w_;
  LoopIndex loop_;
  int64_t columns_ = 1;
  int64_t unroll_ = 1;
  Affine turn_;  // of the loop over the columns, where it has several in a turn
  int stages_ = 0;
  std::vector<Reduction> reductions_;
  std::map<uint32_t, int> stage_;
  std::vector<size_t> row_outputs_, full_outputs_;
};

}  // namespace

Shader reduce_lane_per_row(Writer& writer) {
  ReduceKernel kernel(writer);
  const ReduceTile tile = choose_reduce_tile(reduce_shape(writer.kernel(), writer.target()), writer.target());
  const int64_t local = tile.local;
  const uint32_t groups = open_tiles(writer, divide_up(kernel.rows(), local));
  const std::string place = fmt::format("tile * {}u + gl_LocalInvocationID.x", local);
  // The row is defined inside: what depends on it alone must not be loaded by lanes past the last one.
  writer.open(kernel.rows() % local == 0 ? "" : fmt::format("if ({} < {}u)", place, kernel.rows()));
  writer.define(kernel.loop().first, place);
  kernel.write("0u", 1, tile.unroll, "", [](const Reduction&) {});
  kernel.write_rows();
  writer.close();
  close_tiles(writer);
  return writer.finish(groups, uint32_t(local));
}

Shader reduce_workgroup_per_row(Writer& writer) {
  ReduceKernel kernel(writer);
  const ReduceTile tile = choose_reduce_tile(reduce_shape(writer.kernel(), writer.target()), writer.target());
  const int64_t lanes = tile.lanes, local = tile.local, rows_per_group = local / lanes;
  // Every lane takes part in every barrier: lanes past the last row work on it once more and store nothing.
  writer.line(fmt::format("uint lane = gl_LocalInvocationID.x % {}u;", lanes));
  writer.line(fmt::format("uint wanted = group * {}u + gl_LocalInvocationID.x / {}u;", rows_per_group, lanes));
  writer.define(kernel.loop().first, fmt::format("min(wanted, {}u)", kernel.rows() - 1));
  std::map<std::string, std::string> arrays;  // GLSL type and use -> shared array
  const auto shared = [&](const char* type, const char* use) {
    std::string& name = arrays[std::string(type) + use];
    if (name.empty()) {
      name = fmt::format("shared_{}_{}", type, use);
      writer.global(fmt::format("shared {} {}[{}];", type, name, local));
    }
    return name;
  };
  const bool whole = kernel.rows() % rows_per_group == 0;
  const std::string own = whole ? "" : fmt::format("wanted < {}u", kernel.rows());
  kernel.write("lane", lanes, 1, own, [&](const Reduction& reduction) {
    if (lanes == 1) return;
    const std::string values = shared(kernel.type(reduction), "value");
    const std::string indices = reduction.second.empty() ? "" : shared("uint", "index");
    const std::string self = "gl_LocalInvocationID.x";
    writer.line(fmt::format("{}[{}] = {};", values, self, reduction.accumulator));
    if (!indices.empty()) writer.line(fmt::format("{}[{}] = {};", indices, self, reduction.second));
    writer.line("barrier();");
    writer.open(fmt::format("for (uint half_row = {}u; half_row > 0u; half_row >>= 1)", lanes / 2));
    writer.open("if (lane < half_row)", true);
    const std::string other_index = indices.empty() ? "0u" : fmt::format("{}[{} + half_row]", indices, self);
    writer.line(kernel.merge(reduction, fmt::format("{}[{} + half_row]", values, self), other_index));
    writer.line(fmt::format("{}[{}] = {};", values, self, reduction.accumulator));
    if (!indices.empty()) writer.line(fmt::format("{}[{}] = {};", indices, self, reduction.second));
    writer.close();
    writer.line("barrier();");
    writer.close();
    writer.line(fmt::format("{} = {}[{} - lane];", reduction.accumulator, values, self));
    if (!indices.empty()) writer.line(fmt::format("{} = {}[{} - lane];", reduction.second, indices, self));
    writer.line("barrier();");
  });
  writer.open(whole ? "if (lane == 0u)" : "if (lane == 0u && " + own + ")", true);
  kernel.write_rows();
  writer.close();
  return writer.finish(uint32_t(divide_up(kernel.rows(), rows_per_group)), uint32_t(local));
}

}  // namespace surtsey::shaders
