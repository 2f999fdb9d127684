#include "experiments/tasks/parity.h"

#include <utility>

namespace surtsey::experiments::tasks {

std::unique_ptr<ChainTask> make_parity(int32_t bits, std::vector<std::string> arms, std::string bits_key) {
  ChainOptions options;
  options.name = "parity";
  options.modulus = 2;
  options.length = bits;
  options.arms = std::move(arms);
  options.length_key = std::move(bits_key);
  options.modulus_key = "";
  return std::make_unique<ChainTask>(std::move(options));
}

}  // namespace surtsey::experiments::tasks
