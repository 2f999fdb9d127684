#include "experiments/commands/commands.h"
#include "graph/debug.h"

namespace surtsey::experiments::commands {

void devices(const DevicesOptions& options) {
  const std::vector<engine::DeviceInfo> list = engine::list_devices();
  if (options.json) {
    fmt::print("{}\n", engine::to_json(list));
    return;
  }
  for (const engine::DeviceInfo& info : list) fmt::print("{}\n", engine::print(info));
  std::string why;
  const std::string select = options.select.empty() ? environment("SURTSEY_DEVICE") : options.select;
  const engine::DeviceInfo& chosen = engine::choose_device(list, select, why);
  fmt::print("chosen: {} ({})\npaths: {}\n", chosen.index, why, engine::print_paths(chosen));
}

}  // namespace surtsey::experiments::commands
