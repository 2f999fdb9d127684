// Weights in blocks on the device: the numbers are the reference arithmetic's, products read the blocks themselves, and
// a row's result does not depend on how many rows there are.
#include "tests/support/device_suite.h"

#include "experiments/formats/quant.h"
#include "experiments/models/hub/stored_weights.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "graph/interpret.h"
#include "graph/parameters.h"

#include <catch2/catch_approx.hpp>

#include <cmath>
#include <limits>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Approx;

namespace {

constexpr StoredType kStoredTypes[] = {StoredType::q8_0, StoredType::q4_0, StoredType::q4_k, StoredType::q6_k};
constexpr int64_t kRows = 40, kColumns = 512;

std::vector<std::byte> random_blocks(StoredType type, uint32_t seed) {
  const HostTensor drawn = HostTensor::random({DType::f32, {kRows, kColumns}}, -1, 1, seed);
  const std::vector<float> numbers(drawn.values.begin(), drawn.values.end());
  std::vector<std::byte> bytes(size_t(kRows * row_bytes(type, kColumns)));
  quantize_row(type, numbers, bytes);
  return bytes;
}

ParameterStore store_of(StoredType type) {
  ParameterStore store;
  store.add("w", {kRows, kColumns}, Initialisation::constant(0));
  store.freeze([](const ParameterSpec&) { return true; }, hub::storage_of(type));
  return store;
}

State state_of(StoredType type, std::span<const std::byte> bytes) {
  State state;
  const std::vector<HostTensor> parts = hub::block_parts(type, {kRows, kColumns}, bytes);
  const std::vector<StoredPart> names = hub::storage_of(type).parts({kRows, kColumns});
  for (size_t i = 0; i < parts.size(); ++i) state.emplace("frozen.w" + names[i].suffix, parts[i]);
  return state;
}

// x [m, K] times the transposed matrix, or [m, N] times the matrix itself, as the gradient through it is.
Program product(const ParameterStore& store, int64_t m, bool transposed) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, store);
  const Value x = program.graph->parameter("x", {DType::f32, {m, transposed ? kColumns : kRows}});
  const Value w = parameters.get("w");
  program.outputs = {{"y", matmul(x, transposed ? transpose(w) : w)}};
  return program;
}

HostTensor rows_of(const HostTensor& tensor, int64_t first, int64_t count) {
  const int64_t width = tensor.type.shape.back();
  return HostTensor({tensor.type.dtype, {count, width}},
                    {tensor.values.begin() + first * width, tensor.values.begin() + (first + count) * width});
}

void check_product(engine::Device& device, StoredType type, bool transposed, int64_t m, MatmulVariant variant) {
  CAPTURE(name(type), transposed, m, name(variant));
  const std::vector<std::byte> bytes = random_blocks(type, 11);
  const ParameterStore store = store_of(type);
  const Program program = product(store, m, transposed);
  State state = state_of(type, bytes);
  state["x"] = HostTensor::random(program.graph->parameters().at("x").type(), -1, 1, 3);
  Target target = device.target();
  target.matmul = variant;
  const Plan plan = compile(program, target, {});
  // A long inner axis may be cut into products whose sums are added up; the matrix is nowhere. Where a kernel may not
  // touch so many tensors there is no way but to store it.
  constexpr size_t kBeside = 4;  // x, the result, and what the compiler keeps free
  if (store.frozen_state().size() + kBeside <= target.max_bindings()) {
    CHECK(plan.dispatches.size() <= 2);
    CHECK(plan.transient_bytes < uint64_t(kRows * kColumns * storage_bytes(DType::f32)));
  }
  const auto found = tests::run_compiled(device, target, program, state, {});
  CHECK(tests::compare(found.at("y"), interpret(program, state).at("y"), {1e-4, 1e-5}).empty());
}

}  // namespace

TEST_CASE("blocks unpack to the numbers of the reference arithmetic, and rows of them alone") {
  for (const StoredType type : kStoredTypes) {
    CAPTURE(name(type));
    const std::vector<std::byte> bytes = random_blocks(type, 7);
    std::vector<float> expected(size_t(kRows * kColumns));
    dequantize_row(type, bytes, expected);
    const ParameterStore store = store_of(type);
    Graph graph;
    Parameters parameters(graph, store);
    const std::vector<Value> values = {parameters.get("w"),
                                       parameters.rows("w", constant(graph, 3, {DType::u32, {1}}))};
    const std::vector<HostTensor> found = evaluate(graph, values, state_of(type, bytes));
    int64_t bytes_kept = 0;
    for (const auto& [part, kept] : store.frozen_state()) {
      bytes_kept += element_count(kept.shape) * storage_bytes(kept.dtype);
    }
    CHECK(bytes_kept == int64_t(bytes.size()));
    // In double, so the last bit of a product of three may differ.
    for (size_t i = 0; i < expected.size(); ++i) {
      REQUIRE(found[0].values[i] == Approx(expected[i]).epsilon(3e-7).margin(1e-7));
    }
    for (size_t i = 0; i < size_t(kColumns); ++i) CHECK(found[1].values[i] == found[0].values[3 * kColumns + i]);
    // Packing f32 numbers is quantize_row.
    HostTensor numbers = HostTensor::zeros({DType::f32, {kRows, kColumns}});
    std::copy(expected.begin(), expected.end(), numbers.values.begin());
    std::vector<std::byte> again(bytes.size());
    quantize_row(type, expected, again);
    const std::vector<HostTensor> packed = hub::storage_of(type).pack(numbers);
    const std::vector<HostTensor> split = hub::block_parts(type, {kRows, kColumns}, again);
    for (size_t i = 0; i < packed.size(); ++i) CHECK(packed[i].values == split[i].values);
  }
}

TEST_CASE("a row that whole blocks do not fill is no block type's, and an infinite number is refused") {
  CHECK_THROWS_AS(hub::storage_of(StoredType::q4_k).parts({2, 288}), UserError);
  HostTensor broken = HostTensor::zeros({DType::f32, {1, 32}});
  broken.values[5] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(hub::storage_of(StoredType::q8_0).pack(broken), UserError);
  ParameterStore store;
  store.add("whole", {3, 256}, Initialisation::constant(0));
  store.add("short", {3, 96}, Initialisation::constant(0));
  store.add("odd", {3, 40}, Initialisation::constant(0));
  store.add("vector", {256}, Initialisation::constant(0));
  hub::freeze_in_blocks(store, StoredType::q4_k);
  CHECK(store.spec("whole").storage->name == "q4_k");
  CHECK(store.spec("short").storage->name == "q8_0");
  CHECK(store.spec("odd").storage->name == "f32");
  CHECK(store.spec("vector").storage->name == "f32");
}

TEST_CASE("products read blocks as they are stored, and no wide copy exists", "[device][lane]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("scales are f16, and this device does not store 16 bits");
  for (const StoredType type : kStoredTypes) check_product(device, type, true, 2, MatmulVariant::automatic);
  check_product(device, StoredType::q4_0, false, 2, MatmulVariant::automatic);
}

TEST_CASE("products read blocks in both orientations, by any number of rows, in every variant", "[device]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("scales are f16, and this device does not store 16 bits");
  for (const StoredType type : kStoredTypes) {
    for (const bool transposed : {true, false}) {
      for (const int64_t m : {1, 8, 19}) check_product(device, type, transposed, m, MatmulVariant::automatic);
    }
  }
  // A CPU's driver compiles a kernel with barriers for 15 seconds: one with words of one field and one with two, in
  // tiles and in few rows.
  check_product(device, StoredType::q4_0, true, 19, MatmulVariant::shared_tile);
  check_product(device, StoredType::q6_k, false, 2, MatmulVariant::shared_tile);
}

TEST_CASE("a row's product has the same bits whatever the number of rows, stored whole or in blocks", "[device]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("scales are f16, and this device does not store 16 bits");
  for (const StoredType type : {StoredType::f32, StoredType::q8_0, StoredType::q4_0}) {
    ParameterStore store;
    store.add("w", {72, 576}, Initialisation::normal(1));
    store.freeze([](const ParameterSpec&) { return true; }, hub::storage_of(type));
    const HostTensor x = HostTensor::random({DType::f32, {8, 576}}, -1, 1, 5);
    for (const MatmulVariant variant : {MatmulVariant::automatic, MatmulVariant::shared_tile}) {
      if (variant == MatmulVariant::shared_tile && type == StoredType::q8_0) continue;  // as q4_0, and long to compile
      Target target = device.target();
      target.matmul = variant;
      const auto run = [&](const HostTensor& rows) {
        Program program{std::make_shared<Graph>(), {}};
        Parameters parameters(*program.graph, store);
        program.outputs = {{"y", matmul(program.graph->parameter("x", rows.type), transpose(parameters.get("w")))}};
        State state = store.initialise_frozen(1);
        state["x"] = rows;
        return tests::run_compiled(device, target, program, state, {}).at("y");
      };
      const HostTensor all = run(x);
      const std::vector<int64_t> counts =
          variant == MatmulVariant::automatic ? std::vector<int64_t>{1, 2, 4} : std::vector<int64_t>{2};
      for (const int64_t count : counts) {
        CAPTURE(name(type), name(variant), count);
        CHECK(run(rows_of(x, 3, count)).values == rows_of(all, 3, count).values);
      }
    }
  }
}

TEST_CASE("products of a few rows by two matrices are one kernel, each with the bits that it has alone", "[device]") {
  SURTSEY_NEED_DEVICE();
  const Target& target = device.target();
  for (const StoredType type :
       {StoredType::f32, StoredType::q8_0, StoredType::q4_0, StoredType::q4_k, StoredType::q6_k}) {
    if (type != StoredType::f32 && !target.f16_storage) continue;
    ParameterStore store;
    for (const char* name : {"up", "gate"}) store.add(name, {72, 768}, Initialisation::normal(1));
    store.freeze([](const ParameterSpec&) { return true; }, hub::storage_of(type));
    const HostTensor x = HostTensor::random({DType::f32, {8, 768}}, -1, 1, 5);
    State state = store.initialise_frozen(1);
    const auto built = [&](const HostTensor& rows, bool both) {
      Program program{std::make_shared<Graph>(), {}};
      Parameters parameters(*program.graph, store);
      state["x"] = rows;
      const Value in = program.graph->parameter("x", rows.type);
      const Value up = matmul(in, transpose(parameters.get("up")));
      program.outputs = {{"up", up}};
      if (both) program.outputs.emplace_back("gated", swiglu(matmul(in, transpose(parameters.get("gate"))), up));
      return program;
    };
    const Program all = built(x, true);
    State scratch = state;
    const auto of_all = tests::run_compiled(device, target, all, state, {});
    const auto reference = interpret(all, scratch);
    for (const char* output : {"up", "gated"})
      CHECK(tests::compare(of_all.at(output), reference.at(output), {1e-4, 1e-4}) == "");
    for (const int64_t count : {1, 3, 4}) {
      CAPTURE(name(type), count);
      const HostTensor rows = rows_of(x, 2, count);
      const Program program = built(rows, true);
      const bool enough = target.max_bindings() >= 14 && target.matmul_variant() == MatmulVariant::lane_broadcast;
      if (enough) CHECK(compile(program, target, {}).dispatches.size() == 1);
      const auto found = tests::run_compiled(device, target, program, state, {});
      for (const char* output : {"up", "gated"})
        CHECK(found.at(output).values == rows_of(of_all.at(output), 2, count).values);
      CHECK(tests::run_compiled(device, target, built(rows, false), state, {}).at("up").values ==
            found.at("up").values);
    }
  }
}
