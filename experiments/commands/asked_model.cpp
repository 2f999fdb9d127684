#include "experiments/commands/asked_model.h"

#include "experiments/commands/model_tokenizer.h"
#include "shaders/cache_file.h"

namespace surtsey::experiments::commands {
namespace {

// Sources of an encoder-decoder that do not say their length.
constexpr int64_t kUsualSource = 512;

SlotOptions with_scores(SlotOptions options) {
  options.scores = true;
  options.source = options.context > 0 ? options.context : kUsualSource;
  return options;
}

}  // namespace

OpenModel::OpenModel(engine::Device& device, const std::string& model, SlotOptions options)
    : source_(open_source(model)),
      tokenizer_(tokenizer_of(*source_)),
      slots_(device, *source_, with_scores(std::move(options))),
      scorer_(slots_, source_->generation().tokens) {}

std::string OpenModel::fingerprint() const {
  uint64_t hash = 0;
  for (const hub::TensorInfo& info : source_->tensors()) {
    hash = shaders::hash64(fmt::format("{} {} {}", info.name, name(info.type), fmt::join(info.shape, "x")), hash);
    if (info.shape.size() == 1) hash = shaders::hash64(source_->read_stored(info.name).bytes, hash);
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace surtsey::experiments::commands
