// Frozen tensors: beside the flat one, in formats of their own.
#include "graph/autodiff.h"
#include "graph/interpret.h"
#include "graph/parameters.h"
#include "graph/rewrite.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace surtsey;
using namespace surtsey::graph;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

namespace {

auto named(const std::string& name) {
  return [name](const ParameterSpec& spec) { return spec.name == name; };
}

ParameterStore three() {
  ParameterStore store;
  store.add("a", {5}, Initialisation::normal(1));
  store.add("b", {6, 4}, Initialisation::normal(1));
  store.add("c", {3, 4}, Initialisation::normal(1));
  return store;
}

}  // namespace

TEST_CASE("freezing takes a tensor out of the flat one, with its numbers") {
  ParameterStore store = three();
  const State before = store.unpack(store.initialise(7));
  CHECK(store.initialise_frozen(7).empty());
  store.freeze(named("b"), whole(DType::f16));
  CHECK(store.flat_size() == 8 + 12);
  CHECK(store.spec("c").offset == 8);
  CHECK(store.spec("b").offset == -1);
  CHECK(store.parameter_count() == 5 + 24 + 12);
  CHECK(store.trained_count() == 5 + 12);
  CHECK(store.frozen_state() == std::vector<std::pair<std::string, Type>>{{"frozen.b", {DType::f16, {6, 4}}}});

  State state = store.initialise_frozen(7);
  state[kParameters] = store.initialise(7);
  const State after = store.to_tensors(state);
  CHECK(after.at("a").values == before.at("a").values);
  CHECK(after.at("c").values == before.at("c").values);
  CHECK(after.at("b").type.dtype == DType::f16);
  for (size_t i = 0; i < 24; ++i) CHECK(after.at("b").values[i] == Approx(before.at("b").values[i]).epsilon(1e-3));
  CHECK(after.at("b").values != before.at("b").values);

  // Back, from what is stored and from f32 alike.
  CHECK(store.to_state(after).at("frozen.b").values == state.at("frozen.b").values);
  CHECK(store.to_state(before).at("frozen.b").values == state.at("frozen.b").values);
  CHECK(store.to_state(before).at(kParameters).values == state.at(kParameters).values);

  State wrong = after;
  wrong.erase("b");
  CHECK_THROWS_MATCHES(store.to_state(wrong), UserError, MessageMatches(ContainsSubstring("the tensor b is missing")));
  wrong["b"] = HostTensor::zeros({DType::bf16, {6, 4}});
  CHECK_THROWS_MATCHES(store.to_state(wrong), UserError,
                       MessageMatches(ContainsSubstring("b is bf16[6,4], the model wants f16[6,4] or f32[6,4]")));
  wrong = after;
  wrong["d"] = HostTensor::zeros({DType::f32, {1}});
  CHECK_THROWS_AS(store.to_state(wrong), UserError);
  CHECK_THROWS_AS(store.pack(before), UserError);
  CHECK_THROWS_AS(whole(DType::u32), UserError);
}

TEST_CASE("only what trains is differentiated, and the gradient has its size alone") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    CAPTURE(name(dtype));
    ParameterStore store = three();
    store.freeze(named("b"), whole(dtype));
    Graph graph;
    Parameters parameters(graph, store);
    const Value index = graph.parameter("index", {DType::u32, {2}});
    const Value x = parameters.rows("b", index);  // [2, 4]
    const Value b = parameters.get("b");
    const Value y = matmul(matmul(x, transpose(b)), b);  // [2, 4]
    const Value loss = sum(matmul(y, transpose(parameters.get("c"))), {0, 1}, false);
    const Value gradient = parameters.flat_gradient(loss);
    CHECK(gradient.type() == store.flat_type());

    State state = store.initialise_frozen(2);
    state[kParameters] = store.initialise(2);
    state["index"] = HostTensor({DType::u32, {2}}, {4, 1});
    const HostTensor found = evaluate(graph, std::span(&gradient, 1), state)[0];
    // d loss / d c[i, k] = sum over rows r of y[r, k], with y from the stored numbers.
    const std::vector<double>& w = state.at("frozen.b").values;
    for (size_t k = 0; k < 4; ++k) {
      double expected = 0;
      for (const size_t r : {size_t{4}, size_t{1}}) {
        for (size_t n = 0; n < 6; ++n) {
          double score = 0;
          for (size_t j = 0; j < 4; ++j) score += w[r * 4 + j] * w[n * 4 + j];
          expected += score * w[n * 4 + k];
        }
      }
      for (size_t i = 0; i < 3; ++i) CHECK(found.values[8 + i * 4 + k] == Approx(expected));
    }
    for (size_t i = 0; i < 8; ++i) CHECK(found.values[i] == 0);  // a is not seen, the rest is padding

    // What the gradient needs holds one transposed product a frozen matrix on the way and nothing else of its size.
    for (const uint32_t node : reachable(graph, std::span(&gradient, 1))) {
      CHECK((graph.node(node).op != Op::scatter_add));
    }
    CHECK_FALSE(parameters.joins({"a", "b"}));
    CHECK(parameters.joins({"a", "c"}));
    CHECK_THROWS_MATCHES(parameters.joined({"b", "c"}), UserError, MessageMatches(ContainsSubstring("frozen")));
  }
}

TEST_CASE("a model of which nothing trains has no flat tensor") {
  ParameterStore store = three();
  store.freeze([](const ParameterSpec&) { return true; });
  CHECK(store.flat_size() == 0);
  Graph graph;
  Parameters parameters(graph, store);
  const Value y = sum(parameters.get("a"), {0}, false);
  CHECK_FALSE(graph.parameters().contains(kParameters));
  CHECK_THROWS_MATCHES(parameters.flat(), UserError, MessageMatches(ContainsSubstring("nothing trains")));
  CHECK_THROWS_AS(parameters.flat_gradient(y), UserError);
  const State state = store.to_state(store.to_tensors(store.initialise_frozen(1)));
  CHECK_FALSE(state.contains(kParameters));
  CHECK(state.size() == 3);
}

TEST_CASE("frozen tensors that are kept together are one, and its rows are theirs") {
  ParameterStore apart;
  for (const auto& [name, rows] : {std::pair{"q", 6}, std::pair{"k", 2}, std::pair{"v", 4}})
    apart.add(name, {rows, 4}, Initialisation::normal(1));
  apart.add("q_bias", {6}, Initialisation::normal(1));
  apart.add("k_bias", {2}, Initialisation::normal(1));
  const auto all = [](const ParameterSpec&) { return true; };
  CHECK_FALSE(apart.can_keep_together({"q", "k"}));  // they train
  apart.freeze(all, whole(DType::f16));
  ParameterStore store = apart;
  CHECK_FALSE(store.can_keep_together({"q"}));
  CHECK_FALSE(store.can_keep_together({"q", "k_bias"}));
  store.keep_together({"q", "k", "v"}, "qkv");
  store.keep_together({"q_bias", "k_bias"}, "qk_bias");
  CHECK_THROWS_MATCHES(store.keep_together({"k", "v"}, "kv"), UserError, MessageMatches(ContainsSubstring("alike")));
  CHECK(store.frozen_state() == std::vector<std::pair<std::string, Type>>{{"frozen.qkv", {DType::f16, {12, 4}}},
                                                                          {"frozen.qk_bias", {DType::f16, {8}}}});
  // The numbers are those that they have apart, and they are saved under their own names.
  const State state = store.initialise_frozen(3), own = apart.initialise_frozen(3);
  CHECK(state.size() == 2);
  for (const ParameterSpec& spec : store.specs()) {
    const FrozenPart part = store.frozen_parts(spec)[0];
    const auto first = state.at(part.state).values.begin() + part.first;
    CHECK(std::vector(first, first + element_count(spec.shape)) == own.at(kFrozen + spec.name).values);
  }
  const State tensors = store.to_tensors(state);
  CHECK(tensors.at("v").values == own.at("frozen.v").values);
  for (const auto& [name, tensor] : store.to_state(tensors)) CHECK(tensor.values == state.at(name).values);
  for (const auto& [name, tensor] : store.to_state(apart.to_tensors(own)))
    CHECK(tensor.values == state.at(name).values);

  Graph graph;
  Parameters parameters(graph, store);
  CHECK(parameters.joins({"q", "k", "v"}));
  CHECK_FALSE(parameters.joins({"k", "q", "v"}));
  CHECK_FALSE(parameters.joins({"q", "k"}));
  CHECK_THROWS_AS(parameters.joined({"k", "v"}), UserError);
  const Value index = graph.parameter("index", {DType::u32, {2}});
  const std::vector<Value> values = {parameters.joined({"q", "k", "v"}), parameters.get("k"),
                                     parameters.rows("v", index), parameters.get("k_bias"),
                                     parameters.joined({"q_bias", "k_bias"})};
  State read = state;
  read["index"] = HostTensor({DType::u32, {2}}, {3, 0});
  const std::vector<HostTensor> found = evaluate(graph, values, read);
  CHECK(found[0].values == state.at("frozen.qkv").values);
  CHECK(found[1].values == own.at("frozen.k").values);
  const std::vector<double>& v = own.at("frozen.v").values;
  CHECK(found[2].values == std::vector<double>{v[12], v[13], v[14], v[15], v[0], v[1], v[2], v[3]});
  CHECK(found[3].values == own.at("frozen.k_bias").values);
  CHECK(found[4].values == state.at("frozen.qk_bias").values);

  // What is frozen anew is kept for itself, and so are the others.
  store.freeze([](const ParameterSpec& spec) { return spec.name == "k"; });
  CHECK(store.frozen_state().size() == 4);
  CHECK_FALSE(store.can_keep_together({"q", "k"}));
  CHECK(store.can_keep_together({"q", "v"}));
}
