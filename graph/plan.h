// The plan: what runs, in which order, on which bytes. Flat, printable, known whole before the first allocation.
#pragma once

#include "graph/kernel.h"
#include "graph/target.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::graph {

// Where a buffer lives. State tensors are owned by the session and shared between programs; transients live in one
// arena of the plan at offsets that reuse dead ranges.
enum class BufferKind : uint8_t { state, output, transient };

struct Buffer {
  BufferKind kind = BufferKind::transient;
  std::string
      name;  // state: the parameter's name; output: the output's name; transient: the value's scope, for printing
  Type type;
  uint64_t bytes = 0;
  uint64_t offset = 0;  // transient: in the arena
};

// The byte range of one operand of a dispatch, exact: in descriptor mode it is what is bound.
struct Access {
  uint32_t buffer = 0;
  uint64_t offset = 0;  // from the start of the buffer
  uint64_t bytes = 0;
  bool read = false;
  bool write = false;
};

struct Dispatch {
  uint32_t kernel = 0;           // into Plan::kernels
  std::vector<Access> accesses;  // one per binding: the kernel's inputs, then its outputs
  std::string scope;             // model scope of the anchor
  Phase phase = Phase::forward;  // of the anchor
};

struct Plan {
  std::string name;  // of the program
  Program program;   // after the passes; kernels refer to its nodes
  std::vector<Buffer> buffers;
  std::vector<Kernel> kernels;
  std::vector<Dispatch> dispatches;
  std::vector<uint32_t>
      barriers;  // a full compute barrier stands before dispatch i; dispatches.size(): at the end, for the next replay
  // Ranges begin at multiples of it: in descriptor mode neighbours that share such a piece are bound with overlap,
  // which is a hazard to validation and, as far as Vulkan is concerned, to the device.
  uint64_t bound_alignment = 1;
  uint64_t transient_bytes = 0;  // size of the arena
  uint64_t flops = 0;            // per run
  uint64_t matmul_flops = 0;
  uint64_t bytes = 0;
};

std::string print(const Plan& plan);

// InternalError when an access is not that of its operand or leaves its buffer, when barriers are not in order, and,
// once memory is planned, when a transient leaves the arena or shares bytes with one that is alive at the same time.
// Hazards are uncovered_hazards()' to find.
void verify(const Plan& plan);

// State, outputs and arena of one program.
uint64_t planned_bytes(const Plan& plan);

// How much planned_bytes() may be: so many bytes, or this share of what the program takes without a limit. Both 0: no
// limit.
struct MemoryLimit {
  uint64_t bytes = 0;
  double share = 0;
  explicit operator bool() const { return bytes > 0 || share > 0; }
};

// First and last dispatch that touches each buffer; -1 where none does.
std::vector<std::pair<int64_t, int64_t>> lifetimes(const Plan& plan);

// The barriers a replayed plan needs: before a dispatch that conflicts (read after write, write after read, write after
// write of a byte range) with one since the last barrier, the last dispatch against the first of the next replay
// included. Greedy, so none is without need.
void place_barriers(Plan& plan);

// Proves that every hazard of two replays in a row is covered by a barrier. Returns a line per uncovered hazard; empty
// means proven. No validation layer sees the hazards between two submissions of the same recording, so this is their
// only guard.
std::vector<std::string> uncovered_hazards(const Plan& plan);

}  // namespace surtsey::graph
