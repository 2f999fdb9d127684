// What the server asks of a model: several texts at once, each in a slot of its own. slots_generator.h puts
// generate/slots.h behind it; tests put a model of a few lines there.
#pragma once

#include "graph/error.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments::serve {

// These slots' logits are not finite. All texts are as they were before the call, which may be made without them.
class SlotsFailed : public std::runtime_error {
 public:
  SlotsFailed(const std::string& message, std::vector<int32_t> slots)
      : std::runtime_error(message), slots_(std::move(slots)) {}
  const std::vector<int32_t>& slots() const { return slots_; }

 private:
  std::vector<int32_t> slots_;
};

// The device is gone, and the generator with it; another one may be made.
class GeneratorLost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Generator {
 public:
  struct Next {
    int32_t slot = 0;
    int32_t token = 0;
  };
  // Logits [V] of what follows the token at `position`; good until it returns.
  using Told = std::function<void(int64_t position, std::span<const float> logits)>;

  virtual ~Generator() = default;

  virtual int64_t slots() const = 0;
  virtual int64_t context() const = 0;     // tokens that a text has at most
  virtual int64_t vocabulary() const = 0;  // V
  virtual int64_t chunk() const = 0;       // a long text is read in parts that end at multiples of it

  // The text of the slot becomes `tokens`; tells, in order, the logits after tokens first .. size - 1 (size: none).
  // SlotsFailed, GeneratorLost.
  virtual void read(int32_t slot, std::span<const int32_t> tokens, int64_t first, const Told& told) = 0;
  // A token more in each of these slots. Logits [n, V] in their order, good until the next call. SlotsFailed,
  // GeneratorLost.
  virtual std::span<const float> step(std::span<const Next> next) = 0;
  virtual const std::vector<int32_t>& text(int32_t slot) const = 0;  // what the slot has read
  // The slot's texts are read with this adapter of those there are from now on; its text is empty where it was another.
  virtual void choose(int32_t /*slot*/, int32_t /*adapter*/) {}
  virtual int32_t adapter(int32_t /*slot*/) const { return 0; }
};

// Opens the device and reads the model, again after GeneratorLost.
using GeneratorFactory = std::function<std::unique_ptr<Generator>()>;

}  // namespace surtsey::experiments::serve
