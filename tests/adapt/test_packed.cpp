// Weights in few bits: what is kept is what rounding in place gives, and a model reads it as such.
#include "tests/support/device_suite.h"

#include "experiments/adapt/packed.h"
#include "experiments/adapt/quantize.h"
#include "experiments/models/model.h"
#include "graph/interpret.h"

#include <catch2/catch_approx.hpp>

#include <limits>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Approx;

namespace {

bool is_matrix(const ParameterSpec& spec) { return spec.shape.size() == 2 && spec.name.find("embed.") != 0; }

Program forward(const Model& model) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  const Value tokens = program.graph->parameter("tokens", {DType::u32, {2, 7}});
  program.outputs = {{"logits", model.logits(parameters, tokens)}};
  return program;
}

}  // namespace

TEST_CASE("packed numbers are those of rounding in place, whatever is left of the last word") {
  for (const int bits : {4, 8}) {
    for (const int64_t columns : {1, 4, 7, 16}) {
      CAPTURE(bits, columns);
      ParameterStore store;
      store.add("w", {5, columns}, Initialisation::normal(1));
      HostTensor expected = store.initialise(3);
      quantize(store, expected, {.bits = bits});
      store.freeze([](const ParameterSpec&) { return true; }, packed_rows(bits));
      const int64_t words = (columns * bits + 31) / 32;
      REQUIRE(store.frozen_state() ==
              std::vector<std::pair<std::string, Type>>{{"frozen.w.words", {DType::u32, {5, words}}},
                                                        {"frozen.w.scale", {DType::f32, {5, 1}}}});
      const State state = store.initialise_frozen(3);
      Graph graph;
      Parameters parameters(graph, store);
      const Value index = constant(graph, 2, {DType::u32, {1}});
      const std::vector<Value> values = {parameters.get("w"), parameters.rows("w", index)};
      const std::vector<HostTensor> found = evaluate(graph, values, state);
      for (size_t i = 0; i < size_t(5 * columns); ++i) {
        // The flat tensor is padded at its end alone.
        CHECK(found[0].values[i] == Approx(expected.values[i]).epsilon(1e-6).margin(1e-12));
      }
      for (size_t i = 0; i < size_t(columns); ++i) {
        CHECK(found[1].values[i] == found[0].values[size_t(2 * columns) + i]);
      }
      // What is stored stays as it is when it is written and read as named tensors.
      CHECK(store.to_state(store.to_tensors(state)).at("frozen.w.words").values == state.at("frozen.w.words").values);
    }
  }
  CHECK_THROWS_AS(packed_rows(3), UserError);
}

TEST_CASE("a row of zeros packs, one that is not finite does not") {
  const Storage storage = packed_rows(8);
  const std::vector<HostTensor> zero = storage.pack(HostTensor::zeros({DType::f32, {1, 4}}));
  CHECK(zero[1].values == std::vector<double>{0});
  HostTensor broken = HostTensor::zeros({DType::f32, {1, 4}});
  broken.values[2] = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(storage.pack(broken), UserError);
}

TEST_CASE("a model of packed matrices computes what the rounded one does", "[device]") {
  SURTSEY_NEED_DEVICE();
  for (const int bits : {4, 8}) {
    CAPTURE(bits);
    const Model plain(recipe_config(2, 16, 11, 7));
    State state = {{kParameters, plain.store().initialise(3)},
                   {"tokens", HostTensor::random({DType::u32, {2, 7}}, 0, 11, 5)}};
    quantize(plain.store(), state[kParameters], {.bits = bits});
    const HostTensor expected = interpret(forward(plain), state).at("logits");

    Model packed(recipe_config(2, 16, 11, 7));
    packed.store().freeze(is_matrix, packed_rows(bits));
    State own = packed.store().initialise_frozen(3);
    own[kParameters] = packed.store().initialise(3);
    own["tokens"] = state["tokens"];
    const HostTensor found = interpret(forward(packed), own).at("logits");
    engine::Session session(device, {.quiet = true});
    const engine::SessionProgram program = session.add_program("forward", forward(packed));
    session.allocate();
    for (const auto& [name, tensor] : own) session.write(name, tensor);
    program.run();
    const HostTensor on_device = program.read("logits");
    for (size_t i = 0; i < expected.values.size(); ++i) {
      CHECK(found.values[i] == Approx(expected.values[i]).epsilon(1e-5).margin(1e-6));
      CHECK(on_device.values[i] == Approx(expected.values[i]).epsilon(1e-4).margin(1e-5));
    }
  }
}
