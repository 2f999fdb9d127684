// Rounded weights against the formula, written out.
#include "tests/support/device_suite.h"

#include "experiments/adapt/quantize.h"
#include "experiments/models/model.h"

#include <algorithm>
#include <set>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;

namespace {

Model small_model(bool tied = false) {
  ModelConfig config = recipe_config(2, 16, 11, 7);
  config.tied = tied;
  return Model(config);
}

// What one number of a row becomes.
double rounded(double value, double most, int bits) {
  const double levels = bits == 8 ? 127 : bits == 6 ? 31 : bits == 5 ? 15 : bits == 4 ? 7 : bits == 3 ? 3 : 1;
  const double scale = most / levels;
  return scale * std::round(value / scale);
}

}  // namespace

TEST_CASE("weights are rounded to the nearest level of their row, embeddings are not") {
  const Model model = small_model();
  const HostTensor before = model.store().initialise(3);
  for (const int bits : {8, 6, 5, 4, 3, 2}) {
    HostTensor after = before;
    const std::vector<std::string> names = quantize(model.store(), after, {.bits = bits});
    CHECK(names.size() == 2 * 6 + 1);  // q, k, v, out, up, down of two blocks, and the head
    const std::set<std::string> chosen(names.begin(), names.end());
    CHECK_FALSE(chosen.contains("embed.token"));
    CHECK(chosen.contains("head.weight"));
    double moved = 0;
    for (const ParameterSpec& spec : model.store().specs()) {
      CAPTURE(bits, spec.name);
      const int64_t columns = spec.shape.back();
      const int64_t rows = element_count(spec.shape) / columns;
      for (int64_t r = 0; r < rows; ++r) {
        const auto at = size_t(spec.offset + r * columns);
        double most = 0;
        std::set<double> levels;
        for (int64_t c = 0; c < columns; ++c) {
          most = std::max(most, std::abs(before.values[at + size_t(c)]));
        }
        for (int64_t c = 0; c < columns; ++c) {
          const double was = before.values[at + size_t(c)], is = after.values[at + size_t(c)];
          const double expected = chosen.contains(spec.name) ? rounded(was, most, bits) : was;
          REQUIRE(std::abs(is - expected) <= 1e-6 * most);
          moved = std::max(moved, std::abs(is - was) / std::max(most, 1e-30));
          levels.insert(std::round(is / most * 1e6));
        }
        if (bits == 2 && chosen.contains(spec.name)) REQUIRE(levels.size() <= 3);
      }
    }
    // Half a level, of a row's most.
    const double levels = std::pow(2, bits - 1) - 1;
    CHECK(moved <= 0.5 / levels + 1e-6);
    CHECK(moved > 0.4 / levels);
  }
}

TEST_CASE("quantizing takes names, members and embeddings, and says what it cannot do") {
  const Model model = small_model();
  HostTensor one = model.store().initialise(3), two = model.store().initialise(4);
  HostTensor both = one;
  both.type.shape.insert(both.type.shape.begin(), 2);
  both.values.insert(both.values.end(), two.values.begin(), two.values.end());
  const QuantizeConfig config{.bits = 3, .embeddings = false, .names = {"blocks.1.mlp.up.weight", "embed.token"}};
  CHECK(quantize(model.store(), one, config) == config.names);
  quantize(model.store(), two, config);
  quantize(model.store(), both, config);
  one.values.insert(one.values.end(), two.values.begin(), two.values.end());
  CHECK(both.values == one.values);

  HostTensor all = model.store().initialise(3);
  CHECK(quantize(model.store(), all, {.bits = 4, .embeddings = true}).size() == 15);
  const Model tied = small_model(true);
  HostTensor head = tied.store().initialise(3);
  CHECK(quantize(tied.store(), head, {.bits = 4}).size() == 12);

  for (const int bits : {1, 9}) {
    CHECK_THROWS_AS(quantize(model.store(), all, {.bits = bits}), UserError);
  }
  CHECK_THROWS_AS(quantize(model.store(), all, {.names = {"norm.weight"}}), UserError);
  CHECK_THROWS_AS(quantize(model.store(), all, {.names = {"no.such"}}), UserError);
  HostTensor short_one = HostTensor::zeros({DType::f32, {5}});
  CHECK_THROWS_AS(quantize(model.store(), short_one, {}), UserError);
}

TEST_CASE("the parameters of a session are rounded in place", "[device]") {
  SURTSEY_NEED_DEVICE();
  const Model model = small_model();
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  const Value tokens = program.graph->parameter("tokens", {DType::u32, {2, 7}});
  program.outputs = {{"logits", model.logits(parameters, tokens)}};
  engine::Session session(device, {.quiet = true});
  const engine::SessionProgram forward = session.add_program("forward", program);
  session.allocate();
  const HostTensor start = model.store().initialise(5);
  session.write(kParameters, start);
  forward.run();
  const std::vector<float> exact = forward.read_floats("logits");
  double last = 0;
  for (const int bits : {8, 5, 3, 2}) {
    session.write(kParameters, start);
    quantize(session, model.store(), {.bits = bits});
    HostTensor expected = start;
    expected.round_to_storage();
    quantize(model.store(), expected, {.bits = bits});
    const HostTensor found = session.read(kParameters);
    CHECK(found.values == expected.values);
    forward.run();
    const std::vector<float> coarse = forward.read_floats("logits");
    double distance = 0;
    for (size_t i = 0; i < exact.size(); ++i) distance += std::pow(coarse[i] - exact[i], 2);
    CHECK(distance > last);  // fewer bits, farther away
    last = distance;
  }
}
