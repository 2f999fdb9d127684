// A model that others trained, frozen on the device, and several texts that it goes on with at once.
//
//   Slots slots(device, source, {.slots = 2, .context = 512});
//   slots.read(0, prompt, prompt.size() - 1, [&](int64_t, std::span<const float> logits) { next = best(logits); });
//   const std::span<const float> logits = slots.step({{{0, next}}});
//
// A text stands in a slot: a cache and a position of its own. What a slot is told does not depend on what stands in the
// others, on how many of them are stepped at once, or on how a text was cut into reads: the same bits.
#pragma once

#include "engine/device.h"
#include "experiments/models/hub/source.h"
#include "experiments/models/model_config.h"
#include "graph/error.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct SlotOptions {
  int64_t slots = 1;    // texts side by side
  int64_t context = 0;  // tokens of a text, its prompt included; 0: what the model was made for, at most 2048
  int64_t source = 0;   // of an encoder-decoder's source
  std::string weights = "stored";  // as freeze_weights() takes them: stored is as the file has them
  std::string cache_type = "f32";  // of keys and values, a name of cache_type.h
  std::string adapter;             // folder of an adapter in PEFT's files (adapt/adaptation.h); empty: none
  // Folders of LoRA adapters of which each text is read with one or none, see choose() (adapt/adapter_set.h).
  std::vector<std::string> adapters = {};
  bool scores = false;  // read() can tell the logits after every token, not only after the last
};

// What slots would take of a device, in bytes.
struct SlotPlan {
  uint64_t weights = 0;    // as they are kept
  uint64_t cache = 0;      // keys and values of all slots
  uint64_t rest = 0;       // tables, logits, an adapter
  uint64_t transient = 0;  // activations, the largest of all programs
  uint64_t available = 0;  // of the device's heap
  int64_t context = 0;     // tokens of a text

  uint64_t total() const { return weights + cache + rest + transient; }
};

// A token that is appended to the text of a slot.
struct SlotToken {
  int32_t slot = 0;
  int32_t token = 0;
};

// Logits of some slots are not finite. After a step all texts are as they were: it can be made again without these
// slots, and tells the others the same bits. After a read the slot's text may be shorter, or empty.
class NotFinite : public UserError {
 public:
  NotFinite(const std::string& message, std::vector<int32_t> slots) : UserError(message), slots_(std::move(slots)) {}
  const std::vector<int32_t>& slots() const { return slots_; }

 private:
  std::vector<int32_t> slots_;
};

// One thread drives it. UserError, besides what is said: a slot that there is not, a token outside the vocabulary (the
// texts are as they were). DeviceError as running a program has it (engine/error.h); the slots are then of no use.
class Slots {
 public:
  // UserError: an encoder, a configuration that is not supported, no room on the device.
  Slots(engine::Device& device, const hub::Source& source, const SlotOptions& options);
  ~Slots();
  // Compiles all of it and allocates nothing. UserError as the constructor's, but for the room.
  static SlotPlan plan(engine::Device& device, const hub::Source& source, const SlotOptions& options);
  Slots(Slots&&) noexcept;

  const ModelConfig& config() const;
  int64_t slots() const;
  int64_t context() const;     // tokens that a text has at most
  int64_t vocabulary() const;  // V
  int64_t chunk() const;       // columns of a prompt that are read at once; chunks begin at its multiples

  // Logits f32 [V] of what follows the token at `position` of the text; good until told() returns.
  using Told = std::function<void(int64_t position, std::span<const float> logits)>;
  // The text of the slot becomes `tokens`, of which it has 1 to context(). What they have in common with the slot's
  // text is not computed again. Tells, in order, the logits after the tokens first .. size - 1; first = size: none.
  // A long text can be read in parts that are multiples of chunk() long, with other slots' steps in between.
  // UserError: first < size - 1 without SlotOptions::scores, an encoder-decoder's slot without a source. NotFinite.
  void read(int32_t slot, std::span<const int32_t> tokens, int64_t first, const Told& told);

  // A token more in each of these slots, all different, each with a text that has room. Returns the logits f32 [n, V]
  // of what follows, in their order, good until the next call. NotFinite.
  std::span<const float> step(std::span<const SlotToken> next);

  const std::vector<int32_t>& text(int32_t slot) const;  // what the slot has read

  // The text of the slot becomes empty, and is from now on read with options.adapters[adapter - 1]; 0: with none, as at
  // first. UserError: there is no such adapter.
  void choose(int32_t slot, int32_t adapter);
  int32_t adapter(int32_t slot) const;  // that it is read with

  // Of an encoder-decoder: the source that the slot's text answers, of 1 token to config().source_length(); the text
  // becomes empty.
  void set_source(int32_t slot, std::span<const int32_t> tokens);

  // Slot i becomes a copy of what slot from[i] was, for all slots; text, adapter and source too.
  void reorder(std::span<const int32_t> from);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace surtsey::experiments
