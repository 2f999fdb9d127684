// What decoding's products of a few rows take along: sums that their rows are normalised by, each with the bits that it
// has in a kernel of its own.
#include "tests/support/device_suite.h"

#include "experiments/models/hub/stored_weights.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "graph/parameters.h"
#include "tests/support/tensors.h"

#include <algorithm>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using tests::f32;

namespace {

enum class NormKind { rms, layer };

struct NormedCase {
  const char* name;
  NormKind norm = NormKind::rms;
  StoredType type = StoredType::f32;
  int64_t width = 96;  // of a row: three turns of the sum; 70 leave some over, and 33 are loaded one by one
  bool gated = false;
};

const NormedCase kNormedCases[] = {
    {.name = "rms"},
    {.name = "rms, q8_0, a gated pair", .type = StoredType::q8_0, .gated = true},
    {.name = "rms, q4_0", .type = StoredType::q4_0, .width = 64},
    {.name = "layer norm", .norm = NormKind::layer, .width = 70},
    {.name = "layer norm of an odd width, a gated pair", .norm = NormKind::layer, .width = 33, .gated = true},
};

// Rows of the product of normalised x and 40 rows of weights.
Program normed_product(const NormedCase& c, const ParameterStore& store, int64_t rows) {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  Parameters parameters(graph, store);
  const Value x = graph.parameter("x", f32({1, rows, c.width})), scale = graph.parameter("scale", f32({c.width}));
  const Value normed =
      c.norm == NormKind::rms ? rms_norm(x, scale) : layer_norm(x, scale, graph.parameter("shift", f32({c.width})));
  const Value y = linear(normed, parameters.get("w"));
  program.outputs = {{"y", c.gated ? swiglu(linear(normed, parameters.get("gate")), y) : y}};
  return program;
}

HostTensor first_rows(const HostTensor& tensor, int64_t count) {
  Shape shape = tensor.type.shape;
  const int64_t each = element_count(shape) / shape[1];
  shape[1] = count;
  return HostTensor({tensor.type.dtype, shape}, {tensor.values.begin(), tensor.values.begin() + count * each});
}

size_t reductions(const Plan& plan) {
  return size_t(std::count_if(plan.kernels.begin(), plan.kernels.end(),
                              [](const Kernel& kernel) { return kernel.archetype == Archetype::reduce; }));
}

}  // namespace

TEST_CASE("a few rows are normalised in the product's kernel, to the bits of a kernel of their own", "[device][lane]") {
  SURTSEY_NEED_DEVICE();
  const Target& target = device.target();
  const bool joins = target.matmul_variant() == MatmulVariant::lane_broadcast &&
                     target.reduce_variant() == ReduceVariant::lane_per_row && target.max_bindings() >= 14;
  for (const NormedCase& c : kNormedCases) {
    INFO(c.name);
    if (c.type != StoredType::f32 && !target.f16_storage) continue;
    ParameterStore store;
    for (const char* name : {"w", "gate"}) store.add(name, {40, c.width}, Initialisation::normal(1));
    store.freeze([](const ParameterSpec&) { return true; }, hub::storage_of(c.type));
    State state = store.initialise_frozen(1);
    state["scale"] = HostTensor::random(f32({c.width}), .5, 1.5, 2);
    state["shift"] = HostTensor::random(f32({c.width}), -1, 1, 3);
    const HostTensor x = HostTensor::random(f32({1, 9, c.width}), -1, 1, 4);
    state["x"] = x;
    const Program whole = normed_product(c, store, 9);
    CHECK(reductions(compile(whole, target)) == 1);
    const HostTensor all = tests::run_compiled(device, target, whole, state, {}).at("y");
    State scratch = state;
    CHECK(tests::compare(all, interpret(whole, scratch).at("y"), {1e-4, 1e-4}) == "");
    for (const int64_t rows : {1, 3, 8}) {
      INFO(rows << " rows");
      const Program program = normed_product(c, store, rows);
      // A pair of products of more rows is two kernels, and both read what the first would add up.
      if (joins && rows <= target.subgroup_size && (!c.gated || rows <= 4))
        CHECK(reductions(compile(program, target)) == 0);
      state["x"] = first_rows(x, rows);
      const HostTensor found = tests::run_compiled(device, target, program, state, {}).at("y");
      if (target.reduce_variant() == ReduceVariant::lane_per_row) {
        CHECK(found.values == first_rows(all, rows).values);
      } else {
        CHECK(tests::compare(found, first_rows(all, rows), {1e-5, 1e-5}) == "");
      }
    }
  }
}
