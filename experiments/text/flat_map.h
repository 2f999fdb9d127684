// A map from pairs of 32 bits to 64: open addressing, one allocation, built once and then read. The lookups of merges
// and tries, which are most of what encoding does.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <vector>

namespace surtsey::experiments::text {

class FlatMap {
 public:
  // Room for `count` entries.
  explicit FlatMap(size_t count) : slots_(std::bit_ceil(2 * count + 2)), shift_(64 - std::countr_zero(slots_.size())) {}
  FlatMap() : FlatMap(0) {}

  static uint64_t key(uint32_t first, uint32_t second) { return uint64_t(first) << 32 | second; }

  // The entry of a key, which is none of ~0; made with `value` where there is none. Whether it was made.
  bool insert(uint64_t key, uint64_t value) {
    Slot& slot = slots_[place(key)];
    if (slot.key == key) return false;
    slot = {key, value};
    return true;
  }
  std::optional<uint64_t> find(uint64_t key) const {
    const Slot& slot = slots_[place(key)];
    if (slot.key != key) return std::nullopt;
    return slot.value;
  }

 private:
  struct Slot {
    uint64_t key = ~uint64_t{0};
    uint64_t value = 0;
  };
  size_t place(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t at = key * 0x9E3779B97F4A7C15u >> shift_;
    while (slots_[at].key != key && slots_[at].key != ~uint64_t{0}) at = (at + 1) & mask;
    return at;
  }

  std::vector<Slot> slots_;
  int shift_;
};

}  // namespace surtsey::experiments::text
