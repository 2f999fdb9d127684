// The example in the comment of engine/session.h: it is what runs here.
#include "graph/autodiff.h"
#include "tests/support/support_device.h"

#include <fstream>

using namespace surtsey;

namespace {

// The loss of a linear map, and a step down its gradient where one is wanted.
graph::Program linear(bool step) {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& g = *program.graph;
  const graph::Value x = g.parameter("x", {graph::DType::f32, {8, 4}}),
                     w = g.parameter("w", {graph::DType::f32, {4, 4}});
  const graph::Value error = graph::matmul(x, w) - x;
  const graph::Value loss = graph::mean(error * error, {0, 1}, false);
  if (step) g.assign(w, w - graph::differentiate(loss, std::vector{w})[0]);
  program.outputs = {{"loss", loss}};
  return program;
}

std::vector<std::string> source_lines(const std::string& path) {
  std::ifstream file(std::string(SURTSEY_SOURCE_ROOT) + "/" + path);
  REQUIRE(file.good());
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("a session trains one program and asks another, as session.h shows", "[engine][device]") {
  engine::Device device = tests::open_test_device();
  const graph::Program training = linear(true), evaluation = linear(false);
  const graph::HostTensor x = graph::HostTensor::random({graph::DType::f32, {8, 4}}, -1, 1, 1);
  // -- begin
  engine::Session session(device);
  const engine::SessionProgram train = session.add_program("train", training);  // its parameters become state
  const engine::SessionProgram evaluate = session.add_program("evaluate", evaluation);
  session.allocate();  // prints the memory budget, or refuses; state is zero after it
  session.write("x", x);
  train.run(100);  // a hundred replays of one recording
  evaluate.run();
  const float loss = evaluate.read_floats("loss")[0];
  // -- end
  CHECK(loss < 0.1f);  // 1/3 at w = 0
  CHECK(loss <= train.read_floats("loss")[0]);
  CHECK(train.name() == "train");
  CHECK(session.program("evaluate").read_floats("loss")[0] == loss);
}

TEST_CASE("the example of session.h is the one that runs", "[style]") {
  std::vector<std::string> shown, run;
  for (const std::string& line : source_lines("engine/session.h"))
    if (line.starts_with("//   ")) shown.push_back(line.substr(5));
  bool inside = false;
  for (const std::string& line : source_lines("tests/engine/test_session.cpp")) {
    if (line == "  // -- end") inside = false;
    if (inside) run.push_back(line.substr(2));
    if (line == "  // -- begin") inside = true;
  }
  CHECK(!run.empty());
  CHECK(shown == run);
}
