#include "experiments/commands/commands.h"

namespace surtsey::experiments::commands {

void devices(const DevicesOptions& options) {
  const std::vector<engine::DeviceInfo> list = engine::list_devices();
  if (options.json) {
    fmt::print("{}\n", engine::to_json(list));
    return;
  }
  for (const engine::DeviceInfo& info : list) fmt::print("{}\n", engine::print(info));
  std::string why;
  const engine::DeviceInfo& chosen = engine::choose_device(list, options.select, why);
  fmt::print("chosen: {} ({})\n", chosen.index, why);
}

}  // namespace surtsey::experiments::commands
