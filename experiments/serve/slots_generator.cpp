#include "experiments/serve/slots_generator.h"

#include "experiments/base/computing_device.h"
#include "experiments/evaluate/text_vectors.h"
#include "experiments/models/hub/import.h"
#include "experiments/serve/errors.h"

#include <type_traits>

namespace surtsey::experiments::serve {
namespace {

class SlotsGenerator : public Generator {
 public:
  SlotsGenerator(const hub::Source& source, const SlotOptions& options, const std::string& device)
      : device_(open_computing_device({.select = device})), slots_(device_, source, options) {}

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
  const ModelConfig config = hub::model_config(source);
  if (config.head != HeadKind::pooled && config.head != HeadKind::none) return {};
  if (!TextVectors::has(source)) return {};
  struct Opened {
    engine::Device device;
    TextVectors vectors;
    Opened(const hub::Source& from, const std::string& name)
        : device(open_computing_device({.select = name})), vectors(device, from) {}
  };
  auto opened = std::make_shared<std::unique_ptr<Opened>>();
  return [&source, select, opened](const std::vector<std::vector<int32_t>>& texts) {
    try {
      if (!*opened) *opened = std::make_unique<Opened>(source, select);
      return (*opened)->vectors.of(texts);
    } catch (const engine::DeviceError& error) {
      opened->reset();  // opened again by the next request
      throw unavailable(error.what(), 5);
    }
  };
}

}  // namespace surtsey::experiments::serve
