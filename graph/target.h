// What a device can do, as plain numbers with no vendor in them. The engine fills it from a device, tests from presets.
#pragma once

#include "graph/matmul_tile.h"
#include "graph/reduce_tile.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace surtsey::graph {

enum class Addressing : uint8_t { address, descriptor };
// expanded: no kernel claims attention, it is computed by those of its primitives; one_query: nor any but that of one
// query a head, which has their bits.
enum class AttentionVariant : uint8_t { automatic, expanded, one_query, lane_broadcast, shared_tile };
// one_hot: scatter_add is a matmul with a one-hot matrix; rows: a kernel adds row by row.
enum class ScatterVariant : uint8_t { automatic, one_hot, rows };

// C[m, n] += A[m, k] B[k, n] by a whole subgroup at once: A and B in f16, C in f32.
struct CooperativeMatrix {
  uint32_t m = 0, n = 0, k = 0;  // 0: there is none
  bool emulated = false;         // by each lane's own arithmetic, for tests of everything around it
  bool operator==(const CooperativeMatrix&) const = default;
};

struct Target {
  std::string name;
  bool cpu = false;      // lanes are SIMD lanes of a CPU: barriers are dear, shared memory is no faster than memory
  uint32_t threads = 1;  // processors that work side by side (CPU cores or an estimate of compute units)
  uint32_t subgroup_size = 0;  // 0: unknown or varying, subgroup operations are not used
  uint32_t max_workgroup_invocations = 128;
  uint32_t max_workgroups = 65535;  // along x
  uint32_t shared_memory_bytes = 16384;
  uint32_t push_constant_bytes = 128;
  uint32_t max_storage_buffers = 8;  // per stage, descriptor mode
  uint32_t storage_offset_alignment = 256;
  uint64_t max_storage_range = 128u << 20;
  uint64_t max_allocation = 1u << 30;
  bool buffer_address = false;
  bool subgroup_ballot = false;   // broadcast
  bool f16_storage = false;       // 16-bit elements in buffers: f16, and bf16 as words that kernels shift
  bool int64_words = false;       // 64-bit integers in shaders
  CooperativeMatrix cooperative;  // needs a known subgroup size
  // Sums that a lane can hold of a cooperative tile, more spill; 0: any of our tiles fits.
  uint32_t cooperative_floats = 0;
  std::string cooperative_off;  // why kernels do without the device's matrices unless `matmul` asks for them
  // Choices, not capabilities: switches of the user and of tests.
  Addressing addressing = Addressing::address;
  MatmulVariant matmul = MatmulVariant::automatic;
  ReduceVariant reduce = ReduceVariant::automatic;
  AttentionVariant attention = AttentionVariant::automatic;
  ScatterVariant scatter = ScatterVariant::automatic;
  bool fusion = true;
  std::shared_ptr<const MatmulTiles> tiles;         // measured ones; others, or all where it is empty, get the default
  std::shared_ptr<const ReduceTiles> reduce_tiles;  // the same for reductions

  uint32_t max_bindings() const;  // tensors that one kernel may touch, by addressing mode
  bool stores_pairs() const;      // two neighbouring floats are stored as one word
  bool can_broadcast() const;     // from a lane to its whole subgroup, of a known size
  bool cooperates() const;        // has cooperative matrices that kernels can use
  // Resolves automatic; of products that `cooperative` cannot do, it is shared_tile.
  MatmulVariant matmul_variant() const;
  ReduceVariant reduce_variant() const;
  AttentionVariant attention_variant() const;
  bool scatters(int64_t rows) const;  // has scatter_add into so many rows a kernel of its own?
};

// minimal, lavapipe, swiftshader, intel, amd, nvidia, mobile. UserError lists them when the name is none.
Target target_preset(std::string_view name);
std::span<const char* const> target_preset_names();

}  // namespace surtsey::graph
