// What the passes that place values share (place_state, place_concats, place_transients): buffers, stores, and which
// values some place must hold.
#pragma once

#include "graph/passes/lowering.h"

#include <set>
#include <string>

namespace surtsey::graph {

// The first result of node n.
Value value_of(const Lowering& lowering, uint32_t n);
// The type that node n has in memory: narrow activations are stored in Lowering::storage.
Type stored_type(const Lowering& lowering, uint32_t n);

// A new buffer of exactly this type, by its index in Lowering::buffers; never empty.
uint32_t add_buffer(Lowering& lowering, BufferKind kind, std::string name, const Type& type);
// All of a buffer of this type, contiguous.
View whole(uint32_t buffer, const Type& type);
// A new transient buffer for the value of node n.
View add_transient(Lowering& lowering, uint32_t n, const Type& type);

// The kernel of the group writes the value there, and that is where readers find it, if it is the first such place.
void add_store(Lowering& lowering, const Value& value, uint32_t group, const View& view);

// The terminals that the kernel of group g reads and does not compute.
std::set<uint32_t> terminals_read(const Lowering& lowering, uint32_t g);
// The same of all groups.
std::set<uint32_t> terminals_read(const Lowering& lowering);

// Values that some place must hold: what kernels read, what the program leaves behind, parts of concats.
std::set<uint32_t> stored_values(const Lowering& lowering);

// May group g store its member n at one more place? Every tensor is a binding: what the kernel loads, and for each
// member the places it is stored to, at least one where it is one of the `stored` values.
bool has_room(const Lowering& lowering, const std::set<uint32_t>& stored, uint32_t g, uint32_t n);

}  // namespace surtsey::graph
