#include "shaders/operand_tile.h"

#include "shaders/matmul_tile.h"

namespace surtsey::shaders {

using namespace graph;

namespace {

constexpr int64_t kRunBytes = 16;

}  // namespace

OperandTile::OperandTile(MatmulProduct& product, bool is_a, int64_t side, int64_t depth, int64_t lanes, Keep keep)
    : p_(product),
      w_(product.w),
      is_a_(is_a),
      side_(side),
      depth_(depth),
      lanes_(lanes),
      keep_(keep),
      name_(is_a ? "tile_a" : "tile_b"),
      extent_(is_a ? product.m : product.n) {
  stored_ = stored_operand(w_.kernel(), w_.graph(), is_a ? p_.a : p_.b);
  // Neighbouring lanes load along the axis that lies contiguous in memory.
  along_depth_ = stored_stride(w_.kernel(), stored_, is_a ? 0 : 1) == 1;
  const bool along_side = stored_stride(w_.kernel(), stored_, is_a ? 1 : 0) == 1;
  const int64_t run = stored_ ? w_.run_of(*stored_) : 1;
  const bool whole =
      (along_depth_ ? p_.k : extent_) % run == 0 && (along_depth_ ? depth : side) % run == 0 && each() % run == 0;
  if (whole && (along_depth_ || along_side)) run_ = run;
  depth_first_ = keep != Keep::f32 && along_depth_;
  packed_ = keep != Keep::f32 && run_ > 1 && w_.kernel().inputs[*stored_].view.dtype == DType::f16;
}

int64_t OperandTile::row_elements() const {
  const int64_t bytes = keep_ == Keep::f16 || packed_ ? 2 : 4;
  return (depth_first_ ? depth_ : side_) + kRunBytes / bytes;
}

std::string OperandTile::flat(const std::string& side, const std::string& depth) const {
  return depth_first_ ? fmt::format("({}) * {}u + {}", side, row_elements(), depth)
                      : fmt::format("({}) * {}u + {}", depth, row_elements(), side);
}

int64_t OperandTile::row() const { return packed_ ? row_elements() / run_ : row_elements(); }

std::string OperandTile::place(const std::string& side, const std::string& depth) const {
  return packed_ ? fmt::format("({}) / {}u", flat(side, depth), run_) : flat(side, depth);
}

std::string OperandTile::element(const std::string& side, const std::string& depth) const {
  const std::string at = flat(side, depth);
  if (packed_) return fmt::format("unpackHalf2x16({0}[({1}) / {2}u][({1}) % {2}u / 2u])[({1}) % 2u]", name_, at, run_);
  const std::string kept = fmt::format("{}[{}]", name_, at);
  return keep_ == Keep::f16 ? "float(" + kept + ")" : kept;
}

void OperandTile::declare() {
  const int64_t elements = row_elements() * (depth_first_ ? side_ : depth_);
  const char* type = packed_ ? "uvec4" : keep_ == Keep::f16 ? "float16_t" : "float";
  w_.global(fmt::format("shared {} {}[{}];", type, name_, packed_ ? elements / run_ : elements));
  w_.line(fmt::format("{} ahead_{}[{}];", packed_ ? "uvec4" : "float", name_, packed_ ? each() / run_ : each()));
}

void OperandTile::open_runs() {
  w_.open_loop(fmt::format("for (uint i = 0u; i < {}u; ++i)", each() / run_), Writer::Unroll::always);
  w_.line(fmt::format("uint e = (i * {}u + gl_LocalInvocationID.x) * {}u;", lanes_, run_));
  w_.line(fmt::format("uint at_side = e {} {}u;", along_depth_ ? "/" : "%", along_depth_ ? depth_ : side_));
  w_.line(fmt::format("uint at_depth = e {} {}u;", along_depth_ ? "%" : "/", along_depth_ ? depth_ : side_));
}

void OperandTile::fetch() {
  open_runs();
  w_.line(run_ > 1 ? "uvec4 loaded = uvec4(0u);" : "float loaded = 0.0;");
  w_.open(fmt::format("if ({} + at_side < {}u && k_base + at_depth < {}u)", base(), extent_, p_.k), true);
  const Affine side = w_.context.variable(name_ + "_side", extent_);
  const Affine k = w_.context.variable(name_ + "_depth", p_.k);
  w_.define(side, base() + " + at_side");
  w_.define(k, "k_base + at_depth");
  const Index at = is_a_ ? p_.a_index(side, k) : p_.b_index(k, side);
  w_.line("loaded = " + (run_ > 1 ? w_.load_run(*stored_, at) : w_.value(is_a_ ? p_.a : p_.b, at).text) + ";");
  w_.close();
  if (packed_ || run_ == 1)
    w_.line(fmt::format("ahead_{}[i] = loaded;", name_));
  else
    for (int64_t r = 0; r < run_; ++r)
      w_.line(fmt::format("ahead_{}[i * {}u + {}u] = {};", name_, run_, r,
                          Writer::of_run(w_.kernel().inputs[*stored_].view.dtype, "loaded", r)));
  w_.close();
}

void OperandTile::store() {
  open_runs();
  const char* kept = keep_ == Keep::f16 ? "float16_t" : "float";
  if (packed_)
    w_.line(fmt::format("{}[{}] = ahead_{}[i];", name_, place("at_side", "at_depth"), name_));
  else
    for (int64_t r = 0; r < run_; ++r) {
      const std::string next = fmt::format(" + {}u", r);
      w_.line(fmt::format("{}[{}] = {}(ahead_{}[i * {}u + {}u]);", name_,
                          flat("at_side" + (along_depth_ ? "" : next), "at_depth" + (along_depth_ ? next : "")), kept,
                          name_, run_, r));
    }
  w_.close();
}

}  // namespace surtsey::shaders
