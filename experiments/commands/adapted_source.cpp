#include "experiments/commands/adapted_source.h"

#include "experiments/models/hub/import.h"
#include "shaders/cache_file.h"

namespace surtsey::experiments::commands {

void adapt_source(hub::Source& source, const Adaptation& adaptation, const Model& model, const graph::State& trained) {
  const auto learned = std::make_shared<const graph::State>(trained);
  for (const std::string& parameter : adaptation.merged_names()) {
    const std::string name = hub::source_name(model.config(), parameter);
    check(source.has(name),
          "{}: it has no {}, which the adapter adds, and its form has no place for it: such an adapter is used beside "
          "the model, with --adapter",
          source.path().string(), name);
    const graph::Shape shape = model.store().spec(parameter).shape;
    source.change(name, [&adaptation, learned, parameter, shape](std::vector<float> numbers) {
      // A table of positions may be longer than the model's texts: what is behind them stays.
      const auto count = size_t(graph::element_count(shape));
      const graph::HostTensor base({graph::DType::f32, shape},
                                   {numbers.begin(), numbers.begin() + std::ptrdiff_t(count)});
      const graph::HostTensor merged = adaptation.merged(parameter, base, *learned);
      std::copy(merged.values.begin(), merged.values.end(), numbers.begin());
      return numbers;
    });
  }
}

std::string base_fingerprint(const hub::Source& source) {
  uint64_t hash = 0;
  for (const hub::TensorInfo& info : source.tensors()) {
    hash = shaders::hash64(fmt::format("{} {} {}", info.name, name(info.type), fmt::join(info.shape, "x")), hash);
    hash = shaders::hash64(source.read_stored(info.name).bytes, hash);
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace surtsey::experiments::commands
