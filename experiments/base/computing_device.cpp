#include "experiments/base/computing_device.h"

#include "engine/session.h"
#include "experiments/base/exit_status.h"
#include "graph/graph.h"

namespace surtsey::experiments {

void check_counted(int64_t handed, uint32_t counted) {
  if (counted == static_cast<uint32_t>(handed)) return;
  throw NotComputing(
      fmt::format("this device does not compute: {} steps were handed over and ended, its own counter stands at {}; "
                  "run `surtsey selftest`",
                  handed, counted));
}

engine::Device open_computing_device(const engine::DeviceOptions& options) {
  constexpr uint32_t kSteps = 3;
  engine::Device device = engine::Device::open(options);
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  const graph::Value counter = program.graph->parameter("counter", {graph::DType::u32, {}});
  program.graph->assign(counter, counter + graph::scalar(*program.graph, 1, graph::DType::u32));
  engine::Session session(device, {.quiet = true});
  const engine::SessionProgram count = session.add_program("count", program);
  session.allocate();
  count.run(kSteps);
  check_counted(kSteps, session.read_words("counter").at(0));
  return device;
}

}  // namespace surtsey::experiments
