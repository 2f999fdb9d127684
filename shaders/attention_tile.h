// The two sides of a score matrix inside a kernel of attention: a lane's own rows, the tile of the other side's rows
// that it meets, and the products between them.
//
//   own   [own_rows, width]   rows of a lane, neighbours over its workgroup: queries, or keys for their gradient
//   tile  [tile_rows, width]  rows of the other side, the same for all lanes
//
//   for tile in the other side
//     s [own_rows, tile_rows] = own.a tile.a^T                        dot()
//     ..                                                              attention.cpp
//     o [own_rows, chunk]    += s tile.b, columns of one chunk        accumulate()
//
// Operand a is what scores are made of (q, k), operand b what they weigh or dp is made of (v, dout).
//
// Elements of the tile reach the lanes in one of four ways, each a class of attention_ways.cpp:
//   own        a lane has a head to itself, the tile is all of the other side's rows: short sequences of many heads
//   held       every subgroup has loaded the tile into registers, lanes side by side along its columns; elements
//              are broadcast
//   broadcast  for heads too wide to hold: columns are loaded when their turn comes, and broadcast
//   shared     the workgroup has loaded the tile into shared memory; any subgroup size
#pragma once

#include "graph/attention.h"
#include "shaders/writer.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::shaders {

enum class Operand : uint8_t { a, b };

// The extents of a kernel of attention, as its node has them.
struct AttentionSides {
  explicit AttentionSides(Writer& writer);

  graph::Value own_operand(Operand o) const;
  graph::Value tile_operand(Operand o) const;
  int64_t widest() const { return std::max(width, value_width); }
  int64_t batches() const { return batch * graph::element_count(leading); }  // of all members

  // ---- element access, in batch z; heads and rows are index variables ----
  std::string element(const graph::Value& operand, const graph::Affine& head, const graph::Affine& row,
                      const graph::Affine& column);
  std::string scalar(const graph::Value& operand);  // [], or one a member of an ensemble
  std::string key_exists(const graph::Affine& key);
  std::string first_key(const graph::Affine& query);

  // Where this result of the region goes, and the member that it is; nowhere if nobody reads it.
  std::vector<size_t> outputs(int result, uint32_t& member) const;

  Writer& w;
  const graph::Node& node;
  const graph::AttentionForm& form;
  const graph::AttentionOperands in;
  const bool by_key;     // a lane's rows are keys: key_gradient
  graph::Shape leading;  // of an ensemble
  int64_t batch, heads, key_heads, queries, keys, width, value_width;
  int64_t own_extent, tile_extent;  // rows of the two sides
  graph::Affine z;                  // batch and member

 private:
  graph::Index batch_index(const graph::Value& operand, size_t rank);
};

class AttentionTile : public AttentionSides {
 public:
  // The way for this kernel: one of shared memory, or the best of those by subgroups.
  static std::unique_ptr<AttentionTile> in_shared_memory(Writer& writer);
  static std::unique_ptr<AttentionTile> by_subgroups(Writer& writer);
  virtual ~AttentionTile() = default;

  // ---- what it is ----
  virtual const char* variant() const { return ""; }    // Shader::variant, where it has one of its own
  virtual uint32_t subgroup_size() const { return 0; }  // that the kernel needs; 0: any
  virtual bool is_whole() const { return false; }       // there is one tile: no range is looked for
  virtual std::string tile_index(int64_t j) const;      // of row j of the tile, in its side
  virtual std::string stores(int64_t r) const;          // whether the lane's row r is its own to store; empty: always

  std::string first_key_of_all();  // of the lanes' rows, which are queries: that of the first of them
  std::string own_index(int64_t r) { return w.index(own[size_t(r)]); }

  // ---- the loops ----
  // Defines lane, own_base, chunk, the head and the batch, and the lane's rows. Returns the number of workgroups.
  virtual uint32_t open();
  virtual void close();
  // Opens the loop over the tile's rows [low, high) and brings the tile within reach.
  virtual void open_tile() = 0;
  virtual void close_tile();
  // Between the two, first thing: a value of each of the tile's rows, which tile_value(name, j) then is.
  virtual void load_tile_values(const std::string& name,
                                const std::function<std::string(const graph::Affine& row)>& value) = 0;
  virtual void tile_is_complete() {}
  virtual std::string tile_value(const std::string& name, int64_t j) const { return fmt::format("tile_{}{}", name, j); }

  // ---- the products ----
  // float sums{r}_{j} = sum over d of own[r][d] tile[j][d]
  void dot(const std::string& sums, Operand o);
  void declare_sums(const std::string& sums, int64_t count);
  // sums{r}_{d} += sum over j of weights{r}_{j} tile[j][d], for the columns d of this chunk
  virtual void accumulate(const std::string& sums, const std::string& weights, Operand o) = 0;

  int64_t lanes = 1, own_rows = 1, tile_rows = 1;
  // Results are cut into chunks of columns, each its own piece of work that computes the scores again.
  int64_t chunks = 1, chunk = 1, value_chunk = 1;
  graph::Affine head, query_head, key_head;  // of the results; of the operands
  std::vector<graph::Affine> own;            // the lane's rows, clamped

 protected:
  AttentionTile(const AttentionSides& sides, int64_t lane_count, const char* lane);

  // A lane has two rows where both operands are narrow enough to be kept; columns in chunks of at most `widest_chunk`.
  void cut(int64_t widest_chunk);
  virtual void multiply(const std::string& sums, Operand o) = 0;  // dot(), once the sums are declared

  graph::Affine tile_head() const { return by_key ? query_head : key_head; }
  graph::Affine own_head() const { return by_key ? key_head : query_head; }
  int64_t columns_of(Operand o) const { return o == Operand::a ? chunk : value_chunk; }  // of a chunk
  graph::Affine variable(const char* name, int64_t extent, const std::string& text);
  graph::Affine tile_row(const std::string& offset);
  void open_tile_loop();
  // turn(d, count) for the columns [0, columns), kUnroll at a time: written out, or a loop where they are more than
  // `written_out`.
  void for_columns(int64_t columns, int64_t written_out,
                   const std::function<void(const graph::Affine& d, int64_t count)>& turn);
  std::vector<std::string> own_elements(Operand o, const graph::Affine& d);  // column d of each of the lane's rows
  std::vector<std::string> weight_names(const std::string& weights, int64_t j) const;
  // sums{r}_{at} += factors[r] * value
  void multiply_add(const std::string& sums, int64_t at, const std::vector<std::string>& factors,
                    const std::string& value);

 private:
  const char* lane_;  // the built-in variable that is the lane
  uint32_t names_ = 0;
};

}  // namespace surtsey::shaders
