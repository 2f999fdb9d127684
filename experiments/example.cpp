// The example of README.md: a graph, its gradient, an update in place, a hundred replays of one recording.
#include "engine/session.h"
#include "graph/autodiff.h"
#include "graph/functions.h"

#include <cstdio>

using namespace surtsey;

int main() {
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& g = *program.graph;
  const graph::Value x = g.parameter("x", {graph::DType::f32, {64, 32}}),
                     w = g.parameter("w", {graph::DType::f32, {32, 32}});
  const graph::Value error = graph::gelu_erf(graph::matmul(x, w)) - x;
  const graph::Value loss = graph::mean(error * error, {0, 1}, false);
  g.assign(w, w - 5.0 * graph::differentiate(loss, std::vector{w})[0]);  // the new value of w, computed on the device
  program.outputs = {{"loss", loss}};

  engine::Device device = engine::Device::open();  // the best Vulkan device; prints which and why
  engine::Session session(device);
  // Simplify, fuse, plan memory, place barriers, compile to SPIR-V, record.
  const engine::SessionProgram train = session.add_program("train", program);
  session.allocate();
  session.write("x", graph::HostTensor::random(x.type(), -1, 1, 1));
  session.write("w", graph::HostTensor::random(w.type(), -0.2, 0.2, 2));
  train.run(100);  // one recorded command buffer, a hundred replays, no host in between
  std::printf("loss %.4f\n", train.read_floats("loss")[0]);
}
