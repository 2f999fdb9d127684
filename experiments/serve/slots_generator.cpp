#include "experiments/serve/slots_generator.h"

#include "experiments/evaluate/model_outputs.h"
#include "experiments/models/hub/import.h"
#include "experiments/serve/errors.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <type_traits>

namespace surtsey::experiments::serve {
namespace {

class SlotsGenerator : public Generator {
 public:
  SlotsGenerator(const hub::Source& source, const SlotOptions& options, const std::string& device)
      : device_(engine::Device::open({.select = device})), slots_(device_, source, options) {}

  int64_t slots() const override { return slots_.slots(); }
  int64_t context() const override { return slots_.context(); }
  int64_t vocabulary() const override { return slots_.vocabulary(); }
  int64_t chunk() const override { return slots_.chunk(); }

  void read(int32_t slot, std::span<const int32_t> tokens, int64_t first, const Told& told) override {
    guarded([&] { slots_.read(slot, tokens, first, told); });
  }
  std::span<const float> step(std::span<const Next> next) override {
    tokens_.clear();
    for (const Next& one : next) tokens_.push_back({one.slot, one.token});
    return guarded([&] { return slots_.step(tokens_); });
  }
  const std::vector<int32_t>& text(int32_t slot) const override { return slots_.text(slot); }
  void choose(int32_t slot, int32_t adapter) override { slots_.choose(slot, adapter); }
  int32_t adapter(int32_t slot) const override { return slots_.adapter(slot); }

 private:
  // What the device does wrong leaves the slots of no use, whatever it was.
  template <typename Work>
  static std::invoke_result_t<Work> guarded(const Work& work) {
    try {
      return work();
    } catch (const NotFinite& error) {
      throw SlotsFailed(error.what(), error.slots());
    } catch (const engine::DeviceError& error) {
      throw GeneratorLost(error.what());
    }
  }

  engine::Device device_;
  Slots slots_;
  std::vector<SlotToken> tokens_;
};

}  // namespace

GeneratorFactory slots_factory(const hub::Source& source, const SlotOptions& options, const std::string& device) {
  return [&source, options, device] { return std::make_unique<SlotsGenerator>(source, options, device); };
}

std::function<std::vector<std::vector<float>>(const std::vector<std::vector<int32_t>>&)> mean_embeddings(
    const hub::Source& source, const std::string& select) {
  const ModelConfig config = hub::model_config(source, {});
  if (config.head != HeadKind::pooled && config.head != HeadKind::none) return {};
  if (config.architecture == Architecture::encoder_decoder) return {};
  const int64_t longest = config.block_size;
  auto device = std::make_shared<std::optional<engine::Device>>();
  return [&source, select, device, longest](const std::vector<std::vector<int32_t>>& texts) {
    size_t length = 1;
    for (const auto& text : texts) length = std::max(length, text.size());
    length = std::min(std::bit_ceil(length), size_t(longest));
    ModelInputs inputs;
    for (const std::vector<int32_t>& text : texts) {
      inputs.input_ids.push_back(text);
      inputs.input_ids.back().resize(length, 0);
      inputs.attention_mask.emplace_back(text.size(), 1).resize(length, 0);
    }
    try {
      if (!*device) device->emplace(engine::Device::open({.select = select}));
      const auto outputs = model_outputs(**device, source, inputs);
      const graph::HostTensor& hidden = outputs.at("last_hidden_state");
      const auto width = size_t(hidden.type.shape.back());
      std::vector<std::vector<float>> means;
      for (size_t row = 0; row < texts.size(); ++row) {
        std::vector<double> sum(width, 0);
        for (size_t t = 0; t < texts[row].size(); ++t) {
          for (size_t c = 0; c < width; ++c) sum[c] += hidden.values[(row * length + t) * width + c];
        }
        std::vector<float>& mean = means.emplace_back();
        for (const double value : sum) mean.push_back(float(value / double(texts[row].size())));
      }
      return means;
    } catch (const engine::DeviceError& error) {
      device->reset();  // opened again by the next request
      throw unavailable(error.what(), 5);
    }
  };
}

}  // namespace surtsey::experiments::serve
