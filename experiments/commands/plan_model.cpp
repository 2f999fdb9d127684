// `surtsey plan`: what a model of others would take of a device.
#include "experiments/base/exit_status.h"
#include "experiments/base/json_text.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/generate/slots.h"

#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

double mib(uint64_t bytes) { return double(bytes) / (1 << 20); }

}  // namespace

void plan_model(const PlanOptions& options) {
  check_text_or_json(options.format);
  const std::unique_ptr<hub::Source> source = open_source(options.model);
  engine::Device device = engine::Device::open({.select = options.device});
  const SlotOptions slots{.slots = options.max_batch,
                          .context = options.context,
                          .weights = options.weights,
                          .cache_type = options.cache_type,
                          .adapter = options.adapter};
  const SlotPlan plan = Slots::plan(device, *source, slots);
  const bool fits = plan.total() <= plan.available;
  if (options.format == "json") {
    print_line(json_text(nlohmann::json{{"device", device.info().name},
                                        {"max_batch", options.max_batch},
                                        {"context", plan.context},
                                        {"cache_type", options.cache_type},
                                        {"weights_bytes", plan.weights},
                                        {"cache_bytes", plan.cache},
                                        {"other_bytes", plan.rest},
                                        {"transient_bytes", plan.transient},
                                        {"total_bytes", plan.total()},
                                        {"available_bytes", plan.available},
                                        {"fits", fits}}));
    return;
  }
  print_line(fmt::format("{} on {}: {} of {} tokens", options.model, device.info().name,
                         options.max_batch == 1 ? "a text" : fmt::format("{} texts", options.max_batch), plan.context));
  for (const auto& [what, bytes] : {std::pair("weights", plan.weights), std::pair("keys and values", plan.cache),
                                    std::pair("tables and logits", plan.rest), std::pair("activations", plan.transient),
                                    std::pair("all", plan.total()), std::pair("there is", plan.available)})
    print_line(fmt::format("  {:<18} {:>10.1f} MiB", what, mib(bytes)));
  if (fits) return print_line("  fits");
  const uint64_t others = plan.total() - plan.cache;
  const double share = plan.available > others ? double(plan.available - others) / double(plan.cache) : 0;
  print_line(share > 0
                 ? fmt::format("  does not fit: keys and values of at most {:.0f} tokens in all texts together do",
                               share * double(plan.context * options.max_batch))
                 : "  does not fit, whatever the texts: give it --weights of fewer bits");
}

}  // namespace surtsey::experiments::commands
