// Multitask sparse parity: every draw against the parity done by hand, frequencies, tests per task.
#include <array>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>

#include "experiments/device_data/sparse_parity.h"
#include "experiments/train/train.h"
#include "tests/support/device_suite.h"

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kParityRows = 3000;

// Input and target of a batch in the interpreter; of one task where it is not negative.
std::map<std::string, HostTensor> drawn(const SparseParity& data, uint32_t seed, uint32_t step, const char* stream,
                                        int32_t task = -1) {
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const auto number = [&](double value) { return scalar(graph, value, DType::u32); };
  const auto draw =
      data.draw(graph, kParityRows, number(seed), number(step), stream, task < 0 ? Value{} : number(task));
  program.outputs = {{"input", draw.input}, {"target", draw.target}};
  State state;
  return interpret(program, state);
}

}  // namespace

TEST_CASE("every target of a sparse parity is the parity of its subset", "[tasks]") {
  for (const auto& [tasks, bits, subset] : std::vector<std::array<int32_t, 3>>{{5, 12, 2}, {7, 12, 3}, {1, 4, 1}}) {
    SparseParityOptions options;
    options.tasks = tasks;
    options.bits = bits;
    options.subset = subset;
    const SparseParity data(options);
    CAPTURE(tasks, bits, subset);
    std::set<std::vector<int32_t>> subsets;
    for (int32_t task = 0; task < tasks; ++task) {
      const std::vector<int32_t> places = data.subset(task);
      REQUIRE(places.size() == static_cast<size_t>(subset));
      REQUIRE(std::set<int32_t>(places.begin(), places.end()).size() == places.size());
      subsets.insert(places);
    }
    CHECK(subsets.size() == static_cast<size_t>(tasks));
    const auto batch = drawn(data, 3, 1, "parity.train");
    const auto& input = batch.at("input").values;
    std::vector<double> counts(static_cast<size_t>(tasks), 0);
    double ones = 0, wrong = 0;
    const auto width = static_cast<size_t>(tasks + bits);
    for (size_t row = 0; row < kParityRows; ++row) {
      const double* x = &input[row * width];
      int32_t task = -1;
      for (int32_t i = 0; i < tasks; ++i) {
        if (x[i] == 1) {
          REQUIRE(task == -1);
          task = i;
        } else {
          REQUIRE(x[i] == 0);
        }
      }
      REQUIRE(task >= 0);
      counts[static_cast<size_t>(task)] += 1;
      int parity = 0;
      for (const int32_t place : data.subset(task)) parity ^= x[tasks + place] == 1 ? 1 : 0;
      wrong += batch.at("target").values[row] == parity ? 0 : 1;
      for (int32_t bit = 0; bit < bits; ++bit) ones += x[tasks + bit];
    }
    CHECK(wrong == 0);
    CHECK(ones / (kParityRows * bits) == Approx(0.5).margin(0.02));
    for (int32_t task = 0; task < tasks; ++task) {
      CHECK(counts[static_cast<size_t>(task)] / kParityRows == Approx(data.probability(task)).margin(0.04));
    }
    CHECK(drawn(data, 3, 1, "parity.train").at("input").values == input);
    CHECK(drawn(data, 3, 2, "parity.train").at("input").values != input);
    CHECK(drawn(data, 4, 1, "parity.train").at("input").values != input);
    CHECK(drawn(data, 3, 1, "parity_test").at("input").values != input);
    const auto one = drawn(data, 3, 1, "parity_test", tasks - 1);
    for (size_t row = 0; row < kParityRows; ++row) {
      REQUIRE(one.at("input").values[row * width + static_cast<size_t>(tasks) - 1] == 1);
    }
  }
  CHECK_THROWS_WITH(SparseParity({.bits = 7}), ContainsSubstring("subset is 2"));
  CHECK_THROWS_WITH(SparseParity({.tasks = 20, .bits = 4}), ContainsSubstring("distinct subsets"));
}

TEST_CASE("a network on the device learns a parity, and its tests say so", "[tasks]") {
  SURTSEY_NEED_DEVICE();
  SparseParityOptions options;
  options.tasks = 2;
  options.bits = 4;
  options.items = 500;
  options.validation_samples = 500;
  const SparseParity data(options);
  const Model model(data.model(16));
  TrainConfig config;
  config.generated = &data;
  config.steps = 300;
  config.batch_size = 128;
  config.members = {{1, 0.01}, {1, 0.0}};
  config.optimizer.weight_decay = 0;
  engine::Session session(device, {.quiet = true});
  Trainer trainer(session, model, config);
  data.add_programs(session, model, 2);
  session.allocate();
  trainer.initialise();
  trainer.run();
  const auto measures = data.measure(session, 2, 5);
  const auto losses = data.validation_loss(session, 2, 5);
  REQUIRE(measures.size() == 2);
  REQUIRE(measures[0].size() == 5);
  CHECK(measures[0][0].name == "accuracy 0");
  CHECK(measures[0][0].mean > 0.95);
  CHECK(measures[0][2].mean > 0.95);
  // The member whose learning rate is 0 stays at chance.
  CHECK(measures[1][0].mean < 0.7);
  CHECK(losses[0] < 0.3);
  CHECK(losses[1] > 0.5);
  CHECK(measures[0][4].mean ==
        Approx(data.probability(0) * measures[0][1].mean + data.probability(1) * measures[0][3].mean));
}
