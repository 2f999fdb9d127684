#include "experiments/tasks/parity.h"

#include <utility>

namespace surtsey::experiments::tasks {

std::unique_ptr<ChainTask> make_parity(int32_t bits, std::vector<std::string> arms) {
  ChainOptions options;
  options.name = "parity";
  options.modulus = 2;
  options.length = bits;
  options.arms = std::move(arms);
  return std::make_unique<ChainTask>(std::move(options));
}

}  // namespace surtsey::experiments::tasks
