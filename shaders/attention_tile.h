// The two sides of a score matrix inside a kernel of attention: a lane's own rows, the tile of the other side's rows
// that it meets, and the products between them.
//
// Elements of the tile reach the lanes in one of four ways:
//   own        a lane has a head to itself, the tile is all of the other side's rows: short sequences of many heads
//   held       every subgroup has loaded the tile into registers, lanes side by side along its columns; elements
//              are broadcast
//   broadcast  for heads too wide to hold: columns are loaded when their turn comes, and broadcast
//   shared     the workgroup has loaded the tile into shared memory; any subgroup size
#pragma once

#include "graph/attention.h"
#include "shaders/writer.h"

#include <functional>
#include <string>
#include <vector>

namespace surtsey::shaders {

// forward, query_gradient: a lane's rows are queries, the tile's are keys; key_gradient: the other way round. Operand a
// is what scores are made of (q, k), operand b what they weigh or dp is made of (v, dout).
class AttentionTile {
 public:
  AttentionTile(Writer& writer, bool broadcast);

  // ---- element access; heads and rows are index variables ----
  std::string element(const graph::Value& operand, const graph::Affine& head, const graph::Affine& row,
                      const graph::Affine& column);
  std::string scalar(const graph::Value& operand);  // [], or one a member of an ensemble
  std::string key_exists(const graph::Affine& key);

  // Defines lane, own_base, chunk, the head and the batch, and the lane's rows. Returns the number of workgroups.
  uint32_t open();
  void close();

  // Opens the loop over the tile's rows [low, high) and brings the tile within reach.
  void open_tile();
  void close_tile();
  // Between the two, first thing: a value of each of the tile's rows, which tile_value(name, j) then is.
  void load_tile_values(const std::string& name, const std::function<std::string(const graph::Affine& row)>& value);
  void tile_is_complete();
  std::string tile_value(const std::string& name, int64_t j) const;

  // float sums{r}_{j} = sum over d of own[r][d] tile[j][d]
  void dot(const std::string& sums, bool operand_a);
  void declare_sums(const std::string& sums, int64_t chunk);
  // sums{r}_{d} += sum over j of weights{r}_{j} tile[j][d], for the columns d of this chunk
  void accumulate(const std::string& sums, const std::string& weights, bool operand_a);

  std::string own_index(int64_t r) { return w.index(own[size_t(r)]); }
  std::string tile_index(int64_t j) const {
    return head_per_lane ? fmt::format("{}u", j) : fmt::format("base + {}u", j);
  }
  // Whether the lane's row r is its own to store; empty: always.
  std::string stores(int64_t r) const;
  graph::Value own_operand(bool a) const { return by_key ? (a ? in.k : in.v) : (a ? in.q : in.dout); }
  graph::Value tile_operand(bool a) const { return by_key ? (a ? in.q : in.dout) : (a ? in.k : in.v); }

  Writer& w;
  const graph::Node& node;
  const graph::AttentionForm& form;
  const graph::AttentionOperands in;
  const bool broadcast, by_key;
  bool head_per_lane = false;
  graph::Shape leading;  // of an ensemble
  int64_t batch, heads, key_heads, queries, keys, width, value_width;
  int64_t own_extent, tile_extent;  // rows of the two sides
  int64_t lanes = 1, own_rows = 1, tile_rows = 1;
  // Results are cut into chunks of columns, each its own piece of work that computes the scores again.
  int64_t chunks = 1, chunk = 1, value_chunk = 1;
  graph::Affine z, head, query_head, key_head;  // batch and member; of the results; of the operands
  std::vector<graph::Affine> own;               // the lane's rows, clamped

 private:
  bool choose_head_per_lane() const;
  int64_t choose_tile_rows() const;
  uint32_t open_heads();
  graph::Index batch_index(const graph::Value& operand, size_t rank);
  graph::Affine tile_head() const { return by_key ? query_head : key_head; }
  graph::Affine own_head() const { return by_key ? key_head : query_head; }
  graph::Affine variable(const char* name, int64_t extent, const std::string& text);
  graph::Affine tile_row(const std::string& offset);
  std::vector<std::string> hold(const graph::Value& tile);
  std::string held_element(bool operand_a, int64_t j, int64_t d) const;
  void load_shared(bool operand_a);
  int64_t shared_stride(bool operand_a) const;
  void multiply_add(const std::string& sums, int64_t at, const std::vector<std::string>& factors,
                    const std::string& value);
  std::vector<std::string> weight_names(const std::string& weights, int64_t j) const;

  bool held_ = false;
  std::vector<std::string> held_a_, held_b_;
  std::vector<graph::Affine> tile_at_;  // a row of the tile for each lane and register
  uint32_t names_ = 0;
};

}  // namespace surtsey::shaders
